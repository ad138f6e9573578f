"""Times as text; apart from ``messages`` because it must not load numpy."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_time(unix_s: float) -> str:
    """RFC 3339 in UTC with milliseconds, as every message carries it.

    >>> iso_time(1_700_000_000.25)
    '2023-11-14T22:13:20.250Z'
    """
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def unix_s(text: str) -> float:
    """Return the Unix seconds of a time as ``iso_time`` writes it.

    Raises:
        ValueError: it is no time.

    >>> unix_s("2023-11-14T22:13:20.250Z")
    1700000000.25
    """
    return datetime.fromisoformat(text).timestamp()
