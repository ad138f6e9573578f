"""Windows of alarms in the store: their form, their cap, who reads them, and what damages them."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.handling.transition import Transition
from agent.store.batch import WAITING_WINDOWS_BYTES_MAX, Batch
from agent.store.correction import Correction
from agent.store.migrations import RECORDS
from agent.store.reader import Reader
from agent.store.retention import Retention
from agent.store.sqlite import current_version
from agent.store.window import Seen, Window
from agent.store.windows import window
from agent.store.writer import Store
from models.errors import StoreError
from models.times import iso_time
from tests.agent.store.test_migrations import make
from tests.agent.store.test_salvage import overwrite
from tests.database import asked
from tests.disk import Disk

START_S = 1_700_000_000.0
OLD_S = 1_600_000_000.0
ROWS = 40


def windowed(
    number: int,
    stream: str = "pump",
    begin_s: float = START_S,
    last: int | None = None,
    **more: Any,
) -> Window:
    """A window whose values nothing compresses much."""
    times = array("d", (begin_s + at for at in range(ROWS)))
    noise = array("f", (math.sin(number * 1000 + at) for at in range(2 * ROWS)))
    return Window(
        stream,
        number,
        number if last is None else last,
        0,
        ("flow", "head"),
        times.tobytes(),
        noise.tobytes(),
        noise.tobytes(),
        noise[:ROWS].tobytes(),
        bytes(2 * ROWS),
    )._replace(**more)


def alarm(number: int, stream: str = "pump", **more: Any) -> dict[str, Any]:
    opened = iso_time(START_S)
    return {"stream": stream, "number": number, "state": "closed", "opened": opened} | more


def batch(*windows: Window, **more: Any) -> Batch:
    alarms = [alarm(one.number, one.stream) for one in windows]
    kept = {(one.stream, one.number): one for one in windows}
    return Batch(alarms=alarms, windows=kept, **more)


def labelled(number: int) -> Transition:
    grades = ("high", "major", "high")
    states = ("NORM", "NORM", "inactive")
    return Transition(
        "pump",
        "anomaly",
        number,
        number,
        START_S,
        "labelled",
        *states,
        *grades,
        "maria",
        "terminal",
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, "plant", "gw-1", 100, 100)
    made.open()
    yield made
    made.close()


def kept(store: Store, numbers: Sequence[int], stream: str = "pump") -> list[int]:
    return [number for number in numbers if read(store.directory, number, stream) is not None]


def read(directory: Path, number: int, stream: str = "pump") -> Seen | None:
    with Reader(directory) as reader:
        return window(reader.query_records, stream, number)


def test_what_is_read_is_what_was_written_in_plain_numbers(store: Store) -> None:
    odd = [0.1, -0.0, math.nan, math.inf, -math.inf, 16777217.0, 1e-45, 3.4028235e38, 1 / 3]
    values = array("f", odd + [1.5] * (2 * ROWS - len(odd)))
    one = windowed(1, observed=values.tobytes(), quality=bytes([0, 1, 2, 3] * (ROWS // 2)))
    store.commit(batch(one), "synced")
    seen = read(store.directory, 1)
    assert seen is not None
    plain = seen.observed["flow"][: len(odd)]
    known = [0.1, 0.0, None, None, None, 16777216.0, 1.4013e-45, 3.4028235e38, 0.33333334]
    assert plain == known
    assert math.copysign(1, plain[1] or 0.0) == 1
    assert seen.times == [START_S + at for at in range(ROWS)]
    again = array("f", (math.nan if one is None else one for one in seen.observed["head"]))
    assert again == values[ROWS:]
    assert seen.quality["flow"][:4] == ["good", "interpolated", "held", "missing"]
    assert array("f", seen.score).tobytes() == one.score  # type: ignore[arg-type]
    document = seen.document()
    assert document["channels"][1]["expected"] == seen.expected["head"]
    assert (document["samples"], document["threshold"]) == (ROWS, 1.0)


def test_an_alarm_has_the_window_that_begins_with_it_or_before_it(store: Store) -> None:
    store.commit(batch(windowed(2, last=4), windowed(7), windowed(5, "fan")), "synced")
    assert kept(store, range(1, 10)) == [2, 3, 4, 7]
    assert kept(store, range(1, 10), "fan") == [5]


def test_a_window_that_is_written_again_takes_the_place_of_the_former(store: Store) -> None:
    store.commit(batch(windowed(1, to_come=9)), "synced")
    (unfinished,) = store.records.unfinished_windows("pump")
    assert unfinished == windowed(1, to_come=9)
    size = store.document()["windows_bytes"]
    store.commit(batch(windowed(1)), "synced")
    assert store.records.unfinished_windows("pump") == []
    assert store.document()["windows_bytes"] == size > 0


def test_above_the_cap_the_oldest_go_and_those_of_labelled_alarms_last(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    store.commit(batch(windowed(1), windowed(2, last=3), windowed(4), windowed(5)), "synced")
    each = store.document()["windows_bytes"] // 4
    store.commit(Batch(transitions=[labelled(1), labelled(3)]), "synced")
    store.limit(100, 100, 100, 2**30, windows_bytes_max=int(3.5 * each))
    store.commit(batch(windowed(6)), "synced")
    assert kept(store, range(1, 7)) == [1, 2, 3, 6]
    store.commit(batch(windowed(7)), "synced")
    assert kept(store, range(1, 8)) == [1, 2, 3, 7]
    store.commit(batch(windowed(2, last=3, to_come=1)), "synced")  # its label stays
    store.limit(100, 100, 100, 2**30, windows_bytes_max=int(2.5 * each))
    store.commit(Batch(), "synced")
    assert kept(store, range(1, 9)) == [1, 2, 3]
    store.limit(100, 100, 100, 2**30, windows_bytes_max=int(1.5 * each))
    store.commit(batch(windowed(8)), "synced")
    assert kept(store, range(1, 9)) == [2, 3]
    document = store.document()
    assert document["dropped"]["windows_excess"] == 6
    assert document["windows_bytes"] <= 1.5 * each
    store.close()
    again = Store(tmp_path, "plant", "gw-1", 100, 100)
    again.open()
    assert again.document()["windows_bytes"] == document["windows_bytes"]
    again.close()


def test_the_cap_is_at_most_an_eighth_of_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 100, bytes_max=2**15, windows_bytes_max=2**30)
    store.open()
    for number in range(1, 50):
        store.commit(batch(windowed(number)), "synced")
    assert store.document()["windows_bytes"] <= 2**12
    store.close()


def test_the_window_goes_with_its_alarm(tmp_path: Path) -> None:
    store = Store(
        tmp_path,
        "plant",
        "gw-1",
        100,
        100,
        alarm_rows_max=3,
        retention=Retention(alarms_days_max=1),
    )
    store.open()
    store.commit(batch(*(windowed(number) for number in range(1, 6))), "synced")
    assert kept(store, range(1, 6)) == [3, 4, 5]
    gone = alarm(5, closed="2020-01-01T00:00:00.000Z")
    store.commit(Batch(alarms=[gone]), "synced")
    store.records.drop_old(Retention(alarms_days_max=1), START_S)
    assert kept(store, range(1, 6)) == [3, 4]
    store.close()


def test_it_is_on_the_disk_with_its_alarm_or_neither_is(store_on_disk: Store, disk: Disk) -> None:
    waiting = batch(windowed(1))
    disk.fails("full")
    with pytest.raises(StoreError, match="full"):
        store_on_disk.commit(waiting, "synced")
    disk.works()
    with Reader(store_on_disk.directory) as reader:
        assert reader.alarms(10) == []
    assert kept(store_on_disk, [1]) == []
    store_on_disk.commit(waiting, "synced")
    assert waiting.windows == {}
    with Reader(store_on_disk.directory) as reader:
        assert len(reader.alarms(10)) == 1
    assert kept(store_on_disk, [1]) == [1]


def test_while_the_store_fails_the_oldest_that_wait_are_dropped_and_their_alarms_stay() -> None:
    large = bytes(WAITING_WINDOWS_BYTES_MAX // 3)
    waiting = batch(*(windowed(number, quality=large) for number in range(1, 6)))
    assert waiting.shed()["windows"] == 3
    assert list(waiting.windows) == [("pump", 4), ("pump", 5)]
    assert len(waiting.alarms) == 5
    waiting.windows["fan", 1] = windowed(1, "fan")
    waiting.forgo({"pump"})
    assert list(waiting.windows) == [("fan", 1)]


def test_times_of_a_wrong_clock_are_corrected_once(store: Store) -> None:
    old, wrong, device = windowed(1, begin_s=OLD_S), windowed(2, begin_s=100.0), windowed(1, "fan")
    store.commit(batch(old), "synced")
    store.commit(batch(device, wrong, windowed(3, begin_s=100.0)), "unsynced")
    waiting = batch(windowed(4, begin_s=110.0))
    by = store.correction(1e9, 90.0, 150.0, frozenset({"pump"}), waiting)
    right = windowed(3, begin_s=120.0)  # written again since then, with the right times
    store.commit(batch(right), "synced")
    assert (
        by.corrected_window(waiting.windows["pump", 4]).times
        == windowed(4, begin_s=1e9 + 110.0).times
    )
    while not by.done:
        store.correct(by)
    begins = [found.times[0] for n in (1, 2, 3) if (found := read(store.directory, n))]
    assert begins == [OLD_S, 1e9 + 100.0, 120.0]
    fan = read(store.directory, 1, "fan")
    assert fan is not None
    assert fan.times[0] == START_S


def test_a_window_with_old_times_does_not_end_the_correction(store: Store) -> None:
    """A silent stream's has only what it measured before its silence."""
    store.commit(batch(windowed(1, begin_s=100.0)), "unsynced")
    store.commit(batch(windowed(2, begin_s=OLD_S)), "unsynced")
    by = store.correction(1e9, 90.0, 150.0, frozenset({"pump"}), Batch())
    while not by.done:
        store.correct(by)
    begins = [found.times[0] for n in (1, 2) if (found := read(store.directory, n))]
    assert begins == [1e9 + 100.0, OLD_S]


def test_only_the_times_of_the_period_are_corrected(store: Store) -> None:
    store.commit(batch(windowed(1, begin_s=100.0)), "unsynced")
    by = store.correction(500.0, 120.0, 200.0, frozenset({"pump"}), Batch())
    store.correct(by)
    seen = read(store.directory, 1)
    assert seen is not None
    assert seen.times == [100.0 + at + (500.0 if at >= 19 else 0.0) for at in range(ROWS)]


def test_many_take_several_commits(store: Store) -> None:
    store.commit(batch(*(windowed(number, begin_s=100.0) for number in range(1, 50))), "unsynced")
    by = store.correction(1e9, 90.0, 150.0, frozenset({"pump"}), Batch())
    steps = 0
    while not by.done:
        store.correct(by)
        steps += 1
    assert steps == 3
    assert {read(store.directory, n).times[0] for n in range(1, 50)} == {1e9 + 100.0}  # type: ignore[union-attr]


def change(store: Store, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(store.directory / RECORDS)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


DAMAGES = (
    "UPDATE windows SET data = zeroblob(20) WHERE number = 1",
    "UPDATE windows SET channels = '[1]' WHERE number = 2",
    "UPDATE windows SET times = substr(times, 1, 20) WHERE number = 3",
)


def test_a_damaged_window_is_as_none_and_stops_nothing(store: Store) -> None:
    unfinished = [windowed(number, to_come=1) for number in range(1, 5)]
    store.commit(batch(*unfinished), "synced")
    change(store, *DAMAGES)
    assert kept(store, range(1, 5)) == [4]
    assert [one.number for one in store.records.unfinished_windows("pump")] == [4]
    by = Correction(1.0, START_S, START_S + 9, frozenset({"pump"}), 0, 0, 0, 10, 0, history=False)
    store.correct(by)
    seen = read(store.directory, 4)
    assert seen is not None
    assert seen.times[0] == START_S + 1


def test_what_is_readable_of_a_damaged_file_is_saved_and_the_rest_counted(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    for number in range(1, 61):
        store.commit(batch(windowed(number)), "synced")
    store.commit(Batch(transitions=[labelled(1)]), "synced")
    change(store, DAMAGES[1])
    store.close()
    overwrite(tmp_path / RECORDS, b'["flow", "head"]', 2)
    again = Store(tmp_path, "plant", "gw-1", 100, 100)
    again.open()
    (report,) = again.document()["damage"]
    saved, lost = report["saved"]["windows"], report["lost"]["windows"]
    assert saved == len(kept(again, range(1, 61)))
    assert 0 < saved < 59
    assert saved + lost == 60
    assert 2 not in kept(again, range(1, 61))
    labels = asked(tmp_path / RECORDS, "SELECT number FROM windows WHERE labelled")
    assert labels == ([(1,)] if kept(again, [1]) else [])
    again.close()


@pytest.mark.parametrize("version", range(1, current_version(RECORDS)))
def test_a_file_of_an_older_version_has_none_and_gets_them(tmp_path: Path, version: int) -> None:
    make(tmp_path, RECORDS, version)
    assert read(tmp_path, 1) is None
    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    assert kept(store, [1, 2, 3]) == ([1, 2, 3] if version >= 6 else [])
    store.commit(Batch(windows={("pump", 3): windowed(3)}), "synced")
    assert 3 in kept(store, [1, 2, 3])
    store.close()


def test_todays_windows_can_be_read_later(tmp_path: Path) -> None:
    make(tmp_path, RECORDS, 6)
    seen = read(tmp_path, 2)
    assert seen is not None
    assert (seen.number, seen.last, seen.to_come) == (1, 2, 0)
    assert seen.times == [1.7e9 + at for at in range(12)]
    assert seen.observed == {"flow": [50 + at / 8 for at in range(12)], "pressure": [2.0] * 12}
    assert seen.expected == {"flow": [50.5] * 12, "pressure": [None] * 12}
    assert seen.score == [0.25] * 6 + [4.0] * 6
    assert seen.quality == {"flow": ["good"] * 12, "pressure": ["held"] * 12}
    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    assert [one.to_come for one in store.records.unfinished_windows("pump")] == [5]
    store.close()
