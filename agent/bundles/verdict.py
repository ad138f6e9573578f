"""The verdict that a bundle's training ended with. A gateway runs the bundle all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def objection(metrics: Mapping[str, Any]) -> str | None:
    """Return what a bundle failed at the end of its training, if nobody accepted that; for people.

    Args:
        metrics: of its manifest; those of an older or foreign bundle have no verdict.

    """
    verdict = metrics.get("verdict")
    if not isinstance(verdict, Mapping) or verdict.get("passed") is not False:
        return None
    if verdict.get("accepted") is True:
        return None
    rows = verdict.get("gates")
    failed = [
        str(row.get("what"))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping) and row.get("passed") is False
    ]
    return (
        f"the bundle failed its training: {'; '.join(failed)}. Train it again, or with --accept if"
        " you want it as it is"
    )
