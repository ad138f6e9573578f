"""Training of the forecaster: windows of all channels in random order, pinball loss.

Errors count in scales of the channel, not of the window: a window that hardly moves would else
weigh as much as one that tells something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.errors import DataError
from trainer.config import ForecastTable
from trainer.fit import Epoch
from trainer.forecast.network import forecast_network
from trainer.forecast.windows import Cutter, Windows
from trainer.quiet import quiet

SCHEDULE_END = 0.02  # of the learning rate, where it ends


class Fitted(NamedTuple):
    """A trained network and how it got there."""

    network: Any  # see ``network.forecast_network``, with the best epoch's weights
    epochs: list[Epoch]


def fit(
    training: Cutter,
    validation: Cutter,
    settings: ForecastTable,
    on_epoch: Callable[[Epoch], None],
) -> Fitted:
    """Train a forecaster; the same seed, data and software give the same network.

    Args:
        training: windows to learn from.
        validation: windows that decide when to stop.
        settings: of the forecaster.
        on_epoch: called after each epoch.

    Raises:
        DataError: there is no window to learn from, or the loss is no number any more.

    """
    for cutter, part in ((training, "training"), (validation, "validation")):
        if len(cutter.places) == 0:
            raise DataError(
                f"the {part} part has no window of the forecaster without a gap: make"
                " forecast.context_steps shorter, or record without interruptions"
            )
    how = settings.fit
    keras.utils.set_random_seed(how.seed)
    tf.config.experimental.enable_op_determinism()
    random = np.random.default_rng(how.seed)
    steps = min(how.steps_per_epoch_max, max(1, len(training.places) // how.batch))
    with quiet():
        learner = _Learner(settings, steps)
    check = validation.every(how.validation_windows_max)
    epochs: list[Epoch] = []
    best, kept = np.inf, learner.network.get_weights()
    for number in range(1, how.epochs + 1):
        began = time.perf_counter()
        order = random.permutation(len(training.places))[: steps * how.batch]
        loss = learner.learn(training, training.places[order])
        judged = learner.judge(validation, check)
        if not np.isfinite(loss + judged):
            raise DataError(
                f"the forecaster's loss is no number any more in epoch {number}: lower"
                " forecast.fit.learning_rate"
            )
        improved = judged < best
        if improved:
            best, kept = judged, learner.network.get_weights()
        epochs.append(Epoch(number, loss, judged, improved, time.perf_counter() - began))
        on_epoch(epochs[-1])
        if number - max(epoch.number for epoch in epochs if epoch.best) >= how.patience:
            break
    learner.network.set_weights(kept)
    return Fitted(learner.network, epochs)


class _Learner:
    """A network with its optimizer."""

    def __init__(self, settings: ForecastTable, steps: int) -> None:
        how = settings.fit
        self.network = forecast_network(settings)
        self._batch = how.batch
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

    def learn(self, cutter: Cutter, places: Any) -> float:
        """Learn from the windows at ``places``; return the mean loss."""
        return self._through(cutter, places, self._learn)

    def judge(self, cutter: Cutter, places: Any) -> float:
        """Return the mean loss of the windows at ``places``."""
        return self._through(cutter, places, self._judge)

    def _through(self, cutter: Cutter, places: Any, step: Any) -> float:
        losses = [step(*batch) for batch in self._batches(cutter, places)]
        return float(np.mean([float(loss) for loss in losses]))

    def _batches(self, cutter: Cutter, places: Any) -> Iterator[Sequence[Any]]:
        """Yield batches of one size: the last is filled up with windows from the beginning."""
        count = -(-len(places) // self._batch) * self._batch
        for batch in np.resize(places, (count, 2)).reshape(-1, self._batch, 2):
            windows: Windows = cutter.cut(batch)
            known = ~np.isnan(windows.future)
            yield (
                windows.context,
                np.where(known, windows.future, np.float32(0)),
                (known * windows.scale[:, None]).astype(np.float32),
            )

    def _learn_batch(self, context: Any, future: Any, weight: Any) -> Any:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(context, future, weight, training=True)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def _judge_batch(self, context: Any, future: Any, weight: Any) -> Any:
        return self._loss(context, future, weight, training=False)

    def _loss(self, context: Any, future: Any, weight: Any, training: bool) -> Any:
        """Return twice the mean pinball loss, and a share of the median's squared error.

        ``weight`` (B, H) is the scale of each window, 0 where the future is not known.
        """
        quantiles = self.network(context, training=training)["quantiles"]
        errors = (future[:, :, None] - quantiles) * weight[:, :, None]
        pinball = tf.maximum(self._levels * errors, (self._levels - 1.0) * errors)
        squared = tf.square(errors[:, :, self._middle])
        return 2.0 * tf.reduce_mean(pinball) + self._squared_weight * tf.reduce_mean(squared)
