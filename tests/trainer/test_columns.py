"""A channel whose column has another name: who reads the file later finds it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.commands.replay import replay
from models import bundle as bundles
from models.errors import DataError
from models.times import iso_time
from tests.trainer.conftest import Trained
from trainer.evaluate import evaluate


def judged(bundle: Path, recording: Path) -> tuple[int, float, int]:
    """Return events, hours and samples with a score, which both readers must have alike."""
    found = evaluate(bundle, [recording], None, None, 60.0)["recordings"][0]
    replayed = replay(recording, bundle)
    opened = [event for event in replayed["events"] if event["state"] == "opened"]
    assert replayed["rejected"] == {}
    assert found["hours"] == pytest.approx(replayed["scored"] / 3600, rel=1e-3)
    return found["false_events"], len(opened), replayed["scored"]


def renamed(trained: Trained, path: Path, header: str) -> Path:
    """Write the faulty recording under another header, without labels."""
    _, _, rows = (trained.file.path.parent / "faulty.csv").read_text().partition("\n")
    path.write_text(f"{header}\n{rows}")
    return path


def test_the_bundle_keeps_the_names_of_its_columns(trained: Trained) -> None:
    lineage = trained.bundle.manifest.lineage
    assert lineage.columns == {"power": "P (kW)"}
    assert lineage.time_column == "time"


@pytest.mark.parametrize(
    "header",
    [
        "time,load,P (kW),supply",  # of the training
        "time,load,power,supply",  # of a gateway
    ],
)
def test_both_read_the_column_of_the_training_or_the_name(
    trained: Trained, tmp_path: Path, header: str
) -> None:
    assert judged(trained.path, renamed(trained, tmp_path / "x.csv", header)) == (1, 1, 577)


def other_times(trained: Trained, path: Path, **changes: Any) -> Path:
    manifest = trained.bundle.manifest
    metrics = dict(manifest.metrics)
    del metrics["evaluated_digest"]
    lineage = manifest.lineage.model_copy(update=changes)
    changed = manifest.model_copy(update={"lineage": lineage, "metrics": metrics})
    bundles.write(path, changed, trained.bundle.parts, None)
    return path


@pytest.mark.parametrize("header", ["Zeit,load,P (kW),supply", "time,load,P (kW),supply"])
def test_both_read_the_time_of_the_training_or_time(
    trained: Trained, tmp_path: Path, header: str
) -> None:
    bundle = other_times(trained, tmp_path / "b.fieldwatch", time_column="Zeit")
    assert judged(bundle, renamed(trained, tmp_path / "x.csv", header)) == (1, 1, 577)


def test_both_read_a_date_and_a_time_of_day_as_the_training_did(
    trained: Trained, tmp_path: Path
) -> None:
    names = {"time_column": "Datum", "clock_column": "Uhrzeit"}
    bundle = other_times(trained, tmp_path / "b.fieldwatch", **names)
    whole = renamed(trained, tmp_path / "x.csv", "time,load,P (kW),supply")
    _, *rows = whole.read_text().splitlines()
    apart = tmp_path / "apart.csv"
    apart.write_text("Datum,Uhrzeit,load,P (kW),supply\n")
    with apart.open("a") as file:
        for row in rows:
            time, _, values = row.partition(",")
            date, _, clock = iso_time(float(time)).partition("T")
            file.write(f"{date},{clock},{values}\n")
    assert judged(bundle, apart) == judged(bundle, whole) == (1, 1, 577)


def test_a_header_with_neither_is_refused_by_both(trained: Trained, tmp_path: Path) -> None:
    path = renamed(trained, tmp_path / "x.csv", "when,load,P (kW),supply")
    for read in (lambda: replay(path, trained.path), lambda: judged(trained.path, path)):
        with pytest.raises(DataError, match="no column 'time'; the header has: when, load"):
            read()
