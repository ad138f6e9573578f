"""The store: one commit is all or nothing, numbers have no gaps, and what goes is counted."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.store.batch import Batch
from agent.store.migrations import READINGS, RECORDS
from agent.store.reader import Reader
from agent.store.record import Kind, Outgoing
from agent.store.salvage import mend
from agent.store.writer import Store
from models.errors import StoreError
from models.messages import HELD, Float32, Samples, stored_samples
from tests.database import asked
from tests.disk import Disk


def opened(directory: Path, outbox: int = 1000, ring: int = 10_000) -> Store:
    store = Store(directory, "plant", "gw-1", outbox, ring)
    store.open()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = opened(tmp_path)
    yield made
    made.close()


def message(kind: Kind = "summary", number: int = 0) -> Outgoing:
    return Outgoing(kind, None if kind == "health" else "pump", 1.7e9, {"number": number})


def samples(count: int, first: float = 0.0) -> tuple[str, Samples, Float32]:
    times = np.arange(count) + first
    values = np.ones((count, 2), np.float32)
    return (
        "pump",
        Samples(times, values),
        np.ones(count, np.float32),
    )


def queued(directory: Path, *kinds: str) -> list[int]:
    with Reader(directory) as reader:
        return [one.seq for one in reader.outbox(kinds or ("alarm", "summary", "health"), 0, 10**6)]


def test_numbers_begin_at_one_and_have_no_gaps(store: Store) -> None:
    store.commit(Batch(messages=[message(), message("alarm")]), "synced")
    store.commit(Batch(messages=[message("health")]), "synced")
    assert queued(store.directory) == [1, 2, 3]
    with Reader(store.directory) as reader:
        (alarm,) = reader.outbox(("alarm",), 0, 10)
    assert alarm == message("alarm").numbered(2, "synced")


def test_a_reader_passes_over_streams_and_the_gateway_itself(store: Store) -> None:
    fan = Outgoing("summary", "fan", 1.7e9, {})
    store.commit(Batch(messages=[message(), fan, message("health")]), "synced")
    kinds = ("summary", "health")

    def found(*held: str | None) -> list[int]:
        with Reader(store.directory) as reader:
            return [one.seq for one in reader.outbox(kinds, 0, 10, held)]

    assert found() == [1, 2, 3]
    assert found("pump") == [2, 3]
    assert found("pump", "fan") == [3]
    assert found(None) == [1, 2]


def test_numbers_go_on_after_a_restart_even_when_all_are_acknowledged(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit(Batch(messages=[message()] * 5), "synced")
    store.commit(Batch(acked=[1, 2, 3, 4, 5]), "synced")
    epoch = store.origin.epoch
    store.close()
    store = opened(tmp_path)
    store.commit(Batch(messages=[message()]), "synced")
    assert queued(tmp_path) == [6]
    assert store.origin.epoch == epoch
    store.close()


def test_acknowledging_twice_changes_nothing(store: Store) -> None:
    store.commit(Batch(messages=[message()] * 3), "synced")
    store.commit(Batch(acked=[2]), "synced")
    store.commit(Batch(acked=[2, 99]), "synced")
    assert queued(store.directory) == [1, 3]
    assert store.document()["outbox_rows"] == 2


def test_counters_of_what_was_said_rise_and_stay(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    for counters in ({"a/k": 5, "b/k": 7}, {"a/k": 6}, {"a/k": 4}, {}):
        batch = Batch(counters=dict(counters))
        store.commit(batch, "synced")
        assert batch.counters == {}
    store.close()
    with Reader(tmp_path) as reader:
        assert reader.counters() == {"a/k": 6, "b/k": 7}


def test_a_full_outbox_evicts_health_then_summaries_and_alarms_last(tmp_path: Path) -> None:
    store = opened(tmp_path, outbox=4)
    kinds: list[Kind] = ["alarm", "summary", "health", "alarm", "summary", "health", "alarm"]
    store.commit(Batch(messages=[message(kind) for kind in kinds]), "synced")
    assert queued(tmp_path) == [1, 4, 5, 7]
    store.commit(Batch(messages=[message("alarm")] * 3), "synced")
    assert queued(tmp_path, "alarm") == [7, 8, 9, 10]
    assert store.document()["evicted"] == {"health": 2, "summary": 2, "transition": 0, "alarm": 2}
    store.close()
    store = opened(tmp_path, outbox=4)
    assert store.document()["evicted"] == {"health": 2, "summary": 2, "transition": 0, "alarm": 2}
    store.close()


def test_the_number_of_an_alarm_that_was_dropped_is_not_given_again(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 100, alarm_rows_max=5)
    store.open()
    for stream, number in [("pump", 7), *(("fan", number) for number in range(1, 11))]:
        alarm = {"stream": stream, "number": number, "state": "closed"}
        store.commit(Batch(alarms=[alarm]), "synced")
    with Reader(tmp_path) as reader:
        assert {alarm["stream"] for alarm in reader.alarms(100)} == {"fan"}
    store.close()
    mend(tmp_path / RECORDS)
    store = opened(tmp_path)
    assert (store.records.last_alarm_number("pump"), store.records.last_alarm_number("fan")) == (
        7,
        10,
    )
    assert store.records.last_alarm_number("nothing") == 0
    store.close()


@pytest.mark.parametrize("rows", [1, 3, 4, 61])
def test_where_values_came_from_is_stored_and_read(tmp_path: Path, rows: int) -> None:
    chance = np.random.default_rng(rows)
    values = chance.normal(size=(rows, 3)).astype(np.float32)
    quality = chance.integers(0, 4, (rows, 3), np.uint8)
    quality[0, 0] = HELD
    times, score = 1.7e9 + np.arange(rows), np.ones(rows, np.float32)
    none = np.zeros_like(quality)
    store = opened(tmp_path)
    made = [
        ("pump", Samples(times, values, quality), score),
        ("pump", Samples(times + rows, values, none), score),
    ]
    store.commit(Batch(samples=made), "synced")
    stored = stored_samples(store.readings.samples_from("pump", 0), 3)
    assert stored.quality is not None
    assert stored.quality.tolist() == [*quality.tolist(), *none.tolist()]
    assert stored.times.tolist() == [*times, *(times + rows)]
    with Reader(tmp_path) as reader:
        first, second = reader.newest_samples("pump", 100)
    assert len(first.quality or b"") == quality.size
    assert second.quality is None
    store.close()


def test_the_ring_keeps_the_newest_samples(tmp_path: Path) -> None:
    store = opened(tmp_path, ring=100)
    for chunk in range(30):
        store.commit(Batch(samples=[samples(10, chunk * 10.0)]), "synced")
    with Reader(tmp_path) as reader:
        chunks = reader.newest_samples("pump", 1000)
        newest = reader.newest_samples("pump", 1)
    times = np.concatenate([np.frombuffer(times) for times, *_ in chunks])
    assert times.tolist() == list(range(200, 300))
    assert np.frombuffer(newest[0][0])[-1] == 299
    store.close()


def test_no_more_chunks_are_read_than_asked_for(store: Store) -> None:
    for chunk in range(10):
        fan = ("fan", *samples(1, float(chunk))[1:])
        store.commit(Batch(samples=[samples(5, chunk * 5.0), fan]), "synced")
    with Reader(store.directory) as reader:
        newest = [np.frombuffer(times).tolist() for times, *_ in reader.newest_samples("pump", 7)]
        assert newest == [[40, 41, 42, 43, 44], [45, 46, 47, 48, 49]]
        ((times, values, scores, quality),) = reader.newest_samples("fan", 1)
        assert reader.newest_samples("nothing", 5) == []
    assert np.frombuffer(times).tolist() == [9]
    assert quality is None
    assert np.frombuffer(values, np.float32).tolist() == [1, 1]
    assert np.frombuffer(scores, np.float32).tolist() == [1]


def test_the_ring_goes_on_after_a_restart(tmp_path: Path) -> None:
    for start in range(3):
        store = opened(tmp_path, ring=25)
        store.commit(Batch(samples=[samples(10, start * 10.0)]), "synced")
        rows = store.document()["ring_rows"]
        store.close()
    assert rows == 20  # whole chunks, never more than the cap


def test_the_clock_is_stored_with_the_newest_samples(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 10, 25)
    store.open()
    assert store.readings.clock() is None
    for number in range(8):
        pieces = [samples(5, number * 10.0), samples(5, number * 10.0 + 5)]
        store.commit(Batch(samples=pieces, clock=b"clock %d" % number), "synced")
    store.commit(Batch(clock=b"without samples"), "synced")
    assert store.readings.clock() == b"clock 7"
    store.close()
    stored = asked(tmp_path / READINGS, "SELECT clock FROM samples ORDER BY number")
    assert [clock for (clock,) in stored[-4:]] == [None, b"clock 6", None, b"clock 7"]


def test_old_closed_alarms_go_and_open_ones_stay(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 10, 10, alarm_rows_max=5)
    store.open()
    alarms = [{"stream": "pump", "number": n, "state": "opened"} for n in range(1, 21)]
    store.commit(Batch(alarms=alarms), "synced")
    store.commit(Batch(alarms=[a | {"state": "closed"} for a in alarms if a["number"] != 2]), "x")
    with Reader(tmp_path) as reader:
        assert [alarm["number"] for alarm in reader.alarms(100)] == [2, 16, 17, 18, 19, 20]
    store.close()


def test_a_message_that_is_not_json_leaves_no_gap(store: Store) -> None:
    store.commit(Batch(messages=[message()]), "synced")
    bad = Outgoing("summary", "pump", 0.0, {"mean": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        store.commit(Batch(messages=[message(), bad]), "synced")
    store.commit(Batch(messages=[message()]), "synced")
    assert queued(store.directory) == [1, 2]
    assert store.document()["outbox_rows"] == 2


def test_readings_that_cannot_be_written_do_not_hold_back_alarms(
    store_on_disk: Store, disk: Disk
) -> None:
    store = store_on_disk
    store.commit(Batch(samples=[samples(5)]), "synced")
    disk.fails("full", READINGS)
    batch = Batch(samples=[samples(5), samples(5000)], messages=[message("alarm")])
    for _ in range(2):
        with pytest.raises(StoreError, match=r"readings\.db.*full"):
            store.commit(batch, "synced")
    assert queued(store.directory) == [1]
    assert store.document()["ring_rows"] == 5
    disk.works()
    store.commit(batch, "synced")
    assert store.document()["ring_rows"] == 5010
    assert queued(store.directory) == [1]


@pytest.mark.parametrize("fault", ["full", "io", "sync", "readonly"])
def test_a_failed_commit_leaves_no_gap_and_loses_nothing(
    store_on_disk: Store, disk: Disk, fault: str
) -> None:
    store = store_on_disk
    store.commit(Batch(messages=[message()]), "synced")
    disk.fails(fault, RECORDS)
    batch = Batch(messages=[message(number=n) for n in range(2000)], samples=[samples(5)])
    with pytest.raises(StoreError, match=r"fieldwatch\.db"):
        store.commit(batch, "synced")
    assert store.last_seq == 1
    assert len(batch.messages) == 2000
    disk.works()
    store.commit(batch, "synced")
    assert queued(store.directory)[0] == 1002  # the outbox takes 1000, the oldest went
    assert store.document()["evicted"]["summary"] == 1001
    assert store.last_seq == 2001


def test_state_comes_back_part_by_part(store: Store) -> None:
    store.commit(Batch(state={"pump": {"head": b"1", "history.0": b"a"}}), "synced")
    store.commit(Batch(state={"pump": {"head": b"2"}, "fan": {"head": b"x"}}), "synced")
    assert store.records.state("pump") == {"head": b"2", "history.0": b"a"}
    batch = Batch()
    batch.forget("pump")
    store.commit(batch, "synced")
    assert store.records.state("pump") == {}
    assert store.records.state("fan") == {"head": b"x"}
    store.commit(Batch(state={"pump": {"head": b"3"}}), "synced")
    store.commit(batch, "synced")  # once forgotten is enough
    assert store.records.state("pump") == {"head": b"3"}


def test_an_alarm_that_closes_replaces_the_open_one(store: Store) -> None:
    alarm = {"stream": "pump", "number": 1, "state": "opened"}
    store.commit(Batch(alarms=[alarm, alarm | {"number": 2}]), "synced")
    store.commit(Batch(alarms=[alarm | {"state": "closed"}]), "synced")
    with Reader(store.directory) as reader:
        assert [(a["number"], a["state"]) for a in reader.alarms(10)] == [
            (1, "closed"),
            (2, "opened"),
        ]
        assert [a["number"] for a in reader.alarms(10, open_only=True)] == [2]
    assert [a["number"] for a in store.records.open_alarms("pump")] == [2]
    assert store.records.last_alarm_number("pump") == 2
    assert store.records.last_alarm_number("fan") == 0


def test_a_second_agent_is_kept_out_by_name(store: Store) -> None:
    with pytest.raises(StoreError, match=f"another agent .process {os.getpid()}"):
        opened(store.directory)


@pytest.mark.parametrize("name", [RECORDS, READINGS])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path)
    store.commit(Batch(messages=[message()], samples=[samples(3)]), "synced")
    epoch = store.origin.epoch
    store.close()
    (tmp_path / name).write_bytes(b"not a database" * 1000)
    store = opened(tmp_path)
    assert len(store.set_aside) == 1
    assert store.set_aside[0].read_bytes().startswith(b"not a database")
    assert (store.origin.epoch == epoch) == (name == READINGS)
    store.commit(Batch(messages=[message()]), "synced")
    store.close()


def test_a_page_damaged_in_the_middle_is_noticed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit(Batch(messages=[message(number=n) for n in range(500)]), "synced")
    store.close()
    data = bytearray((tmp_path / RECORDS).read_bytes())
    data[8192:24576] = b"\xa5" * 16384
    (tmp_path / RECORDS).write_bytes(data)
    store = opened(tmp_path)
    assert [path.name.split(".corrupt")[0] for path in store.set_aside] == [RECORDS]
    store.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / RECORDS) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer version") as refused:
        opened(tmp_path)
    assert f"{tmp_path / RECORDS}: " in str(refused.value)
    assert "version 99, and this version supports up to " in str(refused.value)
    assert "Reinstall the newer version, or move the files" in str(refused.value)


def test_readers_work_beside_the_writer_and_after_a_clean_stop(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit(Batch(status=lambda: '{"up": 1}'), "synced")
    with Reader(tmp_path) as reader:
        assert reader.status() == {"up": 1}
        store.commit(Batch(status=lambda: '{"up": 2}'), "synced")
        assert reader.status() == {"up": 2}
    store.close()
    with Reader(tmp_path) as reader:
        assert reader.status() == {"up": 2}
    with Reader(tmp_path / "elsewhere") as reader, pytest.raises(StoreError, match="no such"):
        reader.status()


_WRITER = """if True:
    import sys
    from pathlib import Path
    from agent.store.record import Outgoing
    from agent.store.writer import Batch, Store
    store = Store(Path(sys.argv[1]), "plant", "gw-1", 10**6, 10**6)
    store.open()
    while True:
        number = store.last_seq // 3 + 1
        batch = Batch(
            messages=[Outgoing("summary", "pump", 0.0, {})] * 3,
            alarms=[{"stream": "pump", "number": number, "state": "opened"}],
            state={"pump": {"head": str(number).encode() * 1000}},
        )
        store.commit(batch, "synced")
        print(store.last_seq, flush=True)
"""


def test_kill_9_at_random_moments_loses_nothing_committed(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    said = 0
    for _ in range(10):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        assert first, "the database did not open"
        time.sleep(moments.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        # a line may have been cut by the kill: only whole ones were said
        lines = [first, *writer.stdout.read().splitlines(keepends=True)]
        said = max(int(line) for line in lines if line.endswith("\n"))
        writer.wait()
        writer.stdout.close()
    store = opened(tmp_path, outbox=10**6)
    numbers = queued(tmp_path)
    assert numbers[0] == 1
    assert all(after - before == 1 for before, after in pairwise(numbers))
    assert numbers[-1] >= said
    assert numbers[-1] % 3 == 0  # no commit in part
    assert store.last_seq == numbers[-1]
    number = numbers[-1] // 3
    assert store.records.last_alarm_number("pump") == number
    assert store.records.state("pump") == {"head": str(number).encode() * 1000}
    store.close()


_EXCHANGER = """if True:
    import itertools, os, shutil, signal, sys
    from pathlib import Path
    from agent.store.batch import Batch
    from agent.store.writer import Store

    def exchange(directory, left):
        shutil.copytree(before, directory)
        store = Store(directory, "plant", "gw-1", 10**6, 10**6)
        store.open()
        batch = Batch(alarms=[{"stream": "pump", "number": 1, "state": "closed"}])
        batch.forget("pump")
        batch.state["pump"] = {"head": b"new", "features": b"new"}

        def count(frame, event, called):
            nonlocal left
            if event in ("c_call", "c_return") and called.__name__.startswith("execute"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        store.commit(batch, "synced")
        os._exit(0)

    before = Path(sys.argv[1]) / "000"
    before.mkdir()
    store = Store(before, "plant", "gw-1", 10**6, 10**6)
    store.open()
    store.commit(Batch(state={"pump": {"head": b"old", "history.0": b"old"}}), "synced")
    store.close()
    for moment in itertools.count(1):
        child = os.fork()
        if child == 0:
            exchange(Path(sys.argv[1]) / f"{moment:03}", moment)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended != -signal.SIGKILL:
            sys.exit(ended)
"""


def test_kill_9_between_any_two_statements_leaves_the_old_state_or_the_new_one(
    tmp_path: Path,
) -> None:
    subprocess.run([sys.executable, "-c", _EXCHANGER, str(tmp_path)], check=True)
    found = []
    for directory in sorted(tmp_path.iterdir()):
        store = opened(directory)
        found.append((store.records.state("pump"), store.records.last_alarm_number("pump")))
        store.close()
    old = ({"head": b"old", "history.0": b"old"}, 0)
    new = ({"head": b"new", "features": b"new"}, 1)
    before = found.index(new)
    assert before > 8  # a moment before and one after each statement
    assert found == [old] * before + [new] * (len(found) - before)


def full_store(directory: Path, bytes_max: int) -> Store:
    store = Store(directory, "plant", "gw-1", 10**6, 10**6, bytes_max=bytes_max)
    store.open()
    return store


def large(kind: Kind, count: int) -> list[Outgoing]:
    return [Outgoing(kind, "pump", 1.7e9, {"text": "x" * 4000}) for _ in range(count)]


def test_a_full_store_drops_samples_first_and_keeps_to_its_size(tmp_path: Path) -> None:
    store, bytes_max = full_store(tmp_path, 4 * 2**20), 4 * 2**20
    store.commit(Batch(messages=[*large("alarm", 50), *large("summary", 100)]), "synced")
    for number in range(400):
        store.commit(Batch(samples=[samples(1000, 1000.0 * number)]), "synced")
        assert store.document()["bytes"] < bytes_max + 2**20
    document = store.document()
    assert document["samples_evicted"] > 100_000
    assert document["ring_rows"] + document["samples_evicted"] == 400_000
    assert document["evicted"] == {"health": 0, "summary": 0, "transition": 0, "alarm": 0}
    with Reader(tmp_path) as reader:
        ((times, *_),) = reader.newest_samples("pump", 1000)
    assert np.frombuffer(times)[-1] == 399_999
    store.close()
    size = (tmp_path / READINGS).stat().st_size
    assert size < bytes_max + 2 * 2**20


def test_where_there_are_no_samples_left_health_and_summaries_go_before_alarms(
    tmp_path: Path,
) -> None:
    store = full_store(tmp_path, 4 * 2**20)
    store.commit(Batch(messages=large("alarm", 300)), "synced")
    store.commit(Batch(messages=large("summary", 300)), "synced")
    store.commit(Batch(messages=large("health", 300), samples=[samples(100)]), "synced")
    for _ in range(8):
        store.commit(Batch(messages=large("alarm", 60)), "synced")
    document = store.document()
    assert document["ring_rows"] == 0
    assert document["evicted"]["health"] == 300
    assert document["evicted"]["summary"] > 0
    assert document["evicted"]["alarm"] == 0
    assert document["bytes"] < 5 * 2**20
    store.close()


def test_freed_pages_are_given_back_to_the_file_system(tmp_path: Path) -> None:
    store = full_store(tmp_path, 2**30)
    for number in range(100):
        store.commit(Batch(samples=[samples(1000, 1000.0 * number)]), "synced")
    before = store.document()["bytes"]
    assert before > 2_000_000
    store.limit(10**6, 1000, 1000, 2**30)
    for number in range(100, 200):
        store.commit(Batch(samples=[samples(10, 1000.0 * number)]), "synced")
    store.close()
    assert (tmp_path / READINGS).stat().st_size < before / 1.5  # 1 MB is kept for what comes
