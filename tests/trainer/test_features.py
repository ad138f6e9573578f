"""A bundle with signal features: trained on raw recordings, replayed by the gateway's code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.commands.replay import replay
from models import bundle as bundles
from models.manifest import Feature
from tests.trainer.conftest import START_S
from trainer import config, evaluate, prepare, seal, train
from trainer.datasets.recordings import read_recording

RATE_HZ = 20
CONFIG = """
[bundle]
name = "signal"

[data]
files = ["normal.csv"]

[[data.channels]]
name = "load"
unit = "kW"

[[data.channels]]
name = "loudness"
unit = "g"
feature = { source = "noise", kind = "rms" }

[[data.channels]]
name = "hum"
unit = "g2"
feature = { source = "noise", kind = "band_energy", low_hz = 2.0, high_hz = 6.0 }

[[data.sources]]
name = "noise"
unit = "g"
low = -50.0
high = 50.0
rate_hz = 20.0
window_samples = 40

[sampling]
period_s = 1.0
gap = "interpolate"
warm_up_samples = 20

[split]
train = 0.4
calibrate = 0.3
test = 0.3

[network]
layers = [8]

[fit]
epochs = 5
chunk_samples = 25
learning_rate = 0.02

[smoothing]
spans_samples = [10]

[parity]
quantizations = ["dynamic-range-int8"]
"""


def write_recording(path: Path, seconds: int, seed: int, loud: slice = slice(0)) -> None:
    """A load once a second, and a hum at 4 Hz that follows it, in noise, twenty times a second."""
    random = np.random.default_rng(seed)
    times = START_S + seed * 1e6 + np.arange(seconds * RATE_HZ) / RATE_HZ
    load = 2 + np.sin(times / 9.0)
    noise = load * np.sin(2 * np.pi * 4 * times) + random.normal(0, 0.2, len(times))
    noise[loud] *= 6
    lines = ["time,load,noise"]
    for row, (time, value) in enumerate(zip(times, noise, strict=True)):
        cell = f"{load[row] + random.normal(0, 0.05):.4f}" if row % RATE_HZ == 0 else ""
        if row % 997 != 5:  # one in a while is lost
            lines.append(f"{time:.3f},{cell},{value:.5f}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("signal")
    write_recording(made / "normal.csv", 3800, seed=1)
    write_recording(made / "faulty.csv", 400, seed=2, loud=slice(200 * RATE_HZ, 300 * RATE_HZ))
    (made / "signal.toml").write_text(CONFIG)
    return made


@pytest.fixture(scope="module")
def said(directory: Path) -> list[str]:
    lines: list[str] = []
    train.train(config.read(directory / "signal.toml"), directory, None, lines.append)
    return lines


def test_the_bundle_has_what_the_figures_are_made_of(directory: Path, said: list[str]) -> None:
    manifest = bundles.read(directory / "signal.fieldwatch").manifest
    assert [channel.feature for channel in manifest.channels] == [
        None,
        Feature(source="noise", kind="rms"),
        Feature(source="noise", kind="band_energy", low_hz=2.0, high_hz=6.0),
    ]
    assert [channel.name for channel in manifest.source_channels] == ["load", "noise"]
    assert manifest.source_channels[1].high == manifest.sources[0].high == 50.0
    assert manifest.sampling.gap == "interpolate"
    rms, power = (manifest.channels[at].center for at in (1, 2))
    assert rms == pytest.approx(2 / np.sqrt(2), rel=0.1)
    assert power == pytest.approx(rms**2, rel=0.15)
    report = (directory / "signal.report.html").read_text()
    for told in ("Signal features", "band energy, 2 to 6 Hz", "40 (2 s)", "10 %"):
        assert told in report
    assert "2 windows short" in said


def test_a_gateway_makes_the_same_samples_and_finds_the_fault(
    directory: Path, said: list[str]
) -> None:
    bundle, faulty = directory / "signal.fieldwatch", directory / "faulty.csv"
    outcome = replay(faulty, bundle)
    file = config.read(directory / "signal.toml").config
    recording = read_recording(faulty, file.data.sought, file.data.columns)
    samples, counters = prepare.align([recording], seal.grid(file))
    assert outcome["samples"] == len(samples.times)
    assert outcome["rejected"] == dict(counters)
    assert outcome["values"] == {"missing": 4}  # the first windows are too short
    (opened, *_) = outcome["events"]
    assert opened["kind"] == "anomaly"
    assert 200 <= outcome_time(opened["opened"], float(recording.readings.times[0])) <= 215
    assert {channel["channel"] for channel in opened["channels"]} & {"loudness", "hum"}
    judged = evaluate.evaluate(bundle, [faulty], None, "time", 60.0)
    assert judged["recordings"][0]["false_events"] == len(
        {event["number"] for event in outcome["events"]}
    )


def outcome_time(text: str, begin_s: float) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() - begin_s


def test_inspect_shows_it(directory: Path, said: list[str]) -> None:
    from click.testing import CliRunner

    from agent.cli import commands

    shown = CliRunner().invoke(
        commands, ["bundle", "inspect", str(directory / "signal.fieldwatch")]
    )
    assert "rate_hz 20" in shown.output
    assert "'kind': 'band_energy'" in shown.output
    told = CliRunner().invoke(
        commands, ["bundle", "inspect", "--json", str(directory / "signal.fieldwatch")]
    )
    assert json.loads(told.output)["sources"][0]["window_samples"] == 40


ROLLING = """
[bundle]
name = "rolling"

[family]
name = "hampel"

[data]
files = ["normal.csv"]

[[data.sources]]
name = "oil"
rate_hz = 1.0
window_samples = 31
missing_share_max = 0.5

[[data.channels]]
name = "now"
feature = { source = "oil", kind = "last" }

[[data.channels]]
name = "before"
scored = false
feature = { source = "oil", kind = "lag" }

[[data.channels]]
name = "mean"
feature = { source = "oil", kind = "mean" }

[[data.channels]]
name = "sooner"
scored = false
feature = { source = "oil", kind = "lag", samples = 6 }

[[data.channels]]
name = "restless"
feature = { source = "oil", kind = "std" }

[[data.channels]]
name = "highest"
feature = { source = "oil", kind = "max" }

[sampling]
period_s = 1.0
warm_up_samples = 20

[split]
train = 0.4
calibrate = 0.3
test = 0.3
"""


def test_a_gateway_has_the_same_lags_and_rolling_figures(tmp_path: Path) -> None:
    values = 60 + np.random.default_rng(1).normal(0, 1, 5000)
    kept = [at for at in range(5000) if at % 997 != 5]
    lines = [f"{START_S + at},{values[at]:.4f}" for at in kept]
    (tmp_path / "normal.csv").write_text("\n".join(["time,oil", *lines]) + "\n")
    (tmp_path / "rolling.toml").write_text(ROLLING)
    said: list[str] = []
    file = config.read(tmp_path / "rolling.toml")
    train.train(file, tmp_path, None, said.append, accept=True)
    data = file.config.data
    recording = read_recording(tmp_path / "normal.csv", data.sought, data.columns)
    samples, counters = prepare.align([recording], seal.grid(file.config))
    now, before, _, sooner, _, highest = samples.values[2100:2200].T
    np.testing.assert_array_equal(before[30:], now[:-30])
    np.testing.assert_array_equal(sooner[5:], now[:-5])
    assert (highest >= now).all()
    assert counters["windows_short"] == 16  # until there are 16 of 31 values; one is lost
    assert any("windows short" in line for line in said)
    outcome = replay(tmp_path / "normal.csv", tmp_path / "rolling.fieldwatch")
    judged = evaluate.evaluate(
        tmp_path / "rolling.fieldwatch", [tmp_path / "normal.csv"], None, "time", 60.0
    )
    assert outcome["samples"] == len(samples.times)
    assert outcome["rejected"] == dict(counters)
    assert judged["recordings"][0]["false_events"] == len(
        {event["number"] for event in outcome["events"]}
    )
