"""Measures the parts by themselves, each with as little code around it as possible.

- ``parse``: ``float`` of each field between commas of the same lines, without checks.
- ``score``: ``StepNetwork.run`` with the batch of the run, its tensors set and read through views;
  without scaling, and without a state per stream.
- ``commit``: ``executemany`` of the run's rows, in as many transactions, in the same files with the
  same pragmas.

All figures are means of CPU time, like the agent's own. On a shared machine, the best of some
repeats would be a third lower. The uplink's bare part is in ``agent.bench.drain``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.bench.bundle import windowed_network
from agent.bench.lines import Lines
from agent.bench.meters import Committed
from agent.bench.new_store import GATEWAY, SITE, new_store
from agent.clock import clock_quality
from agent.dialects.cloudevents import CloudEvents
from agent.store.migrations import READINGS, RECORDS
from agent.store.record import INSERT, Origin, Outgoing, Record
from agent.store.sqlite import (
    Connection,
    Synchronous,
    open_for_reading,
    open_for_writing,
    transaction,
)
from models.bundle import Bundle
from models.interpreter import StepNetwork, opened

WINDOW_SAMPLES: Final = 250  # of Telemanom's published form
_LINES = 5000
_MEASURED_S = 0.5  # CPU time of each part, at least
_STEPS = 200


def parse_us(lines: Lines, streams: int) -> float:
    """Return µs per line."""
    texts = [lines.line(number % streams, number // streams) for number in range(_LINES)]

    def run() -> None:
        for text in texts:
            list(map(float, text.split(b",")))

    return _mean_us(run) / _LINES


def network_us(bundle: Bundle, streams: int) -> float:
    """Return µs per sample of one step of all streams together."""
    return _network_us(bundle, _STEPS, streams) / _STEPS


def windowed_us(bundle: Bundle) -> float:
    """Return µs per sample of Telemanom's published form, which runs a window for every sample.

    The loop over ``WINDOW_SAMPLES`` steps is inside the network, whose weights are floats.
    """
    interpreter = opened(windowed_network(bundle))
    (window,) = interpreter.get_input_details()
    values = np.random.default_rng(1).normal(0, 0.5, window["shape"])
    interpreter.set_tensor(window["index"], values.astype(np.float32))
    interpreter.invoke()  # takes its memory
    return _mean_us(interpreter.invoke)


def stepped_us(bundle: Bundle, streams: int) -> float:
    """Return µs per sample of the cheapest way to run a window for every sample.

    The bundle's own network steps through the window from a fresh state, with ``streams`` windows
    at once. Its 8-bit weights have no form with the loop inside.
    """
    return _network_us(bundle, WINDOW_SAMPLES, streams)


def _network_us(bundle: Bundle, steps: int, streams: int) -> float:
    """Return µs per stream for ``steps`` steps from a fresh state."""
    network = StepNetwork(bundle.network)
    shape = (steps, streams, network.sample_size)
    samples = np.random.default_rng(1).normal(0, 0.5, shape).astype(np.float32)
    nothing = np.zeros((streams, network.state_size), np.float32)
    network.run(samples[:1], nothing)  # takes the batch's memory
    return _mean_us(lambda: network.run(samples, nothing)) / streams


def _mean_us(run: Callable[[], object]) -> float:
    """Return µs per call."""
    calls, began_s = 0, time.thread_time()
    while (spent_s := time.thread_time() - began_s) < _MEASURED_S:
        run()
        calls += 1
    return 1e6 * spent_s / calls


def commit_s(run_directory: Path, committed: Committed, directory: Path) -> float:
    """Return the CPU time of writing the content of a run's commits into new files."""
    commits = len(committed.states)
    new_store(directory)
    samples = _stored_samples(run_directory / READINGS)
    outbox = _records(committed.messages)
    with contextlib.ExitStack() as closing:
        readings = _new(directory / READINGS, "NORMAL", closing)
        records = _new(directory / RECORDS, "FULL", closing)
        began = time.thread_time()
        for number in range(commits):
            with transaction(records, directory / RECORDS):
                records.executemany(
                    "INSERT OR REPLACE INTO state VALUES (?, ?, ?)", committed.states[number]
                )
                records.executemany(INSERT, _share(outbox, number, commits))
            if samples:
                marks = ", ".join("?" * len(samples[0]))
                with transaction(readings, directory / READINGS):
                    readings.executemany(
                        f"INSERT INTO samples VALUES ({marks})",  # noqa: S608 - question marks
                        _share(samples, number, commits),
                    )
        return time.thread_time() - began


def _stored_samples(path: Path) -> list[tuple[Any, ...]]:
    connection, _ = open_for_reading(path)
    with contextlib.closing(connection):
        return connection.execute("SELECT * FROM samples ORDER BY number").fetchall()


def _new(path: Path, synchronous: Synchronous, closing: contextlib.ExitStack) -> Connection:
    return closing.enter_context(contextlib.closing(open_for_writing(path, synchronous)))


def _records(messages: Sequence[Outgoing]) -> list[Record]:
    """Return messages as the store would number them."""
    clock = clock_quality()
    return [message.numbered(seq, clock) for seq, message in enumerate(messages, 1)]


def encoded(messages: Sequence[Outgoing]) -> list[tuple[str, bytes]]:
    """Return topic and body of messages, as the default dialect sends them."""
    dialect = CloudEvents(Origin(SITE, GATEWAY, "0" * 16))
    return list(map(dialect.record, _records(messages)))


def _share(rows: list[Any], number: int, of: int) -> list[Any]:
    return rows[number * len(rows) // of : (number + 1) * len(rows) // of]
