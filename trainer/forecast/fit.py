"""Training of the forecaster: windows of all channels in random order, pinball loss.

Errors count in scales of the channel, not of the window: a window that hardly moves would else
weigh as much as one that tells something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.messages import Float32
from trainer.config import ForecastFitTable, ForecastTable
from trainer.detector.fit import Epoch
from trainer.divergence import Divergence
from trainer.forecast.network import forecast_network, mix
from trainer.forecast.windows import Cutter, Int64
from trainer.quiet import quiet

SCHEDULE_END = 0.02  # of the learning rate, where it ends


class Fitted(NamedTuple):
    """A trained network and the epochs of its training."""

    network: Any  # see ``network.forecast_network``, with the best epoch's weights, mixed
    epochs: list[Epoch]


class Batch(NamedTuple):
    """Windows to learn from; ``B`` of them."""

    context: Float32  # (B, L)
    future: Float32  # (B, H), 0 where it is not known
    weight: Float32  # (B, H) scale of the window, 0 where the future is not known


def fit(
    training: Cutter,
    validation: Cutter,
    linear: Float32,
    settings: ForecastTable,
    on_epoch: Callable[[Epoch], None],
) -> Fitted:
    """Train a forecaster; the same seed, data and software give the same network.

    Args:
        training: windows to learn from.
        validation: windows that decide when to stop.
        linear: (L, H) of the linear path.
        settings: of the forecaster.
        on_epoch: called after each epoch.

    Raises:
        ConfigError: the training diverged.

    """
    how = settings.fit
    keras.utils.set_random_seed(how.seed)
    tf.config.experimental.enable_op_determinism()
    random = np.random.default_rng(how.seed)
    steps = min(how.steps_per_epoch_max, max(1, len(training.places) // how.batch))
    with quiet():
        learner = _Learner(settings, steps)
    check = validation.some(how.validation_windows_max)

    def judge() -> float:
        of_seed = np.random.default_rng(how.seed)
        return learner.judge(_batches(validation, check, how, of_seed))

    watch = Divergence("forecast.fit.learning_rate", how.learning_rate, judge())
    epochs: list[Epoch] = []
    best, kept = np.inf, learner.network.get_weights()
    for number in range(1, how.epochs + 1):
        began = time.perf_counter()
        order = random.permutation(len(training.places))[: steps * how.batch]
        loss = learner.learn(_batches(training, training.places[order], how, random))
        judged = judge()
        watch.look(number, loss + judged)
        improved = judged < best
        if improved:
            best, kept = judged, learner.network.get_weights()
        epochs.append(Epoch(number, loss, judged, improved, time.perf_counter() - began))
        on_epoch(epochs[-1])
        if number - max(epoch.number for epoch in epochs if epoch.best) >= how.patience:
            break
    watch.end(best)
    learner.network.set_weights(kept)
    mix(learner.network, linear, settings.network.share)
    return Fitted(learner.network, epochs)


def _batches(
    cutter: Cutter, places: Int64, how: ForecastFitTable, random: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches of one size: the last is filled up with windows from the beginning."""
    count = -(-len(places) // how.batch) * how.batch
    for batch in np.resize(places, (count, 2)).reshape(-1, how.batch, 2):
        windows = cutter.cut_with_trends(batch, how.trend_share, random)
        known = ~np.isnan(windows.future)
        yield Batch(
            windows.context,
            np.where(known, windows.future, np.float32(0)),
            (known * windows.scale[:, None]).astype(np.float32),
        )


class _Learner:
    """A network with its optimizer."""

    def __init__(self, settings: ForecastTable, steps: int) -> None:
        how = settings.fit
        self.network = forecast_network(settings)
        self._levels = tf.constant(settings.quantiles, tf.float32)
        self._middle = len(settings.quantiles) // 2
        self._squared_weight = how.squared_weight
        schedule = keras.optimizers.schedules.CosineDecay(
            how.learning_rate, how.epochs * steps, alpha=SCHEDULE_END
        )
        self._optimizer = keras.optimizers.AdamW(
            schedule, weight_decay=how.weight_decay, global_clipnorm=how.gradient_norm_max
        )
        self._optimizer.build(self.network.trainable_variables)
        self._learn = tf.function(self._learn_batch, jit_compile=True)
        self._judge = tf.function(self._judge_batch, jit_compile=True)

    def learn(self, batches: Iterator[Batch]) -> float:
        """Go through the batches, learning; return the mean loss."""
        return self._through(batches, self._learn)

    def judge(self, batches: Iterator[Batch]) -> float:
        """Go through the batches; return the mean loss."""
        return self._through(batches, self._judge)

    def _through(self, batches: Iterator[Batch], step: Any) -> float:
        losses = [step(*batch) for batch in batches]
        return float(np.mean([float(loss) for loss in losses]))

    def _learn_batch(self, context: Any, future: Any, weight: Any) -> Any:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(context, future, weight, training=True)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def _judge_batch(self, context: Any, future: Any, weight: Any) -> Any:
        return self._loss(context, future, weight, training=False)

    def _loss(self, context: Any, future: Any, weight: Any, training: bool) -> Any:
        """Return twice the mean pinball loss, and a share of the median's squared error."""
        quantiles = self.network(context, training=training)["quantiles"]
        errors = (future[:, :, None] - quantiles) * weight[:, :, None]
        pinball = tf.maximum(self._levels * errors, (self._levels - 1.0) * errors)
        squared = tf.square(errors[:, :, self._middle])
        return 2.0 * tf.reduce_mean(pinball) + self._squared_weight * tf.reduce_mean(squared)
