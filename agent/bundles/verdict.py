"""The verdict of a bundle's training. A gateway runs the bundle regardless of the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def objection(metrics: Mapping[str, Any]) -> str | None:
    """Describe the checks that a bundle failed in training, unless a person accepted that.

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
        f"the bundle failed its training: {'; '.join(failed)}. Train it again, or use --accept to"
        " keep it as it is"
    )
