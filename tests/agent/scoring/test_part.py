"""A part from outside in a stream: taken along, saved, restored, closed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest

from agent.config.load import StreamTable
from agent.scoring.part import Changes, Moment, Part
from agent.store.batch import THROUGH, Batch
from models.errors import ConfigError
from models.messages import Float32, Samples
from tests.conftest import ROOT
from tests.fleet_rig import FAR, WARM_UP, Fleeting, rows

CALM = WARM_UP + 20


class Counting(Part):
    """Counts samples; remembers what it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.count = 0
        self.moments: list[Moment] = []
        self.asked: list[str] = []

    @property
    def counters(self) -> Mapping[str, int]:
        """Its count, beside the stream's own."""
        return {"counted": self.count, "samples": 1000}

    def check(self, settings: StreamTable) -> None:
        """Refuse a stream that it does not like."""
        if settings.silent_after_s > 1000:
            raise ConfigError("counting: too long")

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Begin anew."""
        self.asked.append(f"reconfigure {summary_interval_s:g}")

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Count them."""
        assert samples.values.shape == (len(score), 2)
        self.count += len(score)

    def document(self) -> dict[str, Any]:
        """Say how many."""
        return {"counting": self.count}

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save the count with the memory."""
        self.moments.append(moment)
        return str(self.count).encode()

    def restore(self, data: bytes, batch: Batch) -> None:
        """Go on counting."""
        self.count = int(data)

    def close(self, batch: Batch) -> None:
        """Remember it."""
        self.asked.append("close")


def counted() -> tuple[Fleeting, Counting]:
    fleet, part = Fleeting("pump"), Counting()
    fleet.stream.add(part)
    return fleet, part


def save(fleet: Fleeting, whole: bool = True, stopping: bool = False) -> Batch:
    fleet.fleet.flush(fleet.batch)
    fleet.stream.save(fleet.batch, fleet.batch.rows(), whole, stopping)
    return fleet.flush()


def test_a_part_from_outside_is_taken_along_and_shown() -> None:
    fleet, part = counted()
    fleet.take(rows(7))
    assert part.count == 0  # until the commit
    save(fleet)
    assert part.count == 7
    document = fleet.stream.document()
    assert document["counting"] == 7
    assert document["counters"]["counted"] == 7
    assert document["counters"]["samples"] == 1007
    assert "forecast" in document


def test_it_goes_on_after_a_restart_with_what_was_stored_later() -> None:
    before, _ = counted()
    before.take(rows(CALM))
    saved = save(before).state["pump"]
    assert saved["counting"] == str(CALM).encode()
    before.take(rows(3), CALM)
    (_, later, _) = save(before, whole=False).samples[0]
    after, part = counted()
    assert after.stream.restore(saved, [], 0, after.batch)
    assert part.count == CALM
    after.stream.catch_up(later, after.batch)
    assert part.count == CALM + 3


@pytest.mark.parametrize("missing", ["counting", "aligner", "summary"])
def test_where_nothing_was_saved_of_a_part_it_begins_as_it_was_made(missing: str) -> None:
    before, _ = counted()
    before.take(rows(CALM))
    saved = save(before).state["pump"]
    del saved[missing]
    after, part = counted()
    assert after.stream.restore(saved, [], 0, after.batch)
    assert part.count == (0 if missing == "counting" else CALM)
    after.take(rows(3), CALM)
    save(after)
    assert after.stream.document()["counters"]["scored"] > 0


class CountingEachCommit(Counting):
    """Saves the count with each commit."""

    saved_from = Moment.COMMIT


@pytest.mark.parametrize("kind", [Counting, CountingEachCommit])
def test_a_part_says_from_which_moment_on_it_is_asked_what_to_save(kind: type[Counting]) -> None:
    fleet, part = Fleeting("pump"), kind()
    fleet.stream.add(part)
    fleet.take(rows(5))
    save(fleet)  # something is told from the start
    fleet.take(rows(1), 5)
    at_commit = kind is CountingEachCommit
    assert ("counting" in save(fleet, whole=False).state["pump"]) == at_commit
    fleet.take(rows(1), 6)
    assert save(fleet, stopping=True).state["pump"]["counting"] == b"7"
    assert part.moments == [Moment.MEMORY, *[Moment.COMMIT] * at_commit, Moment.STOP]


def test_new_settings_are_checked_by_the_part_and_then_taken_over() -> None:
    fleet, part = counted()
    (table,) = fleet.tables
    with pytest.raises(ConfigError, match="counting: too long"):
        fleet.stream.check(table.model_copy(update={"silent_after_s": 2000.0}))
    fleet.stream.reconfigure(table, 10.0, fleet.batch)
    assert part.asked == ["reconfigure 10"]


def test_a_stream_that_leaves_tells_what_it_has_and_closes_its_parts_and_alarms() -> None:
    fleet, part = counted()
    fleet.take(rows(CALM))
    fleet.take(rows(5, FAR), CALM)
    save(fleet)
    fleet.stream.close("stream_removed", fleet.batch)
    batch = fleet.flush()
    assert part.asked == ["close"]
    assert [(alarm["number"], alarm["state"]) for alarm in batch.alarms] == [(1, "closed")]
    kinds = [message.kind for message in batch.messages]
    assert sorted(kinds) == ["alarm", "summary"]
    assert fleet.stream.counters["alarms_unwatched"] == 1


@pytest.mark.parametrize("name", ["summary", "counting", THROUGH])
def test_no_two_parts_are_saved_under_one_name(name: str) -> None:
    fleet, _ = counted()

    class Second(Part):
        pass

    Second.name = name
    with pytest.raises(ValueError, match="saved already"):
        fleet.stream.add(Second())


def test_what_does_not_change_is_not_saved_again() -> None:
    changes = Changes()
    assert changes.of(b"") is None
    assert changes.of(b"a") == b"a"
    assert changes.of(b"a") is None
    assert changes.of(b"") == b""
    changes.restore(b"b")
    assert changes.of(b"b") is None


def test_the_parts_of_a_stream_are_written_no_more_often_than_needed() -> None:
    """Each save costs an SD card writes: what each moment saves is as small as it can be."""
    fleet = Fleeting("pump")
    fleet.take(rows(5))
    first = save(fleet).state["pump"]
    assert first.keys() >= {"aligner", "summary", THROUGH}
    assert not first.keys() & {"doubts", "limits", "features"}  # there is none
    fleet.take(rows(2), 5)
    assert save(fleet, whole=False).state["pump"] == {}  # the last sample says where it is
    fleet.stream.document()  # as each commit asks for it
    assert save(fleet, whole=False).state["pump"] == {}  # it still does
    fleet.take([[50.0, float("nan")]], 7)
    fleet.take(rows(1), 8)
    assert save(fleet, whole=False).state["pump"].keys() == {"aligner"}
    assert "doubts" in save(fleet).state["pump"]
    again = save(fleet).state["pump"]
    assert "summary" in again
    assert not again.keys() & {"doubts", "aligner"}


def test_the_part_of_the_contributor_guide_works_as_it_is_written() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"(?s)^```python\n(class .*?)^```$", page, re.MULTILINE)
    names = {
        "Any": Any,
        "Batch": Batch,
        "Float32": Float32,
        "Moment": Moment,
        "Part": Part,
        "Samples": Samples,
        "np": np,
    }
    exec(block, names)
    made = cast("type[Part]", names["Exceedances"])
    before, after = Fleeting("pump"), Fleeting("pump")
    before.stream.add(made())
    after.stream.add(made())
    before.take(rows(CALM))
    before.take(rows(5, FAR), CALM)
    saved = save(before)
    found = before.stream.document()["exceedances"]
    assert 0 < found <= 5
    assert after.stream.restore(saved.state["pump"], saved.alarms[-1:], 1, after.batch)
    assert after.stream.document()["exceedances"] == found
