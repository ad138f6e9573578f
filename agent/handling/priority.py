"""How urgent an alarm is: a table of its severity and of what its stream's failure costs.

The severity comes from the bundle, and says how sure or how far it is. The consequence comes from
the configuration. ISA-18.2 derives the priority from both in the same way.
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
    """Return how urgent an alarm of this severity is."""
    return TABLE[consequence][severity]


def graver(one: Severity, other: Severity | None) -> bool:
    """Whether a severity is above another; above none, any is."""
    return other is None or SEVERITIES.index(one) > SEVERITIES.index(other)
