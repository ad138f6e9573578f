"""The metrics of a bundle as MLflow keeps them: numbers by name, each with the part it is from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_APART: Final = ("measured_on", "verdict", "data", "evaluated_digest")
_NOT_ALLOWED: Final = re.compile(r"[^\w.\- /:]")  # in names of MLflow
_OTHER: Final = "bundle"  # figures of the file itself, or of a part that is not said


def metrics_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a bundle's metrics, such as ``test/normal.events_per_day``.

    The word before the slash is the part that a figure was measured on.
    """
    parts = metrics.get("measured_on", {})
    return {
        f"{_part(parts.get(table, ''))}/{_NOT_ALLOWED.sub('_', name)}": value
        for table, inner in metrics.items()
        if table not in _APART
        for name, value in _numbers(inner, table)
    }


def parameters_of(settings: Mapping[str, Any], name: str = "") -> dict[str, str]:
    """Return settings as texts, by dotted key; lists are JSON."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        dotted = f"{name}.{key}".removeprefix(".")
        if isinstance(value, Mapping):
            found |= parameters_of(value, dotted)
        elif value is not None:
            found[dotted] = str(value)
    return found


def _part(said: str) -> str:
    """Return the first word of what ``measured_on`` says, which is the part."""
    word = re.match(r"train|calibrate|test|evaluate|lives", said)
    return _OTHER if word is None else word[0]


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _numbers(inner, f"{name}.{at}")
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield name, float(value)
