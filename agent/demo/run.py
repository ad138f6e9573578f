"""Runs the demo: starts the parts, watches them, and sums up what happened."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from agent.alarms import describe
from agent.demo.broker import Broker
from agent.demo.line import PumpLine
from agent.demo.ops import Ops
from agent.demo.screen import CHART_WIDTH, COLUMN_SAMPLES, View, screen
from agent.health import rss_max_mb
from agent.plant import CHANNELS, PERIOD_S, FaultKind, Pump, sudden
from agent.store import Reader
from models import bundle as bundles
from models.errors import FieldwatchError, StoreError

ZOO_BUNDLE = Path(bundles.__file__).parent / "zoo" / "pump.fieldwatch"
FAULT_AT_SHARE = 0.5  # of the demo's time
REFRESH_S = 0.5
STREAM = "pump-1"
_STOP_S_MAX = 10.0
_CLEAR = "\x1b[H\x1b[J"


class AgentFailed(FieldwatchError):
    """The agent that the demo started has ended by itself."""


class Demo:
    """One run of the demo in a directory of its own."""

    def __init__(self, directory: Path, seconds: float, fault: FaultKind, seed: int) -> None:
        self._directory = directory
        self._seconds = seconds
        self._fault = fault
        at_s = seconds * FAULT_AT_SHARE
        self._pump = Pump(seed, [sudden(fault, at_s, math.inf)])
        self._fault_at_s = at_s
        self._rss_max_mb = 0.0

    def run(self, show: bool) -> dict[str, Any]:
        """Run it; return the summary."""
        with Broker(self._directory) as broker, Ops(broker.port) as ops:
            with PumpLine(self._pump) as line:
                agent = self._start_agent(line.port, broker)
                try:
                    self._watch(agent, line, ops, show)
                finally:
                    line.stop()
                    _stop(agent)
                fault_at = line.started_s + self._fault_at_s
            time.sleep(REFRESH_S)  # what the broker has may still be on its way to ops
            ops.drain()
            return self._summary(ops, fault_at, broker.name)

    def _start_agent(self, port: str, broker: Broker) -> subprocess.Popen[bytes]:
        config = self._directory / "agent.toml"
        (self._directory / "data").mkdir()
        config.write_text(
            _CONFIG.format(
                directory=self._directory / "data",
                broker_port=broker.port,
                protocol=broker.protocol,
                stream=STREAM,
                bundle=ZOO_BUNDLE,
                port=port,
                columns=["time", *(channel.name for channel in CHANNELS)],
            )
        )
        log = (self._directory / "agent.log").open("wb")
        with log:
            return subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "agent", "run", "--config", str(config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _watch(self, agent: subprocess.Popen[bytes], line: PumpLine, ops: Ops, show: bool) -> None:
        with Reader(self._directory / "data") as store:
            while (elapsed := time.time() - line.started_s) < self._seconds:
                if agent.poll() is not None:
                    log = (self._directory / "agent.log").read_text(errors="replace")
                    raise AgentFailed(f"the agent ended with code {agent.returncode}:\n{log}")
                self._rss_max_mb = max(self._rss_max_mb, rss_max_mb(agent.pid))
                ops.drain()
                if show:
                    _show(self._view(store, ops, elapsed))
                time.sleep(REFRESH_S)

    def _view(self, store: Reader, ops: Ops, elapsed: float) -> View:
        view = View(
            elapsed_s=elapsed,
            seconds=self._seconds,
            fault=self._fault,
            fault_at_s=self._fault_at_s,
            ops=ops.lines,
        )
        try:
            status = store.status()
        except StoreError:  # the agent has only just begun
            return view
        stream = status["streams"][STREAM]
        view.readings = stream["counters"].get("readings", 0)
        view.readings_per_s = view.readings / max(elapsed, 1.0)
        view.scores = _scores(store)
        view.alarms = [describe(alarm) for alarm in store.alarms(3)]
        view.link = status["uplink"]["state"]
        view.published = status["uplink"]["published"]
        view.acknowledged = status["uplink"]["acknowledged"]
        view.outbox = status["store"]["outbox_rows"]
        return view

    def _summary(self, ops: Ops, fault_at: float, broker: str) -> dict[str, Any]:
        with Reader(self._directory / "data") as store:
            status, alarms = store.status(), store.alarms(1000)
        stream = status["streams"][STREAM]
        opened = [_unix(alarm["opened"]) for alarm in alarms]
        found = [time for time in opened if time >= fault_at]
        return {
            "readings": stream["counters"].get("readings", 0),
            "scored": stream["counters"].get("scored", 0),
            "fault": self._fault,
            "fault_at": fault_at,
            "alarms": alarms,
            "detection_delay_s": round(min(found) - fault_at, 2) if found else None,
            "false_alarms": sum(_unix(alarm["onset"]) < fault_at for alarm in alarms),
            "published": status["uplink"]["published"],
            "received_by_ops": len(ops.ids),
            "outbox_left": status["store"]["outbox_rows"],
            **status["latency"],
            "rss_mb_max": self._rss_max_mb,
            "detector": stream["detector"],
            "interpreter": stream["interpreter"],
            "bundle_digest": stream["bundle_digest"],
            "broker": broker,
        }


_CONFIG = """\
[gateway]
site = "demo"
name = "gateway-1"

[store]
directory = "{directory}"

[mqtt]
host = "127.0.0.1"
port = {broker_port}
protocol = "{protocol}"

[summary]
interval_s = 10

[health]
interval_s = 20

[[streams]]
name = "{stream}"
bundle = "{bundle}"

[[inputs]]
name = "controller"
type = "serial"
port = "{port}"
stream = "{stream}"
format = "csv"
columns = {columns}
"""


def run_demo(seconds: float, fault: FaultKind, seed: int, show: bool) -> dict[str, Any]:
    """Run the demo in a fresh directory, which is removed afterwards; return the summary.

    Raises:
        BrokerMissing: there is no broker to publish to.
        AgentFailed: the agent ended by itself; the text has its log.

    """
    with tempfile.TemporaryDirectory(prefix="fieldwatch-demo-") as directory:
        outcome = Demo(Path(directory), seconds, fault, seed).run(show)
    if show:
        for line in _conclusion(outcome):
            print(line)
    return outcome


def _conclusion(outcome: dict[str, Any]) -> list[str]:
    delay = outcome["detection_delay_s"]
    found = f"found {delay} s after it set in" if delay is not None else "NOT FOUND"
    return [
        "",
        f"The fault ({outcome['fault']}) was {found}; {outcome['false_alarms']} false alarms.",
        f"{outcome['readings']} readings, {outcome['scored']} samples scored by"
        f" {outcome['detector']} on {outcome['interpreter']};",
        f"reading to commit {outcome['reading_to_commit_ms_p50']} ms"
        f" (p99 {outcome['reading_to_commit_ms_p99']} ms), {outcome['rss_mb_max']} MB at most.",
        f"{outcome['published']} messages published over {outcome['broker']},"
        f" {outcome['received_by_ops']} received by ops, {outcome['outbox_left']} left.",
    ]


def _show(view: View) -> None:
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    lines = screen(view, color)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        print(_CLEAR + "\n".join(line if "\x1b" in line else line[:width] for line in lines))
    else:
        print(" ".join(line.strip() for line in lines[2:4]), flush=True)


def _scores(store: Reader) -> list[float]:
    """The newest scores in columns of the chart, whose edges stay where they are."""
    chunks = store.newest_samples(STREAM, CHART_WIDTH * COLUMN_SAMPLES)
    scores = np.frombuffer(b"".join(scores for _, _, scores in chunks), np.float32)
    times = np.frombuffer(b"".join(times for times, _, _ in chunks), np.float64)
    columns: dict[int, float] = {}
    for at, score in zip(times.tolist(), scores.tolist(), strict=True):
        column = int(at / PERIOD_S) // COLUMN_SAMPLES
        columns[column] = max(columns.get(column, math.nan), score, key=_known_first)
    return list(columns.values())


def _known_first(score: float) -> float:
    return -1.0 if math.isnan(score) else score


def _stop(agent: subprocess.Popen[bytes]) -> None:
    agent.send_signal(signal.SIGTERM)
    try:
        agent.wait(_STOP_S_MAX)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()


def _unix(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
