"""What the view of an alarm says of the last such alarm, and for how long this one is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.commands.alarms.moments import Moments
from agent.page import alarms
from agent.page.words import Words
from agent.store.reader import Reader
from agent.wording.language import ENGLISH, GERMAN, Language
from tests.kept_rig import ONSET_S, Kept, alarm

LATER = datetime.fromtimestamp(ONSET_S + 1320, UTC)  # 12 min after the end of ``alarm``


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.store.close()


def detail(kept: Kept, number: int, told: Language = ENGLISH) -> dict[str, Any]:
    words = Words(Moments(LATER, True, told), "auto", ())
    with Reader(kept.config.parent / "data") as reader:
        return alarms.detail(alarms.read_one(reader, "pump", number), words)


def over(kept: Kept, number: int, **more: Any) -> None:
    kept.take(alarm(number, **more), alarm(number, state="closed", **more))


def test_it_is_the_newest_such_alarm_that_is_over(kept: Kept) -> None:
    over(kept, 1)
    over(kept, 2)
    kept.ask("noted", alarm(2), why="the belt was loose")
    over(kept, 3, kind="stuck")
    kept.take(alarm(4))
    found = detail(kept, 4)["last_time"]
    assert (found["number"], found["took"]) == (2, "10 min")
    assert "the belt was loose" in " ".join(found["said"])
    assert found["chart"] == {
        "onset_s": ONSET_S,
        "then_s": ONSET_S,
        "before_s": 120.0,
        "after_s": 1320.0,
        "channels": ["flow", "head", "torque"],
    }
    assert detail(kept, 1)["last_time"] is None
    assert detail(kept, 3)["last_time"] is None


def test_what_is_over_says_for_how_long(kept: Kept) -> None:
    over(kept, 1)
    assert detail(kept, 1)["back"] == "Back within the expected band for 12 min."
    assert detail(kept, 1, GERMAN)["back"] == "Wieder im erwarteten Band, seit 12 min."
    over(kept, 2, kind="stuck")
    assert detail(kept, 2)["back"] == "Back to normal for 12 min."
    kept.take(alarm(3))
    assert detail(kept, 3)["back"] is None  # it is active
    assert detail(kept, 1)["back"] is None  # and of the same point
