"""Formats all figures, for people and for programs.

A missing figure is shown as missing: nobody should have to know what nan means, and JSON has no
NaN. A zero has no sign.
"""

from __future__ import annotations

import math
from typing import Final, SupportsFloat

NO_VALUE: Final = "no value"


def shown(value: SupportsFloat | None, form: str = ".4g", absent: str = NO_VALUE) -> str:
    """Return a figure for a person.

    Args:
        value: The figure; None or NaN if there is none.
        form: A format specification without a width, as for ``format``.
        absent: The text for a missing figure.

    >>> shown(-0.0004, ".2f"), shown(math.nan), shown(None, absent="–"), shown(-math.inf)
    ('0.00', 'no value', '–', '-infinite')

    """
    number = math.nan if value is None else float(value)
    if math.isnan(number):
        return absent
    if math.isinf(number):
        return "infinite" if number > 0 else "-infinite"
    return format(number, f"z{form}")


def short(value: SupportsFloat | None, digits: int = 6) -> float | None:
    """Return a figure for a program; None if there is none, or it is infinite.

    More than six digits are float32 noise that somebody would have to send and read.

    >>> short(0.1 + 0.2), short(-0.0), short(math.nan), short(None)
    (0.3, 0.0, None, None)

    """
    if value is None or not math.isfinite(number := float(value)):
        return None
    return float(f"{number:z.{digits}g}")
