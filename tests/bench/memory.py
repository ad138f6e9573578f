"""Memory of the real daemon over time: streams on serial lines, the reference bundle, a broker.

python -m tests.bench.memory [--streams 10] [--rate 10] [--minutes 2] [--maps] [--json FILE]

MB are 2^20 bytes, of ``/proc/PID/smaps_rollup``. ``rss`` is what the goals speak of; ``pss``
counts what processes share by their number; of that, ``anon`` is the daemon's alone, and ``file``
can be read again from the disk. The slope is that of ``rss`` over the last three quarters of the
time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent.bench.bundle import REFERENCE_BUNDLE
from agent.bench.devices import Send, terminals
from agent.bench.lines import Lines
from agent.bench.new_store import GATEWAY, SITE, new_store
from agent.demo.broker import Broker
from agent.store.reader import Reader
from models import bundle as bundles
from models.formats.cells import TIME

_FIGURES = {"rss": "Rss:", "pss": "Pss:", "anon": "Pss_Anon:", "file": "Pss_File:"}
_WARM = 0.25  # of the time, before the slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--rate", type=float, default=10.0, help="lines per second and stream")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--maps", action="store_true", help="show what the memory belongs to")
    parser.add_argument("--json", type=Path, help="write to this file, and again with each figure")
    arguments = parser.parse_args()

    def show(document: dict[str, Any]) -> None:
        if arguments.json:
            arguments.json.write_text(json.dumps(document, indent=2))

    document = measure(
        arguments.streams, arguments.rate, 60 * arguments.minutes, arguments.maps, show
    )
    print(json.dumps(document, indent=2))


def measure(
    streams: int, rate: float, seconds: float, maps: bool, show: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        terminals(streams) as (ports, send),
        Broker(Path(name)) as broker,
    ):
        directory = Path(name)
        new_store(directory / "data")
        manifest = bundles.read(REFERENCE_BUNDLE).manifest
        config = directory / "agent.toml"
        config.write_text(_config(directory, broker, [TIME, *manifest.channel_names], ports))
        command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
        with (directory / "log").open("wb") as log:
            agent = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            document = _watch(agent, Lines(manifest, streams), streams, rate, seconds, send, show)
            with Reader(directory / "data") as reader:
                status = reader.status()
            document["scored"] = status["counters"]["scored"]
            document["lines_dropped"] = status["counters"]["lines_dropped"]
            if maps:
                document["maps_mb"] = by_file(agent.pid)
        except RuntimeError as error:
            raise RuntimeError((directory / "log").read_text()) from error
        finally:
            agent.terminate()
            agent.wait()
    return document


def _watch(
    agent: subprocess.Popen[bytes],
    lines: Lines,
    streams: int,
    rate: float,
    seconds: float,
    send: Send,
    show: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    document: dict[str, Any] = {"streams": streams, "rate": rate, "python": sys.version.split()[0]}
    rows: list[dict[str, float]] = []
    every_s = min(30.0, seconds / 12)
    began = time.monotonic()
    sent, look_s = 0, every_s
    while (now := time.monotonic() - began) < seconds:
        while sent < now * rate * streams:
            sample, stream = divmod(sent, streams)
            send(stream, lines.line(stream, sample))
            sent += 1
        if now >= look_s:
            if agent.poll() is not None:
                raise RuntimeError("the agent has ended")
            look_s += every_s
            rows.append({"s": round(now)} | figures(agent.pid))
            document |= {
                "slope_mb_per_h": slope(rows),
                "threads": len(list(Path(f"/proc/{agent.pid}/task").iterdir())),
                "rows": rows,
            }
            show(document)
        time.sleep(0.02)
    return document


def figures(pid: int) -> dict[str, float]:
    """Return the memory of a process, MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = {line.split()[0]: int(line.split()[1]) for line in text[1:]}
    return {name: round(found[key] / 1024, 2) for name, key in _FIGURES.items()}


def slope(rows: list[dict[str, float]]) -> float | None:
    """Return by how many MB an hour ``rss`` grows once it is warm."""
    warm = [row for row in rows if row["s"] >= _WARM * rows[-1]["s"]]
    if len(warm) < 3:
        return None
    per_s = np.polyfit([row["s"] for row in warm], [row["rss"] for row in warm], 1)[0]
    return round(3600 * float(per_s), 2)


def by_file(pid: int) -> dict[str, float]:
    """Return the resident MB of each mapped file, of the heap, and of what has no name."""
    sums: Counter[str] = Counter()
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            name = Path(words[5]).name if len(words) > 5 else "[anonymous]"
        elif words[0] == "Rss:":
            sums[name] += int(words[1])
    return {name: round(size / 1024, 2) for name, size in sums.most_common() if size > 100}


def _config(directory: Path, broker: Broker, columns: list[str], ports: list[str]) -> str:
    tables = [
        f'[gateway]\nsite = "{SITE}"\nname = "{GATEWAY}"',
        f'[store]\ndirectory = "{directory}/data"',
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nprotocol = "{broker.protocol}"',
    ]
    for number, port in enumerate(ports):
        tables += [
            f'[[streams]]\nname = "pump-{number}"\nbundle = "{REFERENCE_BUNDLE}"',
            f'[[inputs]]\nname = "line-{number}"\nstream = "pump-{number}"\nport = "{port}"\n'
            f"columns = {json.dumps(columns)}",
        ]
    return "\n\n".join(tables) + "\n"


if __name__ == "__main__":
    main()
