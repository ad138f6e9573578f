"""A fleet of tiny machines, and a real scheduler of Dask with two workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from distributed import Client

from tests.conftest import ROOT, wait_until
from tests.trainer.conftest import machine, write_recording
from trainer.fleet import config
from trainer.fleet.run import Options, Run, Training
from trainer.workers import Started

FLEET = """
[fleet]
find = "data/{stream}.csv"
jobs = 1

[defaults.data]
channels = [{ name = "load" }, { name = "power", column = "P (kW)" }]
[registry]
[defaults.sampling]
period_s = 1.0
warm_up_samples = 20
[defaults.split]
train = 0.25
calibrate = 0.5
test = 0.25
[defaults.fit]
epochs = 1
chunk_samples = 25
[defaults.family]
name = "hampel"
[defaults.hampel]
history_samples = 200
[defaults.parity]
quantizations = ["float16"]
[defaults.gates]
events_per_day_max = 1e6
tail_factor_max = 1e6

[types.pump]
family.name = "telemanom"
hampel.history_samples = 1000
network.layers = [4]
smoothing.spans_samples = [10]
[streams.pump-1]
type = "pump"
[streams.pump-2]
type = "pump"
"""
BROKEN = "time,load,P (kW),supply\n1700000000,no number\n"
SAMPLES = 2200
PROFILER = "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"


def record(directory: Path, name: str, seed: int, samples: int = SAMPLES) -> None:
    """Write the recording of a machine."""
    times, values = machine(samples, seed)
    write_recording(directory / "data" / f"{name}.csv", times, values * (1 + seed / 4))


@dataclass
class Cluster:
    """A scheduler and its workers, as processes."""

    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)


@contextmanager
def running(directory: Path, workers: int, profiled: bool) -> Iterator[Cluster]:
    """Run a scheduler with some workers, which have Dask's profiler or not."""
    file = directory / "scheduler.json"
    begun: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *words, "--scheduler-file", str(file)]
        with (directory / "log").open("ab") as log:
            begun.append(
                subprocess.Popen(
                    [*command, "--no-dashboard"],
                    cwd=directory,
                    env=os.environ | {"PYTHONPATH": str(ROOT), PROFILER: str(profiled)},
                    stdout=log,
                    stderr=log,
                )
            )
        return begun[-1]

    try:
        start("scheduler", "--port", "0")
        # it is there before it is written
        wait_until(lambda: file.exists() and file.read_text().endswith("\n}"), "the scheduler", 120)
        found = Cluster(json.loads(file.read_text())["address"])
        for _ in range(workers):
            found.workers.append(start("worker", "--no-nanny", "--nthreads", "1"))
        with Client(found.address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=120)
        yield found
    finally:
        for process in begun:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("dask"), workers=2, profiled=False) as found:
        yield found


@dataclass(frozen=True)
class Trained:
    """A fleet that Dask has trained, although one of two workers was killed."""

    path: Path
    run: Run
    killed_at: float  # steady seconds
    cluster: Cluster

    @property
    def output(self) -> Path:
        return self.path.parent / "bundles"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Trained:
    directory = tmp_path_factory.mktemp("fleet")
    (directory / "data").mkdir()
    for seed, name in enumerate(("pump-1", "pump-2", "fan"), 1):
        record(directory, name, seed)
    (directory / "data" / "broken.csv").write_text(BROKEN)
    path = directory / "FLEET.toml"
    path.write_text(FLEET)
    training = Training(config.read(path), Options(scheduler=cluster.address))
    killed_at = _go_on_and_kill(training, cluster.workers[0].kill)
    return Trained(path, training.run, killed_at, cluster)


def _go_on_and_kill(training: Training, kill: Callable[[], None]) -> float:
    """Finish a training; kill a worker as soon as both have begun something."""
    begun, killed_at = 0, 0.0
    with closing(training.go()) as happenings:
        for happening in happenings:
            begun += isinstance(happening, Started)
            if begun == 2 and not killed_at:
                kill()
                killed_at = time.monotonic()
    return killed_at
