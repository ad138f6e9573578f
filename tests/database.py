"""What is in a database of the agent or the collector, as another program sees it: committed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.store import sqlite
from agent.store.migrations import READINGS, RECORDS


def make_files(directory: Path) -> None:
    """Make a gateway's database files if there are none: ``directory`` is its store's.

    An agent that finds none starts a process that loads sqlite-utils, and more than doubles what
    its start costs. This process has sqlite-utils already.
    """
    directory.mkdir(exist_ok=True)
    for name in (RECORDS, READINGS):
        if not (directory / name).exists():
            sqlite.open_for_writing(directory / name, "FULL").close()
            (directory / name).chmod(0o640)  # as an agent makes them, whatever our umask is


def asked(file: Path, question: str, values: Sequence[object] = ()) -> list[Any]:
    """Return the rows that answer a question in SQL."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return connection.execute(question, values).fetchall()


def bytes_used(file: Path) -> int:
    """Return the size of what the file holds."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return sqlite.bytes_used(connection)
