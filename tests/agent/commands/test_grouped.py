"""The list and ``--follow`` in a flood: groups, what chatters, advisories, and what a group's
acknowledgement covers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.alarms.handled import Handled
from agent.alarms.points import Points
from agent.cli import commands
from agent.commands.alarms.grouped import SHOWN_MAX
from agent.commands.alarms.listed import parse_references
from agent.commands.follow import Followed
from agent.commands.life import life
from agent.handling.flood import FloodLimits
from agent.handling.machine import Rules
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.writer import Store
from models.times import iso_time

ONSET_S = 1_700_000_000.0


def stuck(number: int, channel: str, stream: str = "pump", **more: Any) -> dict[str, Any]:
    named = {"channel": channel, "unit": "bar", "score": 1.0, "observed": 2.0, "expected": None}
    return {
        "stream": stream,
        "number": number,
        "kind": "stuck",
        "state": "opened",
        "onset": iso_time(ONSET_S + number),
        "opened": iso_time(ONSET_S + number),
        "closed": None,
        "ended": None,
        "score": 1.0,
        "probability": None,
        "severity": "medium",
        "action": "check the sensor",
        "channels": [named],
        "quality": {},
        "limit": None,
    } | more


def over(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"state": "closed", "closed": iso_time(ONSET_S + 600), "ended": "normal"}


class Flooded:
    """A store with alarms of points that a flood of more than two groups."""

    def __init__(self, directory: Path) -> None:
        (directory / "data").mkdir()
        self.config = directory / "agent.toml"
        self.config.write_text('[store]\ndirectory = "data"\n')
        self.store = Store(directory / "data", "plant", "gw-1", 100_000, 1000)
        self.store.open()
        handled = Handled(Rules(chatter_raises=3), advisory_when_over=frozenset({"missing"}))
        self.points = Points({"pump": handled}, FloodLimits(2, 1, 600.0))

    def take(self, *alarms: dict[str, Any], at: float = ONSET_S) -> None:
        for one in alarms:
            self.points.take(one, at)
        made, changed = self.points.drain()
        batch = Batch(transitions=made, standings=changed, alarms=list(alarms))
        self.store.commit(batch, "synced")

    def call(self, *words: str) -> str:
        command = ["alarms", *words, "--config", str(self.config)]
        return str(CliRunner().invoke(commands, command).output)


@pytest.fixture
def flooded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flooded]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    made = Flooded(tmp_path)
    yield made
    made.store.close()
    monkeypatch.undo()
    time.tzset()


def test_a_flood_is_listed_by_stream_with_the_command_that_acknowledges_what_is_shown(
    flooded: Flooded,
) -> None:
    flooded.take(*(stuck(number, f"c{number}") for number in range(1, 31)))
    flooded.take(*(stuck(number, f"x{number}", "fan", severity="high") for number in (1, 2)))
    flooded.take(over(stuck(30, "c30")))
    said = flooded.call()
    lines = said.splitlines()
    assert "NOT ACKNOWLEDGED: 32" in lines
    assert sum(line.startswith("pump#") for line in lines) == 2  # singly
    (group,) = [line for line in lines if line.startswith("pump: 28 alarms")]
    assert "27 active, in a flood" in group
    assert lines.index(group) > [line[:5] for line in lines].index("fan: ")  # is more urgent
    assert "28 stuck" in said
    command = said[said.index("alarms ack", said.index("pump: 28 alarms")) :]
    named = re.findall(r"pump#[\d.,]+", command)
    seen = [one for text in named for one in parse_references(text)]
    assert sorted(one.number for one in seen) == list(range(3, 31))
    assert {one.revision for one in seen if one.number == 30} == {2}
    assert {one.revision for one in seen if one.number < 30} == {1}
    assert max(map(len, lines[:-1])) <= 80
    rows = json.loads(flooded.call("--json"))["alarms"]
    assert len(rows) == 32  # for a program nothing is put together
    assert sum(row["handling"]["grouped"] for row in rows) == 30


def test_a_large_group_names_a_part_and_says_how_many_more_there_are(flooded: Flooded) -> None:
    flooded.take(*(stuck(number, f"c{number}") for number in range(1, SHOWN_MAX + 53)))
    said = " ".join(flooded.call().split())
    assert f"pump: {SHOWN_MAX + 50} alarms" in said
    assert "and 50 more, which the list names once these are acknowledged" in said


def test_what_chatters_and_what_is_an_advisory_is_said(flooded: Flooded) -> None:
    for number in range(1, 5):
        flooded.take(stuck(number, "flow"))
        flooded.take(over(stuck(number, "flow")))
    missing = stuck(5, "head", kind="missing")
    flooded.take(missing)
    flooded.take(over(missing))
    said = flooded.call()
    assert "returned, chatters x4" in said
    assert said.index("chatters") < said.index("ADVISORIES (for information") < said.index("pump#5")
    shown = flooded.call("show", "pump#4")
    assert "chatters   raised 4 times; it is not announced each time" in shown
    assert "raised, it chatters (raised 4 times)" in shown
    assert "advisory   it needs no action now" in flooded.call("show", "pump#5")
    assert "pump#5" not in flooded.call("--open")


def test_following_a_flood_is_a_line_for_each_stream_and_for_programs_all_of_it(
    flooded: Flooded,
) -> None:
    with Reader(flooded.config.parent / "data") as reader:
        brief = Followed(reader, [], brief=True).changes(life(reader), poll_s=0.001)
        whole = Followed(reader, []).changes(life(reader), poll_s=0.001)
        flooded.take(*(stuck(number, f"c{number}") for number in range(1, 31)))
        first = [next(brief) for _ in range(4)]
        assert all(not isinstance(one, tuple) for one in first)
        seen: list[Any] = list(first)
        # two singly, the first of the group, which calls, and the others
        assert [one["number"] for one in seen[:3]] == [1, 2, 3]
        group = seen[3]["group"]
        assert (group["stream"], group["state"], len(group["members"])) == ("pump", "opened", 27)
        everything: list[Any] = [next(whole) for _ in range(30)]
        assert sorted(one["number"] for one in everything) == list(range(1, 31))


@pytest.mark.parametrize("text", ["3,", "pump#3,x", "pump#3 ,4", ",3", "3,,4"])
def test_a_broken_list_of_references_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an alarm is named as"):
        parse_references(text)


def test_a_list_of_references_names_each_stream_once() -> None:
    found = parse_references("pump#3.1,4,fan#5.2,6")
    assert [tuple(one) for one in found] == [
        ("pump", 3, 1),
        ("pump", 4, None),
        ("fan", 5, 2),
        ("fan", 6, None),
    ]
    assert [tuple(one) for one in parse_references("a,b#3.1")] == [("a,b", 3, 1)]
