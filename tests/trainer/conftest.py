"""A tiny machine to train on: three channels, seconds of training, the whole way through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import bundle as bundles
from models.bundle import Bundle
from models.messages import Float32, Float64
from trainer import config, train
from trainer.config import ConfigFile
from trainer.train import Outcome

START_S = 1_700_000_000.0
NAMES = ("load", "power", "supply")

CONFIG = """
[bundle]
name = "tiny"

[data]
files = ["normal.csv"]

[[data.channels]]
name = "load"
unit = "kW"
low = -5.0
high = 5.0

[[data.channels]]
name = "power"
column = "P (kW)"

[[data.channels]]
name = "supply"
unit = "V"

[sampling]
period_s = 1.0
warm_up_samples = 20

[split]
train = 0.4
calibrate = 0.3
test = 0.3

[network]
layers = [8]

[fit]
epochs = 20
chunk_samples = 25
learning_rate = 0.02

[smoothing]
spans_samples = [10]

[forecast]
step_samples = 2
context_steps = 40
horizon_steps = 8
stride_steps = 4

[forecast.network]
patch_steps = 8
d_model = 8
num_heads = 2
layers = 1
feed_forward = 16

[forecast.fit]
epochs = 3
batch = 64
learning_rate = 0.003

[forecast.parity]
quantizations = ["dynamic-range-int8"]

[evaluate]
files = ["faulty.csv"]
"""

REMAINING = """
[remaining]
files = ["lives/*.csv"]
unit = "min"
unit_samples = 60
cap = 2
spans_samples = [10, 60]
"""


def machine(samples: int, seed: int) -> tuple[Float64, Float32]:
    """A load that comes and goes, a power that follows it, and a supply that never moves."""
    random = np.random.default_rng(seed)
    times = START_S + seed * 1e6 + np.arange(samples, dtype=np.float64)
    load = np.sin(np.arange(samples) / 9.0) + random.normal(0, 0.05, samples)
    power = 3.0 * np.sin((np.arange(samples) - 2) / 9.0) + 10 + random.normal(0, 0.1, samples)
    return times, np.stack([load, power, np.full(samples, 24.0)], axis=1).astype(np.float32)


def write_recording(path: Path, times: Float64, values: Float32) -> None:
    lines = ["time,load,P (kW),supply"]
    for time, row in zip(times, values, strict=True):
        cells = ["" if np.isnan(value) else f"{value:.5f}" for value in row]
        lines.append(",".join([f"{time:.3f}", *cells]))
    path.write_text("\n".join(lines) + "\n")


def write_lives(directory: Path) -> None:
    """Write recordings of machines until they fail: the power rises with the wear."""
    directory.mkdir()
    for seed in range(10, 16):
        times, values = machine(200 + 20 * (seed - 10), seed)
        left = np.arange(len(times) - 1, -1, -1)
        values[:, 1] += 8 * np.exp(-left / 30.0)
        write_recording(directory / f"{seed}.csv", times, values)


def spoil(path: Path) -> None:
    """Cut one row of a recording, and put a word into another."""
    lines = path.read_text().split("\n")
    lines[500] = lines[500].rpartition(",")[0]
    cells = lines[600].split(",")
    lines[600] = ",".join([cells[0], "overload", *cells[2:]])
    path.write_text("\n".join(lines))


@dataclass(frozen=True)
class Trained:
    """What one run of the trainer left, and what it said on the way."""

    file: ConfigFile
    outcome: Outcome
    said: list[str]

    @property
    def path(self) -> Path:
        return self.outcome.path

    @property
    def bundle(self) -> Bundle:
        return bundles.read(self.path)

    def altered(self, path: Path, **metrics: Any) -> Path:
        """Write the bundle with a lower threshold, and with metrics as they are or changed."""
        manifest = self.bundle.telemanom
        floor = [value / 20 for value in manifest.threshold.floor]
        threshold = manifest.threshold.model_copy(update={"floor": floor})
        changes = {"threshold": threshold, "metrics": manifest.metrics | metrics}
        bundles.write(path, manifest.model_copy(update=changes), self.bundle.parts, None)
        return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("tiny")
    write_recording(directory / "normal.csv", *machine(4000, seed=1))
    spoil(directory / "normal.csv")
    times, values = machine(600, seed=2)
    values[300:360, 1] += 4.0
    write_recording(directory / "faulty.csv", times, values)
    (directory / "faulty.labels.csv").write_text(
        f"start,end,kind\n{times[300]},{times[359]},overload\n"
    )
    write_lives(directory / "lives")
    (directory / "tiny.toml").write_text(CONFIG + REMAINING)
    file = config.read(directory / "tiny.toml")
    said: list[str] = []
    return Trained(file, train.train(file, directory / "made", None, said.append), said)
