"""The daemon with meters at its ends: one run, in this process, for some seconds.

Everything between an input and the broker is the daemon's own: queue, loop, parsers, streams,
pipeline, store and uplink. Its streams continue from a saved state, as after a restart, so that the
threshold's history is full and nothing warms up.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.alarms.handled import handling_of
from agent.alarms.points import Points
from agent.assembly import Parts, quarantine_of, store_of, uplink_of
from agent.bench.devices import Devices, Rounds, Send, Steady, memory_inputs, terminals
from agent.bench.lines import PHASES, Lines
from agent.bench.meters import Mark, Meter, MeteredQueue, MeteredStore
from agent.bench.new_store import GATEWAY, SITE, new_store
from agent.bench.stages import Stopwatch
from agent.bundles.load import Loader
from agent.clock import Clock, clock_quality
from agent.config.broker import MqttTable
from agent.config.load import AgentConfig
from agent.daemon import Daemon
from agent.guard import Guard
from agent.health.sdnotify import Notifier
from agent.inputs.kinds import open_input
from agent.inputs.source import Input
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.store.batch import Batch
from agent.store.reader import Reader
from models.bundle import Bundle
from models.detector import Detector
from models.formats.cells import TIME

_QUEUE_CHUNKS_MIN = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings that all runs share."""

    bundle: Bundle
    detector: Detector
    lines: Lines
    streams: int
    rate: float  # lines per second and stream; 0: as fast as possible
    mqtt: MqttTable


@dataclass(frozen=True, slots=True)
class Run:
    """The result of a run."""

    first: Mark
    last: Mark
    meter: Meter
    status: dict[str, Any]  # as the daemon left it
    directory: Path  # of the store

    @property
    def lines(self) -> int:
        """Lines between the marks."""
        return self.last.lines - self.first.lines

    @property
    def agent_s(self) -> float:
        """CPU time of the agent between the marks: the process without the devices."""
        devices_s = self.last.devices_s - self.first.devices_s
        return self.last.process_s - self.first.process_s - devices_s

    @property
    def loop_s(self) -> float:
        """CPU time of the agent's loop between the marks."""
        return self.last.loop_s - self.first.loop_s


def run_from_memory(
    plan: Plan, directory: Path, seconds: float, stopwatch: Stopwatch | None = None
) -> Run:
    """Run with lines that are put into the queue.

    Raises:
        LineLost: the agent did not read all lines.

    """
    config = _config(plan, directory, [f"memory-{number}" for number in range(plan.streams)])
    inputs, send = memory_inputs([(source.name, source.stream) for source in config.inputs])
    return _run(plan, config, inputs, send, seconds, stopwatch)


def run_from_terminals(plan: Plan, directory: Path, seconds: float) -> Run:
    """Run with pseudo-terminals, which the serial input reads.

    Raises:
        LineLost: the agent did not read all lines.

    """
    with terminals(plan.streams) as (ports, send):
        config = _config(plan, directory, ports)
        inputs = [open_input(source) for source in config.inputs]
        return _run(plan, config, inputs, send, seconds, None)


def _config(plan: Plan, directory: Path, ports: Sequence[str]) -> AgentConfig:
    new_store(directory)
    columns = [TIME, *plan.bundle.manifest.channel_names]
    names = [f"stream-{number}" for number in range(plan.streams)]
    return AgentConfig.model_validate(
        {
            "gateway": {"site": SITE, "name": GATEWAY},
            "store": {"directory": directory},
            "mqtt": plan.mqtt,
            "runtime": {"queue_chunks_max": max(_QUEUE_CHUNKS_MIN, 2 * plan.streams)},
            "streams": [{"name": name, "bundle": plan.bundle.source} for name in names],
            "inputs": [
                {"name": f"input-{name}", "stream": name, "port": port, "columns": columns}
                for name, port in zip(names, ports, strict=True)
            ],
        }
    )


def _run(
    plan: Plan,
    config: AgentConfig,
    inputs: Sequence[Input],
    send: Send,
    seconds: float,
    stopwatch: Stopwatch | None,
) -> Run:
    store = store_of(config, MeteredStore)
    store.open()
    devices = _devices(plan, inputs, send)
    meter = Meter(seconds, devices, lambda: _size(store.directory), stopwatch)
    parsers = {
        source.name: LineParser(source.lines, plan.bundle.manifest.channels)
        for source in config.inputs
    }
    runtime = config.runtime
    chunks = MeteredQueue(runtime.queue_chunks_max, runtime.gather_s, len(inputs))
    chunks.meter, chunks.devices = meter, devices
    fleet = _going_on(plan, config, store)
    uplink = uplink_of(config, store, Guard())
    file = store.directory / "agent.toml"  # which nobody reads
    daemon = Daemon(
        Parts(
            config=config,
            config_file=file,
            loader=Loader.of(config),
            store=store,
            fleets=[fleet],
            inputs=inputs,
            parsers=parsers,
            chunks=chunks,
            uplink=uplink,
            notifier=Notifier(),
            clock=Clock(),
            points=Points(*handling_of(config)),
            quarantine=quarantine_of(config),
        )
    )
    store.meter, store.enough = meter, _both(devices.stop, daemon.stop)
    devices.start(lost=daemon.stop)
    with _log_to_nowhere():
        daemon.run()
    devices.join()
    return _outcome(meter, config.store.directory)


def _devices(plan: Plan, inputs: Sequence[Input], send: Send) -> Devices:
    def ready() -> bool:
        return all(source.status().connected for source in inputs)

    if plan.rate:
        return Steady(plan.lines, plan.streams, plan.rate, send, ready)
    return Rounds(plan.lines, plan.streams, send, ready)


def _outcome(meter: Meter, directory: Path) -> Run:
    assert meter.first is not None
    assert meter.last is not None
    with Reader(directory) as reader:
        status = reader.status()
    return Run(meter.first, meter.last, meter, status, directory)


def _going_on(plan: Plan, config: AgentConfig, store: MeteredStore) -> Fleet:
    """Return the streams, each with the state of a stream that has run for a while."""
    saved, batch = _saved(plan, config), Batch()
    fleet = Fleet(plan.detector, config.streams, config.summary.interval_s, Clock())
    for number, stream in enumerate(fleet.streams):
        parts = saved[number % len(saved)]
        went_on = stream.restore(parts, [], 0, batch)
        assert went_on
        batch.state[stream.name] = dict(parts)
    store.commit(batch, clock_quality())
    return fleet


def _saved(plan: Plan, config: AgentConfig) -> list[dict[str, bytes]]:
    """Return saved states with a full history, each at another position in its block.

    Streams ``PHASES`` apart use the same state.
    """
    threshold = plan.bundle.telemanom.threshold
    saved = []
    for phase in range(min(PHASES, plan.streams)):
        samples = threshold.history_samples + threshold.update_samples
        samples += phase * threshold.update_samples // PHASES
        fleet = Fleet(plan.detector, config.streams[:1], config.summary.interval_s, Clock())
        (stream,), batch = fleet.streams, Batch()
        fleet.take(np.zeros(samples, np.int64), plan.lines.before(phase, samples), batch)
        fleet.flush(batch)
        stream.save(batch, 1)
        saved.append(batch.state[stream.name])
    return saved


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def _both(one: Callable[[], None], other: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        one()
        other()

    return call


@contextlib.contextmanager
def _log_to_nowhere() -> Iterator[None]:
    """Let the agent log as usual, at its usual cost, to ``/dev/null``."""
    logger = logging.getLogger("agent")
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - no file
        handler = logging.StreamHandler(nowhere)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
