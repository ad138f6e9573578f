"""The page's reader of the store: who asks at the same time shares what was read."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from agent.page.stored import Stored
from agent.store.reader import Reader
from tests.conftest import WAIT_S_MAX


def test_who_asks_before_a_read_begins_shares_it_and_who_asks_later_gets_a_newer_one(
    tmp_path: Path,
) -> None:
    begun, going_on, reads = threading.Event(), threading.Event(), []

    def slow(_: Reader) -> int:
        reads.append(len(reads) + 1)
        begun.set()
        going_on.wait(WAIT_S_MAX)
        return reads[-1]

    async def asking() -> list[int]:
        stored = Stored(tmp_path)
        first = asyncio.create_task(stored.read_together(slow))
        await asyncio.to_thread(begun.wait, WAIT_S_MAX)
        others = [asyncio.create_task(stored.read_together(slow)) for _ in range(20)]
        leaving = others.pop()
        await asyncio.sleep(0)
        leaving.cancel()
        going_on.set()
        found = await asyncio.gather(first, *others)
        await stored.close()
        return found

    assert asyncio.run(asking()) == [1] + [2] * 19
    assert reads == [1, 2]
