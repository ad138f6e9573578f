"""What configuration and bundles say of the streams: titles and units, for views without numpy.

Only the chart worker can read a bundle, and its start takes a moment. So a view shows what is known
now, and the next one more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from agent.page.chart_protocol import ChartError
from agent.page.charts import Charts
from agent.wording.sentence import plain_name

_LOG = logging.getLogger(__name__)

Known = Mapping[str, Any]  # by stream; see ``drawn.describe``


class Described:
    """Asks the worker, and keeps its last answer; the event loop's thread uses it."""

    def __init__(self, charts: Charts) -> None:
        self._charts = charts
        self._known: Known = {}
        self._task: asyncio.Task[None] | None = None

    def known(self) -> Known:
        """Return what is known now, and ask again in the background."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask())
        return self._known

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            self._known = await self._charts.describe()
        except ChartError as error:  # such as a configuration that was edited and is wrong
            _LOG.warning("titles and units are not known: %s", error)


def title(known: Known, stream: str) -> str:
    """Return the display name of a stream."""
    return str(known.get(stream, {}).get("title") or plain_name(stream))


def channel(known: Known, stream: str, name: str) -> tuple[str, str]:
    """Return display name and unit of a channel; an unknown unit is empty."""
    about = known.get(stream, {}).get("channels", {}).get(name, {})
    return str(about.get("title") or plain_name(name)), str(about.get("unit") or "")
