"""Figures for machines run to failure: warnings in time, and alarms that came too early.

These data sets do not label the beginning of a fault, only the end of each life. Only alarms of
kind ``anomaly`` count, and each counts at its opening.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from trainer.benchmark import tail_check
from trainer.benchmark.counts import Alarm, point_mask
from trainer.benchmark.outcome import HEADLINE, Watched

EARLY_CYCLES: Final = 125  # before the end; an alarm that opens earlier is false
_DAY_S: Final = 86400.0
_PERCENTILES: Final = {"low": 10, "median": 50, "high": 90}


class _First(NamedTuple):
    """The first alarm of a bearing."""

    bearing: str
    opened: int
    fails: bool
    days_left: float  # from the opening to the end of the test


def engines(cases: Sequence[Watched]) -> dict[str, Any]:
    """Return the figures of one or more engines; each engine fails after its last step.

    An engine is warned if an alarm *opens* in its last ``EARLY_CYCLES`` steps. An alarm that opened
    earlier is false; if it stays open, the engine is never warned.
    """
    leads = [_leads(case) for case in cases]
    timely = [max(lead for lead in each if lead <= EARLY_CYCLES) for each in leads if _warned(each)]
    early = [sum(lead > EARLY_CYCLES for lead in each) for each in leads]
    return {
        "engines": len(cases),
        "warned": len(timely),
        "false": sum(early),
        "engines_false": sum(count > 0 for count in early),
        "silent": sum(not each for each in leads),
        "lead": _distribution(timely),
        "alarm_share": alarm_share(cases),
        "tail": tail_check.figures(case.judged.tail for case in cases),
    }


def bearings(cases: Sequence[Watched]) -> dict[str, Any]:
    """Return the figures of bearings. Bearings of one test share a rig; some of them fail."""
    tests: dict[str, list[Watched]] = defaultdict(list)
    for case in cases:
        tests[case.outcome.name.partition("/")[0]].append(case)
    found = {name: _test(each) for name, each in tests.items()}
    return {
        "tests": found,
        "first_right": sum(each["first_fails"] for each in found.values()),
        "failing": sum(case.outcome.fails for case in cases),
        "warned": sum(len(each["failing_days"]) for each in found.values()),
        "before": sum(each["before"] for each in found.values()),
        "false": sum(each["false"] for each in found.values()),
        "alarm_share": alarm_share(cases),
        "tail": tail_check.figures(case.judged.tail for case in cases),
    }


def unit(cases: Sequence[Watched]) -> dict[str, Any]:
    """Return the alarm figures of one machine: their number, the first lead, and their share."""
    [case] = cases
    leads = _leads(case)
    return {
        "fails": case.outcome.fails,
        "alarms": len(leads),
        "first_lead": max(leads, default=None),
        "alarm_share": alarm_share(cases),
        "tail": tail_check.figures(case.judged.tail for case in cases),
    }


def alarm_share(cases: Sequence[Watched]) -> float:
    """Return the percentage of steps during which an alarm is open."""
    steps = sum(case.outcome.steps for case in cases)
    return 100 * sum(int(_mask(case).sum()) for case in cases) / steps


def _test(cases: Sequence[Watched]) -> dict[str, Any]:
    """Return the figures of one test.

    ``first`` names the bearing with the earliest alarm, or all bearings that share this time. It is
    correct if all of them fail. ``before`` counts the alarms of healthy bearings that opened before
    the first alarm of a failing one. ``false`` counts all alarms of healthy bearings.
    """
    firsts = sorted(filter(None, map(_first, cases)), key=lambda first: first.opened)
    failing = [first for first in firsts if first.fails]
    healthy = [alarm for case in cases if not case.outcome.fails for alarm in _alarms(case)]
    until = failing[0].opened if failing else np.inf
    earliest = [first for first in firsts if first.opened == firsts[0].opened]
    return {
        "first": "+".join(first.bearing for first in earliest) or None,
        "first_fails": bool(earliest) and all(first.fails for first in earliest),
        "first_days": earliest[0].days_left if earliest else None,
        "failing_days": {first.bearing: first.days_left for first in failing},
        "before": sum(alarm.opened < until for alarm in healthy),
        "false": len(healthy),
    }


def _first(case: Watched) -> _First | None:
    outcome, alarms = case.outcome, _alarms(case)
    if not alarms:
        return None
    opened = min(alarm.opened for alarm in alarms)
    left = (outcome.seconds[-1] - outcome.seconds[opened]) / _DAY_S
    return _First(outcome.name.partition("/")[2], opened, outcome.fails, round(left, 2))


def _leads(case: Watched) -> list[int]:
    """Return the number of steps from each opening to the last step."""
    return [case.outcome.steps - 1 - alarm.opened for alarm in _alarms(case)]


def _warned(leads: Sequence[int]) -> bool:
    return any(lead <= EARLY_CYCLES for lead in leads)


def _distribution(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {name: float(np.percentile(values, share)) for name, share in _PERCENTILES.items()}


def _alarms(case: Watched) -> list[Alarm]:
    return case.judged.of(HEADLINE)


def _mask(case: Watched) -> Any:
    spans = ((alarm.opened, alarm.closed) for alarm in _alarms(case))
    return point_mask(spans, case.outcome.steps)
