"""The state of the whole agent as one document, for ``status``, ``state`` and health messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.alarms.points import Points
from agent.clock import Clock
from agent.commits import Commits
from agent.config.load import GatewayTable
from agent.control.control import Control
from agent.defects.quarantine import Quarantine
from agent.health.measured import LoopTimes, Machine, rejected, rss_mb, totals
from agent.inputs.queue import ChunkQueue
from agent.inputs.source import Input
from agent.onsite.hooks import Hooks
from agent.onsite.panels import Panels
from agent.reloading import Reloads
from agent.scoring.streams import Streams
from agent.store.writer import Store
from agent.uplink.handover import Relay
from models import __version__
from models.times import iso_time


@dataclass(frozen=True, slots=True)
class Overview:
    """Collects the state from all parts of the agent; the loop's thread uses it."""

    gateway: GatewayTable
    clock: Clock
    machine: Machine
    loop: LoopTimes
    chunks: ChunkQueue
    inputs: Mapping[str, Input]
    streams: Streams
    commits: Commits
    store: Store
    relay: Relay
    quarantine: Quarantine
    reloads: Reloads
    control: Control
    points: Points
    hooks: Hooks
    panels: Panels
    commanded: Callable[[], Mapping[str, Any]]
    started_s: float = field(default_factory=time.monotonic)

    def document(self, running: bool) -> dict[str, Any]:
        """Return the document; docs/messages.md describes it as the health message's data."""
        inputs = {
            name: source.status()._asdict() | self.streams.rejects(name)
            for name, source in self.inputs.items()
        }
        streams = self.streams.document(self.store.records.last_alarm_number)
        store, uplink = self.store.document(), self.relay.snapshot()
        counters = {
            "lines_dropped": self.chunks.dropped_lines,
            "set_aside": self.quarantine.count,
        }
        return {
            "version": __version__,
            "gateway": f"{self.gateway.site}/{self.gateway.name}",
            "started": iso_time(self.clock.wall_s(self.started_s)),
            "updated": iso_time(self.clock.wall_s()),
            "running": running,
            "clock": self.clock.quality(),
            "rss_mb": rss_mb(),
            "machine": self.machine.document(),
            "counters": totals(inputs, streams, store, uplink) | counters | self.commits.counters(),
            "rejected": rejected(inputs),
            "latency": self.commits.latencies.document(),
            "loop": self.loop.document(),
            "inference": self.streams.inference(),
            "queues": {
                "chunks": self.chunks.waiting,
                "outbox": store["outbox_rows"],
                "in_flight": uplink["in_flight"] if uplink else 0,
            },
            "inputs": inputs,
            "streams": streams,
            "store": store,
            "uplink": uplink,
            "set_aside": self.quarantine.document(),
            "configuration": self.reloads.document(),
            "control": self.control.document() | dict(self.commanded()),
            "alarms": dict(self.points.states()),
            "panel": self.panels.document(),
            "hooks": self.hooks.document(self.store.records.notices.totals),
        }
