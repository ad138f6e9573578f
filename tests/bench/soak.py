"""The agent at full rate for an hour with its links flapping: does it grow, does it lose anything?

python -m tests.bench.soak [--minutes 60] [--streams 10] [--rate 160] [--seed N] [--json FILE]

Full rate is what a line of 115,200 baud carries: some 160 of the pump's lines a second. Ports are
pulled and plugged in again, the broker is killed and started again, at random moments; what the
agent says is collected by ``fieldwatch-agent collect``, whose word frees a message. Ends with 1
where something grew beyond its bound, or a number is missing at the collector.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.collector.books import Collected
from agent.collector.reading import Source
from agent.inputs.plant import CHANNELS, PERIOD_S, Fault, Pump, csv_line
from agent.store.reader import Reader
from models.errors import StoreError
from tests.collector_process import CollectorProcess
from tests.conftest import ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.serial_line import Line

START_S = 1_700_000_000
LOOK_S = 5.0
DRAIN_S_MAX, DRAINED_ROWS = 120.0, 50  # at the end, with links that stay
WARM_UP_SHARE = 1 / 3
RING_ROWS_MAX = 100_000
OUTBOX_ROWS_MAX = 20_000
STORE_MB_MAX = 64
LOG_MB_MAX = 8  # of SQLite, beyond the store's size
GROWTH_MB_MAX = 3.0  # of the agent's memory over the time measured, by the fitted line
CYCLE_ROWS = 6000  # of the pump, over and over; its faults come again with each


@dataclass
class Look:
    """How the agent was at one time."""

    at_s: float
    rss_mb: float
    files: int
    threads: int
    outbox_rows: int
    store_mb: float


class Plugged:
    """A line into the agent that can be pulled; its device goes on writing all the same."""

    def __init__(self, path: Path, rows: Sequence[bytes], phase: int) -> None:
        self.line = Line(path)
        os.set_blocking(self.line.descriptor, False)
        self._rows = rows
        self._at = itertools.count(phase)
        self._guard = threading.Lock()
        self._there = True
        self.written = self.not_taken = 0

    def write(self, count: int) -> None:
        """Write the next rows; what the terminal does not take is gone, as on a real line."""
        numbers = list(itertools.islice(self._at, count))
        data = b"".join(
            b"%.1f,%s\n" % (START_S + number * PERIOD_S, self._rows[number % len(self._rows)])
            for number in numbers
        )
        with self._guard:
            if not self._there:
                return
            try:
                taken = os.write(self.line.descriptor, data)
            except BlockingIOError:
                taken = 0
        self.written += count
        self.not_taken += taken < len(data)

    def pull(self) -> None:
        with self._guard:
            self.line.unplug()
            self._there = False

    def plug_in(self) -> None:
        with self._guard:
            self.line.plug_in()
            os.set_blocking(self.line.descriptor, False)
            self._there = True


@dataclass
class Soak:
    """One run."""

    directory: Path
    streams: int
    rate: float  # lines per second and stream
    chance: random.Random
    looks: list[Look] = field(default_factory=list)
    pulled: int = 0
    broker_killed: int = 0

    def run(self, seconds: float) -> dict[str, Any]:
        self._stopping = threading.Event()
        self._broker = RealBroker(self.directory)
        self._broker.start()
        rows = cycle()
        self._lines = [
            Plugged(self.directory / f"tty{number}", rows, 997 * number)
            for number in range(self.streams)
        ]
        collector = CollectorProcess(self._broker.port, self.directory / "central")
        agent = RealAgent(self._configure())
        agent.start()
        work = (self._write, self._flap_ports, self._flap_broker)
        threads = [threading.Thread(target=one) for one in work]
        try:
            wait_until(lambda: status(self.directory) is not None, "the agent")
            for thread in threads:
                thread.start()
            self._watch(agent, seconds)
            self._stopping.set()
            for thread in threads:
                thread.join()
            return self._end(agent, collector)
        finally:
            self._stopping.set()
            if agent.process is not None and agent.process.poll() is None:
                agent.kill()
            collector.end()
            self._broker.kill()
            for plugged in self._lines:
                plugged.line.close()

    def _configure(self) -> Path:
        (self.directory / "data").mkdir()
        config = self.directory / "agent.toml"
        columns = ["time", *(channel.name for channel in CHANNELS)]
        parts = [
            f'[[streams]]\nname = "pump-{n}"\nbundle = "{ZOO_BUNDLE}"\n'
            f'[[inputs]]\nname = "line-{n}"\nstream = "pump-{n}"\nport = "{plugged.line.path}"\n'
            f"columns = {columns}\nreconnect_delay_max_s = 1.0\n"
            for n, plugged in enumerate(self._lines)
        ]
        config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
ring_rows_max = {RING_ROWS_MAX}
outbox_rows_max = {OUTBOX_ROWS_MAX}
bytes_max = {STORE_MB_MAX * 2**20}
[mqtt]
host = "127.0.0.1"
port = {self._broker.port}
acknowledgement = "central"
unsigned_acknowledgements = true
central_timeout_s = 30.0
backoff_min_s = 0.1
backoff_max_s = 1.0
[summary]
interval_s = 10
[health]
interval_s = 1
{"".join(parts)}""")
        return config

    def _write(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._stopping.wait(0.05):
            due = int((time.monotonic() - began) * self.rate) - sent
            sent += due
            for plugged in self._lines:
                plugged.write(due)

    def _flap_ports(self) -> None:
        while not self._stopping.wait(self.chance.uniform(2, 10)):
            plugged = self.chance.choice(self._lines)
            plugged.pull()
            self.pulled += 1
            self._stopping.wait(self.chance.uniform(0.2, 3))
            plugged.plug_in()

    def _flap_broker(self) -> None:
        while not self._stopping.wait(self.chance.uniform(5, 40)):
            self._broker.kill()
            self.broker_killed += 1
            self._stopping.wait(self.chance.uniform(0.2, 10))
            self._broker.start()

    def _watch(self, agent: RealAgent, seconds: float) -> None:
        began = time.monotonic()
        while (at_s := time.monotonic() - began) < seconds:
            assert agent.process is not None
            assert agent.process.poll() is None, agent.log()
            self.looks.append(look(agent.process.pid, at_s, self.directory))
            print(
                *(f"{key} {value:.4g}" for key, value in vars(self.looks[-1]).items()), flush=True
            )
            self._stopping.wait(LOOK_S)

    def _end(self, agent: RealAgent, collector: CollectorProcess) -> dict[str, Any]:
        """Wait until the collector has all, stop the agent, and count."""
        deadline = time.monotonic() + DRAIN_S_MAX
        while outbox_rows(self.directory) >= DRAINED_ROWS and time.monotonic() < deadline:
            time.sleep(0.5)
        not_sent = outbox_rows(self.directory)
        last = status(self.directory)
        assert last is not None
        assert agent.stop() == 0, agent.log()
        with Reader(self.directory / "data") as reader:
            epoch, last_seq = reader.meta("epoch"), int(reader.meta("last_seq"))
            left = reader.waiting(0, last_seq)
        collector.end()
        with Collected(self.directory / "central", "plant") as collected:
            here = {seq for seq, _ in collected.messages(Source("gw-1", epoch))}
        missing = last_seq - len(here | set(left))
        log_kb = len(agent.log()) / 1000
        more = {"agent_log_kb": round(log_kb, 1), "outbox_rows_at_the_end": not_sent}
        return self._report(last, last_seq, missing) | more | {"uplink": last["uplink"]}

    def _report(self, last: dict[str, Any], last_seq: int, missing: int) -> dict[str, Any]:
        steady = self.looks[int(WARM_UP_SHARE * len(self.looks)) :]
        slope, error = fitted([one.at_s / 3600 for one in steady], [one.rss_mb for one in steady])
        hours = (steady[-1].at_s - steady[0].at_s) / 3600
        return {
            "streams": self.streams,
            "lines_per_s": self.rate * self.streams,
            "minutes": round(self.looks[-1].at_s / 60, 1),
            "lines_written": sum(plugged.written for plugged in self._lines),
            "lines_not_taken": sum(plugged.not_taken for plugged in self._lines),
            "samples": sum(one["counters"]["samples"] for one in last["streams"].values()),
            "ports_pulled": self.pulled,
            "broker_killed": self.broker_killed,
            "messages": last_seq,
            "messages_missing": missing,
            "evicted": last["store"]["evicted"],
            "lines_dropped": last["counters"]["lines_dropped"],
            "rss_mb_first": self.looks[0].rss_mb,
            "rss_mb_warm": steady[0].rss_mb,
            "rss_mb_last": steady[-1].rss_mb,
            "rss_mb_max": max(one.rss_mb for one in steady),
            "rss_slope_mb_per_h": round(slope, 3),
            "rss_slope_error_mb_per_h": round(error, 3),
            "rss_growth_mb": round(slope * hours, 3),
            "files_open": [steady[0].files, max(one.files for one in steady), steady[-1].files],
            "threads": [steady[0].threads, max(one.threads for one in steady), steady[-1].threads],
            "store_mb_max": max(one.store_mb for one in self.looks),
            "outbox_rows_max": max(one.outbox_rows for one in self.looks),
            "loop": last["loop"],
            "latency": last["latency"],
        }


def cycle() -> list[bytes]:
    """Lines of a pump with faults, without their times."""
    faults = [
        Fault("cavitation", 200.0, 30.0),
        Fault("stuck_sensor", 500.0, 60.0),
        Fault("blocked_valve", 800.0, 40.0),
        Fault("loss_of_signal", 1000.0, 20.0),
    ]
    rows = Pump(15, faults).run(CYCLE_ROWS)
    return [csv_line(0.0, row).split(",", 1)[1].encode() for row in rows]


def status(directory: Path) -> dict[str, Any] | None:
    with Reader(directory / "data") as reader:
        try:
            return reader.status()
        except StoreError:  # not yet
            return None


def outbox_rows(directory: Path) -> int:
    with Reader(directory / "data") as reader:
        return reader.outbox_rows()


def look(pid: int, at_s: float, directory: Path) -> Look:
    process = Path(f"/proc/{pid}")
    said = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    sizes = [file.stat().st_size for file in (directory / "data").iterdir()]
    return Look(
        at_s,
        int(said["VmRSS"].split()[0]) / 1024,
        len(list((process / "fd").iterdir())),
        int(said["Threads"]),
        outbox_rows(directory),
        sum(sizes) / 2**20,
    )


def fitted(hours: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope of the line of least squares, and its standard error as if looks were independent."""
    x, y = np.array(hours), np.array(values)
    x = x - x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    return slope, float(np.sqrt((rest @ rest) / max(1, len(x) - 2) / (x * x).sum()))


def faults_found(report: dict[str, Any]) -> Iterator[str]:
    """What is not as it has to be."""
    if report["messages_missing"]:
        yield f"{report['messages_missing']} messages are missing at the collector"
    if report["outbox_rows_at_the_end"] >= DRAINED_ROWS:
        yield f"the outbox did not drain: {report['outbox_rows_at_the_end']} messages"
    if sum(report["evicted"].values()):
        yield f"evicted: {report['evicted']}"
    if report["lines_dropped"]:
        yield f"{report['lines_dropped']} lines dropped: the loop did not keep up"
    if report["rss_growth_mb"] > GROWTH_MB_MAX:
        yield f"memory grew by {report['rss_growth_mb']} MB"
    if report["store_mb_max"] > STORE_MB_MAX + LOG_MB_MAX:
        yield f"the store took {report['store_mb_max']} MB"
    for name in ("files_open", "threads"):
        first, _, last = report[name]
        if last > first + 6:  # links that are down or up just now make some difference
            yield f"{name}: {first} became {last}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--rate", type=float, default=160.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--json", type=Path, help="the report with all looks, also into this file")
    arguments = parser.parse_args()
    print("seed", arguments.seed, flush=True)
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), arguments.streams, arguments.rate, random.Random(arguments.seed))
        report = {"seed": arguments.seed} | soak.run(60 * arguments.minutes)
    print(json.dumps(report, indent=2))
    if arguments.json:
        looks = [vars(one) for one in soak.looks]
        arguments.json.write_text(json.dumps(report | {"looks": looks}, indent=2))
    wrong = list(faults_found(report))
    print("\n".join(wrong) or "all within bounds")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
