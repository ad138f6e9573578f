"""The benchmark's figures as one document for programs, with totals over all channels.

This module computes every figure from the alarms that a run saved. The main figure applies the
published rule to alarms of kind ``anomaly``. The other figures supplement it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any, Final, Literal

from trainer.benchmark import chance, lives, tail_check
from trainer.benchmark.chance import Range, Row
from trainer.benchmark.counts import (
    EventCounts,
    count_causal,
    count_points,
    count_published,
    onset_spans,
    union,
)
from trainer.benchmark.outcome import DETECTORS, HEADLINE, Judged, Outcome, Watched

Style = Literal["events", "engines", "bearings"]
Figures = Callable[[Sequence[Watched]], dict[str, Any]]

ALWAYS_ON, RANDOM = "always_on", "random"
NAMES = (*DETECTORS, ALWAYS_ON, RANDOM)  # names of the table's rows
SENSOR = "stuck"


def document(
    about: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    failed: Mapping[str, str],
    style: Style = "events",
) -> dict[str, Any]:
    """Return all figures of one seed, ready for JSON.

    Args:
        about: benchmark, protocol, configuration, seed and software.
        outcomes: outcomes of the finished channels, in the order of the report.
        failed: the error of each failed channel, by its name.
        style: the kind of figures to count.

    """
    of_all, of_one = _FIGURES[style]
    found: dict[str, Any] = {
        **about,
        "failed": dict(failed),
        "quantization": {outcome.name: outcome.quantization for outcome in outcomes},
    }
    for name, cases in rows(outcomes).items():
        found[name] = {
            "total": of_all(cases) if cases else None,
            "channels": {case.outcome.name: of_one([case]) for case in cases},
        }
        if about["benchmark"] == "skab" and cases:  # the name on SKAB's leaderboard
            found[name]["total"]["f1_point"] = found[name]["total"]["point_f1"]
    return found


def rows(outcomes: Sequence[Outcome]) -> dict[str, list[Watched]]:
    """Return the results of each detector and each chance reference on all test arrays."""
    found = {
        str(name): [Watched(outcome, outcome.detectors[name]) for outcome in outcomes]
        for name in DETECTORS
    }
    steps = {outcome.name: outcome.steps for outcome in outcomes}
    quantized = {each.name: each.detectors["quantized"].of(HEADLINE) for each in outcomes}
    labels = {outcome.name: outcome.rows for outcome in outcomes}
    drawn = chance.middle_draw(quantized, labels, steps) if outcomes else {}
    for outcome in outcomes:
        everywhere = Judged(alarms=chance.always(outcome.steps))
        found.setdefault(ALWAYS_ON, []).append(Watched(outcome, everywhere))
        found.setdefault(RANDOM, []).append(Watched(outcome, Judged(alarms=drawn[outcome.name])))
    return {name: found.get(name, []) for name in NAMES}


def total(cases: Sequence[Watched]) -> dict[str, Any]:
    """Return the figures over all channels, with their intervals and chance levels."""
    each = [_published(case) for case in cases]
    interval = chance.bootstrap_f1([(one.tp, one.fp, one.fn) for one in each])
    null = chance.shifted_f1([_rows(case) for case in cases])
    points = chance.shifted_point_f1(
        [chance.masks(_alarms(case), case.outcome.labels, case.outcome.steps) for case in cases]
    )
    return metrics(cases) | {
        "f1_interval": _bounds(interval),
        "f1_shifted": _all(null),
        "point_f1_shifted": _all(points),
    }


def metrics(cases: Sequence[Watched]) -> dict[str, Any]:
    """Return the figures of one detector over one or more channels.

    Counts are summed, and ratios are computed from the sums. ``vus_pr`` is the mean over the
    channels that have labels. ``model_bytes`` and ``us_per_sample`` are medians.
    """
    points = functools.reduce(operator.add, map(_points, cases))
    judged = [case.judged for case in cases]
    vus_pr = [one.vus_pr for one in judged if one.vus_pr is not None]
    times = [one.us_per_sample for one in judged if one.us_per_sample is not None]
    steps = sum(case.outcome.steps for case in cases)
    found: dict[str, Any] = _sum(map(_published, cases)).as_json()
    return found | {
        "causal": _sum(map(_causal, cases)).as_json(),
        "with_stuck": _sum(map(_with_stuck, cases)).as_json(),
        "stuck": sum(len(union(onset_spans(one.of(SENSOR)))) for one in judged),
        "alarm_share": 100 * (points.tp + points.fp) / steps,
        "point_f1": points.f1,
        "far": points.far,
        "mar": points.mar,
        "vus_pr": fmean(vus_pr) if vus_pr else None,
        "model_bytes": round(median(one.model_bytes for one in judged)),
        "us_per_sample": round(median(times), 2) if times else None,
        "tail": tail_check.figures(one.tail for one in judged),
    }


_FIGURES: Final[Mapping[Style, tuple[Figures, Figures]]] = {
    "events": (total, metrics),
    "engines": (lives.engines, lives.unit),
    "bearings": (lives.bearings, lives.unit),
}


def over_seeds(documents: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean, standard deviation, minimum and maximum of each total over the seeds.

    Returns:
        The statistics by detector and figure. The name of a nested figure contains a dot.

    """
    found = {}
    for name in NAMES:
        totals = [_flat(each[name]["total"]) for each in documents if each[name]["total"]]
        found[name] = {key: spread([each[key] for each in totals]) for key in _shared(totals)}
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation (0 for one value), minimum and maximum of values."""
    return {
        "mean": fmean(values),
        "sd": stdev(values) if len(values) > 1 else 0.0,
        "low": min(values),
        "high": max(values),
    }


def _shared(totals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the figures that are numbers in all totals."""
    first = totals[0] if totals else {}
    return [key for key in first if all(isinstance(each.get(key), int | float) for each in totals)]


def _flat(figures: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{inside}{key}.")
        else:
            found[inside + key] = value
    return found


def _alarms(case: Watched) -> list[Any]:
    return case.judged.of(HEADLINE)


def _published(case: Watched) -> EventCounts:
    return count_published(_alarms(case), case.outcome.rows, case.outcome.steps)


def _causal(case: Watched) -> EventCounts:
    return count_causal(_alarms(case), case.outcome.rows, case.outcome.steps)


def _with_stuck(case: Watched) -> EventCounts:
    alarms = case.judged.of(HEADLINE, SENSOR)
    return count_published(alarms, case.outcome.rows, case.outcome.steps)


def _points(case: Watched) -> Any:
    return count_points(*chance.masks(_alarms(case), case.outcome.labels, case.outcome.steps))


def _rows(case: Watched) -> list[Row]:
    spans = onset_spans(_alarms(case))
    return [Row(spans, labels, case.outcome.steps) for labels in case.outcome.rows]


def _sum(counts: Any) -> EventCounts:
    return sum(counts, EventCounts())


def _all(drawn: Range | None) -> dict[str, float] | None:
    return None if drawn is None else drawn._asdict()


def _bounds(drawn: Range | None) -> dict[str, float] | None:
    return None if drawn is None else {"low": drawn.low, "high": drawn.high}
