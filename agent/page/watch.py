"""Watches the store for viewers: tells them what changed, and how many alarms there are.

One task looks for all viewers, and only while there is one. It looks at one number of the logbook
and at the agent's status, whose row is replaced with each commit.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from agent.commands.life import Life, life
from agent.handling.states import UNACKNOWLEDGED
from agent.page.stored import Stored
from agent.store.reader import Reader
from models.errors import StoreError

LOOK_S: Final = 0.5  # between two looks at the store
VALUES_S: Final = 5.0  # between two announcements of values that always change


class Counts(NamedTuple):
    """How many points are in which state; for every view."""

    active: int = 0  # not suppressed, unacknowledged or not
    unacknowledged: int = 0
    shelved: int = 0
    suppressed: int = 0
    out_of_service: int = 0


class Seen(NamedTuple):
    """What a look at the store found."""

    row: int  # the newest of the logbook
    life: Life
    counts: Counts

    @property
    def key(self) -> tuple[int, bool, Counts]:
        """What viewers are told of at once if it changes."""
        return self.row, self.life.watching, self.counts

    def document(self) -> dict[str, Any]:
        """Return what viewers are told; the time is the gateway's, Unix seconds."""
        return {
            "row": self.row,
            "watching": self.life.watching,
            "now": time.time(),
            **self.counts._asdict(),
        }


def counted(reader: Reader) -> Counts:
    """Return the counts of the points; advisories call nobody, so they do not count."""
    states = Counter(one.state for one in reader.standings().values() if not one.advisory)
    waiting = sum(states[one] for one in UNACKNOWLEDGED)
    return Counts(
        active=waiting + states["ACKED"] + states["LATAK"],
        unacknowledged=waiting,
        shelved=states["SHLVD"],
        suppressed=states["DSUPR"],
        out_of_service=states["OOSRV"],
    )


class Look:
    """Looks at the store; the thread that reads the store uses it.

    It counts again only after the logbook has grown: each transition is a row there.
    """

    def __init__(self) -> None:
        self._row: int | None = None
        self._counts = Counts()

    def __call__(self, reader: Reader) -> Seen:
        """Return what there is; a store without a database has nothing."""
        try:
            row = reader.last_logbook_row()
            if row != self._row:
                self._counts = counted(reader)
                self._row = row
        except StoreError:
            self._row, self._counts = None, Counts()
        return Seen(self._row or 0, life(reader), self._counts)


class Watch:
    """Tells viewers of changes; the event loop's thread uses it."""

    def __init__(self, stored: Stored) -> None:
        self._stored, self._look = stored, Look()
        self._changed = asyncio.Condition()
        self._seen: Seen | None = None
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.viewers = 0

    async def now(self) -> Seen:
        """Look at the store now."""
        return await self._stored.read(self._look)

    async def changes(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield what to announce: ``alarms`` at once if they changed, ``values`` now and then.

        The first is yielded at once, so that a viewer who was away learns of what it missed.
        """
        self.viewers += 1
        if self._task is None or self._task.done():
            self._task, self._seen = asyncio.create_task(self._keep_looking()), None
        try:
            told: Seen | None = None
            while not self._closed:
                seen = await self._next(told)
                kind = "values" if told is not None and seen.key == told.key else "alarms"
                told = seen
                yield kind, seen.document()
        finally:
            self.viewers -= 1
            if not self.viewers and self._task is not None:
                self._task.cancel()
                self._task = self._seen = None

    async def _next(self, told: Seen | None) -> Seen:
        """Return the next news; after ``VALUES_S`` what was seen last."""
        try:
            async with asyncio.timeout(VALUES_S), self._changed:
                await self._changed.wait_for(lambda: self._is_news(told))
        except TimeoutError:
            if self._task is not None and self._task.done():
                self._task.result()  # raises why it looks no more: what it saw is out of date
        return await self.now() if self._seen is None else self._seen

    async def close(self) -> None:
        """Let no viewer wait for news any more."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_news(self, told: Seen | None) -> bool:
        if self._closed:
            return True
        return self._seen is not None and (told is None or self._seen.key != told.key)

    async def _keep_looking(self) -> None:
        while True:
            seen = await self.now()
            async with self._changed:
                self._seen = seen
                self._changed.notify_all()
            await asyncio.sleep(LOOK_S)
