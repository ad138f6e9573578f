"""What is in a database of the agent or the collector, as another program sees it: committed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.store import sqlite


def asked(file: Path, question: str, values: Sequence[object] = ()) -> list[Any]:
    """Return the rows that answer a question in SQL."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return connection.execute(question, values).fetchall()


def bytes_used(file: Path) -> int:
    """Return the size of what the file holds."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return sqlite.bytes_used(connection)
