"""Times as text; apart from ``messages`` because it must not load numpy."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

# without a time zone, which would cost half of the time
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001


def iso_time(unix_s: float) -> str:
    """RFC 3339 in UTC with milliseconds, as every message carries it.

    Raises:
        OverflowError: it is before the year 1 or after 9999.
        ValueError: it is no number (NaN).

    >>> iso_time(1_700_000_000.25)
    '2023-11-14T22:13:20.250Z'
    """
    return (_EPOCH + timedelta(0, unix_s)).isoformat("T", "milliseconds") + "Z"


def unix_s(text: str) -> float:
    """Return the Unix seconds of a time as ``iso_time`` writes it.

    Raises:
        ValueError: it is no time.

    >>> unix_s("2023-11-14T22:13:20.250Z")
    1700000000.25
    """
    return datetime.fromisoformat(text).timestamp()
