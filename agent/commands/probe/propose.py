"""Writes tables of the configuration as TOML, ready to paste."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agent.commands.probe.names import plain_name

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LINE_MAX: Final = 100
_USUAL: Final = (1.0, 2.0, 2.5, 4.0, 5.0, 6.0, 8.0, 10.0)  # periods, but for the power of ten
_NEAR: Final = 0.07  # the largest relative difference from a usual period
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
    return "\n".join(["[[inputs]]", *_pairs(settings)]) + "\n"


def stream_table(name: str, channels: Sequence[str], period_s: float | None) -> str:
    """Return the tables of a stream whose baseline watches it until it has a bundle."""
    period_s = _PERIOD_S if period_s is None else max(rounded(period_s), 0.001)
    rows = [{"name": channel, "unit": ""} for channel in channels]
    lines = ["[[streams]]", *_pairs({"name": name}), "[streams.baseline]"]
    return "\n".join([*lines, *_pairs({"period_s": period_s, "channels": rows})]) + "\n"


def rounded(period_s: float) -> float:
    """Return the usual period nearest the measured one, or the measured one if none is near.

    >>> [rounded(period_s) for period_s in (0.106, 0.99, 0.26, 60.2, 0.33)]
    [0.1, 1.0, 0.25, 60.0, 0.33]
    """
    decade = 10.0 ** math.floor(math.log10(period_s))
    usual = min(_USUAL, key=lambda factor: abs(period_s / decade - factor)) * decade
    return float(f"{usual:.3g}") if abs(period_s / usual - 1) <= _NEAR else period_s


def _pairs(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        line = f"{key} = {_value(value)}"
        if len(line) > _LINE_MAX and isinstance(value, list):
            yield f"{key} = ["
            yield from (f"    {_value(item)}," for item in value)
            yield "]"
        else:
            yield line


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return f'"{"".join(map(_in_string, value))}"'
    return json.dumps(value)


def _in_string(character: str) -> str:
    """Return a character as in a TOML string; escape what a terminal cannot copy."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)
