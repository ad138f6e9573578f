"""What became of the work on a stream: for the summary, for programs, and for the next run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from models.bundle import Bundle

State = Literal["trained", "unchanged", "rejected", "valid", "invalid", "usable", "failed"]
# states that a person has to see to
BAD: Final[tuple[State, ...]] = ("rejected", "invalid", "failed")


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a bundle, each from held-out data; None: not measured."""

    events_per_day: float | None = None  # false events in normal operation
    found: int | None = None  # labelled faults
    missed: int | None = None
    false: int | None = None  # events outside all labels of labelled recordings
    network_bytes: int | None = None

    @classmethod
    def of(cls, bundle: Bundle) -> Figures:
        """Return those of a sealed bundle."""
        metrics = bundle.manifest.metrics
        labelled = metrics.get("labelled", {})
        return cls(
            metrics.get("normal", {}).get("events_per_day"),
            labelled.get("true_positives"),
            labelled.get("false_negatives"),
            labelled.get("false_positives"),
            metrics.get("network", {}).get("size_bytes"),
        )

    @property
    def f1(self) -> float | None:
        """The F1 score of events; None without a label or an event."""
        return f1(self.found, self.missed, self.false)


def f1(found: int | None, missed: int | None, false: int | None) -> float | None:
    """Return the F1 score of events; None if there is nothing to find and nothing was found."""
    if found is None or missed is None or false is None:
        return None
    whole = 2 * found + missed + false
    return round(2 * found / whole, 4) if whole else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of the work on a stream."""

    state: State
    message: str = ""  # why, if it is bad
    bundle: Path | None = None
    version: int | None = None
    digest: str | None = None  # of the bundle
    data_digest: str | None = None  # of the lineage
    seconds: dict[str, float] = field(default_factory=dict)  # by step
    figures: Figures = Figures()
    peak_mib: int | None = None  # the most memory that the worker has needed until then
    registered: str | None = None  # where and as which version

    @property
    def is_bad(self) -> bool:
        """Whether a person has to see to it."""
        return self.state in BAD

    def document(self) -> dict[str, Any]:
        """Return the outcome, ready for JSON."""
        found = asdict(self) | {"bundle": None if self.bundle is None else str(self.bundle)}
        found["figures"]["f1"] = self.figures.f1
        return found
