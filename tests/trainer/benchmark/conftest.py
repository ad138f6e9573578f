"""Outcomes as a run leaves them, without a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from models.messages import Float32, Float64
from trainer.benchmark.counts import Alarm, Span
from trainer.benchmark.outcome import DETECTORS, Curve, Judged, Outcome

STEPS = 8640

MakeOutcome = Callable[..., Outcome]


LABEL, ELSEWHERE = (500, 700), (4000, 4100)


def judged(*alarms: Alarm, vus_pr: float | None = None, model_bytes: int = 68_000) -> Judged:
    return Judged(alarms=list(alarms), vus_pr=vus_pr, model_bytes=model_bytes, us_per_sample=31.25)


def alarm(onset: int, closed: int, opened: int | None = None, kind: str = "anomaly") -> Alarm:
    return Alarm(kind, onset, onset if opened is None else opened, closed)


@pytest.fixture
def make_outcome() -> MakeOutcome:
    def make(
        name: str,
        key: str = "k",
        quantized: Judged | None = None,
        rows: Sequence[Sequence[Span]] = ((LABEL,),),
    ) -> Outcome:
        plain = judged(alarm(510, 720, 515), alarm(*ELSEWHERE), vus_pr=0.5)
        return Outcome(
            name=name,
            key=key,
            steps=STEPS,
            rows=[list(row) for row in rows],
            quantization="float16",
            detectors=dict.fromkeys(DETECTORS, plain) | {"quantized": quantized or plain},
        )

    return make


@pytest.fixture
def curves() -> list[Curve]:
    random = np.random.default_rng(5)

    def noise() -> Float32:
        return random.normal(0, 1, STEPS).astype(np.float32)

    errors = np.abs(noise())
    errors[:200] = np.nan  # the warm-up
    limit = np.full(STEPS, 5, np.float32)
    return [Curve("telemetry", row, noise(), noise(), errors, limit) for row in ("a", "b")]


SKAB_HEADER = (
    "datetime;Accelerometer1RMS;Accelerometer2RMS;Current;Pressure;Temperature;Thermocouple;"
    "Voltage;Volume Flow RateRMS;anomaly;changepoint"
)


def write_nasa(directory: Path, names: Sequence[str], train: int, test: int) -> None:
    """Channels with one command; in the last quarter of each test array a labelled shift."""
    for part in ("train", "test"):
        (directory / part).mkdir(parents=True)
    start, end = test * 3 // 4, test * 3 // 4 + 99
    lines = ["chan_id,spacecraft,anomaly_sequences,class,num_values"]
    for seed, name in enumerate(names):
        for part, steps in (("train", train), ("test", test)):
            values = _telemetry(steps, seed)
            if part == "test":
                values[start : end + 1, 0] += 3.0
            np.save(directory / part / f"{name}.npy", values)
        lines.append(f'{name},SMAP,"[[{start}, {end}]]",[point],{test}')
    (directory / "labeled_anomalies.csv").write_text("\n".join(lines) + "\n")


def _telemetry(steps: int, seed: int) -> Float64:
    random = np.random.default_rng([seed, steps])
    command = np.arange(steps) // 20 % 2
    value = 0.5 * command + 0.3 * np.sin(np.arange(steps) / 7) + random.normal(0, 0.02, steps)
    return np.stack([value, command], axis=1)


def write_skab(path: Path, rows: int, anomaly: range) -> None:
    """A file of eight noisy sensors; the rows of ``anomaly`` are labelled and shifted."""
    random = np.random.default_rng(rows)
    lines = [SKAB_HEADER]
    for row in range(rows):
        flag = row in anomaly
        values = random.normal(3.0 * flag, 0.1, 8) + np.sin(row / 9)
        cells = ";".join(f"{value:.4f}" for value in values)
        time = f"2020-03-09 {10 + row // 3600}:{row // 60 % 60:02d}:{row % 60:02d}"
        lines.append(f"{time};{cells};{float(flag)};0.0")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_ims(directory: Path, records: int) -> None:
    """Test 2 with two bearings; in the last quarter the first one shakes more."""
    random = np.random.default_rng(records)
    lines = [",Datetime,Bearing 1,Bearing 2"]
    for record in range(records):
        first, second = random.normal([0.3 * (record >= records * 3 // 4), 0.0], 0.01) + 0.1
        at = f"2004.02.{12 + record // 144:02d}.{record // 6 % 24:02d}.{record % 6 * 10:02d}.39"
        lines.append(f"{record},{at},{first:.4f},{second:.4f}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "2nd_test.csv").write_text("\n".join(lines) + "\n")


def write_cmapss(directory: Path, lives: Sequence[int]) -> None:
    """Engines whose sensors drift away in the last 40 cycles."""
    random = np.random.default_rng(len(lives))
    lines = []
    for engine, life in enumerate(lives, 1):
        for cycle in range(1, life + 1):
            drift = max(0, cycle - life + 40) / 4
            values = random.normal(100 + drift, 0.1, 24)
            lines.append(f"{engine} {cycle} " + " ".join(f"{value:.3f}" for value in values))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "train_FD001.txt").write_text("\n".join(lines) + "\n")


def write_engines(directory: Path) -> None:
    """Engines to their failure and before it, with the cycles left of the latter."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    lives = random.integers(130, 300, 30).tolist()
    _write_wear(directory / "train_FD001.txt", lives, lives, seed=2)
    lives = random.integers(130, 300, 20).tolist()
    left = random.integers(5, 120, 20).tolist()
    cycles = [life - rest for life, rest in zip(lives, left, strict=True)]
    _write_wear(directory / "test_FD001.txt", lives, cycles, seed=3)
    (directory / "RUL_FD001.txt").write_text("RUL\n" + "\n".join(map(str, left)) + "\n")


def _write_wear(path: Path, lives: list[int], cycles: list[int], seed: int) -> None:
    """One sensor wears with the cycles left, one never moves, the others say nothing."""
    random = np.random.default_rng(seed)
    lines = []
    for engine, (life, until) in enumerate(zip(lives, cycles, strict=True), 1):
        for cycle in range(1, until + 1):
            sensors = random.normal(100, 1, 21)
            sensors[6] = 500 + 40 / (1 + math.exp((life - cycle) / 30)) + random.normal(0, 0.1)
            sensors[3] = 518.67
            cells = " ".join(f"{value:.4f}" for value in (0.0, 0.0, 100.0, *sensors))
            lines.append(f"{engine} {cycle} {cells}")
    path.write_text("\n".join(lines) + "\n")
