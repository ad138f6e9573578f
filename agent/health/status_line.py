"""The line that ``systemctl status`` shows of the running agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.health.sdnotify import Notifier

INTERVAL_S: Final = 10.0  # systemd tells every change to all who listen on its bus


class StatusLine:
    """Shows the newest state every ``INTERVAL_S``, and at once after a reload."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._shown_s: float | None = None  # monotonic
        self._readings = 0  # at that time
        self._configuration: object = None  # the same

    def show(self, document: Mapping[str, Any], now_s: float) -> None:
        """Show what this document of the agent says, if it is time to; ``now_s`` is monotonic."""
        before_s, configuration = self._shown_s, document["configuration"]
        due = before_s is None or now_s - before_s >= INTERVAL_S
        if not due and configuration == self._configuration:
            return
        readings = document["counters"].get("readings", 0)
        rate = None
        if before_s is not None and now_s > before_s:
            # a stream that got another detector counts from 0
            rate = max(0, readings - self._readings) / (now_s - before_s)
        self._notifier.status(brief(document, rate))
        self._shown_s, self._readings, self._configuration = now_s, readings, configuration


def brief(document: Mapping[str, Any], readings_per_s: float | None = None) -> str:
    """Return one line of a document, which begins with what should not be."""
    streams, inputs = document["streams"].values(), document["inputs"].values()
    opened = sum(len(stream["open_alarms"]) for stream in streams)
    link = document["uplink"]
    told = [
        _count(sum(1 for stream in streams if stream["refused"]), "REFUSED bundle"),
        _count(sum(1 for source in inputs if not source["connected"]), "input", "not connected"),
        "reload REFUSED" if document["configuration"]["refused"] else "",
        _count(len(document["configuration"]["needs_restart"]), "setting", "waiting for a restart"),
        _count(opened, "alarm", "open") or "no alarm open",
        _count(len(streams), "stream") or "no stream",
        "" if readings_per_s is None else f"{readings_per_s:.1f} readings/s",
        f"broker {link['state']}" if link else "no broker configured",
        _count(document["store"]["outbox_rows"], "message", "waiting"),
    ]
    return ", ".join(filter(None, told))


def _count(number: int, what: str, state: str = "") -> str:
    """Return ``2 alarms open``; empty for 0."""
    return f"{number} {what}{'' if number == 1 else 's'} {state}".rstrip() if number else ""
