"""Chooses the form of the network that ships: the smallest one with the float network's scores.

Every form scores the calibration part, unchanged and with disturbances, so that there are events to
compare. The deployed code does this on every available interpreter. All forms use the thresholds of
the float network, so only the network differs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.errors import BundleCorrupt
from models.interpreter import StepNetwork
from models.manifest import NETWORK, TelemanomManifest
from models.messages import Float32, Samples
from trainer.config import ParityTable, Quantization
from trainer.detector.parity import Replayed, largest_change, replay, replay_elsewhere
from trainer.prepare import Parts
from trainer.seal import assemble

DISTURBANCE = np.float32(6.0)  # in units of the channels' scales
DISTURBED_SAMPLES = 60
GATE_SAMPLES_MAX = 20_000  # samples of normal operation; more would only take longer
TIMED_STEPS = 500
TIME_RESOLUTION_S = 0.002  # because the compared times of events are texts in milliseconds


@dataclass(frozen=True, slots=True)
class DetectorTrial:
    """One form of the network and the result of its checks."""

    quantization: Quantization
    size_bytes: int | None  # of the file; None: the network did not convert
    step_us: float | None  # time of one sample of one stream, on LiteRT on this machine
    change: float | None  # the largest change of a score in normal operation, against float32
    interpreter_change: float | None  # the same between interpreters; None: only one was tried
    events: str  # "SAME of ALL", or ""
    passed: bool
    reason: str  # why it failed, or ""

    def as_json(self) -> dict[str, Any]:
        """Return it for the metrics."""
        return asdict(self)


def choose(
    floating: Bundle,
    networks: Mapping[Quantization, bytes],
    refused: Mapping[Quantization, str],
    parts: Parts,
    settings: ParityTable,
    tflite_python: Path | None,
) -> list[DetectorTrial]:
    """Check every form of the network; return the results, the chosen form first.

    Args:
        floating: the calibrated bundle with the float32 network.
        networks: the ``.tflite`` file of each form, including float32.
        refused: the reason for each form that cannot be converted.
        parts: the training and calibration parts.
        settings: the tolerances.
        tflite_python: a Python with ``tflite-runtime``; None: there is none.

    """
    gate = _Gate(floating, recordings(floating.telemanom, parts), settings, tflite_python)
    trials = [gate.trial(name, network) for name, network in networks.items()]
    trials += [_missing(name, f"does not convert: {reason}") for name, reason in refused.items()]
    # float32 is the reference; it ships if no other form passes
    chosen = min(
        (trial for trial in trials if trial.passed and trial.size_bytes is not None),
        key=lambda trial: trial.size_bytes or 0,
        default=trials[0],
    )
    return [chosen, *(trial for trial in trials if trial is not chosen)]


def recordings(manifest: TelemanomManifest, parts: Parts) -> list[Samples]:
    """Return the calibration part, unchanged and disturbed, both after samples for the warm-up.

    For a long part, this uses only the end.
    """
    before = manifest.sampling.warm_up_samples + manifest.threshold.settle_samples
    train, part = parts.train, parts.calibrate
    count = min(len(part.times), GATE_SAMPLES_MAX)
    times = np.concatenate([train.times, part.times])[-count - before :]
    calm = np.concatenate([train.values, part.values])[-count - before :]
    return [Samples(times, calm), Samples(times, _disturbed(manifest, calm, count))]


def _disturbed(manifest: TelemanomManifest, values: Float32, count: int) -> Float32:
    """Raise, lower, swing and freeze scored channels in the last ``count`` samples."""
    changed = values.copy()
    scored, length = manifest.scored, min(DISTURBED_SAMPLES, count // 8)
    size = DISTURBANCE * np.array([channel.scale for channel in manifest.channels], np.float32)
    swing = np.where(np.arange(length) % 2, -1, 1).astype(np.float32)
    for number, form in enumerate((np.ones_like(swing), -np.ones_like(swing), swing)):
        begin = len(values) - count + round(count * (0.2 + 0.2 * number))
        channels = scored[number % len(scored) :: 2]
        changed[begin : begin + length, channels] += np.outer(form, size[channels])
    frozen = len(values) - count // 5
    changed[frozen : frozen + length, scored] = changed[frozen, scored]
    return changed


class _Gate:
    """Replays one form after another, and compares each with float32."""

    def __init__(
        self,
        floating: Bundle,
        given: list[Samples],
        settings: ParityTable,
        tflite_python: Path | None,
    ) -> None:
        self._floating, self._given, self._settings = floating, given, settings
        self._python = tflite_python
        self._reference = replay("float32", floating, given, "litert")

    def trial(self, name: Quantization, network: bytes) -> DetectorTrial:
        """Check one form."""
        bundle = assemble(self._floating.telemanom, dict(self._floating.parts) | {NETWORK: network})
        try:
            here = replay(name, bundle, self._given, "litert")
        except BundleCorrupt as error:
            return _missing(name, str(error), len(network))
        elsewhere = None
        if self._python is not None:
            elsewhere = replay_elsewhere(self._python, name, bundle, self._given, "tflite")
        return self._judged(name, network, here, elsewhere)

    def _judged(
        self, name: Quantization, network: bytes, here: Replayed, elsewhere: Replayed | None
    ) -> DetectorTrial:
        settings = self._settings
        change = largest_change(here.scores[0], self._reference.scores[0])
        moved = None if elsewhere is None else largest_change(elsewhere.scores[0], here.scores[0])
        runs = [run for run in (here, elsewhere) if run is not None]
        same = min(self._same(run) for run in runs)
        count = sum(len(events) for events in self._reference.events)
        reasons = []
        if not change <= settings.quantization_tolerance:
            reasons.append(f"changes a score by {change:.3g}")
        if moved is not None and not moved <= settings.interpreter_tolerance:
            reasons.append(f"changes a score by {moved:.3g} between interpreters")
        if same < count:
            reasons.append(f"{count - same} of {count} events differ")
        return DetectorTrial(
            quantization=name,
            size_bytes=len(network),
            step_us=_step_us(network),
            change=change,
            interpreter_change=moved,
            events=f"{same} of {count}",
            passed=not reasons,
            reason="; ".join(reasons),
        )

    def _same(self, run: Replayed) -> int:
        """Return how many event transitions match within the tolerance, over all recordings."""
        within = self._settings.event_tolerance_samples * self._floating.manifest.sampling.period_s
        return sum(
            same_events(ours, theirs, within)
            for ours, theirs in zip(run.events, self._reference.events, strict=True)
        )


def same_events(ours: Sequence[str], theirs: Sequence[str], within_s: float) -> int:
    """Count the equal transitions at the same position and time; 0 if the numbers differ."""
    if len(ours) != len(theirs):
        return 0
    pairs = [(a.split(), b.split()) for a, b in zip(ours, theirs, strict=True)]
    limit = within_s + TIME_RESOLUTION_S
    return sum(a[:2] == b[:2] and abs(float(a[2]) - float(b[2])) <= limit for a, b in pairs)


def _missing(name: Quantization, reason: str, size_bytes: int | None = None) -> DetectorTrial:
    return DetectorTrial(name, size_bytes, None, None, None, "", False, reason)


def _step_us(network: bytes) -> float:
    step = StepNetwork(network, "litert")
    samples = np.zeros((TIMED_STEPS, 1, step.sample_size), np.float32)
    state = np.zeros((1, step.state_size), np.float32)
    step.run(samples, state)  # the first call is slower
    began = time.perf_counter()
    step.run(samples, state)
    return round((time.perf_counter() - began) / TIMED_STEPS * 1e6, 2)
