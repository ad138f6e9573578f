"""The books of one gateway cost no other anything, and all of them stay small."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.collector.books import Collected
from agent.collector.reading import Message, Source
from agent.collector.retention import Keeping
from agent.collector.room import EPOCHS_MAX
from agent.collector.run import Collector
from agent.config.broker import MqttTable
from agent.mqtt.connection import Received
from agent.store.migrations import COLLECTED
from tests.database import asked, bytes_used

LIMIT = 2_000_000
OTHERS = [Source(f"gw-{number}", "0" * 16) for number in range(4)]
Range = tuple[int, int]
Flood = Callable[[random.Random], Iterator[tuple[Source, list[Range]]]]


@pytest.fixture(autouse=True)
def at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the collector look for what is too old whenever it is asked to."""
    monkeypatch.setattr("agent.collector.books.LOOK_S", 0.0)


def take(collected: Collected, source: Source, *seqs: int, size: int = 1000) -> None:
    for seq in seqs:
        assert collected.take(Message(source, seq, "topic", b"x" * size, [])) == "new"


def singles(begin: int, count: int = 1000) -> list[Range]:
    return [(seq, seq) for seq in range(begin, begin + 2 * count, 2)]


def others_as_they_are(collected: Collected, directory: Path) -> list[object]:
    return [
        (collected.messages(source), collected.acknowledgement(source), stored(directory, source))
        for source in OTHERS
    ]


def stored(directory: Path, source: Source) -> list[Any]:
    return asked(
        directory / COLLECTED,
        "SELECT through_seq, gone, dropped FROM books WHERE gateway = ? AND epoch = ?",
        source,
    )


def begin_others(collected: Collected) -> None:
    for source in OTHERS:
        take(collected, source, *range(1, 40), *range(60, 70), 90)
        collected.forgo(source, [(40, 44), (60, 61), (80, 81)])
    collected.commit()


def one_epoch(chance: random.Random) -> Iterator[tuple[Source, list[Range]]]:
    for number in range(80):
        for part in range(10):
            yield Source("flood", f"{number:x}"), singles(1 + part * 2000)


def one_book(chance: random.Random) -> Iterator[tuple[Source, list[Range]]]:
    for part in range(300):
        yield Source("flood", "0" * 16), singles(2**19 + part * 1000, 100)


def by_chance(chance: random.Random) -> Iterator[tuple[Source, list[Range]]]:
    for _ in range(600):
        begin = chance.choice([1, 2**19, 2**20 - 10_000]) + 2 * chance.randrange(3000)
        yield Source("flood", f"{chance.randrange(80):x}"), singles(begin, chance.randint(1, 1000))


def with_messages(chance: random.Random) -> Iterator[tuple[Source, list[Range]]]:
    for number in range(100):
        source = Source("flood", f"{number:x}")
        yield source, []
        yield source, singles(10, 900)


@pytest.mark.parametrize("flood", [one_epoch, one_book, by_chance, with_messages])
def test_a_flood_of_what_is_gone_costs_no_other_gateway_anything(
    tmp_path: Path, flood: Flood
) -> None:
    with Collected(tmp_path, "plant", Keeping(bytes_max=LIMIT)) as collected:
        begin_others(collected)
        before = others_as_they_are(collected, tmp_path)
        for at, (source, ranges) in enumerate(flood(random.Random(1))):
            if not ranges:
                take(collected, source, 1, size=10)
            with contextlib.suppress(ValueError):
                collected.forgo(source, ranges)
            if at % 50 == 49:
                collected.commit()
                collected.touched()
                assert collected.drop_old() == 0
        collected.commit()
        assert bytes_used(tmp_path / COLLECTED) < LIMIT
        sizes = "SELECT count(*), sum(length(gone)) FROM books WHERE gateway = 'flood'"
        ((books, size),) = asked(tmp_path / COLLECTED, sizes)
        assert books <= EPOCHS_MAX
        assert size < LIMIT / 4 / 16
        assert others_as_they_are(collected, tmp_path) == before
    with Collected(tmp_path, "plant", Keeping(bytes_max=LIMIT)) as collected:
        assert others_as_they_are(collected, tmp_path) == before


def test_floods_in_many_names_have_a_quarter_in_all(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant", Keeping(bytes_max=LIMIT)) as collected:
        begin_others(collected)
        before = others_as_they_are(collected, tmp_path)
        for number in range(300):
            source = Source(f"flood-{number}", "0" * 16)
            if number % 2:
                take(collected, source, 1, size=10)
            collected.forgo(source, singles(10, 500))
            collected.commit()
            collected.touched()
            assert collected.drop_old() == 0
        ((size,),) = asked(tmp_path / COLLECTED, "SELECT sum(length(gone)) FROM books")
        assert size < LIMIT / 4
        assert bytes_used(tmp_path / COLLECTED) < LIMIT
        assert others_as_they_are(collected, tmp_path) == before


def test_memory_holds_so_many_ranges_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.collector.shelf.RANGES_IN_MEMORY", 5000)
    with Collected(tmp_path, "plant") as collected:
        for number in range(40):
            collected.forgo(Source(f"gw-{number}", "0" * 16), singles(10, 800))
            if collected.shelf.is_full():
                collected.commit()
            assert collected.shelf.ranges() < 2 * 5000 + 1600
        collected.commit()
        for source in collected.touched():
            assert json.loads(collected.acknowledgement(source))["also"][0] == [10, 10]
        assert collected.shelf.ranges() < 2 * 5000 + 1600
        assert not collected.shelf.is_full()


def test_more_may_be_gone_where_more_came(tmp_path: Path) -> None:
    source = OTHERS[0]
    with Collected(tmp_path, "plant") as collected:
        collected.forgo(source, singles(2))
        with pytest.raises(ValueError, match="too many numbers are gone between 0 messages"):
            collected.forgo(source, singles(3000))
        said = json.loads(collected.acknowledgement(source))
        assert (said["through_seq"], said["also"][0]) == (0, [2, 2])
        take(collected, source, *range(1, 2000, 2))
        collected.forgo(source, singles(3000))
        collected.commit()
        assert json.loads(collected.acknowledgement(source))["through_seq"] == 2000


def test_what_a_book_forgot_is_not_acknowledged_and_its_messages_stay_known(tmp_path: Path) -> None:
    source, last = Source("flood", "0" * 16), 0
    with Collected(tmp_path, "plant", Keeping(bytes_max=LIMIT)) as collected:
        take(collected, source, 1, 2, 9)
        collected.commit()
        for number in range(1, EPOCHS_MAX + 20):  # each with a message: so the oldest goes
            take(collected, Source("flood", f"{number:x}"), 1, size=10)
            collected.commit()
            last = number
        assert source in collected.shelf.forgotten()
        said = json.loads(collected.acknowledgement(source))
        assert (said["through_seq"], said["also"]) == (2, [[9, 9]])
        assert collected.take(Message(source, 9, "topic", b"x" * 1000, [])) == "repeated"
        said = json.loads(collected.acknowledgement(Source("flood", f"{last:x}")))
        assert said["through_seq"] == 1


def test_a_book_that_is_cut_acknowledges_less_and_learns_it_again(tmp_path: Path) -> None:
    source = Source("gw-1", "0" * 16)
    with Collected(tmp_path, "plant", Keeping(bytes_max=400_000)) as collected:
        take(collected, source, *range(1, 8), size=10)
        collected.forgo(source, singles(10, 900))
        collected.commit()
        assert collected.shelf.forgotten()
        said = json.loads(collected.acknowledgement(source))
        assert said["through_seq"] == 7
        here = {seq for seq, _ in collected.messages(source)}
        gone = set(range(10, 2000, 2))
        told = {seq for first, end in said["also"] for seq in range(first, end + 1)}
        assert told <= here | gone
        assert collected.forgo(source, [(8, 12)]) == [(8, 12)]
        assert json.loads(collected.acknowledgement(source))["through_seq"] == 12


def test_a_small_limit_leaves_each_gateway_its_book(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant", Keeping(bytes_max=20_000)) as collected:
        take(collected, OTHERS[0], *range(1, 50), size=10)
        collected.forgo(OTHERS[0], singles(60, 900))
        collected.commit()
        assert json.loads(collected.acknowledgement(OTHERS[0]))["through_seq"] == 49


def test_the_collector_counts_and_tells_what_it_forgot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector = Collector(MqttTable(host="h"), "plant", tmp_path)
    with Collected(tmp_path, "plant", Keeping(bytes_max=LIMIT)) as collected:
        for number in range(50):
            gone = {
                "id": f"gw/{number:x}/{2**50}/gone",
                "source": "/plant/gw",
                "type": "fieldwatch.gone.v1",
                "stream": None,
                "epoch": f"{number:x}",
                "seq": 2**50,
                "data": {"ranges": singles(10)},
            }
            body = json.dumps(gone).encode()
            collector.take(Received("fieldwatch/v1/plant/gw/gone", body, 1, False), collected)
            collected.commit()
            collector.drop_old(collected)
            collector.tell()
    assert collector.counters["forgotten"] >= 48
    assert caplog.text.count("books of numbers dropped or cut") == 1
