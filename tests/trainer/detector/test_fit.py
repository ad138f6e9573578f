"""Training: it learns, it can be repeated, and it keeps to the stretches it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.errors import ConfigError, DataError
from trainer.config import FitTable
from trainer.detector.fit import Chunks, Fitted, fit
from trainer.detector.networks import Architecture
from trainer.epochs import Epoch
from trainer.prepare import Series

ARCHITECTURE = Architecture(2, (0, 1), (8,), ("value",))
SETTINGS = FitTable(epochs=4, chunk_samples=20, batch=8, learning_rate=0.02)
WARM_UP = 10


def wave(length: int, phase: float = 0.0) -> Series:
    angle = np.arange(length + 1) / 5.0 + phase
    values = np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    return Series(values[:-1].copy(), values[1:].copy())


def fitted(seed: int = 1, **settings: Any) -> tuple[Fitted, list[Epoch]]:
    told: list[Epoch] = []
    table = SETTINGS.model_copy(update={"seed": seed} | settings)
    result = fit(ARCHITECTURE, [wave(1500)], [wave(300, 1.0)], table, WARM_UP, told.append)
    return result, told


@pytest.fixture(scope="module")
def usual() -> tuple[Fitted, list[Epoch]]:
    return fitted(epochs=8)


def test_it_learns_and_tells_of_each_epoch(usual: tuple[Fitted, list[Epoch]]) -> None:
    result, told = usual
    assert result.epochs == told
    assert [epoch.number for epoch in told] == list(range(1, 9))
    assert told[-1].validation_loss < 0.3 * told[0].validation_loss


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_it_learns_by_other_losses_too(loss: str, usual: tuple[Fitted, list[Epoch]]) -> None:
    (_, told), (_, absolute) = fitted(epochs=8, loss=loss), usual
    assert told[-1].validation_loss < 0.3 * told[0].validation_loss
    assert told[0].loss != absolute[0].loss


def test_a_short_validation_part_still_says_when_to_stop() -> None:
    result = fit(ARCHITECTURE, [wave(600)], [wave(17, 1.0)], SETTINGS, WARM_UP, lambda _: None)
    assert all(np.isfinite(epoch.validation_loss) for epoch in result.epochs)


def test_the_learning_rate_may_stay(usual: tuple[Fitted, list[Epoch]]) -> None:
    (_, falls), (_, stays) = usual, fitted(epochs=8, schedule="constant")
    assert falls[0].loss != stays[0].loss  # from the first step on


def test_the_same_seed_gives_the_same_network() -> None:
    (one, _), (same, _), (other, _) = fitted(), fitted(), fitted(seed=2)
    for a, b in zip(one.network.get_weights(), same.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.epochs[-1].loss == same.epochs[-1].loss != other.epochs[-1].loss


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    result, told = fitted(epochs=50, patience=2, learning_rate=0.5)
    assert len(told) < 50
    best = min(told, key=lambda epoch: epoch.validation_loss)
    assert best.best
    assert told[-1].number - best.number == 2
    validation = wave(300, 1.0)
    predictions = result.network([validation.inputs[None], np.zeros((1, 16), np.float32)])[0]
    loss = np.abs(predictions.numpy()[0] - validation.targets)[WARM_UP:].mean()
    assert loss == pytest.approx(best.validation_loss, rel=0.5)


def test_a_missing_target_teaches_nothing() -> None:
    whole, holed = wave(600), wave(600)
    holed.targets[100:200] = np.nan
    wrong = Series(whole.inputs, np.where(np.isnan(holed.targets), 9.0, whole.targets))
    chunks = list(Chunks([holed], SETTINGS, WARM_UP).cut(0))
    for chunk in chunks:
        assert not np.isnan(chunk.targets).any()
    unknown = sum(int((chunk.weight == 0).sum()) for chunk in chunks)
    taught = sum(
        int((chunk.weight == 0).sum()) for chunk in Chunks([wrong], SETTINGS, WARM_UP).cut(0)
    )
    assert unknown > taught


def test_every_chunk_of_every_stretch_is_learnt_from() -> None:
    stretches = [
        Series(np.full((n, 1), n, np.float32), np.arange(n, dtype=np.float32)[:, None])
        for n in (95, 15, 400)
    ]  # the second is shorter than a chunk
    settings = SETTINGS.model_copy(update={"batch": 3})
    seen: set[tuple[float, float]] = set()
    for chunk in Chunks(stretches, settings, WARM_UP).cut(0):
        for inputs, targets in zip(chunk.inputs, chunk.targets, strict=True):
            assert len(set(inputs[:, 0].tolist())) == 1, "a chunk lies in one stretch"
            assert np.diff(targets[:, 0]).tolist() == [1.0] * 19, "and is unbroken"
            seen.add((float(inputs[0, 0]), float(targets[0, 0])))
    assert seen == {(95.0, 20.0 * k) for k in range(4)} | {(400.0, 20.0 * k) for k in range(20)}


def test_memory_is_carried_within_a_stretch_and_a_start_warms_up() -> None:
    stretches = [wave(100), wave(100)]
    settings = SETTINGS.model_copy(update={"batch": 1})
    chunks = list(Chunks(stretches, settings, 30).cut(0))
    assert [chunk.carried[0, 0] for chunk in chunks] == [0, 1, 1, 1, 1] * 2
    learnt = [int(chunk.weight[0, :, 0].sum()) for chunk in chunks]
    assert learnt == [0, 10, 20, 20, 20] * 2  # 30 samples of warm-up after each start


def test_a_lane_that_begins_within_a_stretch_warms_up_too() -> None:
    settings = SETTINGS.model_copy(update={"batch": 2})
    first, second = list(Chunks([wave(40 * 20)], settings, WARM_UP).cut(0))[:2]
    assert first.carried[:, 0].tolist() == [0, 0]
    assert first.weight[:, :, 0].sum(axis=1).tolist() == [10, 10]
    assert second.carried[:, 0].tolist() == [1, 1]
    assert second.weight[:, :, 0].sum(axis=1).tolist() == [20, 20]


def test_stretches_shorter_than_a_chunk_are_refused() -> None:
    with pytest.raises(DataError, match="no stretch of 20 samples without a gap"):
        fit(ARCHITECTURE, [wave(15)] * 50, [wave(100)], SETTINGS, WARM_UP, lambda epoch: None)


def test_a_loss_that_is_no_number_is_an_error() -> None:
    broken = wave(600)
    broken.targets[300] = np.inf
    with pytest.raises(ConfigError, match=r"not finite in epoch 1.*: lower fit\.learning_rate"):
        fit(ARCHITECTURE, [broken], [wave(300)], SETTINGS, WARM_UP, lambda epoch: None)


def test_steps_so_large_that_the_network_gets_worse_are_an_error() -> None:
    with pytest.raises(
        ConfigError,
        match=r"diverged: its validation loss is at best \S+, and was \S+ before the training\. Its"
        r" steps are too large: lower fit\.learning_rate, which is 1000, for example to 100$",
    ):
        fitted(learning_rate=1e3)
