"""Whether an alarm can wait until the next shift, for each course of the forecast."""

from __future__ import annotations

from typing import Any

import pytest

from agent.alarms.outlook import most_urgent, outlook, says_the_same
from models.times import iso_time

MADE_S = 1_700_000_000.0
SHIFT_S = MADE_S + 10_000.0


def limit(
    earliest_s: float | None = None,
    median_s: float | None = None,
    horizon_s: float = 20_000.0,
    **more: Any,
) -> dict[str, Any]:
    return {
        "channel": "flow",
        "side": "high",
        "level": "critical",
        "value": 80.0,
        "unit": "m3/h",
        "made": iso_time(MADE_S),
        "probability": 0.5,
        "earliest_s": earliest_s,
        "median_s": median_s,
        "latest_s": None,
        "horizon_s": horizon_s,
    } | more


NOT_MADE = dict.fromkeys(("made", "probability", "earliest_s", "median_s", "latest_s", "horizon_s"))
ANOMALY = {"kind": "anomaly", "channels": [{"channel": "head"}], "limit": None}


def passed(level: str) -> dict[str, Any]:
    own = {"side": "high", "level": level, "worst": 81.0}
    return {"kind": "limit_passed", "channels": [{"channel": "flow"}], "limit": own}


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        ([], "unknown"),
        ([limit(**NOT_MADE)], "unknown"),
        ([limit()], "waits"),
        ([limit(horizon_s=9_000.0)], "unknown"),
        ([limit(10_001.0, 15_000.0)], "waits"),
        ([limit(9_999.0)], "doubtful"),
        ([limit(9_999.0, 15_000.0)], "doubtful"),
        ([limit(9_999.0, horizon_s=9_999.0)], "doubtful"),
        ([limit(5_000.0, 9_999.0)], "does_not_wait"),
        ([limit(0.0, 0.0)], "passed"),
    ],
)
def test_the_answer_follows_from_the_forecast(limits: list[dict[str, Any]], answer: str) -> None:
    found = outlook(ANOMALY, limits, {"flow": "Durchfluss"}, MADE_S, SHIFT_S)
    assert found["answer"] == answer
    assert found["shift_at"] == iso_time(SHIFT_S)
    assert found["title"] == ("Durchfluss" if limits else None)
    if limits and limits[0]["earliest_s"] is not None:
        assert found["earliest_at"] == iso_time(MADE_S + limits[0]["earliest_s"])


def test_a_forecast_that_is_over_is_none() -> None:
    made = [limit(5_000.0, 9_000.0)]
    for now_s, answer in ((MADE_S + 20_000.0, "does_not_wait"), (MADE_S + 20_001.0, "unknown")):
        found = outlook(ANOMALY, made, {}, now_s, MADE_S + 30_000.0)
        assert (found["answer"], found["made_at"] is None) == (answer, answer == "unknown")


def test_the_most_urgent_limit_is_that_of_which_most_is_to_be_feared() -> None:
    warning, critical = limit(1.0, level="warning"), limit(5_000.0)
    assert most_urgent([warning, critical]) == critical
    assert most_urgent([limit(), critical]) == critical
    assert most_urgent([limit(**NOT_MADE), warning]) == warning
    assert most_urgent([limit(probability=0.1), limit(probability=0.9)]) == limit(probability=0.9)
    assert most_urgent([]) is None


def test_an_alarm_of_a_limit_is_judged_by_its_own_channel_and_side() -> None:
    other = limit(1.0, 2.0, channel="head")
    low = limit(1.0, 2.0, side="low")
    both = [other, low, limit()]
    forecast = passed("critical") | {"kind": "limit"}
    forecast["limit"] = {"side": "high", "level": "critical"}
    assert outlook(forecast, both, {}, MADE_S, SHIFT_S)["answer"] == "waits"
    assert outlook(passed("critical"), both, {}, MADE_S, SHIFT_S)["answer"] == "passed"
    assert (
        outlook(passed("critical"), [limit(**NOT_MADE)], {}, MADE_S, SHIFT_S)["answer"] == "passed"
    )
    # the warning limit is passed; the critical one is what matters now
    assert outlook(passed("warning"), both, {}, MADE_S, SHIFT_S)["answer"] == "waits"
    assert (
        outlook(passed("warning"), [limit(1.0, 2.0)], {}, MADE_S, SHIFT_S)["answer"]
        == "does_not_wait"
    )


def test_only_what_a_person_reads_makes_it_another_one() -> None:
    first = outlook(ANOMALY, [limit(5_000.0, 9_000.0)], {}, MADE_S, SHIFT_S)
    anew = outlook(
        ANOMALY, [limit(5_000.0, 9_000.0, 21_000.0, probability=0.6)], {}, MADE_S, SHIFT_S
    )
    later = outlook(ANOMALY, [limit(5_060.0, 9_000.0)], {}, MADE_S, SHIFT_S)
    assert says_the_same(first, anew)
    assert not says_the_same(first, later)
    assert says_the_same(None, None)
    assert not says_the_same(None, first)
