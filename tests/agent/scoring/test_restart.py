"""A crash between two saves of a stream's memory: it is scored again from what was stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.bundles.load import baseline, load
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.config.streams import BaselineChannelTable, BaselineTable
from agent.inputs.plant import PERIOD_S, Pump, sudden
from agent.scoring.fleet import Fleet
from agent.store.batch import Batch
from agent.store.migrations import READINGS, RECORDS
from agent.store.reader import Reader
from agent.store.writer import Store
from models.detector import Detector
from models.messages import Float32, Readings, stored_samples
from tests.conftest import ZOO_BUNDLE
from tests.database import asked

START_S = 1_700_000_000.0
ROWS = 1200


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load(ZOO_BUNDLE)[1]


@pytest.fixture(scope="module")
def rows() -> Float32:
    """A fault, and a channel that now and then has no value, which is held."""
    made = Pump(4, [sudden("blocked_valve", 180.0, 30.0)]).run(ROWS)
    made[7::17, 2] = np.nan
    return made


class Gateway:
    """One stream with its store, as the daemon's loop has them."""

    def __init__(self, directory: Path, detector: Detector, correction_s: float = 0.0) -> None:
        """The clock was set by ``correction_s``, and readings are timed by their arrival."""
        directory.mkdir(exist_ok=True)
        self.store = Store(directory, "plant", "gw-1", 10_000, 100_000)
        self.store.open()
        table = StreamTable(name="pump", bundle=ZOO_BUNDLE)
        clock = Clock()
        clock.correction_s = correction_s
        self.fleet = Fleet(detector, [table], 10.0, clock)
        (self.stream,) = self.fleet.streams
        self.stream.teller.timed_by_arrival = True
        self.batch = Batch()
        records = self.store.records
        saved, alarms = records.state("pump"), records.open_alarms("pump")
        if self.stream.restore(saved, alarms, records.last_alarm_number("pump"), self.batch):
            assert self.stream.saved_through is not None
            chunks = self.store.readings.samples_from("pump", self.stream.saved_through)
            samples = stored_samples(chunks, len(detector.manifest.channels))
            self.caught_up = len(samples.times)
            if chunks:
                self.stream.catch_up(samples, self.batch)

    def of_file(self, name: str) -> list[Path]:
        """Return a file of the store, and its log; what SQLite shares between processes is not."""
        return [file for file in self.store.directory.glob(f"{name}*") if "-shm" not in file.name]

    def feed(self, rows: Float32, first: int, whole: bool) -> None:
        self.score(rows, first, whole)
        self.store.commit(self.batch, "synced")

    def score(self, rows: Float32, first: int, whole: bool) -> None:
        times = START_S + (first + np.arange(len(rows))) * PERIOD_S
        readings = self.fleet.news(0, Readings(times, rows))  # all, but after a crash
        self.fleet.take(np.zeros(len(readings.times), np.int64), readings, self.batch)
        self.fleet.flush(self.batch)
        self.stream.save(self.batch, self.store.readings.next_sample + self.batch.rows(), whole)

    def outcome(self) -> tuple[list[float], list[dict[str, Any]], dict[str, bytes]]:
        """Scores, what was told, and the memory."""
        rows = asked(self.store.directory / READINGS, "SELECT scores FROM samples ORDER BY number")
        scores = np.frombuffer(b"".join(score for (score,) in rows), np.float32).tolist()
        told = asked(self.store.directory / RECORDS, "SELECT seq, data FROM outbox ORDER BY seq")
        data = [{"seq": seq, "data": json.loads(data)} for seq, data in told]
        self.stream.save(self.batch, 0, whole=True)
        parts = {name: part for name, part in self.batch.state["pump"].items() if name == "head"}
        self.store.close()
        return scores, data, parts


@pytest.mark.parametrize("crash_at", [3, 60, 95, 100, 119])
def test_a_crash_between_two_saves_changes_nothing(
    tmp_path: Path, detector: Detector, rows: Float32, crash_at: int
) -> None:
    calm, crashed = Gateway(tmp_path / "calm", detector), Gateway(tmp_path / "crashed", detector)
    for number in range(ROWS // 10):
        piece = rows[10 * number : 10 * number + 10]
        if number == crash_at:
            crashed.store.close()
            crashed = Gateway(tmp_path / "crashed", detector)
            assert crashed.caught_up > 0 or number in (100,)
        calm.feed(piece, 10 * number, whole=True)
        crashed.feed(piece, 10 * number, whole=number % 40 == 0)
    scores, told, memory = calm.outcome()
    scores_after, told_after, memory_after = crashed.outcome()
    np.testing.assert_array_equal(scores_after, scores)
    assert {message["data"].get("kind") for message in told} == {None, "anomaly"}
    assert sum(message["data"].get("uncertain", 0) for message in told) > 20
    assert told_after == told
    assert memory_after == memory


@pytest.mark.parametrize("correction_s", [0.0, -7200.0, 1e9, 0.1])
def test_what_was_stored_is_scored_again_at_its_place_although_the_clock_was_set(
    tmp_path: Path, detector: Detector, rows: Float32, correction_s: float
) -> None:
    """Stored times are the wall's; the grid, the scores and the forecasts know the steady time."""
    calm = Gateway(tmp_path / "calm", detector, correction_s)
    crashed = Gateway(tmp_path / "crashed", detector, correction_s)
    for number in range(40):
        if number in (13, 28):
            crashed.store.close()
            crashed = Gateway(tmp_path / "crashed", detector, correction_s)
            assert crashed.caught_up > 0
        for gateway in (calm, crashed):
            gateway.feed(rows[10 * number : 10 * number + 10], 10 * number, whole=number % 20 == 0)
        assert not {"late", "duplicate"} & crashed.stream.document()["counters"].keys()
    scores, told, _ = calm.outcome()
    scores_after, told_after, _ = crashed.outcome()
    np.testing.assert_array_equal(scores_after, scores)
    assert told_after == told


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("crash_at", [1, 50, 95, 100])
def test_a_crash_between_the_two_files_changes_nothing(
    tmp_path: Path, detector: Detector, rows: Float32, crash_at: int, whole: bool
) -> None:
    calm, crashed = Gateway(tmp_path / "calm", detector), Gateway(tmp_path / "crashed", detector)
    for number in range(ROWS // 10):
        piece = rows[10 * number : 10 * number + 10]
        calm.feed(piece, 10 * number, whole=True)
        if number == crash_at:
            before = {file: file.read_bytes() for file in crashed.of_file(RECORDS)}
            crashed.feed(piece, 10 * number, whole)
            crashed.store.close()
            for file in crashed.of_file(RECORDS):
                file.unlink()
            for file, content in before.items():  # only the other file has this commit
                file.write_bytes(content)
            crashed = Gateway(tmp_path / "crashed", detector)
            assert crashed.caught_up >= 9
        # what was not acknowledged comes again
        crashed.feed(piece, 10 * number, whole=number % 40 == 0)
    scores, told, memory = calm.outcome()
    scores_after, told_after, memory_after = crashed.outcome()
    np.testing.assert_array_equal(scores_after, scores)
    assert told_after == told
    assert memory_after == memory


def test_alarms_that_are_open_are_closed_where_another_bundle_watches(
    tmp_path: Path, detector: Detector, rows: Float32, caplog: pytest.LogCaptureFixture
) -> None:
    before = Gateway(tmp_path, detector)
    before.feed(rows[:1000], 0, whole=True)
    (open_alarm,) = before.store.records.open_alarms("pump")
    before.store.close()
    channels = [
        BaselineChannelTable(name=channel.name, unit=channel.unit)
        for channel in detector.manifest.channels
    ]
    other = baseline(BaselineTable(period_s=PERIOD_S, channels=channels))
    after = Gateway(tmp_path, other)
    assert after.stream.counters == {"alarms_closed": 1, "alarms_unwatched": 1}
    assert "alarm closed: anomaly since" in caplog.text
    after.feed(rows[1000:], 1000, whole=True)
    assert after.store.records.open_alarms("pump") == []
    with Reader(tmp_path) as reader:
        (alarm,) = reader.alarms(10)
        told = [one.read() for one in reader.outbox(["alarm"], 0, 100)]
    assert [(one["number"], one["state"]) for one in told] == [(1, "opened"), (1, "closed")]
    assert alarm == told[-1]
    assert alarm | {"state": "opened", "closed": None, "ended": None} == open_alarm
    after.feed(rows[:200], ROWS, whole=True)
    after.feed(10 * rows[:200], ROWS + 200, whole=True)
    assert [one["number"] for one in after.store.records.open_alarms("pump")] == [2]
    after.store.close()
    again = Gateway(tmp_path, other)  # and stays closed
    assert (again.stream.counters, again.batch.messages) == ({}, [])
    again.store.close()
