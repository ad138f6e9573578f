"""What many alarms cost the real daemon, and how soon people see one and are answered.

    python -m tests.bench.alarms [--alarms 10000] [--seconds 60] [--rounds 50]

A flood: 100 streams of 5 channels, each beyond its high limit, then its low one, and so on, so that
each row ends the alarms of the row before. It prints JSON: the loop's largest lag and turn (ms),
the daemon's RSS and the database before and after (MB of 2^20 bytes), and what is in the store
afterwards. ``at_rest_kb`` is what the modules of the life cycle take when they are loaded, and
``points_10000_mb`` what 10,000 points take after a restart (tracemalloc). The times: from the
reading on a serial line to the alarm in ``alarms --follow --json`` (s), and of an acknowledgement,
by the command and by the socket alone (ms).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from agent.control.client import ask
from agent.store.reader import Reader
from models.errors import FieldwatchError, StoreError

STREAMS, CHANNELS = 100, 5
START_S = 60.0  # most for a start or a stop
WAIT_S = 60.0  # most for an event
MB = 2**20
PERIOD_S = 0.1  # of the serial line; a part of every time to the alarm
BASELINE = """
[streams.baseline]
period_s = {period_s}
history_entries = 20
warm_up_samples = 100000
"""
LIMITS = """
[[streams.limits]]
channel = "{name}"
high_critical = 10
low_critical = -10
off_delay_s = 0
"""
AT_REST = """
import gc, json, sys, tracemalloc
import agent.alarms.lifecycle, agent.config.load, agent.control.dispatch, agent.control.inbox
import agent.store.logbook
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
from agent.alarms.points import Points
from agent.alarms.handled import Handled
import agent.operating
points = Points({f"stream-{number}": Handled() for number in range(64)})
gc.collect()
print(tracemalloc.get_traced_memory()[0] - before)
"""
STORED = """
import gc, sys, tracemalloc
from agent.alarms.points import Points
from agent.handling.states import Standing
points = Points({})
for number in range(10_000):
    alarm = {"stream": f"s{number % 100}", "number": number + 1, "kind": "stuck", "state": "opened",
             "severity": "medium", "channels": [{"channel": f"c{number // 100}"}]}
    points.take(alarm, float(number))
_, standings = points.drain()
texts = {key: one.to_json() for key, one in standings.items()}
del points, standings
gc.collect()
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
points = Points({})
points.restore({(*key,): Standing.of(text) for key, text in texts.items()}, 0.0)
gc.collect()
print(tracemalloc.get_traced_memory()[0] - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alarms", type=int, default=10_000, help="a multiple of 500")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fieldwatch-alarms-") as name:
        document: dict[str, Any] = {"flood": flood(Path(name), arguments.alarms, arguments.seconds)}
    print(json.dumps(document, indent=2), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="fieldwatch-alarms-") as name:
        document["times"] = times(Path(name), arguments.rounds)
    document["points_10000_mb"] = round(_traced(STORED) / MB, 2)
    document["at_rest_kb"] = round(_traced(AT_REST) / 1024, 1)
    print(json.dumps(document, indent=2))


# ---- the flood


def flood(directory: Path, alarms: int, seconds: float) -> dict[str, Any]:
    """Raise ``alarms`` alarms, each of another point, in this time; return the figures."""
    rows = alarms // STREAMS // CHANNELS  # each row raises an alarm of each channel
    period_s, begun_s = seconds / rows, round(time.time())
    config = _flood_config(directory, period_s)
    files = [(directory / f"{number}.csv").open("a", buffering=1) for number in range(STREAMS)]
    with contextlib.ExitStack() as stack:
        for file in files:
            stack.enter_context(file)
        with running(config) as agent:
            _lines(files, 0, begun_s)
            _wait(lambda: _samples(config) >= STREAMS, "the first samples")
            before = _figures(directory, agent)
            begun = time.monotonic()
            for row in range(1, rows + 1):
                _lines(files, row, begun_s + row * period_s)
                time.sleep(max(0.0, begun + row * period_s - time.monotonic()))
            _wait(lambda: _raised(directory) == alarms, "all alarms")
            took_s = time.monotonic() - begun
            after = _figures(directory, agent)
            loop = ask(_socket(config), "state")["loop"]
        with running(config) as agent:
            again = _figures(directory, agent)
    return {
        "alarms": alarms,
        "took_s": round(took_s, 1),
        "loop": loop,
        "rss_mb": [before["rss_mb"], after["rss_mb"]],
        "rss_mb_after_restart": again["rss_mb"],
        "database_mb": [before["database_mb"], after["database_mb"]],
        "in_the_store": _stored(directory),
    }


def _flood_config(directory: Path, period_s: float) -> Path:
    names = [f"c{number}" for number in range(CHANNELS)]
    texts = ['[gateway]\nsite = "plant"\nname = "gw-1"\n[store]\ndirectory = "data"\n']
    texts.append('[mqtt]\nhost = "127.0.0.1"\nport = 1\n')  # nobody: the outbox keeps all
    for number in range(STREAMS):
        texts.append(f'[[streams]]\nname = "s{number}"\nsilent_after_s = 3600\n')
        texts += [LIMITS.format(name=name) for name in names]
        texts.append(BASELINE.format(period_s=period_s))
        texts += [f'[[streams.baseline.channels]]\nname = "{name}"\n' for name in names]
    columns = json.dumps(["time", *names])
    for number in range(STREAMS):
        texts.append(
            f'[[inputs]]\nname = "i{number}"\ntype = "file"\npath = "{number}.csv"\n'
            f'stream = "s{number}"\npoll_interval_s = 0.1\ncolumns = {columns}\n'
        )
    (directory / "data").mkdir()
    config = directory / "agent.toml"
    config.write_text("".join(texts))
    return config


def _lines(files: Sequence[Any], number: int, at: float) -> None:
    """Write a row of each stream: beyond the high limits, then the low ones, and so on."""
    value = 1 if number == 0 else 20 if number % 2 else -20
    line = ",".join([f"{at:.3f}", *[str(value)] * CHANNELS]) + "\n"
    for file in files:
        file.write(line)


def _figures(directory: Path, agent: subprocess.Popen[bytes]) -> dict[str, float]:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    (rss,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    size = sum(file.stat().st_size for file in (directory / "data").glob("fieldwatch.db*"))
    return {"rss_mb": round(int(rss) / 1024, 1), "database_mb": round(size / MB, 2)}


def _raised(directory: Path) -> int:
    with Reader(directory / "data") as reader:
        return sum(row["what"] == "raised" for _, row in reader.logbook_after(0, 10**6))


def _stored(directory: Path) -> dict[str, Any]:
    """Return what is in the store: alarms, rows of the logbook, points, and messages."""
    with Reader(directory / "data") as reader:
        rows = [row for _, row in reader.logbook_after(0, 10**6)]
        grouped = Counter(bool(row["grouped"]) for row in rows if row["what"] == "raised")
        return {
            "alarms": len(reader.alarms(10**6)),
            "rows": len(rows),
            "singly": grouped[False],
            "grouped": grouped[True],
            "announced": sum(row["announces"] for row in rows),
            "points": len(reader.standings()),
            "messages_waiting": reader.status()["store"]["outbox_rows"],
            "evicted": sum(reader.status()["store"]["evicted"].values()),
        }


# ---- what people wait for


def times(directory: Path, rounds: int) -> dict[str, Any]:
    """Raise and end an alarm again and again, and acknowledge it; return the times."""
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    config = _line_config(directory, os.ttyname(terminal))
    seen: list[float] = []
    commands: list[float] = []
    sockets: list[float] = []
    with running(config), _followed(config) as follow, _Device(controller) as device:
        _wait(lambda: _samples(config) > 0, "the first sample")
        for number in range(1, rounds + 1):
            begun = time.monotonic()
            device.value = 20
            _next(follow, number, "opened")
            seen.append(time.monotonic() - begun)
            commands.append(_timed_command(config, number))
            _ask(config, "alarm.unacknowledge", number)
            begun = time.monotonic()
            _ask(config, "alarm.acknowledge", number)
            sockets.append(time.monotonic() - begun)
            device.value = 1
            _next(follow, number, "closed")
    return {
        "reading_to_follow_s": _quantiles(seen, 1.0),
        "ack_command_ms": _quantiles(commands, 1e3),
        "ack_socket_ms": _quantiles(sockets, 1e3),
    }


class _Device:
    """A device that sends a value in each period: a sample ends when the next one begins."""

    def __init__(self, controller: int) -> None:
        self.value = 1
        self._controller, self._stopping = controller, threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            os.write(self._controller, b"%d\n" % self.value)


def _line_config(directory: Path, port: str) -> Path:
    (directory / "data").mkdir()
    config = directory / "agent.toml"
    config.write_text(
        '[gateway]\nsite = "plant"\nname = "gw-1"\n[store]\ndirectory = "data"\n'
        '[[streams]]\nname = "pump"\nsilent_after_s = 3600\n'
        '[[streams.limits]]\nchannel = "flow"\nhigh_critical = 10\noff_delay_s = 0\n'
        + BASELINE.format(period_s=PERIOD_S)
        + '[[streams.baseline.channels]]\nname = "flow"\n'
        f'[[inputs]]\nname = "line"\nport = "{port}"\nstream = "pump"\ncolumns = ["flow"]\n'
    )
    return config


@contextlib.contextmanager
def _followed(config: Path) -> Iterator[Iterator[dict[str, Any]]]:
    command = [*_AGENT, "alarms", "--follow", "--json", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield map(json.loads, process.stdout)
        process.kill()


def _next(follow: Iterator[dict[str, Any]], number: int, state: str) -> None:
    for news in follow:
        if news.get("number") == number and news["state"] == state:
            return


def _timed_command(config: Path, number: int) -> float:
    begun = time.monotonic()
    command = [*_AGENT, "alarms", "ack", f"pump#{number}", "--config", str(config)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _ask(config: Path, verb: str, number: int) -> None:
    with Reader(config.parent / "data") as reader:
        (standing,) = [one for one in reader.standings().values() if one.number == number]
    named = {"stream": "pump", "number": number, "revision": standing.revision}
    ask(_socket(config), verb, named)


def _quantiles(values: Sequence[float], factor: float) -> dict[str, float]:
    ranked = sorted(values)
    place = {"p50": 0.5, "p99": 0.99}
    return {
        name: round(ranked[math.ceil(share * len(ranked)) - 1] * factor, 3)
        for name, share in place.items()
    } | {"n": len(ranked)}


# ---- the agent

_AGENT = (sys.executable, "-m", "agent")


@contextlib.contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent; yield its process once it answers."""
    with (
        config.with_suffix(".log").open("ab") as log,
        subprocess.Popen([*_AGENT, "run", "--config", str(config)], stderr=log) as process,
    ):
        try:
            _wait(lambda: process.poll() is not None or _answers(config), "the agent", START_S)
            if process.poll() is not None:
                raise RuntimeError(config.with_suffix(".log").read_text())
            yield process
        finally:
            process.terminate()
            process.wait(START_S)


def _socket(config: Path) -> Path:
    return config.parent / "data" / "control.sock"


def _answers(config: Path) -> bool:
    try:
        return bool(ask(_socket(config), "state"))
    except FieldwatchError:
        return False


def _samples(config: Path) -> int:
    return int(ask(_socket(config), "state")["counters"].get("samples", 0))


def _wait(happened: Callable[[], bool], what: str, seconds_max: float = WAIT_S) -> None:
    deadline = time.monotonic() + seconds_max
    while True:
        with contextlib.suppress(StoreError):
            if happened():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.2)


def _traced(program: str, *arguments: str) -> int:
    made = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
    )
    return int(made.stdout)


if __name__ == "__main__":
    main()
