"""What is in a collector's database, as another program sees it: what is committed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.store.migrations import COLLECTED
from agent.store.sqlite import bytes_used


def asked(directory: Path, question: str, values: Sequence[object] = ()) -> list[Any]:
    """Return the rows that answer a question in SQL."""
    with contextlib.closing(sqlite3.connect(directory / COLLECTED)) as connection:
        return connection.execute(question, values).fetchall()


def size_bytes(directory: Path) -> int:
    """Return the size of what the file holds."""
    with contextlib.closing(sqlite3.connect(directory / COLLECTED)) as connection:
        return bytes_used(connection)
