"""A collector's database stays within its limits, and its books stay right."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from agent.collector.books import Collected
from agent.collector.reading import Message, Source
from agent.collector.retention import FOREVER, Keeping
from agent.collector.run import Collector
from agent.config.broker import MqttTable
from agent.store.migrations import COLLECTED
from tests.database import asked, bytes_used

SOURCE = Source("gw-1", "0" * 16)
DAY_S = 86_400


@pytest.fixture(autouse=True)
def at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the collector look for what is too old whenever it is asked to."""
    monkeypatch.setattr("agent.collector.books.LOOK_S", 0.0)


def message(seq: int, source: Source = SOURCE, size: int = 1000) -> Message:
    return Message(source, seq, "topic", b"x" * size, [])


def take(collected: Collected, *seqs: int, source: Source = SOURCE, size: int = 1000) -> None:
    for seq in seqs:
        assert collected.take(message(seq, source, size)) in ("new", "far")
    collected.commit()


def told(collected: Collected, source: Source = SOURCE) -> tuple[int, list[list[int]]]:
    said = json.loads(collected.acknowledgement(source))
    return said["through_seq"], said["also"]


def here(collected: Collected, source: Source = SOURCE) -> list[int]:
    return [seq for seq, _ in collected.messages(source)]


def drop_all(collected: Collected) -> int:
    """Until a look finds nothing."""
    dropped = 0
    while count := collected.drop_old():
        dropped += count
    return dropped


def age(directory: Path, through: int, days: float | None) -> None:
    """Have the first messages come earlier; None: before that was kept."""
    with contextlib.closing(sqlite3.connect(directory / COLLECTED)) as connection:
        by = None if days is None else days * DAY_S
        connection.execute(
            "UPDATE messages SET received = received - ? WHERE seq <= ?", (by, through)
        )
        connection.commit()


def test_the_oldest_go_where_it_is_too_much_and_the_books_stay(tmp_path: Path) -> None:
    keeping = Keeping(bytes_max=1_000_000)
    others = [*range(1, 1500), *range(1600, 3000), 5000]  # with gaps
    with Collected(tmp_path, "plant", keeping) as collected:
        take(collected, *others)
        collected.forgo(SOURCE, [(1500, 1510)])
        collected.commit()
        before = told(collected)
        dropped = drop_all(collected)
        assert dropped > 1500
        assert here(collected) == others[dropped:]
        assert bytes_used(tmp_path / COLLECTED) <= 1_000_000
        assert told(collected) == before
    with Collected(tmp_path, "plant", keeping) as collected:
        assert told(collected) == before == (1510, [[1600, 2999], [5000, 5000]])
        for seq in (1, 1499, 1600, 2500, 5000):
            assert collected.take(message(seq)) == "repeated"
        take(collected, *range(1511, 1600), 1505)  # the gap closes; one came after all
        assert told(collected) == (2999, [[5000, 5000]])
        assert here(collected)[:90] == [1505, *range(1511, 1600)]
    with Collected(tmp_path, "plant", keeping) as collected:
        assert told(collected) == (2999, [[5000, 5000]])
        assert asked(tmp_path / COLLECTED, "SELECT dropped FROM books") == [
            (None,)
        ]  # it is all behind


def test_the_file_gets_smaller_too(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant", Keeping(bytes_max=1_000_000)) as collected:
        for begin in range(1, 10_000, 500):
            take(collected, *range(begin, begin + 500))
            drop_all(collected)
    assert (tmp_path / COLLECTED).stat().st_size < 4_000_000  # of 10 MB that came


def test_what_is_too_old_goes_by_when_it_came(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant") as collected:
        take(collected, *range(1, 11))
        assert drop_all(collected) == 0
    age(tmp_path, 6, 40)
    age(tmp_path, 3, None)  # of an older version; they came before those that are too old
    with Collected(tmp_path, "plant", Keeping(days_max=30)) as collected:
        assert drop_all(collected) == 6
        assert here(collected) == [7, 8, 9, 10]
        assert told(collected) == (10, [])


def test_what_an_older_version_took_stays_while_nothing_tells_its_age(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant") as collected:
        take(collected, *range(1, 11))
    age(tmp_path, 5, None)
    with Collected(tmp_path, "plant", Keeping(days_max=30)) as collected:
        assert drop_all(collected) == 0


def test_books_that_nobody_uses_go_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may publish may begin one with each message."""
    monkeypatch.setattr("agent.collector.retention.BOOKS_MAX", 10)
    sources = [Source(f"gw-{number}", "0" * 16) for number in range(30)]
    with Collected(tmp_path, "plant", Keeping(bytes_max=400_000)) as collected:
        take(collected, 1, 2, 5, source=sources[0])
        for source in sources[1:]:
            collected.forgo(source, [(1, 2)])
            collected.commit()
        drop_all(collected)
        assert asked(tmp_path / COLLECTED, "SELECT count(*) FROM books") == [(10,)]
        assert told(collected, sources[0]) == (2, [[5, 5]])  # it has messages
        assert told(collected, sources[-1]) == (2, [])
        assert told(collected, sources[1]) == (0, [])
        for number in range(30, 250):  # more than there is room for, had those that went any
            collected.forgo(Source(f"gw-{number}", "0" * 16), [(1, 2)])
            collected.commit()
            collected.touched()
            drop_all(collected)
            assert asked(tmp_path / COLLECTED, "SELECT count(*) FROM books") == [(10,)]


def test_a_book_has_so_many_gaps_and_the_rest_is_filed_and_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.collector.numbers.RANGES_MAX", 5)
    with Collected(tmp_path, "plant") as collected:
        take(collected, *range(10, 20, 2), 30)
        collected.forgo(SOURCE, [(40, 41)])
        assert told(collected) == (0, [[n, n] for n in range(10, 20, 2)])
        take(collected, 11, 13, 1, 2, 3, 19)  # what closes a gap has room
        assert told(collected) == (3, [[10, 14], [16, 16], [18, 19]])
        assert collected.take(message(30)) == "repeated"
        take(collected, 15, 17)
        assert told(collected) == (3, [[10, 19], [30, 30], [40, 41]])


def test_the_collector_counts_and_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector(MqttTable(host="h"), "plant", tmp_path)
    with Collected(tmp_path, "plant", Keeping(bytes_max=100_000)) as collected:
        take(collected, *range(1, 501))
        collector.drop_old(collected)
        collector.tell()
    assert collector.counters["dropped"] > 300
    assert f"{collector.counters['dropped']} old messages dropped" in caplog.text


def test_without_limits_all_is_kept(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant", FOREVER) as collected:
        take(collected, *range(1, 501))
        assert drop_all(collected) == 0
