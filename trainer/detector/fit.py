"""Trains a network many-to-many: every sample has a loss.

Every stretch of a recording without gaps is cut into chunks of equal length. A batch has several
lanes, and each lane goes through consecutive chunks. As on a gateway, the network keeps its state
from chunk to chunk; only the gradient stops there (truncated backpropagation through time). When a
lane enters a new stretch, the state starts at zero, and the warm-up samples do not count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.errors import DataError
from models.messages import Float32
from trainer.config import FitTable
from trainer.detector.networks import Architecture, sequence_network
from trainer.divergence import Divergence
from trainer.epochs import Epoch, OnEpoch
from trainer.prepare import Series
from trainer.quiet import quiet

LANE_CHUNKS_MIN = 16  # with less data there are fewer lanes, so that an epoch has several steps
ROW_WEIGHT_MAX = 20.0  # weight of the quietest channel relative to the liveliest


_TINY = 1e-9  # avoids a division by zero if no channel changes


class Fitted(NamedTuple):
    """A trained network and the epochs of its training."""

    network: Any  # see ``networks.sequence_network``, with the best epoch's weights
    epochs: list[Epoch]


class Chunk(NamedTuple):
    """One chunk of every lane; ``B`` lanes of ``T`` samples."""

    inputs: Float32  # (B, T, C)
    targets: Float32  # (B, T, P), 0 where missing
    weight: Float32  # (B, T, P), 0 where the error does not count
    carried: Float32  # (B, 1), 0 where the state starts at zero


def fit(
    architecture: Architecture,
    training: Sequence[Series],
    validation: Sequence[Series],
    settings: FitTable,
    warm_up: int,
    on_epoch: OnEpoch,
) -> Fitted:
    """Train a network; the same seed, data and software give the same network.

    Args:
        architecture: sizes of the network.
        training: sequences without gaps.
        validation: sequences without gaps; their loss decides when to stop.
        settings: the settings ``[fit]``.
        warm_up: number of samples after a start that do not count in the loss.
        on_epoch: called after each epoch.

    Raises:
        DataError: no stretch is as long as a chunk.
        ConfigError: the training diverged.

    """
    keras.utils.clear_session()  # layers are numbered anew: their names are in the file
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    longest = max((len(series.inputs) for series in validation), default=0)
    whole = settings.model_copy(update={"chunk_samples": min(settings.chunk_samples, longest)})
    train, check = Chunks(training, settings, warm_up), Chunks(validation, whole, warm_up)
    weights = _row_weights(training, architecture)
    with quiet():  # the first operation searches for accelerators, and logs warnings
        learner = _Learner(architecture, settings, weights, train.steps)
    random = np.random.default_rng(settings.seed)
    epochs: list[Epoch] = []
    watch = Divergence("fit.learning_rate", settings.learning_rate, learner.judge(check.cut(0)))
    best, kept = np.inf, learner.network.get_weights()
    for number in range(1, settings.epochs + 1):
        began = time.perf_counter()
        loss = learner.learn(train.cut(int(random.integers(settings.chunk_samples))))
        judged = learner.judge(check.cut(0))
        watch.look(number, loss + judged)
        improved = judged < best
        if improved:
            best, kept = judged, learner.network.get_weights()
        epochs.append(Epoch(number, loss, judged, improved, time.perf_counter() - began))
        on_epoch(epochs[-1])
        if number - max(epoch.number for epoch in epochs if epoch.best) >= settings.patience:
            break
    watch.end(best)
    learner.network.set_weights(kept)
    return Fitted(learner.network, epochs)


def _row_weights(stretches: Sequence[Series], architecture: Architecture) -> Float32:
    """Return the weight (P,) of each error row: the inverse error of repeating the last value.

    Without weights a noisy channel would dominate the loss.
    """
    scored = list(architecture.scored)
    changes = [np.abs(np.diff(series.inputs[:, scored], axis=0)) for series in stretches]
    naive = np.concatenate(changes).mean(axis=0)
    weights = 1 / np.maximum(naive, max(float(naive.max()) / ROW_WEIGHT_MAX, _TINY))
    return np.tile(weights / weights.mean(), len(architecture.heads)).astype(np.float32)


class Chunks:
    """The chunks of stretches without gaps, arranged in lanes."""

    def __init__(self, stretches: Sequence[Series], settings: FitTable, warm_up: int) -> None:
        self._size = settings.chunk_samples
        self._warm_up = warm_up
        self._batch = settings.batch
        self._lengths = [len(series.inputs) for series in stretches]
        self._inputs = np.concatenate([series.inputs for series in stretches])
        targets = np.concatenate([series.targets for series in stretches])
        self._known = ~np.isnan(targets)
        self._targets = np.where(self._known, targets, np.float32(0))
        self.steps = self._lanes(0)[0].shape[1]

    def cut(self, offset: int) -> Iterator[Chunk]:
        """Yield one chunk of every lane at a time; stretches begin ``offset`` samples late."""
        lanes, since = self._lanes(offset)
        for column in range(lanes.shape[1]):
            rows = lanes[:, column, None] + np.arange(self._size)
            age = since[:, column, None] + np.arange(self._size)
            # in its first column a lane starts at zero, even in the middle of a stretch
            age = np.minimum(age, column * self._size + np.arange(self._size))
            yield Chunk(
                self._inputs[rows],
                self._targets[rows],
                (self._known[rows] & (age >= self._warm_up)[..., None]).astype(np.float32),
                (age[:, :1] > 0).astype(np.float32),
            )

    def _lanes(self, offset: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return each chunk's first row, and its position in its stretch, both (B, chunks)."""
        starts: list[int] = []
        since: list[int] = []
        begin = 0
        for length in self._lengths:
            late = min(offset, max(0, length - self._size))
            inside = range(0, length - late - self._size + 1, self._size)
            starts += [begin + late + position for position in inside]
            since += inside
            begin += length
        if not starts:
            raise DataError(
                f"the recordings have no stretch of {self._size} samples without a gap: lower"
                " fit.chunk_samples, or record without interruptions"
            )
        lanes = max(1, min(self._batch, len(starts) // LANE_CHUNKS_MIN))
        steps = -(-len(starts) // lanes)
        first = np.linspace(0, len(starts) - steps, lanes).astype(int)
        chosen = first[:, None] + np.arange(steps)
        return np.array(starts)[chosen], np.array(since)[chosen]


def _huber(errors: Any) -> Any:
    size = tf.abs(errors)
    return tf.where(size < 1.0, 0.5 * tf.square(errors), size - 0.5)


_LOSSES = {"absolute": tf.abs, "squared": tf.square, "huber": _huber}


class _Learner:
    """A network with its optimizer and its loss."""

    def __init__(
        self, architecture: Architecture, settings: FitTable, row_weights: Float32, steps: int
    ) -> None:
        self._row_weights = row_weights  # (P,)
        self.network = sequence_network(architecture)
        self._state_size = architecture.state_size
        self._error = _LOSSES[settings.loss]
        schedule: Any = settings.learning_rate
        if settings.schedule == "cosine":
            schedule = keras.optimizers.schedules.CosineDecay(
                settings.learning_rate, settings.epochs * steps, alpha=0.02
            )
        self._optimizer = keras.optimizers.Adam(
            schedule, global_clipnorm=settings.gradient_norm_max
        )
        self._optimizer.build(self.network.trainable_variables)
        self._learn = tf.function(self._learn_chunk, jit_compile=True)
        self._judge = tf.function(self._judge_chunk, jit_compile=True)

    def learn(self, chunks: Iterator[Chunk]) -> float:
        """Train on the chunks once; return the mean loss."""
        return self._through(chunks, self._learn)

    def judge(self, chunks: Iterator[Chunk]) -> float:
        """Evaluate the chunks once; return the mean loss."""
        return self._through(chunks, self._judge)

    def _through(self, chunks: Iterator[Chunk], step: Any) -> float:
        total, weight, state = 0.0, 0.0, None
        for chunk in chunks:
            if state is None:
                state = tf.zeros((len(chunk.inputs), self._state_size))
            loss, state = step(chunk, state)
            count = float(chunk.weight.sum())
            total, weight = total + float(loss) * count, weight + count
        return total / weight if weight else float("nan")

    def _learn_chunk(self, chunk: Chunk, state: Any) -> tuple[Any, Any]:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss, state = self._loss(chunk, state, training=True)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss, state

    def _judge_chunk(self, chunk: Chunk, state: Any) -> tuple[Any, Any]:
        return self._loss(chunk, state, training=False)

    def _loss(self, chunk: Chunk, state: Any, training: bool) -> tuple[Any, Any]:
        """Return the mean loss of the errors that count, and the state after the chunk.

        The default loss, absolute, is the error that is scored, and outliers do not dominate it.
        """
        inputs, targets, weight, carried = chunk
        predictions, state = self.network([inputs, state * carried], training=training)
        errors = self._error(predictions - targets) * weight * self._row_weights
        return tf.reduce_sum(errors) / tf.maximum(tf.reduce_sum(weight), 1.0), state
