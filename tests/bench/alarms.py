"""What many alarms cost the real daemon, and how soon people see one and are answered.

    python -m tests.bench.alarms [--alarms 10000] [--seconds 60] [--rounds 50]

A flood: 100 streams, each of many channels that pass their limits one after the other. It prints
JSON: the loop's largest lag and turn (ms), the daemon's RSS and the database before and after (MB
of 2^20 bytes), and what is in the store afterwards. ``at_rest`` is what the modules of the life
cycle take when they are loaded, and ``points_mb`` what all points take after a restart
(tracemalloc). The times: from the reading on a serial line to the alarm in ``alarms --follow
--json`` (s), and of an acknowledgement, by the command and by the socket alone (ms).
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
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.control.client import ask
from agent.store.reader import Reader
from models.errors import FieldwatchError, StoreError

STREAMS = 100
START_S = 60.0  # most for a start or a stop
WAIT_S = 60.0  # most for an event
MB = 2**20
BASELINE = """
[streams.baseline]
period_s = {period_s}
history_entries = 20
warm_up_samples = 100000
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
from pathlib import Path
from agent.alarms.points import Points
from agent.store.reader import Reader
with Reader(Path(sys.argv[1])) as reader:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    points = Points({})
    points.restore(reader.standings(), 0.0)
    gc.collect()
    print(tracemalloc.get_traced_memory()[0] - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alarms", type=int, default=10_000, help="a multiple of 100")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fieldwatch-alarms-") as name:
        document = {"flood": flood(Path(name), arguments.alarms, arguments.seconds)}
    with tempfile.TemporaryDirectory(prefix="fieldwatch-alarms-") as name:
        document["times"] = times(Path(name), arguments.rounds)
    document["at_rest_kb"] = round(_traced(AT_REST) / 1024, 1)
    print(json.dumps(document, indent=2))


# ---- the flood


def flood(directory: Path, alarms: int, seconds: float) -> dict[str, Any]:
    """Raise ``alarms`` alarms, each of another point, in this time; return the figures."""
    channels = alarms // STREAMS
    period_s, begun_s = seconds / channels, round(time.time())
    config = _flood_config(directory, channels, period_s)
    files = [(directory / f"{number}.csv").open("a", buffering=1) for number in range(STREAMS)]
    with contextlib.ExitStack() as stack:
        for file in files:
            stack.enter_context(file)
        with running(config) as agent:
            _lines(files, channels, 0, begun_s, period_s)
            _wait(lambda: _samples(config) >= STREAMS, "the first samples")
            before = _figures(directory, agent)
            begun = time.monotonic()
            for raised in range(1, channels + 1):
                _lines(files, channels, raised, begun_s, period_s)
                time.sleep(max(0.0, begun + raised * period_s - time.monotonic()))
            _wait(lambda: _points(directory) == alarms, "all alarms")
            took_s = time.monotonic() - begun
            after = _figures(directory, agent)
            loop = ask(_socket(config), "state")["loop"]
        with running(config) as agent:
            again = _figures(directory, agent)
    stored = round(_traced(STORED, str(directory / "data")) / MB, 2)
    return {
        "alarms": alarms,
        "took_s": round(took_s, 1),
        "loop": loop,
        "rss_mb": [before["rss_mb"], after["rss_mb"]],
        "rss_mb_after_restart": again["rss_mb"],
        "database_mb": [before["database_mb"], after["database_mb"]],
        "points_mb": stored,
        "in_the_store": _stored(directory),
    }


def _flood_config(directory: Path, channels: int, period_s: float) -> Path:
    names = [f"c{number}" for number in range(channels)]
    texts = ['[gateway]\nsite = "plant"\nname = "gw-1"\n[store]\ndirectory = "data"\n']
    texts.append('[mqtt]\nhost = "127.0.0.1"\nport = 1\n')  # nobody: the outbox keeps all
    for number in range(STREAMS):
        texts.append(f'[[streams]]\nname = "s{number}"\nsilent_after_s = 3600\n')
        texts += [f'[[streams.limits]]\nchannel = "{name}"\nhigh_critical = 10\n' for name in names]
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


def _lines(
    files: Sequence[Any], channels: int, raised: int, begun_s: float, period_s: float
) -> None:
    """Write one row for each stream, with this many channels beyond their limits."""
    row = [f"{begun_s + raised * period_s:.3f}", *["20"] * raised, *["1"] * (channels - raised)]
    line = ",".join(row) + "\n"
    for file in files:
        file.write(line)


def _figures(directory: Path, agent: subprocess.Popen[bytes]) -> dict[str, float]:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    (rss,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    size = sum(file.stat().st_size for file in (directory / "data").glob("fieldwatch.db*"))
    return {"rss_mb": round(int(rss) / 1024, 1), "database_mb": round(size / MB, 2)}


def _points(directory: Path) -> int:
    with Reader(directory / "data") as reader:
        return sum(one.state == "UNACK" for one in reader.standings().values())


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
    with running(config), _followed(config) as follow:
        for number in range(1, rounds + 1):
            begun = time.monotonic()
            os.write(controller, b"20\n")
            _next(follow, number, "opened")
            seen.append(time.monotonic() - begun)
            commands.append(_timed_command(config, number))
            _ask(config, "alarm.unacknowledge", number)
            begun = time.monotonic()
            _ask(config, "alarm.acknowledge", number)
            sockets.append(time.monotonic() - begun)
            os.write(controller, b"1\n")
            _next(follow, number, "closed")
    return {
        "reading_to_follow_s": _quantiles(seen, 1.0),
        "ack_command_ms": _quantiles(commands, 1e3),
        "ack_socket_ms": _quantiles(sockets, 1e3),
    }


def _line_config(directory: Path, port: str) -> Path:
    (directory / "data").mkdir()
    config = directory / "agent.toml"
    config.write_text(
        '[gateway]\nsite = "plant"\nname = "gw-1"\n[store]\ndirectory = "data"\n'
        '[[streams]]\nname = "pump"\nsilent_after_s = 3600\n'
        '[[streams.limits]]\nchannel = "flow"\nhigh_critical = 10\noff_delay_s = 0\n'
        + BASELINE.format(period_s=0.1)
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
