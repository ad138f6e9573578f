"""An evaluation reads recordings in every form that a training reads."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from agent.inputs import plant
from tests.conftest import ZOO_BUNDLE
from trainer.cli import commands


def evaluated(path: Path, *words: str) -> dict[str, Any]:
    found = CliRunner().invoke(commands, ["evaluate", str(ZOO_BUNDLE), str(path), "--json", *words])
    assert found.exit_code == 0, found.output or found.exception
    (recording,) = json.loads(found.output)["recordings"]
    del recording["name"]  # of a file with two suffixes it is another
    return dict(recording)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forms") / "pump.csv"
    plant.simulate(path, 0.08, 21, [plant.Fault("cavitation", 120.0, 30.0)])
    return path


def test_all_forms_give_the_same(recording: Path, tmp_path: Path) -> None:
    usual = evaluated(recording)
    labels = recording.with_name("pump.labels.csv").read_bytes()
    frame = pl.read_csv(recording)
    (tmp_path / "pump.labels.csv").write_bytes(labels)
    (tmp_path / "pump.csv.gz").write_bytes(gzip.compress(recording.read_bytes()))
    frame.write_parquet(tmp_path / "pump.parquet")
    np.savez(tmp_path / "pump.npz", **{name: frame[name].to_numpy() for name in frame.columns})
    for name in ("pump.csv.gz", "pump.parquet", "pump.npz"):
        assert evaluated(tmp_path / name) == usual, name
    with (tmp_path / "pump.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "tag", "value"])
        for row in frame.iter_rows(named=True):
            time = row.pop("time")
            writer.writerows([time, *one] for one in row.items())
    long = ("--channel-column", "tag", "--value-column", "value")
    assert evaluated(tmp_path / "pump.csv", *long) == usual
    refused = CliRunner().invoke(
        commands, ["evaluate", str(ZOO_BUNDLE), str(recording), "--channel-column=tag"]
    )
    assert refused.exit_code == 2
