"""The collector's samples: stored once, whole after a power cut, within limits."""

from __future__ import annotations

import itertools
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.collector import parquet
from agent.collector.books import Collected
from agent.collector.counts import Counts
from agent.collector.overview import overview
from agent.collector.quarantine import Entry
from agent.collector.reading import Chunk, Refused, Source, read_chunk
from agent.collector.retention import FOREVER
from agent.collector.retention import Keeping as MessagesKeeping
from agent.collector.samples import Shelved
from agent.collector.taking import Taking
from agent.collector.tidying import Keeping
from agent.dialects.answered import rows_of
from agent.dialects.cloudevents import CloudEvents
from agent.dialects.samples import Samples, packed, parted
from agent.mqtt.connection import Received
from agent.store.migrations import COLLECTED
from agent.store.record import Origin
from models.errors import ConfigError, StoreError

GATEWAY = Source("gw-1", "5e00")
BEGIN_S = 1_790_121_600.0 - 5  # 5 s before midnight, UTC


def samples_of(first: int, count: int = 10, channels: int = 2, since_s: float = BEGIN_S) -> Samples:
    numbers = np.arange(first, first + count)
    values = (numbers[:, None] + np.arange(channels)).astype(np.float32)
    names = ["flow", "heat", "speed"][:channels]
    return Samples(names, numbers, since_s + numbers, values, numbers.astype(np.float32), None)


def chunk_of(
    samples: Samples, stream: str = "pump-1", missed: int = 0, ring: Source = GATEWAY
) -> Chunk:
    about, data = packed(samples)
    return Chunk(GATEWAY, stream, about, data, samples, ring, missed)


def stored(directory: Path, stream: str = "pump-1") -> polars.DataFrame:
    files = sorted((directory / "samples/gateway=gw-1" / f"stream={stream}").rglob("*.parquet"))
    if not files:
        return polars.DataFrame({"fieldwatch:score": []})
    return polars.concat([polars.read_parquet(one) for one in files], how="diagonal")


def numbers(directory: Path, stream: str = "pump-1") -> list[int]:
    """The scores are the numbers."""
    return [round(number) for number in stored(directory, stream)["fieldwatch:score"].to_list()]


class Open:
    """A collector's database, which can be left as a power cut would."""

    def __init__(self, directory: Path, keeping: MessagesKeeping = FOREVER) -> None:
        self.collected = Collected(directory, "plant", keeping, Keeping())
        self.collected.__enter__()

    @property
    def samples(self) -> Shelved:
        assert self.collected.samples is not None
        return self.collected.samples

    def take(self, *chunks: Chunk) -> list[int]:
        taken = [self.collected.take_samples(chunk, self.samples) for chunk in chunks]
        self.collected.commit()
        return taken

    def file_all(self) -> None:
        while self.samples.file_some(all_of_it=True):
            pass

    def close(self) -> None:
        self.collected.__exit__()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    one = Open(tmp_path)
    yield one
    one.close()


def test_a_chunk_that_comes_twice_is_stored_once(opened: Open, tmp_path: Path) -> None:
    first, second = chunk_of(samples_of(1)), chunk_of(samples_of(11))
    assert opened.take(first, first, second, first) == [10, 0, 10, 0]
    opened.file_all()
    assert opened.take(second) == [0]
    opened.file_all()
    assert numbers(tmp_path) == list(range(1, 21))


def test_a_restart_forgets_nothing(opened: Open, tmp_path: Path) -> None:
    opened.take(chunk_of(samples_of(1)))
    opened.close()
    opened.collected.__enter__()
    assert opened.take(chunk_of(samples_of(1)), chunk_of(samples_of(11))) == [0, 10]
    opened.file_all()
    assert numbers(tmp_path) == list(range(1, 21))


def test_of_an_overlapping_chunk_only_the_new_samples_are_stored(
    opened: Open, tmp_path: Path
) -> None:
    opened.take(chunk_of(samples_of(1, 10)))
    assert opened.take(chunk_of(samples_of(5, 20))) == [14]
    opened.file_all()
    assert numbers(tmp_path) == list(range(1, 25))


def test_each_day_has_a_folder_and_each_stream_too(opened: Open, tmp_path: Path) -> None:
    opened.take(chunk_of(samples_of(1)), chunk_of(samples_of(11), "fan"))
    opened.file_all()
    below = tmp_path / "samples" / "gateway=gw-1"
    files = sorted(str(path.relative_to(below)) for path in below.rglob("*.parquet"))
    assert files == [
        "stream=fan/day=2026-09-23/000006-5e00-000000000011.parquet",
        "stream=pump-1/day=2026-09-22/235956-5e00-000000000001.parquet",
        "stream=pump-1/day=2026-09-23/000000-5e00-000000000005.parquet",
    ]


def test_a_power_cut_between_file_and_database_repeats_no_sample(
    opened: Open, tmp_path: Path
) -> None:
    one, two = samples_of(1), samples_of(11)
    opened.take(chunk_of(one))
    parquet.write(tmp_path, GATEWAY, "pump-1", [one])  # and then the power was cut
    opened.close()
    opened.collected.__enter__()
    opened.take(chunk_of(two))  # what came before the files were written again
    opened.file_all()
    assert numbers(tmp_path) == list(range(1, 21))


def test_what_is_not_committed_is_not_there(opened: Open, tmp_path: Path) -> None:
    opened.collected.take_samples(chunk_of(samples_of(1)), opened.samples)
    opened.close()
    opened.collected.__enter__()
    opened.file_all()
    assert numbers(tmp_path) == []
    assert opened.take(chunk_of(samples_of(1))) == [10]


def test_channels_that_come_and_go_share_a_file(opened: Open, tmp_path: Path) -> None:
    opened.take(chunk_of(samples_of(10, channels=2)), chunk_of(samples_of(20, channels=3)))
    opened.file_all()
    found = stored(tmp_path)
    assert found["speed"].null_count() == 10
    assert found["speed:quality"].to_list() == ["missing"] * 10 + ["good"] * 10
    assert found["heat"].null_count() == 0


def test_samples_are_filed_when_they_are_many_and_otherwise_wait(
    opened: Open, tmp_path: Path
) -> None:
    noise = np.random.default_rng(1).normal(size=(2000, 3)).astype(np.float32)
    opened.take(chunk_of(samples_of(1)))
    assert opened.samples.file_some() == 0
    assert opened.samples.size_bytes > 0
    for first in range(100, 100 + 60 * 2000, 2000):
        opened.take(chunk_of(samples_of(first, 2000, 3)._replace(values=noise)))
    count = 0
    while filed := opened.samples.file_some():
        count += filed
    assert 0 < count == len(numbers(tmp_path)) < 120_011
    opened.file_all()
    assert len(numbers(tmp_path)) == 120_010
    assert opened.samples.size_bytes == 0


def test_without_room_a_chunk_is_refused_and_comes_again(tmp_path: Path) -> None:
    opened = Open(tmp_path, MessagesKeeping(bytes_max=2**18))
    (tmp_path / "samples").write_text("in the way of the folder")
    refused = 0
    first = 1
    try:
        while not refused:
            rng = np.random.default_rng(first)
            samples = samples_of(first, 1000)
            values = rng.normal(size=samples.values.shape).astype(np.float32)
            try:
                opened.take(chunk_of(samples._replace(values=values)))
                first += 1000
            except Refused as error:
                assert error.cause == "no_room"
                refused = first
        assert opened.samples.size_bytes <= opened.samples.bytes_max
        with pytest.raises(StoreError, match="samples"):
            opened.samples.file_some(all_of_it=True)
    finally:
        opened.close()
    (tmp_path / "samples").unlink()
    opened = Open(tmp_path, MessagesKeeping(bytes_max=2**18))
    opened.file_all()
    assert opened.take(chunk_of(samples_of(refused))) == [10]
    opened.file_all()
    assert len(numbers(tmp_path)) == refused - 1 + 10
    opened.close()


def test_numbers_that_belong_to_earlier_samples_are_refused_not_confirmed(opened: Open) -> None:
    opened.take(chunk_of(samples_of(1000)))
    with pytest.raises(Refused, match="earlier samples"):
        opened.take(chunk_of(samples_of(1, since_s=BEGIN_S + 86_400)))


def test_a_new_ring_may_give_the_same_numbers_again(opened: Open, tmp_path: Path) -> None:
    opened.take(chunk_of(samples_of(1, 20)))
    new = GATEWAY._replace(epoch="00c0ffee")
    later = [samples_of(first, 10, since_s=BEGIN_S + 3600) for first in (1, 15)]
    assert opened.take(*(chunk_of(one, ring=new) for one in [*later, later[0]])) == [10, 10, 0]
    said = json.loads(opened.collected.acknowledgement(GATEWAY))
    assert (said["epoch"], said["samples"], said["ring"]) == ("5e00", [10, 24, 10], "00c0ffee")
    opened.close()
    opened.collected.__enter__()
    assert opened.take(chunk_of(later[1], ring=new), chunk_of(samples_of(11))) == [0, 0]
    assert "ring" not in json.loads(opened.collected.acknowledgement(GATEWAY))
    opened.file_all()
    assert sorted(numbers(tmp_path)) == sorted([*range(1, 21), *range(1, 11), *range(15, 25)])


def test_the_acknowledgement_names_the_newest_chunks(opened: Open) -> None:
    opened.take(chunk_of(samples_of(1)))
    said = json.loads(opened.collected.acknowledgement(GATEWAY))
    assert said == {"epoch": "5e00", "through_seq": 0, "also": [], "samples": [10]}
    for first in range(11, 1000, 10):
        opened.take(chunk_of(samples_of(first)))
    said = json.loads(opened.collected.acknowledgement(GATEWAY))
    assert said["samples"] == list(range(850, 1001, 10))


@pytest.mark.parametrize(
    ("keeping", "left"),
    [
        (Keeping(), 3),
        (Keeping(days_max=40.0), 2),
        (Keeping(bytes_max=5000), 1),
        (Keeping(days_max=1e4, bytes_max=10**9), 3),
    ],
)
def test_the_oldest_days_are_deleted(tmp_path: Path, keeping: Keeping, left: int) -> None:
    now_s = time.time()
    for at, days in enumerate((60, 30, 0)):
        begin = samples_of(1 + 100 * at, since_s=now_s - days * 86_400.0)
        parquet.write(
            tmp_path, GATEWAY, "pump-1", [begin._replace(times=begin.times * 0 + begin.times[0])]
        )
    with Collected(tmp_path, "plant", FOREVER, keeping) as collected:
        assert collected.samples is not None
        assert collected.samples.drop_old() == 3 - left
        assert collected.samples.drop_old() == 0
    days = list((tmp_path / "samples/gateway=gw-1/stream=pump-1").iterdir())
    assert len(days) == left
    assert len(numbers(tmp_path)) == 10 * left
    assert not left or 201 in numbers(tmp_path)  # the newest stay


def message(
    stream: str = "pump-1", epoch: str = "5e00", **changes: Any
) -> tuple[str, bytes, bytes]:
    about, data = packed(samples_of(1))
    about |= {"missed": 0} | changes
    dialect = CloudEvents(Origin("plant", "gw-1", epoch))
    topic, body = dialect.samples(stream, about, data, BEGIN_S, 7, "samples-1-10", "synced")
    return topic, *parted(body)


def test_a_message_of_a_gateway_is_read() -> None:
    topic, head, data = message()
    chunk = read_chunk(topic, head, data, "plant")
    assert (chunk.source, chunk.stream, chunk.missed) == (GATEWAY, "pump-1", 0)
    assert chunk.samples.numbers.tolist() == list(range(1, 11))
    assert chunk.ring == GATEWAY  # of a gateway that says nothing of its ring
    assert read_chunk(*message(ring="00c0ffee"), "plant").ring == Source("gw-1", "00c0ffee")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"missed": -1}, "implausible"),
        ({"missed": None}, "implausible"),
        ({"n": 11}, "implausible"),
        ({"ring": "answered"}, "implausible"),
        ({"ring": None}, "implausible"),
        ({"channels": "flow"}, "implausible"),
    ],
)
def test_a_message_that_no_gateway_writes_is_refused(change: dict[str, Any], cause: str) -> None:
    with pytest.raises(Refused) as error:
        read_chunk(*message(**change), "plant")
    assert error.value.cause == cause


@pytest.mark.parametrize("epoch", ["answered", "x/../../../../../evil", "..", "", "5e00 "])
def test_an_epoch_that_names_no_ring_becomes_no_part_of_a_path(epoch: str) -> None:
    with pytest.raises(Refused, match="epoch of a ring") as error:
        read_chunk(*message(epoch=epoch), "plant")
    assert error.value.cause == "implausible"
    assert read_chunk(*message(epoch=epoch, ring="00c0ffee"), "plant").ring.epoch == "00c0ffee"


@pytest.mark.parametrize("stream", ["..", ".", "a b", "x" * 65])
def test_a_stream_that_is_no_name_becomes_no_folder(stream: str) -> None:
    with pytest.raises(Refused):
        read_chunk(*message(stream), "plant")


def test_a_message_under_another_gateways_topic_is_refused() -> None:
    topic, head, data = message()
    with pytest.raises(Refused, match="source"):
        read_chunk(topic.replace("gw-1", "gw-2"), head, data, "plant")


def test_without_polars_collect_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)  # as if it were not there
    words = ["collect", str(tmp_path), "--site", "plant", "--host", "127.0.0.1", "--samples"]
    found = CliRunner().invoke(commands, words)
    assert isinstance(found.exception, ConfigError)
    assert "pip install 'fieldwatch[ingest]'" in str(found.exception)


@pytest.mark.parametrize(
    "damage",
    [
        "about = '{'",
        "about = '[]'",
        "about = '{}'",
        "about = CAST(x'ff7b7d' AS TEXT)",
        "data = x'00'",
        "data = x''",
    ],
)
def test_a_damaged_chunk_is_set_aside_and_those_around_it_are_filed(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = Open(tmp_path)
    one.take(*(chunk_of(samples_of(first)) for first in (1, 11, 21)))
    one.close()
    with sqlite3.connect(tmp_path / COLLECTED) as database:
        database.execute(f"UPDATE chunks SET {damage} WHERE id = 2")
    one.collected.__enter__()
    counts = Counts()
    taking = Taking("plant", counts, None)
    while taking.file_samples(one.collected, all_of_it=True):
        pass
    assert numbers(tmp_path) == [*range(1, 11), *range(21, 31)]
    assert counts.counters["chunks_damaged"] == 1
    counts.tell()
    assert "fieldwatch/v1/plant/gw-1/samples/pump-1" in caplog.text
    assert one.samples.size_bytes == 0
    one.close()
    found = overview(tmp_path, "damaged", 10)
    assert [entry["topic"] for entry in found["quarantine"]] == [
        "fieldwatch/v1/plant/gw-1/samples/pump-1"
    ]
    assert [(each["cause"], each["count"]) for each in found["refused"]] == [("damaged", 1)]
    assert [each["chunks_waiting"] for each in found["samples"]] == [0]


def test_a_damaged_chunk_is_counted_once_however_often_its_move_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_s = itertools.count(0, 1000)
    monkeypatch.setattr("agent.collector.samples.time.monotonic", lambda: float(next(later_s)))
    one = Open(tmp_path)
    one.take(chunk_of(samples_of(1)))
    waiting = Entry("gw-1", "unreadable", "no JSON", "a topic", b"kept with the next commit")
    one.collected.quarantine.add(waiting)
    with sqlite3.connect(tmp_path / COLLECTED) as database:
        database.execute("UPDATE chunks SET about = '{}'")
        database.execute(
            "CREATE TRIGGER full BEFORE DELETE ON chunks BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            one.samples.file_some(all_of_it=True)
    with sqlite3.connect(tmp_path / COLLECTED) as database:
        database.execute("DROP TRIGGER full")
    one.samples.file_some(all_of_it=True)
    one.collected.commit()
    one.close()
    found = overview(tmp_path, None, 10)
    refused = {each["cause"]: each["count"] for each in found["refused"]}
    assert refused == {"damaged": 1, "unreadable": 1}
    assert len(found["quarantine"]) == 2


def test_a_stream_of_nothing_but_damaged_chunks_does_not_stop_the_others(tmp_path: Path) -> None:
    one = Open(tmp_path)
    one.take(chunk_of(samples_of(1)), chunk_of(samples_of(11), "fan"))
    with sqlite3.connect(tmp_path / COLLECTED) as database:
        database.execute("UPDATE chunks SET about = '{}' WHERE stream = 'pump-1'")
    taking = Taking("plant", Counts(), None)
    taking.file_samples(one.collected, all_of_it=True)
    taking.file_samples(one.collected, all_of_it=True)
    assert numbers(tmp_path, "fan") == list(range(11, 21))
    one.close()


@pytest.mark.parametrize(
    ("ahead_s", "taken"), [(0.0, 3), (86_000.0, 3), (172_800.0, 0), (3_000.0 * 31_556_952, 0)]
)
def test_samples_of_after_tomorrow_are_refused_and_kept_for_a_look(
    tmp_path: Path, ahead_s: float, taken: int
) -> None:
    one = Open(tmp_path)
    counts = Counts()
    taking = Taking("plant", counts, None)
    samples = samples_of(1, 3, since_s=time.time() - 10)
    later = samples._replace(times=samples.times + np.array([0, 0, ahead_s]))
    about, data = packed(later)
    dialect = CloudEvents(Origin("plant", "gw-1", "5e00"))
    sent = dialect.samples("pump-1", about | {"missed": 0}, data, BEGIN_S, 7, "1", "synced")
    taking.take(Received(*sent, 1, False), one.collected)
    result = {"stream": "fan", "channels": ["flow"], "interval_s": 1.0, "samples": True}
    result["rows"] = rows_of(later.times, later.scores, later.values[:, :1])
    answer = {"v": 1, "id": "0f" * 16, "part": 1, "parts": 1, "ok": True, "result": result}
    topic = "fieldwatch/v1/plant/gw-1/command/answer"
    taking.take(Received(topic, json.dumps(answer).encode(), 1, False), one.collected)
    one.collected.commit()
    one.file_all()
    one.close()
    assert counts.counters["samples"] == counts.counters["samples_answered"] == taken
    assert counts.rejected["in_future"] == (0 if taken else 2)
    assert len(overview(tmp_path, "in_future", 10)["quarantine"]) == (0 if taken else 2)
    assert bool([*tmp_path.rglob("day=*")]) == bool(taken)


def test_a_channel_called_time_does_not_replace_the_times(opened: Open, tmp_path: Path) -> None:
    opened.take(chunk_of(samples_of(1, 3)._replace(channels=["flow", "time"])))
    opened.file_all()
    found = stored(tmp_path)
    assert [at.timestamp() for at in found["time"]] == [BEGIN_S + 1, BEGIN_S + 2, BEGIN_S + 3]
    assert found["channel:time"].to_list() == [2.0, 3.0, 4.0]
    assert "time:quality" in found.columns
