"""A gap is told once, with its cause and its times, and calls nobody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from models.times import unix_s
from tests.fleet_rig import Fleeting, rows
from tests.life_rig import CHANNELS, MISSING, Life

HOUR_S = 3600.0
APART = (CHANNELS[:1], CHANNELS[1:])
TIMED = pytest.mark.parametrize("timed", [False, True], ids=["arrival", "device"])


def gap(life: Life, cause: str) -> dict[str, Any]:
    """Return the only thing that was told, which is a gap of this cause."""
    assert life.brief() == [("gap", "closed", cause)]
    return life.told[0]


@TIMED
@pytest.mark.parametrize("seconds", [30, 45, 600])
def test_a_restart_of_the_agent_is_one_gap_and_calls_nobody(timed: bool, seconds: int) -> None:
    """Of 25 to 50 samples, of which the grid makes rows, and of more."""
    life = Life(timed=timed)
    life.rows(40)
    life.restart(away_s=seconds)
    life.rows(40)
    told = gap(life, "agent")
    assert life.between(told) == (40, 41 + seconds)
    assert (told["severity"], told["channels"]) == ("low", [])
    assert told["action"].startswith("nothing: the agent did not run")
    assert life.streams.document(lambda _: 9)["pump"]["open_alarms"] == []
    assert life.streams.document(lambda _: 9)["pump"]["counters"]["gaps"] == 1


@TIMED
@pytest.mark.parametrize("seconds", [30, 55])
def test_a_device_that_was_silent_for_a_while_is_one_gap(timed: bool, seconds: int) -> None:
    life = Life(timed=timed)
    life.rows(40)
    life.pause(seconds)
    life.rows(40)
    assert life.between(gap(life, "device")) == (40, 41 + seconds)


@TIMED
@pytest.mark.parametrize("tick_first", [True, False])
@pytest.mark.parametrize("seconds", [30, 300])
def test_an_agent_that_stood_still_blames_no_device(
    timed: bool, seconds: int, tick_first: bool
) -> None:
    life = Life(timed=timed)
    life.rows(40)
    life.stand_still(seconds)
    if tick_first:
        life.tick()
    life.rows(40)
    told = gap(life, "agent")
    assert life.between(told) == (40, 41 + seconds)
    assert "the agent stood still" in told["action"]
    life.pause(30)
    life.rows(40)
    assert life.brief()[1:] == [("gap", "closed", "device")]


def test_a_loop_that_was_late_for_a_moment_explains_no_silence() -> None:
    life = Life()
    life.rows(40)
    life.pause(15)
    life.stand_still(9)
    life.pause(6)
    life.row()
    assert gap(life, "device")


@TIMED
def test_a_link_that_was_away_is_one_gap_that_names_it(timed: bool) -> None:
    life = Life(timed=timed)
    life.rows(40)
    life.link = life.link._replace(connected=False, last_error="/dev/ttyX does not exist")
    life.pause(30)
    life.link = life.link._replace(connected=True)
    life.rows(40)
    told = gap(life, "link")
    assert life.between(told) == (40, 71)
    assert told["action"].endswith("what the input reads from: input 0: /dev/ttyX does not exist")


@TIMED
@pytest.mark.parametrize(("lost", "cause"), [(False, "device"), (True, "link")])
def test_a_long_silence_is_one_alarm_and_no_gap_beside_it(
    timed: bool, lost: bool, cause: str
) -> None:
    life = Life(timed=timed)
    life.rows(40)
    life.link = life.link._replace(connected=not lost, last_error="gone")
    life.pause(100)
    life.rows(40)
    assert life.brief() == [("silent", "opened", cause), ("silent", "closed", cause)]
    assert ("gone" in life.told[0]["action"]) == lost
    assert life.between(life.told[1]) == (40, 141)


def test_a_silence_whose_cause_is_seen_later_says_it_from_then_on() -> None:
    life = Life()
    life.rows(40)
    life.pause(100)
    life.link = life.link._replace(connected=False, last_error="gone")
    life.pause(2)
    (shown,) = life.streams.document(lambda _: 9)["pump"]["open_alarms"]
    assert (shown["cause"], shown["number"]) == ("link", 1)
    life.link = life.link._replace(connected=True)
    life.rows(40)
    assert life.brief() == [("silent", "opened", "device"), ("silent", "closed", "link")]


def test_a_silence_goes_on_over_a_restart_as_one_alarm() -> None:
    life = Life()
    life.rows(40)
    life.pause(100)
    life.restart(away_s=200)
    life.pause(100)
    life.rows(40)
    assert life.brief() == [("silent", "opened", "device"), ("silent", "closed", "device")]
    assert {one["number"] for one in life.told} == {1}


@TIMED
def test_each_cause_has_its_own_part_of_a_gap(timed: bool) -> None:
    """The agent was away, and then the device was silent."""
    life = Life(timed=timed)
    life.rows(40)
    life.restart(away_s=200)
    life.pause(50)
    life.rows(40)
    assert life.brief() == [("gap", "closed", "agent"), ("gap", "closed", "device")]
    assert [life.between(one) for one in life.told] == [(40, 240), (240, 291)]


@TIMED
def test_a_restart_into_a_silence_is_told_beside_its_alarm(timed: bool) -> None:
    life = Life(timed=timed)
    life.rows(40)
    life.restart(away_s=200)
    life.pause(100)
    life.rows(40)
    assert sorted(life.brief()) == [
        ("gap", "closed", "agent"),
        ("silent", "closed", "device"),
        ("silent", "opened", "device"),
    ]


@TIMED
def test_a_restart_with_another_detector_is_told_too(timed: bool) -> None:
    life = Life(timed=timed)
    life.rows(40)
    life.restart(away_s=100, detector=7.0)
    life.rows(40)
    gap(life, "agent")


@TIMED
def test_a_pause_over_an_exchange_is_told(timed: bool) -> None:
    life = Life(timed=timed)
    life.rows(40)
    life.pause(15)
    life.exchange(7.0)
    life.pause(15)
    life.rows(40)
    assert life.between(gap(life, "device")) == (40, 71)


@pytest.mark.parametrize("by_s", [-2 * HOUR_S, 2 * HOUR_S, -10.0, 45.0])
# where the times are those of arrival, the agent has no other witness of how long it was away
@pytest.mark.parametrize(("timed", "restart"), [(False, False), (True, False), (True, True)])
def test_a_clock_that_is_set_makes_no_gap(timed: bool, by_s: float, restart: bool) -> None:
    life = Life(timed=timed)
    life.rows(40)
    device_s = life.world.wall_s
    if restart:
        life.restart(clock_s=by_s)
    else:
        life.set_clock(by_s)
    life.device_s = device_s - life.world.wall_s  # its own clock was right
    life.rows(60)
    assert life.told == []


def test_a_device_that_sets_its_clock_back_has_no_gap() -> None:
    life = Life(timed=True)
    life.rows(40)
    life.device_s = -2 * HOUR_S
    life.rows(60)
    assert life.told == []


def test_times_that_leave_something_out_while_readings_come_are_told_as_that() -> None:
    life = Life(timed=True)
    life.rows(40)
    life.device_s = 45.0
    life.rows(60)
    told = gap(life, "times")
    assert life.between(told) == (40, 86)
    assert "its clock was set" in told["action"]


@pytest.mark.parametrize("commit_every", [7, 50, 1000])
def test_the_gaps_do_not_depend_on_how_many_samples_a_commit_has(commit_every: int) -> None:
    """Times are left out, a channel is held, and rows come without any value."""
    part = rows(300)
    part[100:130] = [[math.nan, math.nan]] * 30
    part[150:200] = [[50.0, math.nan]] * 50
    runs = [(0, part[:40]), (70, part[40:200]), (260, part[200:201]), (500, part[201:250])]
    runs.append((800, part[250:]))  # with nothing but whole rows around it
    expected = gaps_of(runs, commit_every=1)
    assert [seconds for _, seconds in expected] == [31, 31, 31, 240, 252]
    assert gaps_of(runs, commit_every) == expected


def gaps_of(
    runs: Sequence[tuple[int, list[list[float]]]], commit_every: int
) -> list[tuple[float, float]]:
    """Return begin and length of the gaps of these rows, each run from a second on."""
    fleet, found, taken = Fleeting("pump", missing_samples=MISSING), [], 0
    for first, run in runs:
        for at, row in enumerate(run):
            fleet.take([row], first + at)
            taken += 1
            if taken % commit_every == 0:
                found += fleet.flush().alarms
    found += fleet.flush().alarms
    told = [(unix_s(one["onset"]), unix_s(one["closed"])) for one in found if one["kind"] == "gap"]
    return [(begin, end - begin) for begin, end in told]


def test_what_comes_late_but_whole_has_no_gap() -> None:
    """A device kept its readings while the broker was away, and then brings all."""
    life = Life(timed=True, silent_after_s=HOUR_S)
    life.rows(40)
    life.pause(100)
    life.world.wall_s -= 100
    for _ in range(100):
        life.world.wall_s += 1
        life.row()
    life.rows(20)
    assert life.told == []


def test_one_channel_that_is_missing_is_its_own_alarm() -> None:
    life = Life(APART)
    life.rows(40)
    life.rows(30, inputs=[1])
    life.rows(10)
    assert life.brief() == [("missing", "opened", None), ("missing", "closed", None)]
    assert [one["channel"] for one in life.told[0]["channels"]] == ["flow"]


def test_channels_that_go_missing_together_are_one_alarm() -> None:
    """An input of several is away: the others go on."""
    life = Life(APART)
    life.rows(40)
    life.rows(30, inputs=[0])
    assert life.brief() == [("missing", "opened", None)]
    assert [one["channel"] for one in life.told[0]["channels"]] == list(CHANNELS[1:])
    life.restart()
    life.rows(10)
    assert life.brief()[1:] == [("missing", "closed", None)]


def test_a_channel_that_was_missing_before_a_gap_is_not_blamed_for_it() -> None:
    life = Life(APART)
    life.rows(40)
    life.rows(MISSING - 5, inputs=[1])
    life.pause(30)
    life.rows(2, inputs=[1])
    gap(life, "device")
    life.rows(10, inputs=[1])
    assert life.brief()[1:] == [("missing", "opened", None)]


@TIMED
@pytest.mark.parametrize("restart", [False, True])
def test_a_silence_keeps_its_number_over_exchanges_of_the_bundle(
    timed: bool, restart: bool
) -> None:
    """Whoever got its message must not get another one of the same silence."""
    life = Life(timed=timed)
    life.rows(40)
    life.pause(100)
    for detector in (7.0, 8.0):
        if restart:
            life.restart(detector=detector)
        else:
            life.exchange(detector)
        life.pause(100)
        (shown,) = life.streams.document(lambda _: 9)["pump"]["open_alarms"]
        assert (shown["number"], shown["kind"]) == (1, "silent")
    life.rows(1)
    assert life.brief() == [("silent", "opened", "device"), ("silent", "closed", "device")]
    first, last = life.told
    assert (first["number"], first["opened"]) == (last["number"], last["opened"])
    life.pause(100)
    assert life.told[-1]["number"] == 2


def test_what_a_bundle_found_does_not_go_on_with_another() -> None:
    """It knows another normal: whether the machine is well by that is not known yet."""
    life = Life()
    life.rows(40)
    life.rows(10, about=3.0)
    life.exchange(7.0)
    assert [(one["kind"], one["state"]) for one in life.told] == [
        ("anomaly", "opened"),
        ("anomaly", "closed"),
    ]
