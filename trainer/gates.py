"""The verdict on a bundle: is the sealed file good enough on held-out data?

Each gate compares one figure of the metrics with its limit in the configuration. A bundle that
fails a gate is not written under its own name, unless a person accepts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.config import GatesTable, ParityTable
from trainer.forecast.evaluate import SEALED

EXCEEDANCES_MIN = 10  # predicted at a level of the tail; with fewer, chance decides
_COVERAGE = 0.8  # nominal coverage of the checked interval


class Gate(NamedTuple):
    """One figure, its limit, and advice if it exceeds the limit."""

    what: str
    found: float | None  # None: it was not measured, and fails
    limit: float  # the largest that passes
    advice: str

    @property
    def passed(self) -> bool:
        """Whether the figure is within its limit; false for NaN and None."""
        return self.found is not None and self.found <= self.limit

    @property
    def text(self) -> str:
        """The figure beside its limit, for people."""
        found = "not measured" if self.found is None else f"{self.found:.3g}"
        return f"{self.what}: {found} (at most {self.limit:g})"


def judge(metrics: Mapping[str, Any], gates: GatesTable, parity: ParityTable) -> list[Gate]:
    """Return the gates of a bundle with these metrics; see ``trainer.evaluate.metrics``."""
    return [
        Gate(
            "false events per day of normal operation",
            metrics["normal"]["events_per_day"],
            gates.events_per_day_max,
            "use recordings of more kinds of normal operation, or raise calibrate.floor_margin",
        ),
        *_tail(metrics.get("tail"), gates),
        *(_parity(row, parity) for row in metrics.get("parity", ())),
        *_coverage(metrics.get("forecaster"), gates),
    ]


def _tail(tail: Mapping[str, Any] | None, gates: GatesTable) -> Iterator[Gate]:
    if tail is None:
        return
    ratios = [
        observed / predicted
        for predicted, observed in zip(tail["predicted"], tail["observed"], strict=True)
        if predicted * tail["samples"] >= EXCEEDANCES_MIN
    ]
    yield Gate(
        "high scores in normal operation, observed / predicted",
        max(ratios, default=None),
        gates.tail_factor_max,
        "severities will be too high, as the calibration part differs from the test part: use"
        " longer recordings, so that both parts contain all kinds of normal operation",
    )


def _parity(row: Mapping[str, Any], settings: ParityTable) -> Gate:
    allowed = {
        "quantization": settings.quantization_tolerance,
        "interpreter": settings.interpreter_tolerance,
    }
    return Gate(
        f"change of a score by {row['change']} ({row['network']} on {row['runtime']})",
        row["difference"],
        allowed[row["change"]],
        f"train longer, use larger layers, or raise parity.{row['change']}_tolerance",
    )


def _coverage(forecaster: Mapping[str, Any] | None, gates: GatesTable) -> Iterator[Gate]:
    if forecaster is None:
        return
    covered = forecaster["accuracy"][SEALED].get(f"coverage_{_COVERAGE * 100:.0f}")
    yield Gate(
        f"share of values in the {_COVERAGE:.0%} intervals, off by",
        None if covered is None else abs(covered - _COVERAGE),
        gates.coverage_error_max,
        "the calibration part differs from the test part: use longer recordings",
    )


def document(found: Sequence[Gate], accepted: bool) -> dict[str, Any]:
    """Return the verdict for the metrics; ``accepted``: a person accepts a failing bundle."""
    passed = all(gate.passed for gate in found)
    return {
        "passed": passed,
        "accepted": accepted and not passed,
        "gates": [gate._asdict() | {"passed": gate.passed} for gate in found],
    }


def summary(verdict: Mapping[str, Any]) -> str:
    """Return the verdict in words, with the figures that fail."""
    failed = [
        Gate(*(row[name] for name in Gate._fields)).text
        for row in verdict["gates"]
        if not row["passed"]
    ]
    if not failed:
        return "The bundle passes all gates."
    accepted = " A person has accepted it." if verdict["accepted"] else ""
    return f"The bundle fails: {'; '.join(failed)}.{accepted}"


def lines(found: Sequence[Gate]) -> Iterator[str]:
    """Yield a line for each gate."""
    for gate in found:
        yield f"{gate.text}: {'passes' if gate.passed else f'fails: {gate.advice}'}"
