"""Writes tables of the configuration as TOML, ready to paste."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from models.formats.moments import rounded
from models.plain_names import plain_name
from models.toml import pairs

_PERIOD_S: Final = 1.0  # if no period was measured


def input_name(text: str, taken: set[str]) -> str:
    """Return an unused name for an input, made from its source's name; add it to ``taken``."""
    plain = plain_name(text, "-")[:60] or "input"
    names = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def input_table(settings: Mapping[str, Any]) -> str:
    """Return a table ``[[inputs]]``."""
    return "\n".join(["[[inputs]]", *pairs(settings)]) + "\n"


def stream_table(name: str, channels: Sequence[str], period_s: float | None) -> str:
    """Return the tables of a stream whose baseline watches it until it has a bundle."""
    period_s = _PERIOD_S if period_s is None else max(rounded(period_s), 0.001)
    rows = [{"name": channel, "unit": ""} for channel in channels]
    lines = ["[[streams]]", *pairs({"name": name}), "[streams.baseline]"]
    return "\n".join([*lines, *pairs({"period_s": period_s, "channels": rows})]) + "\n"
