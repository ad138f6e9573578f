"""The benchmark of streams without a bundle, on a small data set of NAB's layout."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from agent.bundles.load import baseline
from agent.config.streams import BaselineChannelTable, BaselineTable
from models.novelty import NoveltySettings
from trainer.benchmark import nab
from trainer.benchmark.nab_score import Rated, Wrong, wrong
from trainer.datasets import nab as nab_files
from trainer.datasets.nab import NabFile

START, ROWS = datetime(2014, 4, 1, tzinfo=UTC), 2000


def at(row: int) -> str:
    return f"{START + timedelta(minutes=5 * row):%Y-%m-%d %H:%M:%S}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series of noise, one with a step that is labelled from 1200 to 1300."""
    root = tmp_path_factory.mktemp("nab")
    windows = {"made/step.csv": [[at(1200), at(1300)]], "calm/noise.csv": []}
    for number, name in enumerate(windows):
        values = np.random.default_rng(number).uniform(10.0, 12.0, ROWS)
        values[1210:1290] += 8.0 if windows[name] else 0.0
        rows = [f"{at(row)},{value:.4f}" for row, value in enumerate(values)]
        path = root / "data" / name
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(["timestamp,value", *rows]))
    (root / "labels").mkdir()
    (root / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    return root


def test_a_step_is_found_and_noise_is_not(directory: Path) -> None:
    document = nab.run(directory)
    standard = document["profiles"]["standard"]
    assert (document["files"], document["rows"], standard["windows"]) == (2, 2 * ROWS, 1)
    assert standard["own_score"] > 90  # ten rows late, and its end is news as well
    assert standard["score"] >= standard["own_score"]
    assert standard["folders"]["made"]["found"] == 1
    assert standard["folders"]["calm"] == {
        "files": 1,
        "windows": 0,
        "found": 0,
        "sum": 0.0,
        "score": None,
        "own_score": None,
    }


@pytest.mark.parametrize("period_s", [300.0, 3600.0])
def test_the_settings_are_the_gateways_for_a_stream_without_a_bundle(period_s: float) -> None:
    times = np.array(1.4e9 + period_s * np.arange(10), np.float64)
    measured = nab.settings_for(NabFile("made/a.csv", times, np.ones(10, np.float32), [], ""))
    assert measured.sampling.period_s == pytest.approx(period_s, rel=1e-5)
    table = BaselineTable(
        period_s=measured.sampling.period_s, channels=[BaselineChannelTable(name="value")]
    )
    rules = baseline(table).manifest
    assert isinstance(rules, NoveltySettings)
    assert rules.foretells  # forecasts, which change no score
    assert measured == rules.model_copy(update={"foretells": False})


def test_each_file_with_errors_is_named(directory: Path) -> None:
    step = nab_files.read(directory, "made/step")
    late = Rated(np.where(np.arange(ROWS) >= 1301, 2.0, 0.5), step.windows)
    assert wrong(late, 1.0) == Wrong(missed=1, false_rows=ROWS - 1301)
    assert wrong(late, 3.0) == Wrong(missed=1, false_rows=0)
    assert wrong(late, 0.1) == Wrong(missed=0, false_rows=ROWS - 300 - 101)
    in_probation = Rated(np.where(np.arange(ROWS) < 300, 2.0, 0.5), [(10, 20)])
    assert wrong(in_probation, 1.0) == Wrong(missed=0, false_rows=0)
    document = nab.run(directory)
    assert document["wrong"].get("calm/noise", {"missed": 0})["missed"] == 0
    assert document["wrong"].get("made/step", {"missed": 0})["missed"] == 0
    assert all(any(each.values()) for each in document["wrong"].values())


def test_the_command_prints_a_table_and_writes_all_figures(directory: Path, tmp_path: Path) -> None:
    words = ["benchmark", "nab", "--data", str(directory), "--json", str(tmp_path / "nab.json")]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    written = json.loads((tmp_path / "nab.json").read_text())
    assert lines[0].split() == ["profile", "score", "threshold", "at", "1"]
    score = written["profiles"]["standard"]["score"]
    assert lines[1].split()[:2] == ["standard", f"{score:.1f}"]
    assert any(line.split()[:4] == ["made", "1", "1", "1"] for line in lines)


def test_rows_at_the_same_time_are_scored_one_after_the_other(directory: Path) -> None:
    file = nab_files.read(directory, "made/step")
    times = file.times.copy()
    times[700:720] = times[700]
    assert not np.isnan(nab.scores(file._replace(times=times))[200:]).any()
