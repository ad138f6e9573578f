"""A fleet of real recordings on two workers of Dask: SMAP's channels and SKAB's test bed.

    python -m tests.bench.fleet proof --data DIR      a worker is killed midway, one stream has
                                                      unusable data: all others are registered, the
                                                      failure is named, a second run does the rest
    python -m tests.bench.fleet overhead --data DIR   batch over bare training, in processor time
    python -m tests.bench.fleet shared --data DIR     one network for all channels and one for each,
                                                      by --seeds, with mean and spread

The recordings are written anew in a folder of their own, with times, as theirs have none.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from math import nan
from pathlib import Path
from statistics import mean, median

import numpy as np
from distributed import Client

from models.messages import Float32
from models.times import iso_time
from tests.conftest import ROOT, wait_until
from trainer import train
from trainer.datasets import nasa, skab
from trainer.fleet import config, summary
from trainer.fleet.run import Options, Run, Training, document
from trainer.workers import Finished

BEGIN_S = 1_700_000_000.0
PERIOD_S = 60.0
ROWS_MIN = 2500
SPREAD_MIN = 0.05
PAIRS = 2  # of turns, after the one that warms up
FIGURES: dict[str, Callable[[summary.Compared], float]] = {
    "F1": lambda found: nan if found.f1 is None else found.f1,
    "KiB of networks": lambda found: found.network_bytes / 1024,
    "minutes of training": lambda found: found.seconds / 60,
}

SETTINGS = """
[fleet]
jobs = 2
[defaults.data]
labels_margin_samples = 0
[registry]
[defaults.sampling]
warm_up_samples = 50
[defaults.split]
train = 0.44
calibrate = 0.43
test = 0.13
repeated_samples_max = 100000 # the recordings repeat themselves
[defaults.network]
layers = [16]
[defaults.fit]
epochs = {epochs}
chunk_samples = 50
batch = 16
[defaults.smoothing]
spans_samples = [5, 105]
[defaults.parity]
quantizations = ["dynamic-range-int8"]
quantization_tolerance = 1000
[defaults.gates]
events_per_day_max = 1e6
tail_factor_max = 1e6
"""


def write(
    path: Path, values: Float32, begin_s: float, period_s: float, names: Sequence[str]
) -> None:
    times = begin_s + np.arange(len(values)) * period_s
    np.savez(path, time=times, **{name: values[:, at] for at, name in enumerate(names)})


def write_labels(
    path: Path, spans: Sequence[tuple[int, int]], begin_s: float, period_s: float
) -> None:
    rows = [
        f"{iso_time(begin_s + first * period_s)},{iso_time(begin_s + last * period_s)},fault"
        for first, last in spans
    ]
    path.write_text("\n".join(["start,end,kind", *rows]) + "\n")


def chosen(data: Path, count: int) -> list[nasa.NasaChannel]:
    """Return the first channels that are long enough, and that move."""
    found = []
    for name in nasa.names(data / "nasa_smap"):
        channel = nasa.read(data / "nasa_smap", name)
        enough = len(channel.train) >= ROWS_MIN and channel.train[:1000, 0].std() > SPREAD_MIN
        if enough and channel.label_rows:
            found.append(channel)
        if len(found) == count:
            return found
    raise SystemExit(f"{data}: only {len(found)} channels have {ROWS_MIN} rows")


def smap(work: Path, channel: nasa.NasaChannel, of_type: str | None) -> str:
    """Write a channel; return its table of the fleet."""
    names = ["telemetry", *(f"command_{at}" for at in range(1, channel.train.shape[1]))]
    write(work / f"{channel.name}.npz", channel.train, BEGIN_S, PERIOD_S, names)
    after_s = BEGIN_S + (len(channel.train) + 1000) * PERIOD_S
    write(work / f"{channel.name}.test.npz", channel.test, after_s, PERIOD_S, names)
    spans = sorted({span for row in channel.label_rows for span in row})
    write_labels(work / f"{channel.name}.test.labels.csv", spans, after_s, PERIOD_S)
    listed = ", ".join(
        f'{{ name = "{name}", scored = {str(not at).lower()} }}' for at, name in enumerate(names)
    )
    return f"""
[streams.{channel.name}]
{"" if of_type is None else f'type = "{of_type}"'}
sampling.period_s = {PERIOD_S}
data.files = ["{channel.name}.npz"]
data.channels = [{listed}]
evaluate.files = ["{channel.name}.test.npz"]
"""


def test_bed(work: Path, data: Path) -> str:
    """Write SKAB: its normal operation to train on, all its other files as labelled recordings."""
    begin_s, tables = BEGIN_S, []
    files = sorted(skab.files(data / "skab"))
    normal = skab.read(next((data / "skab" / "anomaly-free").glob("*.csv")))
    names = [name.replace(" ", "_") for name in normal.channels]
    write(work / "skab.npz", normal.values, begin_s, 1.0, names)
    for path in files:
        file = skab.read(path)
        if file.anomaly is None:
            continue
        begin_s += 100_000
        stem = f"skab-{path.parent.name}-{path.stem}"
        write(work / f"{stem}.npz", file.values, begin_s, 1.0, names)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], file.anomaly.astype(int), [0]])))
        spans = [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]
        write_labels(work / f"{stem}.labels.csv", spans, begin_s, 1.0)
        tables.append(f'"{stem}.npz"')
    listed = ", ".join(f'{{ name = "{name}" }}' for name in names)
    return f"""
[streams.skab]
sampling.period_s = 1.0
data.files = ["skab.npz"]
data.channels = [{listed}]
evaluate.files = [{", ".join(tables)}]
"""


BROKEN = """
[streams.broken]
sampling.period_s = 1.0
data.files = ["broken.parquet"]
data.channels = [{ name = "a" }]
"""


@contextmanager
def cluster(work: Path) -> Iterator[str]:
    """Run a scheduler with two workers; yield its address."""
    file = work / "scheduler.json"
    begun = []
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TF_NUM_INTRAOP_THREADS": "1",
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    }
    words = [
        ["scheduler", "--port", "0"],
        ["worker", "--nworkers", "2", "--nthreads", "1", "--memory-limit", "4GiB"],
    ]
    with (work / "dask.log").open("wb") as log:
        try:
            for one in words:
                command = [sys.executable, "-m", "dask", *one, "--scheduler-file", str(file)]
                begun.append(
                    subprocess.Popen(
                        [*command, "--no-dashboard"], env=environment, stdout=log, stderr=log
                    )
                )
                wait_until(file.exists, "the scheduler runs", 300)
            yield json.loads(file.read_text())["address"]
        finally:
            for process in reversed(begun):
                process.terminate()
            for process in begun:
                process.wait()


def kill_one(address: str) -> None:
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2)
        pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)
    print(f"killed a worker, process {pid}", flush=True)


def trained(path: Path, options: Options, kill_after: int | None = None) -> Run:
    """Train a fleet, print each end, and kill a worker after so many of them."""
    training = Training(config.read(path), options)
    ends = 0
    with closing(training.go()) as happenings:
        for happening in happenings:
            if isinstance(happening, Finished):
                ends += 1
                said = happening.error or getattr(happening.result, "state", "done")
                print(
                    f"{ends}/{training.total} {happening.name}: {said}".split("\n")[0], flush=True
                )
                if ends == kill_after and options.scheduler:
                    kill_one(options.scheduler)
    return training.run


def proof(data: Path, work: Path, count: int, epochs: int) -> bool:
    """Prove that a fleet survives; print streams per hour."""
    tables = [smap(work, channel, None) for channel in chosen(data, count)]
    (work / "broken.parquet").write_bytes(b"PAR1 truncated")
    path = work / "FLEET.toml"
    path.write_text(
        SETTINGS.format(epochs=epochs) + "".join([*tables, test_bed(work, data), BROKEN])
    )
    with cluster(work) as address:
        began = time.monotonic()
        run = trained(path, Options(scheduler=address), kill_after=3)
        hours = (time.monotonic() - began) / 3600
        for line in summary.lines(run):
            print(line)
        # "unchanged" is one whose worker was killed when its bundle was there already
        good = sorted(name for name, each in run.outcomes.items() if not each.is_bad)
        print(f"{len(good)} streams in {hours * 60:.1f} min: {len(good) / hours:.0f} per hour")
        again = trained(path, Options(scheduler=address))
    for line in summary.lines(again):
        print(line)
    (work / "proof.json").write_text(json.dumps([document(run), document(again)], indent=2))
    unchanged = sorted(name for name, each in again.outcomes.items() if each.state == "unchanged")
    registered = all(run.outcomes[name].registered for name in good)
    failed = sorted(run.bad) == sorted(again.bad) == ["broken"]
    whole = len(good) == count + 1 and good == unchanged
    print(
        f"all others registered: {registered}; the failure is named: {failed}; rest only: {whole}"
    )
    return registered and failed and whole


def bare(path: Path, output: Path) -> None:
    """Train each stream as ``fieldwatch-trainer train`` does, in one process."""
    for stream in config.read(path).streams.values():
        train.train(stream.file, output, None, lambda line: None)


def processor_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def overhead(data: Path, work: Path, count: int, epochs: int) -> bool:
    """Print what batch adds to bare training; the turns alternate, and the first pair warms up."""
    tables = [smap(work, channel, None) for channel in chosen(data, count)]
    settings = SETTINGS.format(epochs=epochs).replace("[registry]\n", "")
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}  # as workers have it
    ratios = []
    for turn in range(PAIRS + 1):
        path = work / f"FLEET-{turn}.toml"
        path.write_text(
            settings.replace("[fleet]", f'[fleet]\noutput = "fleet-{turn}"') + "".join(tables)
        )
        used, clock = zip(
            measured(lambda path=path, turn=turn: bare_apart(path, work / f"bare-{turn}")),
            measured(lambda path=path: trained(path, Options(jobs=1))),
            strict=True,
        )
        print(f"pair {turn}: bare, batch: {used} s of a processor, {clock} s", flush=True)
        ratios.append((used[1] / used[0], clock[1] / clock[0]))
    processor, wall = (median(ratio[at] for ratio in ratios[1:]) for at in (0, 1))
    print(
        f"batch over bare training, {count} streams: {processor:.3f} of the processor's time,"
        f" {wall:.3f} of the clock's"
    )
    return True


def bare_apart(path: Path, output: Path) -> None:
    """Train as ``bare`` does, in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=bare, args=(path, output))
    process.start()
    process.join()
    assert process.exitcode == 0


def measured(act: Callable[[], object]) -> tuple[float, float]:
    """Return the processor's and the clock's seconds of ``act`` and its processes."""
    both = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    before, began = sum(map(processor_s, both)), time.monotonic()
    act()
    return round(sum(map(processor_s, both)) - before, 1), round(time.monotonic() - began, 1)


def shared(data: Path, work: Path, count: int, epochs: int, seeds: Sequence[int]) -> bool:
    """Print one network for all channels beside one for each, by seed; then mean and spread."""
    tables = [smap(work, channel, "smap") for channel in chosen(data, count)]
    runs = [shared_once(work, "".join(tables), epochs, seed) for seed in seeds]
    found_by_run = [summary.comparison(run, "smap") for run in runs]
    for kind in found_by_run[0]:
        found = [each[kind] for each in found_by_run]
        for what, figure in FIGURES.items():
            values = [figure(each) for each in found]
            print(
                f"{kind}, {what}: mean {mean(values):.4g}, {min(values):.4g} to {max(values):.4g},"
                f" seeds {seeds}: {[round(value, 4) for value in values]}"
            )
    return all(run.passed for run in runs)


def shared_once(work: Path, tables: str, epochs: int, seed: int) -> Run:
    """Train the fleet with one seed; print and keep what came of it."""
    path = work / f"FLEET-{seed}.toml"
    settings = SETTINGS.format(epochs=epochs).replace("[fleet]", f'[fleet]\noutput = "seed-{seed}"')
    types = f"[types.smap]\ncompare = true\nfit.seed = {seed}\n"
    path.write_text(settings.replace("[registry]\n", "") + types + tables)
    run = trained(path, Options(jobs=2))
    for line in summary.lines(run):
        print(line)
    (work / f"shared-{seed}.json").write_text(json.dumps(document(run), indent=2))
    return run


def main() -> int:
    """Run one of the parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=("proof", "overhead", "shared"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="kept folder; default: a new one, removed")
    parser.add_argument("--channels", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of shared")
    given = parser.parse_args()
    parts: dict[str, Callable[[Path, Path, int, int], bool]] = {
        "proof": proof,
        "overhead": overhead,
        "shared": partial(shared, seeds=given.seeds),
    }
    with tempfile.TemporaryDirectory() as directory:
        work = given.work or Path(directory)
        work.mkdir(parents=True, exist_ok=True)
        return 0 if parts[given.part](given.data, work, given.channels, given.epochs) else 1


if __name__ == "__main__":
    sys.exit(main())
