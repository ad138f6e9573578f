"""Differences between networks and interpreters, and the replay in another process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from models.manifest import NETWORK
from models.messages import Samples
from tests.trainer.conftest import Trained, machine
from trainer import seal
from trainer.detector import parity
from trainer.detector.export import export
from trainer.detector.networks import Architecture, sequence_network


def recordings() -> list[Samples]:
    faulty = Samples(*machine(200, 8))
    faulty.values[100:150, 0] += 3.0
    return [Samples(*machine(300, 7)), faulty]


def test_a_difference_is_absolute_and_relative() -> None:
    nan = float("nan")

    def replayed(*scores: list[float], events: list[list[str]]) -> parity.Replayed:
        return parity.Replayed("x", "y", [np.array(each, np.float32) for each in scores], events)

    reference = replayed([nan, 0.5, 1.0], [4.0], [2.0], events=[[], ["a"], ["b"]])
    other = replayed([nan, 0.5, 1.2], [5.0], [2.0], events=[[], ["a"], ["c"]])
    found = parity.agreement("quantization", other, reference)
    assert found.difference == pytest.approx(0.2 / 2, rel=1e-5)
    assert found.difference_in_faults == pytest.approx(1 / 5)
    assert (found.identical, found.recordings) == (2, 3)


def test_a_network_agrees_with_itself(trained: Trained) -> None:
    bundle = trained.bundle
    [agreement] = parity.compare(bundle, bundle.network, recordings(), None)
    assert agreement.change == "quantization"
    assert (agreement.difference, agreement.difference_in_faults) == (0.0, 0.0)
    assert (agreement.identical, agreement.recordings) == (2, 2)


def test_a_network_with_other_weights_does_not(trained: Trained) -> None:
    bundle = trained.bundle
    architecture = Architecture(3, (0, 1, 2), (8,), ("value", "change"))
    untrained = export(
        sequence_network(architecture), architecture, [], np.zeros((1, 3), np.float32)
    )
    [agreement] = parity.compare(bundle, untrained.networks["float32"], recordings(), None)
    assert agreement.difference > 0.05


def test_another_process_gives_the_same_scores_and_events(trained: Trained) -> None:
    bundle, held_out = trained.bundle, recordings()
    there = parity.replay_elsewhere(Path(sys.executable), "x", bundle, held_out, "litert")
    here = parity.replay("x", bundle, held_out, "litert")
    assert there.runtime == here.runtime
    assert there.events == here.events
    assert here.events[1], "the fault must raise an event, or nothing is compared"
    for a, b in zip(there.scores, here.scores, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_python_that_cannot_replay_says_why(trained: Trained) -> None:
    unfit = trained.bundle
    broken = seal.assemble(unfit.manifest, dict(unfit.parts) | {NETWORK: b"no network"})
    with pytest.raises(DataError, match="cannot load the network"):
        parity.replay_elsewhere(Path(sys.executable), "x", broken, recordings(), "litert")
    with pytest.raises(DataError, match="/none cannot replay: "):
        parity.replay_elsewhere(Path("/none"), "x", unfit, recordings(), "litert")
