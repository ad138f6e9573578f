"""How cost grows: with streams, their rate, the history, the outbox and the ring; as curves.

python -m tests.bench.scale [--quick] [--json FILE] [--figure FILE]

CPU time, the best of some repeats. An exponent of 0 is flat, of 1 linear: the slope between the
ends of a curve on logarithmic axes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.bench.bundle import bench_bundle
from agent.bench.lines import Lines
from agent.bench.new_store import GATEWAY, SITE, new_store
from agent.bench.rig import Plan, Run, run_from_memory
from agent.config.broker import MqttTable
from agent.demo.broker import Broker
from agent.store.batch import Batch
from agent.store.migrations import RECORDS
from agent.store.reader import Reader
from agent.store.record import INSERT, Outgoing, Record
from agent.store.writer import Store
from models.bundle import Bundle
from models.messages import ALL, Samples
from models.pipeline import Pipeline
from models.times import iso_time

CHANNELS = 8
REPEATS = 3


@dataclass
class Curve:
    """One figure's growth with one size."""

    name: str
    unit: str
    over: str
    should: str
    sizes: list[float] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)

    def add(self, size: float, figure: float) -> None:
        self.sizes.append(size)
        self.figures.append(figure)

    @property
    def exponent(self) -> float:
        ends = math.log(self.figures[-1] / self.figures[0])
        return ends / math.log(self.sizes[-1] / self.sizes[0])


def streams(quick: bool) -> Iterator[Curve]:
    cost = Curve("as fast as it goes", "µs of CPU per reading", "streams", "falling")
    slow = Curve("a line a second each", "µs of CPU per reading", "streams", "falling")
    memory = Curve("memory", "MB", "streams", "linear above the program's own")
    for count in (1, 64) if quick else (1, 4, 16, 64, 256, 1000):
        run = _run(count, 0.0, 1.0 if quick else 4.0)
        cost.add(count, _us(run))
        memory.add(count, run.meter.rss_mb)
        slow.add(count, _us(_run(count, 1.0, 3.0 if quick else 8.0)))
    yield from (cost, slow, memory)


def rates(quick: bool) -> Iterator[Curve]:
    cost = Curve("64 streams", "µs of CPU per reading", "lines per second and stream", "falling")
    for rate in (1.0, 20.0) if quick else (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0):
        cost.add(rate, _us(_run(64, rate, 3.0 if quick else 8.0)))
    yield cost


def _us(run: Run) -> float:
    return 1e6 * run.agent_s / (run.lines * CHANNELS)


def _run(count: int, rate: float, seconds: float) -> Run:
    bundle = bench_bundle((80, 80), CHANNELS)
    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        settings = {"host": "127.0.0.1", "port": broker.port, "protocol": broker.protocol}
        mqtt = MqttTable.model_validate(settings)
        lines = Lines(bundle.manifest, count)
        plan = Plan(bundle, Pipeline(bundle), lines, count, rate, mqtt)
        return run_from_memory(plan, Path(name) / "store", seconds)


def history(quick: bool) -> Iterator[Curve]:
    score = Curve("scoring", "µs of CPU per sample, 64 streams", "history, samples", "flat")
    saved = Curve("saved state", "kB per stream", "history, samples", "linear")
    for size in (500, 4000) if quick else (500, 2000, 8000, 20_000, 50_000):
        us, kilobytes = _with_history(size, 100 if quick else 300)
        score.add(size, us)
        saved.add(size, kilobytes)
    yield from (score, saved)


def _with_history(samples: int, rows: int) -> tuple[float, float]:
    """Return what a sample costs once the history is full, and what a stream then saves."""
    bundle = bench_bundle((80, 80), CHANNELS)
    threshold = bundle.manifest.threshold.model_copy(update={"history_samples": samples})
    manifest = bundle.manifest.model_copy(update={"threshold": threshold})
    pipeline = Pipeline(Bundle(manifest, manifest.to_bytes(), dict(bundle.parts), None, "scale"))
    count, total = 64, samples + 100 + (REPEATS + 1) * rows
    times = np.tile(np.arange(total)[:, None] * manifest.sampling.period_s, count)
    center, scale = np.array([[one.center, one.scale] for one in manifest.channels]).T
    noise = np.random.default_rng(1).normal(0, 0.3, (rows, count, CHANNELS))
    values = (center + noise * scale).astype(np.float32)
    memory, at = pipeline.start(count), 0

    def step(size: int) -> None:
        nonlocal at
        pipeline.step_together(memory, ALL, times[at : at + size], values[:size])
        at += size

    while at < samples + 100:
        step(min(rows, samples + 100 - at))
    spent = best_s(lambda: [step(1) for _ in range(rows)])
    saved = sum(map(len, pipeline.changed_parts(memory, 0).values()))
    return spent / rows / count * 1e6, saved / 1000


def outbox(quick: bool) -> Iterator[Curve]:
    commit = Curve("commit of 10 messages", "ms", "outbox, rows", "flat")
    read = Curve("next 100 for the uplink", "ms", "outbox, rows", "flat")
    start = Curve("opening at the start", "ms", "outbox, rows", "linear: it is checked")
    for rows in (1000, 30_000) if quick else (1000, 30_000, 300_000, 5_000_000):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name) / "store"
            new_store(directory)
            _fill_outbox(directory / RECORDS, rows)
            store = Store(directory, SITE, GATEWAY, 10**8, 10**8)
            began = time.process_time()
            store.open()
            start.add(rows, 1000 * (time.process_time() - began))
            seq = itertools.count(1)

            def write(store: Store = store, seq: Iterator[int] = seq) -> None:
                messages = [Outgoing("health", None, 0.0, {"n": n}) for n in range(10)]
                acked = [next(seq) for _ in range(10)]
                store.commit(Batch(messages=messages, acked=acked), "synced")

            write()
            commit.add(rows, 1000 * best_s(lambda write=write: repeat(write, 20)) / 20)
            with Reader(directory) as reader:
                look = lambda reader=reader: reader.outbox(["summary"], 200, 100)  # noqa: E731
                look()
                read.add(rows, 1000 * best_s(lambda look=look: repeat(look, 20)) / 20)
            store.close()
    yield from (commit, read, start)


def _fill_outbox(path: Path, rows: int) -> None:
    connection = sqlite3.connect(path)
    data = b'{"text":"%s"}' % (b"x" * 400)
    with connection:
        connection.executemany(
            INSERT,
            (
                Record(seq, "summary", f"s{seq % 10}", iso_time(0.0), "synced", None, None, data)
                for seq in range(1, rows + 1)
            ),
        )
        connection.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", [rows])
    connection.close()


def ring(quick: bool) -> Iterator[Curve]:
    commit = Curve("commit of 64 × 5 samples", "ms", "ring, samples", "flat")
    newest = Curve("newest 1,000 of a stream", "ms", "ring, samples", "flat")
    size = Curve("on disk", "MB", "ring, samples", "linear")
    for samples in (2000, 20_000) if quick else (2000, 20_000, 200_000, 1_000_000):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name) / "store"
            new_store(directory)
            store = Store(directory, SITE, GATEWAY, 1000, samples)
            store.open()
            write = _samples_writer(store)
            repeat(write, 2 + samples // 320)
            commit.add(samples, 1000 * best_s(lambda write=write: repeat(write, 20)) / 20)
            with Reader(directory) as reader:
                look = lambda reader=reader: reader.newest_samples("s1", 1000)  # noqa: E731
                look()
                newest.add(samples, 1000 * best_s(look))
            store.close()
            size.add(samples, sum(file.stat().st_size for file in directory.iterdir()) / 1e6)
    yield from (commit, newest, size)


def _samples_writer(store: Store) -> Callable[[], None]:
    times, values = np.arange(5.0), np.ones((5, CHANNELS), np.float32)
    part = (Samples(times, values), np.ones(5, np.float32))
    return lambda: store.commit(Batch(samples=[(f"s{n}", *part) for n in range(64)]), "synced")


def repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def best_s(run: Callable[[], object]) -> float:
    spent = []
    for _ in range(REPEATS):
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)
    return min(spent)


def draw(curves: Sequence[Curve], path: Path) -> None:
    from matplotlib.figure import Figure

    from trainer.drawing import MODEL, style, svg

    with style():
        columns = 3
        rows = -(-len(curves) // columns)
        figure = Figure(figsize=(9, 2.2 * rows), layout="constrained")
        for number, curve in enumerate(curves, 1):
            axes = figure.add_subplot(rows, columns, number)
            axes.loglog(curve.sizes, curve.figures, "o-", color=MODEL, markersize=3)
            axes.set_title(f"{curve.name} ({curve.exponent:+.2f})", fontsize=9)
            axes.set_xlabel(curve.over)
            axes.set_ylabel(curve.unit, fontsize=7)
            axes.set_ylim(min(curve.figures) / 3, max(curve.figures) * 3)
        path.write_bytes(svg(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few and small sizes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    curves = []
    for measure in (streams, rates, history, outbox, ring):
        for curve in measure(arguments.quick):
            curves.append(curve)
            pairs = zip(curve.sizes, curve.figures, strict=True)
            points = ", ".join(f"{size:g}: {figure:.3g}" for size, figure in pairs)
            print(f"{curve.name} [{curve.unit}] over {curve.over}", flush=True)
            print(f"  {points}; exponent {curve.exponent:+.2f}, should be {curve.should}")
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(curve) for curve in curves], indent=2))
    if arguments.figure:
        draw(curves, arguments.figure)


if __name__ == "__main__":
    main()
