"""The priority of an alarm: a table by its severity and by the consequence of a failure.

The severity comes from the bundle, and reflects how certain or how large the deviation is. The
consequence comes from the configuration. ISA-18.2 derives the priority from both in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.handling.states import Consequence, Priority, Severity

SEVERITIES: Final[tuple[Severity, ...]] = ("low", "medium", "high")  # the gravest last
PRIORITIES: Final[tuple[Priority, ...]] = ("high", "medium", "low")  # the most urgent first
TABLE: Final[Mapping[Consequence, Mapping[Severity, Priority]]] = {
    "minor": {"low": "low", "medium": "low", "high": "medium"},
    "major": {"low": "low", "medium": "medium", "high": "high"},
    "severe": {"low": "medium", "medium": "high", "high": "high"},
}


def priority(severity: Severity, consequence: Consequence) -> Priority:
    """Return the priority of an alarm with this severity and consequence."""
    return TABLE[consequence][severity]


def graver(one: Severity, other: Severity | None) -> bool:
    """Return whether a severity is above another; any severity is above None."""
    return other is None or SEVERITIES.index(one) > SEVERITIES.index(other)
