"""Runs the demo: starts its processes, watches them, and returns a summary."""

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

from agent.alarms.document import describe, time_to_limit
from agent.commands.forecast import forecast
from agent.config.fault_kinds import SLOW_KINDS, FaultKind
from agent.demo.broker import Broker
from agent.demo.fan import fan
from agent.demo.line import PumpLine
from agent.demo.ops import Ops
from agent.demo.page import DemoPage, NoPage
from agent.demo.screen import CHART_WIDTH, COLUMN_SAMPLES, View, head, screen
from agent.health.measured import rss_max_mb
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, sudden
from agent.store.reader import Reader
from models import bundle as bundles
from models.console import say
from models.errors import DataError, FieldwatchError, StoreError

ZOO_BUNDLE = Path(bundles.__file__).parent / "zoo" / "pump.fieldwatch"
FAULT_AT_SHARE = 0.5  # of the demo's time
REFRESH_S = 0.5
DRIFT_LIFE_S = 5400.0  # seconds of the pump's life that a demo of a drift shows
FORECAST_EVERY_S = 2.0
FAN_STEPS = 144
DRIFTING = "fluid_temperature"
STREAM = "pump-1"
_START_S_MAX = 300.0  # the agent's start on the slowest machine
_STOP_S_MAX = 60.0
_CLEAR = "\x1b[H\x1b[J"


class AgentFailed(FieldwatchError):
    """The agent did not start, or it ended unasked."""


class FaultNotFound(FieldwatchError):
    """The demo ended without an alarm for its fault."""


class Demo:
    """One run of the demo in its own directory."""

    def __init__(
        self,
        directory: Path,
        seconds: float,
        fault: FaultKind,
        seed: int,
        page: DemoPage | None = None,
    ) -> None:
        self._directory, self._page = directory, page
        self._seconds = seconds
        self._fault = fault
        # a drift takes over an hour, so the pump's clock runs faster
        self._speed = DRIFT_LIFE_S / seconds if fault in SLOW_KINDS else 1.0
        # the demo lasts a number of samples: on a slow machine the agent starts later, but
        # reads as many
        self._samples = round(seconds * self._speed / PERIOD_S)
        self._fault_at_s = self._samples * PERIOD_S * FAULT_AT_SHARE
        self._pump = Pump(seed, [sudden(fault, self._fault_at_s, math.inf)])
        self._foretold: dict[str, Any] | None = None
        self._fan_lines: list[str] = []
        self._look_again = 0.0  # monotonic
        self._rss_max_mb = 0.0

    def run(self, show: bool, stay: bool = False) -> dict[str, Any]:
        """Run it; return the summary.

        Args:
            show: Whether to draw what happens.
            stay: Whether agent, pump and page go on afterwards, until somebody interrupts them.

        """
        with Broker(self._directory) as broker, Ops(broker.port) as ops:
            with PumpLine(self._pump, self._speed, self._samples, goes_on=stay) as line:
                agent = self._start_agent(line.port, broker)
                try:
                    self._wait_until_it_reads(agent, show)
                    line.start()
                    self._watch(agent, line, ops, show)
                    fault_at = line.started_s + self._fault_at_s
                    if stay:
                        return self._stay(agent, self._summary(ops, fault_at, broker.name))
                finally:
                    line.stop()
                    _stop(agent)
                    if self._page is not None:
                        self._page.stop()
            time.sleep(REFRESH_S)  # the last messages may still be on their way to ops
            ops.drain()
            return self._summary(ops, fault_at, broker.name)

    def _stay(self, agent: subprocess.Popen[bytes], outcome: dict[str, Any]) -> dict[str, Any]:
        """Show the summary, and go on until somebody interrupts."""
        assert self._page is not None
        for line in [*conclusion(outcome), "", f"The page: {self._page.told()}", "Ctrl-C ends it."]:
            say(line)
        try:
            while True:
                self._check(agent)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return outcome

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
                summary_s=10 * self._speed,
                columns=["time", *(channel.name for channel in CHANNELS)],
                page="" if self._page is None else self._page.tables,
            )
        )
        if self._page is not None:
            self._page.start(config)
        log = (self._directory / "agent.log").open("wb")
        with log:
            return subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-P", "-m", "agent", "run", "--config", str(config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _wait_until_it_reads(self, agent: subprocess.Popen[bytes], show: bool) -> None:
        deadline = time.monotonic() + _START_S_MAX
        if show:
            say("starting the agent …")
        with Reader(self._directory / "data") as store:
            while not _reads(store):
                self._check(agent)
                if time.monotonic() > deadline:
                    raise AgentFailed(
                        f"the agent did not start within {_START_S_MAX:g} s:\n{self._log()}"
                    )
                time.sleep(REFRESH_S / 10)

    def _check(self, agent: subprocess.Popen[bytes]) -> None:
        if agent.poll() is not None:
            raise AgentFailed(f"the agent ended with code {agent.returncode}:\n{self._log()}")

    def _log(self) -> str:
        return (self._directory / "agent.log").read_text(errors="replace")

    def _watch(self, agent: subprocess.Popen[bytes], line: PumpLine, ops: Ops, show: bool) -> None:
        with Reader(self._directory / "data") as store:
            while not line.over:
                self._check(agent)
                self._rss_max_mb = max(self._rss_max_mb, rss_max_mb(agent.pid))
                ops.drain()
                if show:
                    _show(self._view(store, ops, line.lines))
                time.sleep(REFRESH_S)

    def _view(self, store: Reader, ops: Ops, samples: int) -> View:
        elapsed = samples * PERIOD_S / self._speed
        view = View(
            elapsed_s=elapsed,
            seconds=self._seconds,
            fault=self._fault,
            fault_at_s=self._fault_at_s / self._speed,
            ops=ops.lines,
            speed=self._speed,
            page=None if self._page is None else self._page.told(),
        )
        try:
            status = store.status()
        except StoreError:  # the agent has not written its database yet
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
        if self._speed != 1.0:
            view.fan = self._fan_lines = self._fan(store)
        return view

    def _fan(self, store: Reader) -> list[str]:
        """Draw the drifting channel's forecast; if there is none, return the reason."""
        if time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + FORECAST_EVERY_S
            try:
                self._foretold = forecast(self._directory / "agent.toml", STREAM)["forecast"]
            except (DataError, StoreError) as reason:
                return [f"{reason}"]
        if self._foretold is None:
            return []
        limits = [limit for limit in self._foretold["limits"] if limit["channel"] == DRIFTING]
        channel = self._foretold["channels"][DRIFTING]
        lines = fan(_steps(store, self._foretold["step_s"]), channel, limits)
        told = (time_to_limit(limit) for limit in limits)
        return [*lines, *(f"  {DRIFTING} {text}" for text in told)]

    def _summary(self, ops: Ops, fault_at: float, broker: str) -> dict[str, Any]:
        with Reader(self._directory / "data") as store:
            status, alarms = store.status(), store.alarms(1000)
        stream = status["streams"][STREAM]
        seconds = self._samples * PERIOD_S - self._fault_at_s
        opened = [_unix(alarm["opened"]) for alarm in alarms]
        found = [time for time in opened if time >= fault_at]
        return {
            "readings": stream["counters"].get("readings", 0),
            "scored": stream["counters"].get("scored", 0),
            "fault": self._fault,
            "fault_at": fault_at,
            "alarms": alarms,
            "detection_delay_s": round(min(found) - fault_at, 2) if found else None,
            "seconds_after_fault": round(seconds, 1),
            "speed": round(self._speed, 1),  # of the pump's clock, which all these times follow
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
            "limit_alarms": [alarm for alarm in alarms if alarm["kind"] == "limit"],
            "fan": self._fan_lines,
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
interval_s = {summary_s}

[health]
interval_s = 20

[[streams]]
name = "{stream}"
bundle = "{bundle}"

[[streams.limits]]
channel = "fluid_temperature"
unit = "degC"
high_warning = 40
high_critical = 45

[[streams.limits]]
channel = "bearing_temperature"
unit = "degC"
high_warning = 65
high_critical = 75

[[inputs]]
name = "controller"
type = "serial"
port = "{port}"
stream = "{stream}"
format = "csv"
columns = {columns}

{page}"""


def run_demo(
    seconds: float, fault: FaultKind, seed: int, show: bool, stay: bool = False
) -> dict[str, Any]:
    """Run the demo in a temporary directory; return the summary.

    Args:
        seconds: How long the pump runs.
        fault: What happens to it halfway.
        seed: Of the pump.
        show: Whether to draw what happens, and to serve the page meanwhile.
        stay: Whether the page goes on afterwards, until somebody interrupts it.

    Raises:
        BrokerMissing: no broker can be started.
        AgentFailed: the agent did not start, or ended unasked; the text contains its log.
        NoPage: ``stay``, but what the page needs is not installed.

    """
    for ending in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: a closed terminal leaves nothing
        signal.signal(ending, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="fieldwatch-demo-") as directory:
        page = _page(Path(directory), show, stay)
        outcome = Demo(Path(directory), seconds, fault, seed, page).run(show, stay)
    if show and not stay:
        for line in conclusion(outcome):
            say(line)
    return outcome


def _page(directory: Path, show: bool, needed: bool) -> DemoPage | None:
    if not show and not needed:
        return None
    try:
        return DemoPage(directory)
    except NoPage:
        if needed:
            raise
        return None


def conclusion(outcome: dict[str, Any]) -> list[str]:
    """Return the summary as lines of text for people."""
    delay = outcome["detection_delay_s"]
    found = f"found {delay} s after it began" if delay is not None else "NOT FOUND"
    if (speed := outcome["speed"]) != 1.0:
        found += f" by the pump's clock, which runs {speed:.0f} times as fast"
    return [
        "",
        *outcome["fan"],
        "",
        f"The fault ({outcome['fault']}) was {found}; {outcome['false_alarms']} false alarms.",
        f"{outcome['readings']} readings, {outcome['scored']} samples scored by"
        f" {outcome['detector']} on {outcome['interpreter']};",
        f"reading to commit {outcome['reading_to_commit_ms_p50']} ms"
        f" (p99 {outcome['reading_to_commit_ms_p99']} ms), {outcome['rss_mb_max']} MB at most.",
        f"{outcome['published']} messages published over {outcome['broker']},"
        f" {outcome['received_by_ops']} received by ops, {outcome['outbox_left']} left.",
    ]


def check_found(outcome: dict[str, Any]) -> None:
    """Raise FaultNotFound, with the likely reason, if no alarm found the fault."""
    if outcome["detection_delay_s"] is not None:
        return
    said = f"the fault ({outcome['fault']}) was not found"
    if not outcome["scored"]:
        raise FaultNotFound(f"{said}: none of {outcome['readings']} readings was scored")
    raise FaultNotFound(
        f"{said} within {outcome['seconds_after_fault']:g} s after it began; a fault that grows"
        " slowly needs more --seconds"
    )


def _reads(store: Reader) -> bool:
    """Whether the agent has opened its port."""
    try:
        return all(one["connected"] for one in store.status()["inputs"].values())
    except StoreError:  # the agent has not written its database yet
        return False


def _show(view: View) -> None:
    if not sys.stdout.isatty():
        say("; ".join(" ".join(line.split()) for line in head(view, color=False)[1:]))
        return
    columns, rows = shutil.get_terminal_size()
    lines = screen(view, "NO_COLOR" not in os.environ, columns, rows)
    shown = "\n".join(line if "\x1b" in line else line[:columns] for line in lines)
    print(_CLEAR + shown, end="", flush=True)  # a newline would scroll a full screen


def _scores(store: Reader) -> list[float]:
    """Return the newest scores, the highest per chart column; columns have fixed time borders."""
    chunks = store.newest_samples(STREAM, CHART_WIDTH * COLUMN_SAMPLES)
    scores = np.frombuffer(b"".join(chunk.scores for chunk in chunks), np.float32)
    times = np.frombuffer(b"".join(chunk.times for chunk in chunks), np.float64)
    columns: dict[int, float] = {}
    for at, score in zip(times.tolist(), scores.tolist(), strict=True):
        column = int(at / PERIOD_S) // COLUMN_SAMPLES
        columns[column] = max(columns.get(column, math.nan), score, key=_known_first)
    return list(columns.values())


def _steps(store: Reader, step_s: float) -> list[float]:
    """Return the drifting channel's newest steps: means of ``step_s`` seconds."""
    samples = round(step_s / PERIOD_S)
    chunks = store.newest_samples(STREAM, FAN_STEPS * samples)
    values = np.frombuffer(b"".join(chunk.values for chunk in chunks), np.float32)
    names = [channel.name for channel in CHANNELS]
    column = values.reshape(-1, len(names))[:, names.index(DRIFTING)]
    whole = len(column) // samples * samples
    steps: list[float] = column[len(column) - whole :].reshape(-1, samples).mean(axis=1).tolist()
    return steps


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
