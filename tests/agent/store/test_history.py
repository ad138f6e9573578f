"""Minutes and hours say what the samples said: after kills, restarts and corrections of the clock.

What they are compared with is added up here from the samples themselves, the plain way.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agent.store import history as rows_of_history
from agent.store.aggregates import Entries, from_bytes, merged, of_samples, to_bytes
from agent.store.batch import Batch
from agent.store.migrations import READINGS
from agent.store.reader import Reader
from agent.store.retention import Retention
from agent.store.salvage import mend
from agent.store.writer import Store
from models.errors import StoreError
from models.messages import Float32, Samples
from tests.disk import Disk

START_S = 1_790_000_000.0 // 86400 * 86400  # a midnight
NAMES = ["pressure", "flow"]


def opened(directory: Path, ring: int = 10**6, bytes_max: int = 2**28) -> Store:
    store = Store(directory, "plant", "gw-1", 1000, ring, history_bytes_max=bytes_max)
    store.readings.history.describe({"pump": NAMES, "fan": NAMES})
    store.open()
    return store


def chunk(
    first: int, count: int, stream: str = "pump", origin_s: float = START_S, step_s: float = 1.0
) -> tuple[str, Samples, Float32]:
    """Return samples by their number in the stream; some values are missing, some not scored."""
    numbers = np.arange(first, first + count)
    values = np.stack([np.sin(numbers / 700), numbers % 97], axis=1).astype(np.float32)
    values[numbers % 13 == 0, 0] = np.nan
    scores = (numbers % 1009 / 1000).astype(np.float32)
    scores[numbers % 5 == 0] = np.nan
    return stream, Samples(origin_s + numbers * step_s, values), scores


def fill(store: Store, first: int, count: int, chunk_rows: int = 100) -> None:
    for begin in range(first, first + count, chunk_rows):
        batch = Batch(samples=[chunk(begin, chunk_rows), chunk(begin, chunk_rows, "fan")])
        store.commit(batch, "synced")


def check(directory: Path, count: int, from_s: float, to_s: float, points: int) -> str:
    """Compare a history with what the samples say; return its level."""
    with Reader(directory) as reader:
        found = reader.history("pump", from_s, to_s, points)
    level_s = found.level_s
    origin_s = from_s if level_s is None else from_s // level_s * level_s
    end_s = to_s if level_s is None else -(-to_s // level_s) * level_s
    _, samples, scores = chunk(0, count)
    inside = (samples.times >= origin_s) & (samples.times < end_s)
    assert inside.any()
    plain = of_samples(samples.times[inside], samples.values[inside], scores[inside])
    binned = plain
    if level_s is not None:  # an entry is not cut
        binned = plain._replace(times=plain.times // level_s * level_s)
    agrees(found.points, merged(binned, found.interval_s, origin_s, points))
    assert len(found.points.times) <= points
    assert found.channels == NAMES
    return {None: "samples", 60.0: "minutes", 3600.0: "hours"}[level_s]


def agrees(found: Entries, wanted: Entries) -> None:
    np.testing.assert_allclose(found.times, wanted.times)
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_array_equal(found.counts, wanted.counts)
    np.testing.assert_array_equal(found.score_max, wanted.score_max)
    np.testing.assert_array_equal(found.low, wanted.low)
    np.testing.assert_array_equal(found.high, wanted.high)
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-5, atol=1e-5)


def test_a_block_is_read_as_it_was_written() -> None:
    _, samples, scores = chunk(0, 300)
    entries = merged(of_samples(samples.times, samples.values, scores), 60.0)
    agrees(from_bytes(to_bytes(entries, START_S, 60.0), START_S, 60.0), entries)
    for damaged in (b"", b"x", to_bytes(entries, START_S, 60.0)[:-9]):
        with pytest.raises(ValueError, match="history"):
            from_bytes(damaged, START_S, 60.0)


def test_samples_minutes_and_hours_answer_alike(tmp_path: Path) -> None:
    store, count = opened(tmp_path), 40_000
    fill(store, 0, count)
    end_s = START_S + count
    for from_s, to_s, points, level in (
        (START_S, START_S + 50, 10, "samples"),
        (START_S + 3000, START_S + 3900, 80, "samples"),
        (end_s - 700, end_s, 80, "samples"),
        (START_S, end_s, 80, "minutes"),
        (START_S + 7000, START_S + 30_000, 100, "minutes"),
        (START_S, end_s, 9, "hours"),
        (START_S + 5000, end_s + 10**6, 9, "hours"),
    ):
        assert check(tmp_path, count, from_s, to_s, points) == level
    store.close()


def test_the_ring_need_not_reach_back(tmp_path: Path) -> None:
    store, count = opened(tmp_path, ring=2000), 20_000
    fill(store, 0, count)
    assert check(tmp_path, count, START_S + 60, START_S + 120, 80) == "minutes"
    assert check(tmp_path, count, START_S, START_S + count, 80) == "minutes"
    store.close()


def test_a_restart_goes_on_within_a_minute(tmp_path: Path) -> None:
    at = 0
    for count in (50, 1000, 10, 3600, 7, 7333):
        store = opened(tmp_path)
        fill(store, at, count, chunk_rows=count)
        at += count
        check(tmp_path, at, START_S, START_S + at, 3)
        store.close()


CHILD = """
import sys, time
from pathlib import Path
from tests.agent.store.test_history import Batch, chunk, opened
store = opened(Path(sys.argv[1]))
at = int(sys.argv[2])
while True:
    for _ in range(10):
        store.commit(Batch(samples=[chunk(at, 97), chunk(at, 97, "fan")]), "synced")
        at += 97
    print(at, flush=True)
"""


def test_after_kills_they_agree_with_the_samples(tmp_path: Path) -> None:
    rng, at = random.Random(5), 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(at)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(rng.randint(2, 8)):
            assert process.stdout.readline()
        time.sleep(rng.random() * 0.02)  # at any moment of a commit
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        with contextlib.closing(sqlite3.connect(tmp_path / READINGS)) as connection:
            ((at,),) = connection.execute("SELECT sum(rows) FROM samples WHERE stream = 'pump'")
        for points in (80, 9, 3):
            check(tmp_path, at, START_S, START_S + at, points)


def test_a_commit_that_fails_adds_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    fill(store, 0, 1000)
    batch = Batch(samples=[chunk(1000, 500)])
    with contextlib.closing(sqlite3.connect(tmp_path / READINGS)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON samples BEGIN SELECT raise(ABORT, 'full'); END"
        )
        with pytest.raises(StoreError, match="full"):
            store.commit(batch, "synced")
        connection.execute("DROP TRIGGER full")
    store.commit(batch, "synced")
    store.commit(Batch(samples=[chunk(1500, 900)]), "synced")
    check(tmp_path, 2400, START_S, START_S + 2400, 3)
    store.close()


def test_times_of_a_wrong_clock_are_moved(tmp_path: Path) -> None:
    store, by_s = opened(tmp_path), START_S - 7 * 60
    wrong, count = 7.0 * 60, 5000
    for begin in range(0, count, 100):
        store.commit(Batch(samples=[chunk(begin, 100, origin_s=wrong)]), "unsynced")
    waiting = Batch(samples=[chunk(count, 100, origin_s=wrong)])
    by = store.correction(by_s, wrong - 7 * 60, wrong + count + 100, frozenset({"pump"}), waiting)
    waiting.samples.append(chunk(count + 100, 100))
    store.commit(waiting, "synced")
    while not by.done:
        store.correct(by)
    store.commit(Batch(samples=[chunk(count + 200, 1000)]), "synced")
    count += 1200
    with Reader(tmp_path) as reader:
        for points in (100, 2):
            found = reader.history("pump", START_S - 86400, START_S + 86400, points)
            assert found.points.rows.sum() == count
            assert abs(found.points.times[0] - START_S) <= found.interval_s
        assert not len(reader.history("pump", 0, START_S - 86400, 80).points.times)
    store.close()


def test_what_comes_after_the_step_is_not_moved_with_its_block(tmp_path: Path) -> None:
    store, by_s = opened(tmp_path), 120.0
    store.commit(Batch(samples=[chunk(0, 300)]), "unsynced")
    waiting = Batch()
    by = store.correction(by_s, START_S, START_S + 300, frozenset({"pump"}), waiting)
    waiting.samples.append(chunk(300, 120, origin_s=START_S + by_s))  # of the same ten minutes
    store.commit(waiting, "synced")
    while not by.done:
        store.correct(by)
    with Reader(tmp_path) as reader:
        found = reader.history("pump", START_S, START_S + 1200, 4)
    _, samples, scores = chunk(0, 420, origin_s=START_S + by_s)
    entries = merged(of_samples(samples.times, samples.values, scores), 60.0)
    agrees(found.points, merged(entries, 300.0, START_S, 4))
    store.close()


def test_other_channels_begin_anew_and_are_shown_beside_the_old(tmp_path: Path) -> None:
    store = opened(tmp_path)
    fill(store, 0, 1000)
    store.close()
    store = Store(tmp_path, "plant", "gw-1", 1000, 10**6)
    store.readings.history.describe({"pump": ["flow", "level"]})
    store.open()
    store.commit(Batch(samples=[chunk(1000, 500)]), "synced")
    with Reader(tmp_path) as reader:
        found = reader.history("pump", START_S, START_S + 3600, 10)
    assert found.channels == ["pressure", "flow", "level"]
    assert found.points.rows.sum() == 1500
    assert found.points.counts.sum(axis=0)[2] == 500
    store.close()


def test_what_is_too_old_or_too_much_goes_and_is_counted(tmp_path: Path) -> None:
    store = opened(tmp_path, bytes_max=2**14)
    fill(store, 0, 80_000, chunk_rows=500)
    document = store.document()
    assert document["history_bytes"] <= 2**14
    assert document["dropped"]["history_excess"] > 0
    check(tmp_path, 80_000, START_S, START_S + 80_000, 9)  # hours stay longer
    store.limit(1000, 10**6, 1000, 2**30, Retention(history_days_max=1.0), 2**28)
    store.commit(Batch(), "synced")  # it is long past, so all is too old
    assert store.document()["dropped"]["history_old"] > 0
    store.close()


def test_a_damaged_file_keeps_its_history(tmp_path: Path) -> None:
    store, count = opened(tmp_path), 20_000
    fill(store, 0, count)
    store.close()
    report = mend(tmp_path / READINGS)
    assert report["lost"]["minutes"] == 0
    assert report["saved"]["minutes"] > 20
    store = opened(tmp_path)
    fill(store, count, 2000)
    for points in (80, 9):
        check(tmp_path, count + 2000, START_S, START_S + count + 2000, points)
    store.close()


def test_the_cost_goes_with_the_points(tmp_path: Path, disk: Disk) -> None:
    store = opened(tmp_path)
    fill(store, 0, 100_000, chunk_rows=50)
    store.close()
    with disk.here() as layer, Reader(tmp_path) as reader:
        reader.history("pump", START_S, START_S + 100_000, 20)
    assert layer.bytes_read < (tmp_path / READINGS).stat().st_size / 20


def test_a_silent_stream_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_of_history, "IDLE_S", -1.0)
    monkeypatch.setattr(rows_of_history, "LOOK_S", 0.0)
    store = opened(tmp_path)
    fill(store, 0, 100)
    store.commit(Batch(), "synced")
    with contextlib.closing(sqlite3.connect(tmp_path / READINGS)) as connection:
        assert connection.execute("SELECT count(*) FROM minutes").fetchone() == (2,)
        assert connection.execute("SELECT settled FROM history").fetchone() == (201,)
    check(tmp_path, 100, START_S, START_S + 100, 80)
    store.close()


def test_an_older_file_has_none(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "data" / "readings-5.sql"
    with contextlib.closing(sqlite3.connect(tmp_path / READINGS)) as connection:
        connection.executescript(data.read_text())
    with Reader(tmp_path) as reader:
        assert reader.history_streams() == []
        assert not len(reader.history("pump", 0, START_S, 10).points.times)
