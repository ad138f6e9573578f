"""A gateway's samples become a recording that the trainer reads as they were."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from agent.store.batch import Batch
from agent.store.writer import Store
from models.columns import Sought
from models.errors import ConfigError, DataError, FieldwatchError, StoreError
from models.messages import GOOD, HELD, INTERPOLATED, MISSING, Float32, Float64, Samples, Uint8
from trainer.config import ColumnTable
from trainer.datasets.recordings import read_recording

START_S = 1_790_000_400.0
ROWS = 400  # in chunks of 100
NAMES = ["pressure", "flow", "level"]
CHANNELS = [ColumnTable(name=name) for name in NAMES]


def made() -> tuple[Float64, Float32, Uint8, Float32]:
    """Times (n,), values (n, 3), qualities (n, 3) and scores (n,), with all that there may be."""
    random = np.random.default_rng(5)
    times = START_S + np.arange(ROWS) * 0.1
    values = (random.normal(0, 1, (ROWS, 3)) * 10.0 ** random.integers(-30, 30, (ROWS, 3))).astype(
        np.float32
    )
    quality = random.choice([GOOD, GOOD, GOOD, INTERPOLATED, HELD, MISSING], (ROWS, 3))
    values[quality == MISSING] = np.nan
    scores = random.random(ROWS).astype(np.float32)
    scores[:20] = np.nan  # warm-up
    return times, values, quality.astype(np.uint8), scores


def commit(store: Store, begin: int, end: int, stream: str = "pump") -> None:
    times, values, quality, scores = (part[begin:end] for part in made())
    store.commit(Batch(samples=[(stream, Samples(times, values, quality), scores)]), "synced")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that is open while the command runs, as that of a running agent is."""
    (tmp_path / "agent.toml").write_text('[store]\ndirectory = "store"\n')
    (tmp_path / "store").mkdir()
    store = Store(tmp_path / "store", "plant", "gw-1", 1000, 10_000)
    store.readings.history.describe({"pump": NAMES, "fan": NAMES})
    store.open()
    for begin in range(0, ROWS, 100):
        commit(store, begin, begin + 100)
        commit(store, begin, begin + 100, "fan")
    yield store
    store.close()


def export(directory: Path, file: Path, *words: str) -> Result:
    config = f"--config={directory / 'agent.toml'}"
    return CliRunner().invoke(commands, ["export", config, str(file), *words])


def refusal(directory: Path, file: Path, *words: str) -> FieldwatchError:
    error = export(directory, file, *words).exception
    assert isinstance(error, FieldwatchError)
    return error


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", ["pump.csv", "pump.csv.gz"])
def test_the_trainer_reads_what_was_measured(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    found = export(tmp_path, file, "--stream=pump")
    assert found.output.startswith(f"{file}: 400 samples, 2026-09-21T14:20:00.000Z to 2026-09-21T")
    times, values, quality, _ = made()
    read = read_recording(file, Sought(("time",), [(name,) for name in NAMES]), CHANNELS)
    np.testing.assert_allclose(read.readings.times, times, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(read.readings.values, np.where(quality == GOOD, values, np.nan))
    assert read.rejected == {}
    first = file.read_bytes()
    export(tmp_path, file, "--stream=pump")
    assert file.read_bytes() == first


@pytest.mark.usefixtures("store")
def test_score_and_quality_are_there(tmp_path: Path) -> None:
    export(tmp_path, tmp_path / "pump.csv.gz", "--stream=pump")
    with gzip.open(tmp_path / "pump.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    _, values, quality, scores = made()
    assert [row["fieldwatch:score"] for row in rows[:20]] == [""] * 20
    assert [np.float32(row["fieldwatch:score"]) for row in rows[20:]] == scores[20:].tolist()
    names = ("good", "interpolated", "held", "missing")
    for column, name in enumerate(NAMES):
        words = [row[f"{name}:quality"] for row in rows]
        assert words == [names[code] for code in quality[:, column]]
        assert [row[name] == "" for row in rows] == (quality[:, column] != GOOD).tolist()
    assert not np.isnan(values[quality == HELD]).any()  # else the last line says nothing


@pytest.mark.usefixtures("store")
def test_a_part_of_the_time(tmp_path: Path) -> None:
    period = ["--from=2026-09-21T14:20:05Z", "--to=2026-09-21T14:20:25.5Z"]
    found = export(tmp_path, tmp_path / "pump.csv", "--stream=pump", *period)
    assert "206 samples, 2026-09-21T14:20:05.000Z to 2026-09-21T14:20:25.500Z" in found.output


def test_channels_that_changed_are_empty_before(tmp_path: Path, store: Store) -> None:
    store.close()
    again = Store(tmp_path / "store", "plant", "gw-1", 1000, 10_000)
    again.readings.history.describe({"pump": ["pressure", "speed"]})
    again.open()
    times, values, _, scores = made()
    later = Samples(times[:50] + 1000, values[:50, :2])
    again.commit(Batch(samples=[("pump", later, scores[:50])]), "synced")
    again.close()
    assert "450 samples" in export(tmp_path, tmp_path / "pump.csv", "--stream=pump").output
    with (tmp_path / "pump.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["time", "pressure", "flow", "level", "speed"]
    assert {(row["speed"], row["speed:quality"]) for row in rows[:400]} == {("", "missing")}
    assert {(row["flow"], row["flow:quality"]) for row in rows[400:]} == {("", "missing")}
    store.open()


@pytest.mark.usefixtures("store")
def test_what_cannot_be_written_is_told_and_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "kept.csv"
    file.write_text("kept")
    late = ["--from=2027-01-01T00:00:00Z"]
    error = refusal(tmp_path, file, "--stream=pump", *late)
    assert isinstance(error, DataError)
    assert "no sample of stream pump is stored between these times" in str(error)
    error = refusal(tmp_path, file, "--stream=pumb")
    assert isinstance(error, ConfigError)
    assert "did you mean 'pump'" in str(error)
    assert file.read_text() == "kept"
    error = refusal(tmp_path, tmp_path / "none" / "x.csv", "--stream=pump")
    assert isinstance(error, StoreError)
    assert "none/x.csv" in str(error)
    assert {path.name for path in tmp_path.iterdir()} == {"agent.toml", "kept.csv", "store"}


@pytest.mark.parametrize("words", [["--from=soon"], ["--from=-1h", "--to=-2h"]])
def test_times_that_are_none(tmp_path: Path, words: list[str]) -> None:
    found = export(tmp_path, tmp_path / "x.csv", "--stream=pump", *words)
    assert found.exit_code == 2
    assert "--from, --to" in found.output


def test_a_channel_called_time_does_not_hide_the_times(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('[store]\ndirectory = "store"\n')
    (tmp_path / "store").mkdir()
    store = Store(tmp_path / "store", "plant", "gw-1", 1000, 10_000)
    store.readings.history.describe({"pump": ["time", "flow", "level"]})
    store.open()
    commit(store, 0, 3)
    store.close()
    file = tmp_path / "pump.csv"
    assert export(tmp_path, file, "--stream=pump").exit_code == 0
    header = file.read_text().splitlines()[0].split(",")
    assert header[:4] == ["time", "channel:time", "flow", "level"]
    assert len(set(header)) == len(header)
