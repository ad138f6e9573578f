"""The store for an asynchronous server: one thread reads it, so that no request blocks others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent.store.reader import Reader

Result = TypeVar("Result")


@dataclass
class _Turn:
    """A function that waits for the thread, for all who ask for it meanwhile."""

    function: Callable[[Reader], Any]
    begun: bool = False
    result: asyncio.Future[Any] | None = None

    def __call__(self, reader: Reader) -> Any:
        self.begun = True  # before it reads: who asks from now on may need something newer
        return self.function(reader)


class Stored:
    """Reads the store of one agent; the event loop's thread uses it."""

    def __init__(self, directory: Path) -> None:
        self._reader = Reader(directory)
        self._thread = ThreadPoolExecutor(1, "store")
        self._turns: dict[Callable[[Reader], Any], _Turn] = {}  # the last of each function

    async def read(self, function: Callable[[Reader], Result]) -> Result:
        """Return the result of a function that reads the store.

        Raises:
            StoreError: there is no database yet, or it cannot be read.

        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, function, self._reader
        )

    async def read_together(self, function: Callable[[Reader], Result]) -> Result:
        """As ``read``, but all who ask before the function begins share its result.

        All viewers load a view again at the same moment, when something has changed. ``function``
        must be the same object each time; the results must not be changed.
        """
        turn = self._turns.get(function)
        if turn is None or turn.begun or turn.result is None:
            turn = self._turns[function] = _Turn(function)
            turn.result = asyncio.ensure_future(self.read(turn))
            turn.result.add_done_callback(lambda _: self._turns.pop(function, None))
        shared: asyncio.Future[Result] = turn.result
        return await asyncio.shield(shared)  # who leaves does not end it for the others

    async def close(self) -> None:
        """Close the database files, after the requests in progress."""
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._reader.__exit__, None, None, None
        )
        self._thread.shutdown()
