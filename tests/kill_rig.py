"""Kills the agent at random moments under load, and counts what that cost.

    sensor ─serial line, or the broker─> agent ─broker─> ops, and the collector that has the word

What was stored is scored again by one pipeline that is never interrupted, and compared to the bit:
scores, alarms and summaries have to be as if nobody had ever killed anything. A serial line loses
readings while nobody listens. The broker keeps them, so that there nothing at all may be missing.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from agent.collector.books import Collected
from agent.collector.reading import Source
from agent.config.fault_kinds import FaultKind
from agent.inputs.plant import CHANNELS, PERIOD_S, Fault, Pump, csv_line
from agent.mqtt.client import Client
from agent.scoring.summary import Summary
from agent.store.migrations import READINGS
from agent.store.reader import Reader
from models import bundle as bundles
from models.errors import StoreError
from models.messages import Float32, Samples, stored_samples
from models.pipeline import Pipeline
from models.times import iso_time
from tests.collector_process import CollectorProcess
from tests.conftest import WAIT_S_MAX, ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.serial_line import Line
from tests.uplink_rig import Ops

START_S = 1_700_000_000.0
SUMMARY_S = 30.0
ROWS = 10  # in a message, or written at once
PAUSE_S = 0.02  # between them: some 400 rows a second
ALIVE_S_MAX = 0.5  # after the first message of a life
EARLY_SHARE = 0.2  # of the kills, while the agent starts
START_S_MAX = 1.5
AHEAD_MAX = 10_000  # rows
STUCK_S = 20.0  # without any more samples: there are none
KINDS: tuple[FaultKind, ...] = ("cavitation", "blocked_valve", "spike", "seal_leak")
STATISTICS = ("min", "mean", "max", "std")
COUNTS = ("missing", "held", "interpolated")
GAPS = {3: slice(4, 5), 7: slice(2, 7)}  # each so many blocks, rows in which a channel is silent

Acknowledgement = Literal["broker", "central"]
LoadKind = Literal["serial", "mqtt"]
StartAgent = Callable[[Path], RealAgent]


def blocks() -> Iterator[tuple[list[float], list[str]]]:
    """Times and lines of a pump that is faulty every two minutes, without end."""
    faults = zip(range(1, 20_000), itertools.cycle(KINDS), strict=False)
    pump = Pump(15, [Fault(kind, at * 120.0, 15.0) for at, kind in faults])
    for first in itertools.count(0, ROWS):
        rows = pump.run(ROWS)
        for every, silent in GAPS.items():  # never the last row, which would wait for one more
            if first // ROWS % every == 0:
                rows[silent, first // ROWS % len(CHANNELS)] = np.nan
        times = [START_S + (first + index) * PERIOD_S for index in range(ROWS)]
        yield times, [csv_line(at, row) for at, row in zip(times, rows, strict=True)]


class Load(Protocol):
    """Where the readings come from."""

    input: str  # its settings
    loses: bool  # readings, while nobody listens

    def send(self, lines: Sequence[str]) -> None: ...
    def close(self) -> None: ...


class SerialLoad:
    """A line that somebody has to listen to."""

    loses = True

    def __init__(self, directory: Path, _: int) -> None:
        self._line = Line(directory / "ttyPUMP")
        self.input = f'port = "{self._line.path}"'

    def send(self, lines: Sequence[str]) -> None:
        self._line.write("".join(f"{line}\n" for line in lines).encode())  # waits for a reader

    def close(self) -> None:
        self._line.close()


class MqttLoad:
    """A sensor that publishes to the broker, which keeps it until it is acknowledged."""

    loses = False

    def __init__(self, _: Path, port: int) -> None:
        self.input = (
            'type = "mqtt"\ntopics = ["pumps/1"]\n'
            f'broker = {{ host = "127.0.0.1", port = {port}, backoff_max_s = 0.2,'
            " backoff_min_s = 0.1 }"
        )
        self._client = Client(client_id="sensor")
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, lines: Sequence[str]) -> None:
        self._client.publish("pumps/1", "\n".join(lines), qos=1).wait_for_publish(WAIT_S_MAX)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


LOADS: dict[LoadKind, Callable[[Path, int], Load]] = {"serial": SerialLoad, "mqtt": MqttLoad}


@dataclass
class Committed:
    """What the database had after a kill: samples, the time of the last one, highest ``seq``."""

    samples: int
    last_time: float
    last_seq: int


@dataclass
class Killing:
    """A gateway with its broker, sensor and central ops, and somebody who kills the agent."""

    directory: Path
    broker: RealBroker
    start_agent: StartAgent
    load: LoadKind
    acknowledgement: Acknowledgement
    chance: random.Random
    times: list[float] = field(default_factory=list)  # of what was sent
    committed: list[Committed] = field(default_factory=list)
    early: int = 0  # killed while they started

    def run(self, kills: int) -> dict[str, int]:
        """Do it; return counts, of which those that ``wrong`` looks at have to be 0."""
        ops = Ops(self.broker.port)
        load = LOADS[self.load](self.directory, self.broker.port)
        collector = None
        if self.acknowledgement == "central":
            collector = CollectorProcess(self.broker.port, self.directory / "central")
        config = self._configure(load)
        self._make_known(config)
        stopping = threading.Event()
        writer = threading.Thread(target=self._send, args=(load, stopping), daemon=True)
        writer.start()
        agent = None
        try:
            for number in range(kills):
                self._one_life(config, ops)
                if number % 50 == 49:
                    print(
                        number + 1,
                        "kills,",
                        len(self.times),
                        "rows sent:",
                        self.committed[-1],
                        flush=True,
                    )
            agent = self.start_agent(config)
            last = self.committed[-1].samples
            wait_until(lambda: found(self.directory).samples > last, "some more samples", 60)
            stopping.set()
            wait_until(lambda: not writer.is_alive(), "the last readings to be sent")
            self._wait_for_the_rest(load)
            assert agent.stop() == 0, agent.log()
            if collector is not None:
                collector.end()
            return self._counts(kills, ops, load)
        finally:
            stopping.set()
            ops.close()
            load.close()
            if agent is not None and agent.process is not None and agent.process.poll() is None:
                agent.kill()
            if collector is not None:
                collector.end()

    def _configure(self, load: Load) -> Path:
        (self.directory / "data").mkdir()
        config = self.directory / "agent.toml"
        config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.05
state_interval_s = 1.0
[mqtt]
host = "127.0.0.1"
port = {self.broker.port}
acknowledgement = "{self.acknowledgement}"
unsigned_acknowledgements = true
central_timeout_s = 2.0
backoff_min_s = 0.1
backoff_max_s = 0.5
replay_rate_max = 2000.0
[summary]
interval_s = {SUMMARY_S}
[health]
interval_s = 1
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "line"
stream = "pump"
columns = {["time", *(channel.name for channel in CHANNELS)]}
{load.input}
""")
        return config

    def _make_known(self, config: Path) -> None:
        """Run the agent once, so that the broker keeps for it what is published."""
        agent = self.start_agent(config)
        wait_until(lambda: connected(self.directory), "the input")
        assert agent.stop() == 0, agent.log()

    def _send(self, load: Load, stopping: threading.Event) -> None:
        for times, lines in blocks():
            if stopping.wait(PAUSE_S):
                return
            while self._ahead() > AHEAD_MAX and not stopping.wait(0.1):
                pass  # lives are too short for more
            load.send(lines)
            self.times += times

    def _ahead(self) -> int:
        """How many rows more were sent than there were at the last kill; of a line, none."""
        if self.load == "serial" or not self.committed:
            return 0
        return len(self.times) - self.committed[-1].samples

    def _one_life(self, config: Path, ops: Ops) -> None:
        before = len(ops.received)
        agent = self.start_agent(config)
        if self.chance.random() < EARLY_SHARE:
            time.sleep(self.chance.uniform(0, START_S_MAX))
            self.early += len(ops.received) == before
        else:
            wait_until(lambda: len(ops.received) > before, "messages")
            time.sleep(self.chance.uniform(0, ALIVE_S_MAX))
        agent.kill()
        self.committed.append(found(self.directory))

    def _wait_for_the_rest(self, load: Load) -> None:
        if not load.loses:
            self._wait_for_all_samples()
        wait_until(lambda: outbox_rows(self.directory) < 5, "the outbox to drain", 60)

    def _wait_for_all_samples(self) -> None:
        """Or until no more come: then some are missing, and are counted."""
        before, until = -1, 0.0
        while (samples := found(self.directory).samples) < len(self.times):
            if samples > before:
                before, until = samples, time.monotonic() + STUCK_S
            elif time.monotonic() > until:
                return
            time.sleep(0.2)

    def _counts(self, kills: int, ops: Ops, load: Load) -> dict[str, int]:
        samples, scores = stored(self.directory)
        last = found(self.directory)
        with Reader(self.directory / "data") as reader:
            waiting = set(reader.waiting(0, last.last_seq))
            epoch = reader.meta("epoch")
            alarms = reader.alarms(10**6)
        wait_until(lambda: not lacking(ops.received, waiting, last.last_seq), "the last messages")
        messages = list(ops.received)
        assert all(message["type"] != "fieldwatch.gone.v1" for message in messages)
        bodies: dict[int, set[str]] = {}
        for message in messages:
            bodies.setdefault(message["seq"], set()).add(json.dumps(message, sort_keys=True))
        counts = {
            "kills": kills,
            "killed_while_starting": self.early,
            "readings_sent": len(self.times) * len(CHANNELS),
            "samples_stored": len(samples.times),
            "messages": last.last_seq,
            "messages_missing_at_ops": len(lacking(messages, waiting, last.last_seq)),
            "messages_repeated_at_ops": len(messages) - len(bodies),
            "ids_with_another_text": sum(len(texts) > 1 for texts in bodies.values()),
            "committed_and_lost": sum(not one for one in self._still_there(samples, last)),
            "samples_twice_or_out_of_order": int((np.diff(samples.times) <= 0).sum()),
            "samples_missing": 0 if load.loses else self._missing(samples),
        }
        if self.acknowledgement == "central":
            with Collected(self.directory / "central", "plant") as collected:
                here = {seq for seq, _ in collected.messages(Source("gw-1", epoch))}
            wanted = set(range(1, last.last_seq + 1)) - waiting
            counts["messages_missing_at_collector"] = len(wanted - here)
        return counts | compared(samples, scores, alarms, messages)

    def _missing(self, samples: Samples) -> int:
        missing = sorted(set(np.round(self.times, 3)) - set(np.round(samples.times, 3)))
        if missing:
            print("missing, rows after the first:", [(at - START_S) / PERIOD_S for at in missing])
        return len(missing)

    def _still_there(self, samples: Samples, last: Committed) -> Iterator[bool]:
        for then in self.committed:
            if then.samples:
                there = then.samples <= len(samples.times)
                yield there and samples.times[then.samples - 1] == then.last_time
            yield last.last_seq >= then.last_seq


def wrong(counts: dict[str, int]) -> dict[str, int]:
    """Those of the counts that say that something was lost, doubled or changed."""
    signs = ("missing", "another", "lost", "twice", "differ")
    return {
        name: count
        for name, count in counts.items()
        if count and any(sign in name for sign in signs)
    }


def lacking(messages: Iterable[dict[str, Any]], waiting: set[int], last: int) -> set[int]:
    return set(range(1, last + 1)) - waiting - {message["seq"] for message in messages}


def connected(directory: Path) -> bool:
    with Reader(directory / "data") as reader:
        try:
            return bool(reader.status()["inputs"]["line"]["connected"])
        except StoreError:  # not yet
            return False


def outbox_rows(directory: Path) -> int:
    with Reader(directory / "data") as reader:
        return reader.outbox_rows()


def found(directory: Path) -> Committed:
    with Reader(directory / "data") as reader:
        newest = reader.newest_samples("pump", 1)
        last_seq = int(reader.meta("last_seq"))
    with contextlib.closing(sqlite3.connect(directory / "data" / READINGS)) as database:
        (rows,) = database.execute("SELECT coalesce(sum(rows), 0) FROM samples").fetchone()
    last_time = float(np.frombuffer(newest[-1][0])[-1]) if newest else -math.inf
    return Committed(rows, last_time, last_seq)


def stored(directory: Path) -> tuple[Samples, Float32]:
    with Reader(directory / "data") as reader:
        chunks = reader.newest_samples("pump", 10**7)
    parts = [(chunk.times, chunk.values, chunk.quality) for chunk in chunks]
    scores = np.frombuffer(b"".join(chunk.scores for chunk in chunks), np.float32)
    return stored_samples(parts, len(CHANNELS)), scores


def compared(
    samples: Samples,
    scores: Float32,
    alarms: Sequence[dict[str, Any]],
    messages: Sequence[dict[str, Any]],
) -> dict[str, int]:
    """How often what the killed agent made differs from what an uninterrupted one makes."""
    pipeline = Pipeline(bundles.read(ZOO_BUNDLE))
    uninterrupted = pipeline.step(pipeline.start(), samples)
    score = uninterrupted.scores.score
    events = [(e.number, e.kind, e.state, iso_time(e.onset)) for e in uninterrupted.events]
    newest = {number: (number, kind, state, onset) for number, kind, state, onset in events}
    # who was never killed has no gaps, and does not count them
    of_events = sorted({a["number"] for a in alarms if a["kind"] != "gap"})
    numbers = {number: at for at, number in enumerate(of_events, 1)}
    kept = [
        (numbers[a["number"]], a["kind"], a["state"], a["onset"])
        for a in alarms
        if a["number"] in numbers
    ]
    sent: Counter[tuple[Any, ...]] = Counter()
    told: dict[str, list[dict[str, Any]]] = {}
    for message in {message["seq"]: message for message in messages}.values():
        data = message["data"]
        if message["type"].startswith("fieldwatch.alarm"):
            if data["kind"] != "gap":
                number = numbers.get(data["number"], -1)
                sent[number, data["kind"], data["state"], data["onset"]] += 1
        elif message["type"].startswith("fieldwatch.summary"):
            told.setdefault(data["from"], []).append(data)
    names = [channel.name for channel in CHANNELS]
    expected = Summary(names, SUMMARY_S).add(samples, score)
    return {
        "alarms": len(newest),
        "summaries": len(expected),
        "scores_differ": int((score.view(np.uint32) != scores.view(np.uint32)).sum()),
        "alarms_kept_differ": len(set(kept) ^ set(newest.values())),
        "alarms_sent_differ": sum(((Counter(events) - sent) + (sent - Counter(events))).values()),
        "summaries_sent_twice": sum(len(same) - 1 for same in told.values()),
        "summaries_differ": sum(
            not any(alike(one, two) for two in told.pop(one["from"], [])) for one in expected
        )
        + len(told),
    }


def alike(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Equal, but for the order in which means were added up."""
    unknown = {"channels": None}
    channels = zip(one["channels"].values(), two["channels"].values(), strict=True)
    return one | unknown == two | unknown and all(
        all(a.get(name, 0) == b.get(name, 0) for name in COUNTS)
        and all(
            a[name] == b[name] or math.isclose(a[name], b[name], rel_tol=1e-4, abs_tol=1e-5)
            for name in STATISTICS
        )
        for a, b in channels
    )
