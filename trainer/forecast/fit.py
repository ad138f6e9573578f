"""Trains the forecaster on windows of all channels in random order, with the pinball loss.

Errors are in scales of the channel, not of the window. Otherwise an almost constant window would
weigh as much as an informative one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.messages import Float32
from trainer.config import ForecastFitTable, ForecastTable
from trainer.divergence import Divergence
from trainer.epochs import Epoch, OnEpoch
from trainer.forecast.network import residual_network
from trainer.forecast.windows import Cutter, Int64
from trainer.quiet import quiet

SCHEDULE_END = 0.02  # final learning rate, as a share of the initial one


class Batch(NamedTuple):
    """A batch of ``B`` windows for training or validation."""

    context: Float32  # (B, L)
    residual: Float32  # (B, H) future - linear path; 0 where the future is not known
    weight: Float32  # (B, H) scale of the window; 0 where the future is not known


def fit(
    learner: Learner,
    training: Cutter,
    validation: Cutter,
    linear: Float32,
    on_epoch: OnEpoch,
) -> list[Epoch]:
    """Train a network on the residual of a linear path; return its epochs.

    It ends with the best epoch's weights.

    The same seed, data and software produce the same network.

    Args:
        learner: its network is trained from scratch.
        training: windows to learn from.
        validation: windows that decide when to stop.
        linear: (L, H) weights of the linear path.
        on_epoch: called after each epoch.

    Raises:
        ConfigError: the training diverged.

    """
    how = learner.settings.fit
    random = np.random.default_rng(how.seed)
    steps = min(how.steps_per_epoch_max, max(1, len(training.places) // how.batch))
    learner.start_anew(steps)
    check = validation.some(how.validation_windows_max)

    def judge() -> float:
        of_seed = np.random.default_rng(how.seed)
        return learner.judge(_batches(validation, check, linear, how, of_seed))

    watch = Divergence("forecast.fit.learning_rate", how.learning_rate, judge())
    epochs: list[Epoch] = []
    best, kept = np.inf, learner.network.get_weights()
    for number in range(1, how.epochs + 1):
        began = time.perf_counter()
        order = random.permutation(len(training.places))[: steps * how.batch]
        loss = learner.learn(_batches(training, training.places[order], linear, how, random))
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
    return epochs


def _batches(
    cutter: Cutter,
    places: Int64,
    linear: Float32,
    how: ForecastFitTable,
    random: np.random.Generator,
) -> Iterator[Batch]:
    """Yield batches of equal size; windows from the beginning fill up the last batch."""
    count = -(-len(places) // how.batch) * how.batch
    for batch in np.resize(places, (count, 2)).reshape(-1, how.batch, 2):
        windows = cutter.cut_with_trends(batch, how.trend_share, random)
        known = ~np.isnan(windows.future)
        yield Batch(
            windows.context,
            np.where(known, windows.future - windows.context @ linear, np.float32(0)),
            (known * windows.scale[:, None]).astype(np.float32),
        )


def _schedule(how: ForecastFitTable, steps: int) -> Any:
    """Return the learning-rate schedule, per batch, for epochs of ``steps`` batches."""
    return keras.optimizers.schedules.CosineDecay(
        how.learning_rate, how.epochs * steps, alpha=SCHEDULE_END
    )


class Learner:
    """A network with its optimizer. It is compiled once, for any number of trainings."""

    def __init__(self, settings: ForecastTable) -> None:
        self.settings = settings
        keras.utils.set_random_seed(settings.fit.seed)
        tf.config.experimental.enable_op_determinism()
        with quiet():
            self.network = residual_network(settings)
        self._first = self.network.get_weights()
        self._levels = tf.constant(settings.quantiles, tf.float32)
        self._middle = len(settings.quantiles) // 2
        how = settings.fit
        self._squared_weight = how.squared_weight
        self._schedule = _schedule(how, 1)
        self._optimizer = keras.optimizers.AdamW(
            how.learning_rate, weight_decay=how.weight_decay, global_clipnorm=how.gradient_norm_max
        )
        self._optimizer.build(self.network.trainable_variables)
        self._step = 0
        self._learn = tf.function(self._learn_batch, jit_compile=True)
        self._judge = tf.function(self._judge_batch, jit_compile=True)

    def start_anew(self, steps: int) -> None:
        """Reset network and optimizer; the next training has epochs of ``steps`` batches."""
        keras.utils.set_random_seed(self.settings.fit.seed)
        self.network.set_weights(self._first)
        for variable in self._optimizer.variables:
            variable.assign(np.zeros(variable.shape))
        self._schedule, self._step = _schedule(self.settings.fit, steps), 0

    def learn(self, batches: Iterator[Batch]) -> float:
        """Train on the batches; return the mean loss."""
        return self._through(batches, self._learn)

    def judge(self, batches: Iterator[Batch]) -> float:
        """Return the mean loss of the batches, without training."""
        return self._through(batches, self._judge)

    def _through(self, batches: Iterator[Batch], step: Any) -> float:
        losses = []
        for batch in batches:
            if step is self._learn:
                self._optimizer.learning_rate = float(self._schedule(self._step))
                self._step += 1
            losses.append(step(*batch))
        return float(np.mean([float(loss) for loss in losses]))

    def _learn_batch(self, context: Any, residual: Any, weight: Any) -> Any:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(context, residual, weight, training=True)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def _judge_batch(self, context: Any, residual: Any, weight: Any) -> Any:
        return self._loss(context, residual, weight, training=False)

    def _loss(self, context: Any, residual: Any, weight: Any, training: bool) -> Any:
        """Return twice the mean pinball loss, plus a share of the median's squared error."""
        quantiles = self.network(context, training=training)["quantiles"]
        errors = (residual[:, :, None] - quantiles) * weight[:, :, None]
        pinball = tf.maximum(self._levels * errors, (self._levels - 1.0) * errors)
        squared = tf.square(errors[:, :, self._middle])
        return 2.0 * tf.reduce_mean(pinball) + self._squared_weight * tf.reduce_mean(squared)
