"""Errors of the network, against a plain reimplementation step by step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from models.bundle import Bundle
from models.interpreter import StepNetwork
from models.messages import ALL, Samples
from models.telemanom import Errors, Telemanom, TelemanomState
from tests.models.conftest import Change, recorded

SPAN = 7.0


@pytest.fixture(scope="module")
def bundle(changed: Change) -> Bundle:
    return changed(sampling={"warm_up_samples": 4}, smoothing={"spans_samples": [SPAN]})


@pytest.fixture(scope="module")
def telemanom(bundle: Bundle) -> Telemanom:
    return Telemanom(bundle.manifest, StepNetwork(bundle.network))


def run(telemanom: Telemanom, samples: Samples, state: TelemanomState | None = None) -> Errors:
    """Errors of one stream, which may be interrupted."""
    state = telemanom.start() if state is None else state
    times, values = samples.times[:, None], samples.values[:, None]
    broken = telemanom.interruptions(state, ALL, times)
    starts = [] if broken is None else np.flatnonzero(broken).tolist()
    edges = sorted({0, *starts, len(times)})
    parts = []
    for begin, end in pairwise(edges):
        if begin in starts:
            telemanom.restart(state, np.array([0]))
        parts.append(telemanom.step(state, ALL, times[begin:end], values[begin:end]))
    return Errors(
        np.concatenate([part.smoothed[:, 0] for part in parts]),
        np.concatenate([part.predicted[:, 0] for part in parts]),
        all(part.whole for part in parts),
    )


def plainly(bundle: Bundle, samples: Samples) -> np.ndarray:
    """Smoothed errors as models/README.md defines them, one sample and one channel at a time."""
    manifest, network = bundle.manifest, StepNetwork(bundle.network)
    center = np.array([channel.center for channel in manifest.channels], np.float32)
    scale = np.array([channel.scale for channel in manifest.channels], np.float32)
    state = np.zeros((1, network.state_size), np.float32)
    heads = manifest.network.heads
    last, prediction = np.full(len(center), np.nan, np.float32), None
    seen: list[list[float]] = [[] for _ in range(manifest.error_rows)]
    smoothed = np.full((len(samples.values), manifest.error_rows), np.nan)
    keep = 1 - 2 / (SPAN + 1)
    for step, values in enumerate(samples.values):
        scaled = (values - center) / scale
        forms = {"value": scaled, "change": scaled - last}
        target = np.concatenate([forms[head] for head in heads])
        last = np.where(np.isnan(scaled), last, scaled)
        for row in range(manifest.error_rows):
            if prediction is None or step < 4 or np.isnan(target[row]):
                continue
            seen[row].append(abs(float(target[row] - prediction[row])))
            weights = keep ** np.arange(len(seen[row]))[::-1]
            if weights.sum() >= 0.5 / (1 - keep):
                smoothed[step, row] = np.average(seen[row], weights=weights)
        inputs = np.clip(np.nan_to_num(last), -5, 5).astype(np.float32)
        outputs, state = network.run(inputs[None, None, :], state)
        prediction = outputs[0, 0]
    return smoothed


def test_errors_and_their_mean_are_as_defined(bundle: Bundle, telemanom: Telemanom) -> None:
    samples = recorded(41, 150)
    samples.values[60:80, 2] = np.nan
    samples.values[:10, 3] = np.nan
    got = run(telemanom, samples).smoothed
    expected = plainly(bundle, samples)
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_every_span_has_rows_of_its_own(changed: Change, bundle: Bundle) -> None:
    both = changed(sampling={"warm_up_samples": 4}, smoothing={"spans_samples": [1.0, SPAN]})
    network, samples = StepNetwork(both.network), recorded(46, 90)
    one, two = Telemanom(bundle.manifest, network), Telemanom(both.manifest, network)
    single, double = run(one, samples), run(two, samples)
    width = single.smoothed.shape[1]
    assert double.smoothed.shape[1] == 2 * width
    assert np.array_equal(double.smoothed[:, width:], single.smoothed, equal_nan=True)
    raw = np.abs(samples.values - double.predicted)[5:, 0] / both.manifest.channels[0].scale
    assert np.allclose(double.smoothed[5:, 0], raw, atol=1e-4)  # a span of 1 smoothes nothing


def test_a_prediction_waits_for_its_time(changed: Change, bundle: Bundle) -> None:
    """With a horizon of 3, an error is that of what was predicted three samples before."""
    ahead = changed(
        sampling={"warm_up_samples": 4},
        smoothing={"spans_samples": [1.0]},
        network={"horizon_samples": 3},
    )
    network, samples = StepNetwork(bundle.network), recorded(47, 60)
    channels = ahead.manifest.channels
    center = np.array([channel.center for channel in channels], np.float32)
    scale = np.array([channel.scale for channel in channels], np.float32)
    scaled = (samples.values - center) / scale
    inputs = np.clip(scaled, -5, 5)[:, None, :]
    made, _ = network.run(inputs, np.zeros((1, network.state_size), np.float32))
    value, change = np.split(made[:-3, 0], 2, axis=1)
    expected = np.abs(np.concatenate([scaled[3:] - value, scaled[3:] - scaled[:-3] - change], 1))
    telemanom = Telemanom(ahead.manifest, network)
    state, parts = telemanom.start(), []
    for cut in (slice(0, 2), slice(2, 3), slice(3, 40), slice(40, 60)):
        part = Samples(samples.times[cut], samples.values[cut])
        parts.append(run(telemanom, part, state).smoothed)
    np.testing.assert_allclose(np.concatenate(parts)[4:], expected[1:], atol=1e-5)


def test_a_value_beyond_the_clip_is_clipped_for_the_network_only(telemanom: Telemanom) -> None:
    samples = recorded(42, 60)
    samples.values[50] *= 1000
    errors = run(telemanom, samples)
    assert errors.smoothed[50].max() > 100  # the error tells how far out it was
    assert np.isfinite(errors.smoothed[50:]).all()


def test_the_prediction_is_in_the_channels_units(telemanom: Telemanom) -> None:
    samples = recorded(43, 300)
    predicted = run(telemanom, samples).predicted[100:]
    error = np.abs(predicted - samples.values[100:]).mean(axis=0)
    assert (error < 0.1 * samples.values[100:].mean(axis=0)).all()


def test_an_interruption_forgets_the_smoothing(telemanom: Telemanom) -> None:
    samples = recorded(44, 100)
    samples.values[40:50] += 50
    samples.times[50:] += 60
    smoothed = run(telemanom, samples).smoothed
    assert smoothed[49].max() > 10 * np.nanmax(smoothed[60:])


def test_samples_that_step_back_in_time_are_an_interruption_too(telemanom: Telemanom) -> None:
    samples = recorded(45, 60)
    samples.times[30:] -= 1000
    smoothed = run(telemanom, samples).smoothed
    assert np.isnan(smoothed[30:34]).all()
