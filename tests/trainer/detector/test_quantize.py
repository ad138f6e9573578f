"""The form of the network that ships is chosen by what it does on the calibration part."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.manifest import NETWORK
from models.messages import Samples
from tests.trainer.conftest import START_S, Trained, machine
from trainer.config import ParityTable, Quantization
from trainer.detector import quantize
from trainer.detector.quantize import DetectorTrial
from trainer.prepare import Parts
from trainer.seal import assemble


@pytest.fixture(scope="module")
def parts() -> Parts:
    whole = Samples(*machine(2400, seed=3))
    edges = (0, 1200, 2400, 2400)
    return Parts(
        *(Samples(whole.times[a:b], whole.values[a:b]) for a, b in itertools.pairwise(edges))
    )


@pytest.fixture(scope="module")
def floating(trained: Trained) -> Bundle:
    """The tiny machine's bundle, whose network stands for the float one here."""
    return trained.bundle


def other(bundle: Bundle, factor: float) -> bytes:
    """The same network with weights a little or a lot off."""
    data = bytearray(bundle.network)
    array = np.frombuffer(data, np.float32, count=len(data) // 4)
    weights = (np.abs(array) > 1e-3) & (np.abs(array) < 10) & np.isfinite(array)
    array[weights] *= np.float32(factor)
    return bytes(data)


def trials(
    floating: Bundle,
    parts: Parts,
    networks: dict[Quantization, bytes],
    refused: dict[Quantization, str] | None = None,
    **settings: Any,
) -> list[DetectorTrial]:
    table = ParityTable.model_validate(settings)
    every: dict[Quantization, bytes] = {"float32": floating.network, **networks}
    return quantize.choose(floating, every, refused or {}, parts, table, None)


def test_the_disturbances_raise_events(floating: Bundle, parts: Parts) -> None:
    (only,) = trials(floating, parts, {})
    same, count = map(int, only.events.split(" of "))
    assert same == count >= 4
    assert (only.passed, only.change, only.quantization) == (True, 0.0, "float32")
    assert only.step_us is not None


def test_the_smallest_that_passes_is_chosen(floating: Bundle, parts: Parts) -> None:
    padded = floating.network + bytes(64)  # a flatbuffer may be followed by anything
    chosen, *rest = trials(
        floating, parts, {"float16": floating.network[:], "int8": padded, "int16x8": padded}
    )
    assert chosen.size_bytes == len(floating.network)
    assert all(trial.passed for trial in rest)


def test_one_that_scores_otherwise_is_not_chosen(floating: Bundle, parts: Parts) -> None:
    smaller = other(floating, 1.15)
    found = trials(floating, parts, {"int8": smaller}, quantization_tolerance=0.001)
    assert found[0].quantization == "float32"
    assert not found[1].passed
    assert "changes a score by" in found[1].reason


def test_events_at_another_time_are_no_same_events() -> None:
    ours = ["anomaly opened 10.000", "anomaly closed 20.000"]
    same = quantize.same_events
    assert same(ours, ours, 0.0) == 2
    assert same(ours, ["anomaly opened 12.000", "anomaly closed 20.000"], 1.0) == 1
    assert same(ours, ["anomaly opened 11.000", "anomaly closed 21.000"], 1.0) == 2
    assert same(ours, ["stuck opened 10.000", "anomaly closed 20.000"], 1.0) == 1
    assert same(ours, ours[:1], 1.0) == 0


def test_one_that_moves_events_is_not_chosen(floating: Bundle, parts: Parts) -> None:
    found = trials(
        floating,
        parts,
        {"int8": other(floating, 2.5)},
        quantization_tolerance=1e6,
        event_tolerance_samples=0,
    )
    assert found[0].quantization == "float32"
    assert "events differ" in found[1].reason


def test_what_does_not_convert_or_load_is_told(floating: Bundle, parts: Parts) -> None:
    found = trials(
        floating, parts, {"int8": b"no network at all" * 9}, refused={"int16x8": "no such operator"}
    )
    reasons = {trial.quantization: trial.reason for trial in found}
    assert "cannot load the network" in reasons["int8"]
    assert reasons["int16x8"] == "does not convert: no such operator"
    assert found[0].quantization == "float32"


def test_every_disturbance_is_in_the_calibration_part(floating: Bundle, parts: Parts) -> None:
    calm, disturbed = quantize.recordings(floating.manifest, parts)
    before = floating.manifest.sampling.warm_up_samples
    assert calm.times[before] == parts.calibrate.times[0] > START_S
    moved = (calm.values != disturbed.values).any(axis=1)
    assert not moved[:before].any()
    assert moved.sum() > 150


def test_the_table_and_the_choice_are_told(trained: Trained) -> None:
    rows = trained.bundle.manifest.metrics["quantization"]
    assert rows[0]["quantization"] == trained.bundle.manifest.network.quantization
    assert rows[0]["passed"]
    assert {row["quantization"] for row in rows} == {
        "float32",
        "float16",
        "dynamic-range-int8",
        "int8",
        "int16x8",
    }
    passed = [row["size_bytes"] for row in rows if row["passed"]]
    assert rows[0]["size_bytes"] == min(passed)
    report = trained.path.with_suffix(".report.html").read_text()
    assert all(row["quantization"] in report for row in rows)
    assert any(line.startswith("int16x8: ") for line in trained.said)
    assert assemble(trained.bundle.manifest, {NETWORK: b""})  # the manifest is whole
