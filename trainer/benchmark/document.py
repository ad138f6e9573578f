"""The benchmark's figures as one document for programs, with totals over all channels."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from trainer.benchmark.outcome import DETECTORS, Judged, Outcome


def document(
    about: Mapping[str, Any], outcomes: Sequence[Outcome], failed: Mapping[str, str]
) -> dict[str, Any]:
    """Return all figures, ready for JSON.

    Args:
        about: benchmark, protocol, configuration, seed and software.
        outcomes: of the finished channels, in the order of the report.
        failed: the error of each failed channel, by its name.

    """
    found: dict[str, Any] = {
        **about,
        "failed": dict(failed),
        "quantization": {outcome.name: outcome.quantization for outcome in outcomes},
    }
    for detector in DETECTORS:
        judged = {outcome.name: outcome.detectors[detector] for outcome in outcomes}
        found[detector] = {
            "total": metrics(list(judged.values())) if judged else None,
            "channels": {name: metrics([one]) for name, one in judged.items()},
        }
        if about["benchmark"] == "skab" and judged:  # the name on SKAB's leaderboard
            found[detector]["total"]["f1_point"] = found[detector]["total"]["point_f1"]
    return found


def metrics(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the figures of one detector over some channels, at least one.

    Counts are added up and ratios taken of the sums; ``vus_pr`` is the mean over the channels
    that have labels, ``model_bytes`` and ``us_per_sample`` are medians.
    """
    events = functools.reduce(operator.add, (one.events for one in judged))
    points = functools.reduce(operator.add, (one.points for one in judged))
    vus_pr = [one.vus_pr for one in judged if one.vus_pr is not None]
    found: dict[str, Any] = events.as_json()
    return found | {
        "point_f1": points.f1,
        "far": points.far,
        "mar": points.mar,
        "vus_pr": fmean(vus_pr) if vus_pr else None,
        "model_bytes": round(median(one.model_bytes for one in judged)),
        "us_per_sample": round(median(one.us_per_sample for one in judged), 2),
    }
