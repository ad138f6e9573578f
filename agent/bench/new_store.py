"""The empty store that a run of the benchmark begins with."""

from __future__ import annotations

from pathlib import Path

from agent.store.maintenance import bring_up_to_date

SITE, GATEWAY = "bench", "gateway"


def new_store(directory: Path) -> None:
    """Make ``directory`` with the files of an empty store in it."""
    directory.mkdir()
    bring_up_to_date(directory)
