"""Machines run to failure: warnings, leads and what was false, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.trainer.benchmark.conftest import alarm
from trainer.benchmark import lives, report, tables
from trainer.benchmark.counts import Alarm
from trainer.benchmark.document import NAMES, document
from trainer.benchmark.outcome import DETECTORS, Judged, Outcome, Watched

DAY = 86400.0
STEPS = 200  # of a life; the last one is step 199


def outcome(
    name: str, alarms: Sequence[Alarm], fails: bool = True, seconds: Sequence[float] = ()
) -> Outcome:
    return Outcome(
        name=name,
        key="k",
        steps=STEPS,
        rows=[[]],
        quantization="float16",
        detectors=dict.fromkeys(DETECTORS, Judged(alarms=list(alarms))),
        fails=fails,
        seconds=list(seconds),
    )


def watched(one: Outcome) -> Watched:
    return Watched(one, one.detectors["quantized"])


@pytest.mark.parametrize(
    ("alarms", "warned", "false", "lead"),
    [
        ([], 0, 0, None),
        ([alarm(74, 199)], 1, 0, 125),  # the first step that is not too early
        ([alarm(73, 199)], 0, 1, None),  # one step too early; open to the end, and never renewed
        ([alarm(60, 199, opened=80)], 1, 0, 119),  # its onset does not matter
        ([alarm(10, 20), alarm(150, 160), alarm(190, 199)], 1, 1, 49),
        ([alarm(199, 199)], 1, 0, 0),
        ([alarm(150, 160, kind="stuck")], 0, 0, None),
    ],
)
def test_one_engine(alarms: list[Alarm], warned: int, false: int, lead: int | None) -> None:
    found = lives.engines([watched(outcome("FD001/1", alarms))])
    assert (found["engines"], found["warned"], found["false"]) == (1, warned, false)
    assert (found["lead"] and found["lead"]["median"]) == lead


def test_many_engines() -> None:
    alarms = [[alarm(100 + 10 * number, 199)] for number in range(9)] + [[alarm(5, 6)], []]
    found = lives.engines([watched(outcome(str(at), each)) for at, each in enumerate(alarms)])
    assert (found["engines"], found["warned"], found["silent"]) == (11, 9, 1)
    assert (found["false"], found["engines_false"]) == (1, 1)
    assert found["lead"] == {"low": 27.0, "median": 59.0, "high": 91.0}
    assert found["alarm_share"] == pytest.approx(100 * (sum(range(20, 101, 10)) + 2) / (11 * STEPS))


def test_bearings_of_a_test() -> None:
    seconds = [step * DAY / 10 for step in range(STEPS)]  # ten records a day
    cases = [
        outcome("1st_test/1", [alarm(50, 60), alarm(120, 130)], False, seconds),
        outcome("1st_test/2", [], False, seconds),
        outcome("1st_test/3", [alarm(90, 199, opened=99)], True, seconds),
        outcome("1st_test/4", [], True, seconds),
        outcome("2nd_test/1", [alarm(189, 199)], True, seconds),
        outcome("2nd_test/2", [], False, seconds),
    ]
    found = lives.bearings([watched(case) for case in cases])
    assert found["tests"] == {
        "1st_test": {
            "first": "1",
            "first_fails": False,
            "first_days": 14.9,
            "failing_days": {"3": 10.0},
            "before": 1,
            "false": 2,
        },
        "2nd_test": {
            "first": "1",
            "first_fails": True,
            "first_days": 1.0,
            "failing_days": {"1": 1.0},
            "before": 0,
            "false": 0,
        },
    }
    sums = ("first_right", "failing", "warned", "before", "false")
    assert [found[name] for name in sums] == [1, 3, 2, 1, 2]


def test_bearings_reported_at_once_are_right_only_if_all_fail() -> None:
    seconds = [step * DAY for step in range(STEPS)]
    for fails, right in ((False, 0), (True, 1)):
        cases = [
            outcome("1st_test/3", [alarm(9, 199)], True, seconds),
            outcome("1st_test/4", [alarm(9, 20)], fails, seconds),
            outcome("1st_test/1", [alarm(10, 20)], False, seconds),
        ]
        found = lives.bearings([watched(case) for case in cases])
        assert (found["tests"]["1st_test"]["first"], found["first_right"]) == ("3+4", right)


def test_a_test_in_which_nothing_is_raised() -> None:
    found = lives.bearings([watched(outcome("2nd_test/1", [], True, [0.0] * STEPS))])
    assert found["tests"]["2nd_test"]["first"] is None
    assert (found["warned"], found["first_right"], found["false"]) == (0, 0, 0)


def test_the_tables_have_every_detector_and_every_machine() -> None:
    seconds = [step * DAY for step in range(STEPS)]
    engines = [outcome(f"FD001/{number}", [alarm(100, 199)]) for number in (1, 2)]
    bearing = [outcome("2nd_test/1", [alarm(190, 199)], True, seconds)]
    about = {"benchmark": "x"}
    lines = list(tables.lines(document(about, engines, {}, "engines"), "engines"))
    assert [line.split()[0] for line in lines if line] == [
        *("engines", *NAMES),
        *("tail,", *NAMES),
        *("quantized", "FD001/1", "FD001/2"),
    ]
    found = document(about, bearing, {}, "bearings")
    assert found["always_on"]["total"]["tests"]["2nd_test"]["first_days"] == STEPS - 1
    lines = list(tables.lines(found, "bearings"))
    [row] = [line for line in lines if line.startswith("2nd_test/1")]
    assert row.split()[1:4] == ["1", "1", "9"]


def test_what_went_wrong_is_told_apart() -> None:
    assert not report.is_wrong(outcome("FD001/1", [alarm(100, 199)]), "engines")
    assert report.is_wrong(outcome("FD001/1", []), "engines")
    assert report.is_wrong(outcome("FD001/1", [alarm(10, 20), alarm(100, 199)]), "engines")
    assert not report.is_wrong(outcome("2nd_test/2", [], fails=False), "bearings")
    assert report.is_wrong(outcome("2nd_test/2", [alarm(10, 20)], fails=False), "bearings")
    assert report.is_wrong(outcome("2nd_test/1", []), "bearings")
