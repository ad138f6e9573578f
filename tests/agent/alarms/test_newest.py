"""An alarm has its worst sample with the time of it, and beside it what the machine shows now."""

from __future__ import annotations

from typing import Any

from agent.alarms.document import describe, with_newest, without_newest
from models.times import iso_time
from tests.life_rig import START_S, Life, second

CALM, FAR, LESS = 1.0, 9.0, 5.0


def alarmed(timed: bool = True) -> Life:
    """Return a stream that was at its worst at second 45, and is less so since."""
    life = Life(timed=timed)
    life.rows(40)
    life.rows(4, about=LESS)
    life.rows(1, about=FAR)
    life.rows(10, about=LESS)
    return life


def shown(life: Life) -> dict[str, Any]:
    (alarm,) = life.streams.document(lambda _: 9)["pump"]["open_alarms"]
    assert alarm["kind"] == "anomaly"
    return dict(alarm)


def test_the_status_has_the_worst_sample_and_the_newest_one() -> None:
    life = alarmed()
    alarm = shown(life)
    assert second(alarm["worst_at"]) == 45
    assert second(alarm["newest_at"]) == 55
    worst, newest = 30 * FAR, 30 * LESS
    (current,) = [one for one in alarm["channels"] if one["channel"] == "current"]
    assert worst <= current["observed"] < worst + 1
    assert newest <= current["newest"] < newest + 1
    said = describe(alarm)
    assert f"at its worst, {iso_time(START_S + 45)} (score " in said
    assert f"; newest, {iso_time(START_S + 55)}: " in said


def test_what_is_newer_is_not_stored_again_and_a_worse_sample_is() -> None:
    life = alarmed()
    before = life.stored
    life.rows(10, about=LESS)
    assert life.stored == before
    life.rows(1, about=FAR + 1)
    assert life.stored == before + 1


def test_ops_get_at_the_end_what_the_machine_shows_then() -> None:
    life = alarmed()
    life.rows(10, about=CALM)
    opened, closed = [one for one in life.told if one["kind"] == "anomaly"]
    assert opened["newest_at"] == opened["opened"]
    assert second(closed["worst_at"]) == 45
    assert closed["newest_at"] == closed["closed"]
    (current,) = [one for one in closed["channels"] if one["channel"] == "current"]
    assert 30 <= current["newest"] < 31
    assert "; when it closed: " in describe(closed)


def test_times_of_the_worst_and_newest_follow_a_clock_that_is_set() -> None:
    life = alarmed(timed=False)
    life.set_clock(-7200.0)
    life.rows(1, about=LESS)
    alarm = shown(life)
    assert second(alarm["worst_at"]) == 45 - 7200
    assert second(alarm["newest_at"]) == 56 - 7200


def test_the_worst_is_known_over_a_restart() -> None:
    life = alarmed()
    life.restart(away_s=5)
    life.rows(1, about=LESS)
    assert second(shown(life)["worst_at"]) == 45


def test_a_stored_alarm_of_a_limit_gets_its_newest_value_from_the_status() -> None:
    limit = {"side": "high", "value": 40.0, "worst": 50.0, "worst_at": "1"}
    stored = {"newest_at": "1", "channels": [], "limit": limit | {"newest": 50.0, "newest_at": "1"}}
    now = {"newest_at": "9", "channels": [], "limit": limit | {"newest": 42.0, "newest_at": "9"}}
    assert without_newest(stored) == without_newest(now)  # so it is not stored again
    assert with_newest(stored, now) == now
