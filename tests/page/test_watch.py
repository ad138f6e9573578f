"""Viewers are told of changes, or that nobody can say whether there are any."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import zlib
from pathlib import Path

import pytest

from agent.page.stored import Stored
from agent.page.watch import Watch
from agent.store.batch import Batch
from tests.conftest import WAIT_S_MAX
from tests.kept_rig import ONSET, Kept


def test_viewers_are_not_told_old_news_as_if_they_were_new(tmp_path: Path) -> None:
    """A look that fails for a reason that nobody foresaw ends the answer: browsers say so."""
    kept = Kept(tmp_path)
    status = json.dumps({"running": True, "updated": ONSET, "streams": {}})
    kept.store.commit(Batch(status=lambda: status), "synced")
    kept.store.close()

    async def view(watch: Watch) -> None:
        async for _ in watch.changes():
            with contextlib.closing(sqlite3.connect(tmp_path / "data" / "readings.db")) as file:
                file.execute("UPDATE status SET document = ?", [zlib.compress(b"{}")])
                file.commit()

    async def watching() -> None:
        stored = Stored(tmp_path / "data")
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await view(Watch(stored))
        finally:
            await stored.close()

    with pytest.raises(KeyError):
        asyncio.run(watching())
