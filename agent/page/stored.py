"""The store for an asynchronous server: one thread reads it, so that no request blocks others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.store.reader import Reader

Result = TypeVar("Result")


class Stored:
    """Reads the store of one agent; the event loop's thread uses it."""

    def __init__(self, directory: Path) -> None:
        self._reader = Reader(directory)
        self._thread = ThreadPoolExecutor(1, "store")

    async def read(self, function: Callable[[Reader], Result]) -> Result:
        """Return the result of a function that reads the store.

        Raises:
            StoreError: there is no database yet, or it cannot be read.

        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, function, self._reader
        )

    async def close(self) -> None:
        """Close the database files, after the requests in progress."""
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._reader.__exit__, None, None, None
        )
        self._thread.shutdown()
