"""A broker that is away for days, and comes back: the days pass as fast as the agent takes them.

The device sends recorded lines with times of their own, so that the agent lives through the days
of the outage in minutes. When the broker is back, the device goes on, faster than a real one
would, and each message about that is timed from the line that caused it to its arrival at ops.
"""

from __future__ import annotations

import bisect
import itertools
import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paho.mqtt.client as paho

from agent.config.fault_kinds import FaultKind
from agent.inputs.plant import CHANNELS, Fault, Pump, csv_line
from agent.mqtt.client import Client
from agent.store.ranges import Ranges
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import WAIT_S_MAX, RealAgent, RealBroker, wait_until
from tests.serial_line import Line

START_S = 1_700_000_000.0
PERIOD_S = 0.8  # of eight channels: 10 readings a second
SUMMARY_S = 60.0
LIVE_RATE = 400.0  # lines a second once the broker is back
BLOCK = 10_000  # lines written at once: what they come in fits into the agent's queue
CYCLE_ROWS = 18_000  # of the pump, over and over
KINDS: tuple[FaultKind, ...] = ("cavitation", "blocked_valve", "seal_leak")
RECORDING_PERIOD_S = 0.2  # of the simulated pump
FAULT_EVERY_S, FAULT_S = 900.0, 20.0  # in the time of the recording: an alarm an hour

# a broker as the pages want it: it keeps the sessions of those who are away
PERSISTENT = "persistence true\npersistence_location {}/\nuser root\n"


class Arrival(NamedTuple):
    """A message at ops, as it came the first time."""

    at_mono_s: float
    message: dict[str, Any]
    text: bytes
    topic: str


class Ops:
    """A collector with a session that the broker keeps; takes the time of each first arrival."""

    def __init__(self, port: int) -> None:
        self.arrivals: list[Arrival] = []
        self.repeats = 0
        self._known: set[str] = set()
        self._subscribed = threading.Event()
        self._client = Client(
            client_id="ops",
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("fieldwatch/v1/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(WAIT_S_MAX)

    def _on_message(self, _: Any, __: Any, received: paho.MQTTMessage) -> None:
        message = json.loads(received.payload)
        if message["type"] == "fieldwatch.status.v1":
            return
        if message["id"] in self._known:
            self.repeats += 1
            return
        self._known.add(message["id"])
        self.arrivals.append(Arrival(time.monotonic(), message, received.payload, received.topic))

    def of_kind(self, kind: str) -> list[Arrival]:
        return [a for a in list(self.arrivals) if a.message["type"] == f"fieldwatch.{kind}.v1"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Device:
    """Writes the recorded lines to the port, in order, as fast as it is told."""

    def __init__(self, path: Path) -> None:
        self.line = Line(path)
        last = int(CYCLE_ROWS * RECORDING_PERIOD_S / FAULT_EVERY_S)
        faults = [
            Fault(kind, number * FAULT_EVERY_S - 2 * FAULT_S, FAULT_S)
            for number, kind in zip(range(1, last + 1), itertools.cycle(KINDS), strict=False)
        ]
        rows = Pump(15, faults).run(CYCLE_ROWS)
        self._rows = [csv_line(0.0, row).split(",", 1)[1].encode() for row in rows]
        self.written = 0
        # of the live lines: the time in them, and when they were written
        self.live_times: list[float] = []
        self.live_at_mono_s: list[float] = []

    def write(self, count: int) -> None:
        numbers = range(self.written, self.written + count)
        self.line.write(
            b"".join(
                b"%.3f,%s\n" % (START_S + number * PERIOD_S, self._rows[number % CYCLE_ROWS])
                for number in numbers
            )
        )
        self.written += count

    def write_live(self, stopping: threading.Event) -> None:
        began, first = time.monotonic(), self.written
        while not stopping.wait(0.02):
            due = first + int((time.monotonic() - began) * LIVE_RATE) - self.written
            times = START_S + (self.written + np.arange(due)) * PERIOD_S
            self.live_times += times.tolist()
            self.live_at_mono_s += [time.monotonic()] * due
            self.write(due)

    def caused_at(self, time_s: float) -> float | None:
        """When the first live line of this time or later was written, monotonic seconds."""
        index = bisect.bisect_left(self.live_times, time_s - 1e-3)
        if index in (0, len(self.live_times)):  # before them, or still to come
            return None
        return self.live_at_mono_s[index]


@dataclass
class Outage:
    """A gateway, its broker that goes and comes back, and ops."""

    directory: Path
    broker: RealBroker  # with ``PERSISTENT``, and started
    settings: str = ""  # more of them, for the table [mqtt]
    outbox_rows_max: int = 100_000
    report: dict[str, Any] = field(default_factory=dict)

    def run(self, days: float, start_agent: Any) -> dict[str, Any]:
        """Live through it; return what came of it."""
        device = Device(self.directory / "ttyPUMP")
        ops = Ops(self.broker.port)
        agent = start_agent(self._configure(device))
        live, stopping = None, threading.Event()
        try:
            wait_until(self._connected, "the port and the link")
            self.broker.stop()
            wait_until(lambda: self._status()["uplink"]["state"] == "offline", "the loss")
            self._live_through(device, days)
            live = threading.Thread(target=device.write_live, args=(stopping,), daemon=True)
            live.start()
            self._come_back(ops, device)
            stopping.set()
            live.join()
            self._end(agent, ops, device)
            return self.report
        finally:
            stopping.set()
            ops.close()
            if live is None or not live.is_alive():
                device.line.close()
            self.ops = ops

    def _configure(self, device: Device) -> Path:
        (self.directory / "data").mkdir()
        config = self.directory / "agent.toml"
        channels = "".join(
            f'[[streams.baseline.channels]]\nname = "{channel.name}"\nunit = "{channel.unit}"\n'
            for channel in CHANNELS
        )
        config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
outbox_rows_max = {self.outbox_rows_max}
[mqtt]
host = "127.0.0.1"
port = {self.broker.port}
backoff_max_s = 1.0
{self.settings}
[summary]
interval_s = {SUMMARY_S}
[[streams]]
name = "pump"
silent_after_s = 300
[streams.baseline]
period_s = {PERIOD_S}
deviations_max = 6.0  # the same fault again and again: a range of what was seen would know it
{channels}
[[inputs]]
name = "line"
stream = "pump"
port = "{device.line.path}"
columns = {["time", *(channel.name for channel in CHANNELS)]}
""")
        return config

    def _status(self) -> dict[str, Any]:
        with Reader(self.directory / "data") as reader:
            return reader.status()

    def _connected(self) -> bool:
        try:
            status = self._status()
        except StoreError:  # not yet
            return False
        up = status["uplink"]["state"] == "online"
        return up and bool(status["inputs"]["line"]["connected"])

    def _samples(self) -> int:
        return int(self._status()["streams"]["pump"]["counters"].get("samples", 0))

    def _live_through(self, device: Device, days: float) -> None:
        began, total = time.monotonic(), round(days * 86_400 / PERIOD_S)
        while device.written < total:
            device.write(min(BLOCK, total - device.written))
            # it holds the last ones back until their time is over
            wait_until(lambda: self._samples() > device.written - BLOCK / 2, "the agent", 60)
        wait_until(lambda: self._samples() >= total - 2, "the last samples", 60)
        status = self._status()
        self.report |= {
            "days": days,
            "samples": total,
            "readings": total * len(CHANNELS),
            "lived_through_s": round(time.monotonic() - began, 1),
            "backlog": status["store"]["outbox_rows"],
            "merged": status["store"]["merged"],
            "evicted": status["store"]["evicted"],
            "store_mb": round(status["store"]["bytes"] / 2**20, 1),
            "rss_mb": status["rss_mb"],
        }
        with Reader(self.directory / "data") as reader:
            self._waited = reader.waiting(0, int(reader.meta("last_seq")))

    def _come_back(self, ops: Ops, device: Device) -> None:
        """Start the broker; wait until all that waited is at ops, with live messages beside it."""
        time.sleep(2.0)  # of live lines
        before = len(ops.arrivals)
        self.broker.start()
        back = time.monotonic()
        wait_until(lambda: len(ops.arrivals) > before, "the first message")
        waited = set(self._waited)

        def missing() -> set[int]:
            left = set(waited)
            for arrival in list(ops.arrivals):
                left.discard(arrival.message["seq"])
                for first, end in arrival.message["data"].get("merged", []):  # meanwhile, perhaps
                    left.difference_update(range(first, end + 1))
            return left

        wait_until(lambda: not missing(), "the backlog", 120 + len(waited) / 100)
        came = [a.at_mono_s for a in ops.arrivals if a.message["seq"] in waited]
        self.report |= {
            "first_after_s": round(min(came) - back, 2),
            "replayed": len(came),
            "replay_s": round(max(came) - min(came), 1),
            "replay_per_s": round(len(came) / (max(came) - min(came)), 1),
        }
        self.report["live"] = latencies(ops.arrivals, device, min(came), max(came))

    def _end(self, agent: RealAgent, ops: Ops, device: Device) -> None:
        wait_until(lambda: self._samples() >= device.written - 2, "the last samples", 60)
        wait_until(lambda: self._status()["store"]["outbox_rows"] < 5, "the outbox to drain", 60)
        assert agent.stop() == 0, agent.log()
        with Reader(self.directory / "data") as reader:
            last_seq = int(reader.meta("last_seq"))
            left = reader.waiting(0, last_seq)
            alarms = {(a["number"], a["state"]) for a in reader.alarms(10**6)}
        wait_until(lambda: not lacking(ops.arrivals, left, last_seq), "the last messages")
        told = {(a.message["data"]["number"], a.message["data"]["state"]) for a in alarms_of(ops)}
        summaries = [arrival.message["data"] for arrival in ops.of_kind("summary")]
        self.report |= {
            "messages": last_seq,
            "messages_missing": len(lacking(ops.arrivals, left, last_seq)),
            "repeats": ops.repeats,
            "alarms": len(alarms_of(ops)),
            "alarms_missing": len(alarms - told),
            "alarms_out_of_order": falls([a.message["seq"] for a in alarms_of(ops)]),
            "summaries": len(summaries),
            "summaries_out_of_order": out_of_order(
                [a.message["seq"] for a in ops.of_kind("summary")]
            ),
            "samples_not_summed_up": self._not_summed_up(summaries, device),
        }

    def _not_summed_up(self, summaries: Iterable[dict[str, Any]], device: Device) -> int:
        """Samples of whole intervals that no summary told of, or that two did."""
        last_end = max(seconds(data["to"]) for data in summaries)
        whole = int(np.ceil((last_end - START_S) / PERIOD_S - 1e-6))
        return abs(min(whole, device.written) - sum(data["n"] for data in summaries))


def alarms_of(ops: Ops) -> list[Arrival]:
    return ops.of_kind("alarm")


def lacking(arrivals: Iterable[Arrival], left: Sequence[int], last_seq: int) -> list[int]:
    """Numbers that are neither at ops, nor merged into one that is, nor in the outbox."""
    here = Ranges((seq, seq) for seq in left)
    for arrival in list(arrivals):
        here.add(arrival.message["seq"], arrival.message["seq"])
        for first, end in arrival.message["data"].get("merged", []):
            here.add(first, end)
    return [seq for a, b in here.missing(1, last_seq) for seq in range(a, b + 1)]


def latencies(
    arrivals: Sequence[Arrival], device: Device, begin: float, end: float
) -> dict[str, Any]:
    """From the line that caused a live message to its arrival, while the backlog came."""
    found: dict[str, list[float]] = {"summary": [], "alarm": []}
    for arrival in arrivals:
        kind = arrival.message["type"].split(".")[1]
        if kind not in found or not begin <= arrival.at_mono_s <= end:
            continue
        data = arrival.message["data"]
        caused = data["to"] if kind == "summary" else data["closed"] or data["opened"]
        at = device.caused_at(seconds(caused))
        if at is not None and at >= begin:
            found[kind].append(arrival.at_mono_s - at)
    both = found["summary"] + found["alarm"]
    return {kind: len(values) for kind, values in found.items()} | {
        f"latency_s_{name}": round(float(np.quantile(both, share)), 3) if both else None
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def falls(numbers: Sequence[int]) -> int:
    """How often a number is not above the one before it."""
    return sum(b <= a for a, b in itertools.pairwise(numbers))


def out_of_order(numbers: Sequence[int]) -> int:
    """How often the order is broken among those that waited, or among the live ones.

    The live ones are those from the first number on that overtook another.
    """
    lowest_after = list(itertools.accumulate(reversed(numbers), min))[::-1]
    overtook = [seq for seq, low in zip(numbers, lowest_after, strict=True) if low < seq]
    live = min(overtook, default=0)
    waited = [seq for seq in numbers if seq < live]
    return falls(waited) + falls([seq for seq in numbers if seq >= live])


def wrong(report: dict[str, Any]) -> dict[str, int]:
    """Those of the counts that have to be 0 and are not."""
    signs = ("missing", "out_of_order", "not_summed_up")
    found = {name: report[name] for name in report if any(sign in name for sign in signs)}
    found |= {f"evicted_{kind}": count for kind, count in report["evicted"].items()}
    return {name: count for name, count in found.items() if count}
