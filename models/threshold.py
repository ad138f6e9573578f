"""The nonparametric dynamic threshold of Telemanom, streaming.

After Hundman et al., "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic
Thresholding", KDD 2018, section 3.3. The candidates are the thresholds ``mean + z * deviation``
over a history of smoothed errors. The method takes the candidate whose exceedances, once removed,
lower mean and deviation most per exceedance. Then it prunes exceedances that do not stand out from
the next lower error.

Differences from the published batch form, with reasons:

- **Causal.** Each sample is compared with a threshold that was computed before it. The selection
  over z runs every ``update_samples``. It can find sequences that stayed below the old threshold,
  with a delay of at most ``update_samples``.
- **The history contains only normal errors.** Anomalous errors are left out, and nothing enters
  while an anomaly is open. Otherwise the smaller errors of a fault would raise the threshold, close
  the fault's own event and hide the next one. An anomaly that lasts for ``adapt_samples`` becomes
  the new normal: the rows that show it begin a new history.
- **A new stream settles first.** The first ``settle_samples`` raise no event, so that the first
  decision is based on this machine's own errors. These errors enter the history unjudged. If the
  bundle sets ``settle_judged``, only errors within the limits enter, so a fault from the start
  does not raise the limits.
- **A floor per row**, from held-out normal data: tiny errors on a quiet channel never alarm.
- **Both directions.** An error below ``mean - z_max * deviation``, and below all errors of held-out
  normal data, is unnaturally small. It is as significant as a large one: the signal has lost its
  normal variation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.history import History, merged, moments
from models.manifest import Threshold
from models.messages import ALL, Bool, Float32, Float64, Index, Int64

RATIO_MAX = np.float32(1e6)  # limit of a score; larger scores carry no more information


class Limits(NamedTuple):
    """The limits of one stream's error rows."""

    threshold: Float32  # (R,)
    calm: Float32  # (R,)


# positions in blocks, (B, n): the same for all streams, or each stream's number with its own
BlockPosition = tuple[slice, slice] | tuple[Int64, Int64]


class Found(NamedTuple):
    """An anomalous sequence of one error row, found by the update at the end of a block."""

    row: int  # index of the error row
    onset: int  # position in the block
    peak: int  # position in the block
    score: float  # error at the peak / the threshold that showed it
    ratio: float  # the same error / the old threshold, which it did not exceed


class Exceedance(NamedTuple):
    """The comparison of ``n`` samples with the threshold; for one stream there is no axis ``B``."""

    threshold: Float32  # (n, B, R) the one each sample was compared with
    ratio: (
        Float32  # (n, B, R) how far out: error / threshold, or calm limit / error; 1 is the limit
    )
    outside: Bool  # (n, B, R) the ratio is above 1, and the stream has settled
    some: bool = True  # False: no sample is outside; True: some may be

    def of(self, column: int) -> Exceedance:
        """Return the comparison of one stream, without the axis ``B``."""
        return Exceedance(
            self.threshold[:, column], self.ratio[:, column], self.outside[:, column], self.some
        )


@dataclass(eq=False, slots=True)
class ThresholdState:
    """The bounded memory of ``N`` streams, each with ``R`` rows of errors."""

    history: list[History]  # (N) smoothed errors of normal samples
    block: Float32  # (N, U, R) smoothed errors since the last update
    block_outside: Bool  # (N, U, R) False where the block is not in use
    pending: Int64  # (N,) samples of the block in use
    settled: Int64  # (N,) scored samples so far, counted up to ``settle_samples``
    threshold: Float32  # (N, R) in force
    calm: Float32  # (N, R) in force; errors below it are unnaturally small
    learning: Bool  # (N, R) the history comes from the open event, which may be the new normal
    fixed: Bool  # (N, R) the bundle's limits hold until an event with this row is accepted
    room: int = 0  # lower bound of the samples that still fit into each block
    all_settled: bool = False


class DynamicThreshold:
    """Finds and applies the threshold of each error row. It holds settings but no memory."""

    def __init__(self, settings: Threshold, fixed: int = 0) -> None:
        """``fixed``: number of last rows whose limits do not follow the errors."""
        self._settings = settings
        self._fixed = np.arange(len(settings.floor)) >= len(settings.floor) - fixed
        self._floor = np.asarray(settings.floor, np.float32)
        self._calm = np.asarray(settings.calm, np.float32)
        self._judges_calm = bool((self._calm > 0).any())
        count = round((settings.z_max - settings.z_min) / settings.z_step) + 1
        self._z = np.linspace(settings.z_min, settings.z_max, max(count, 1))

    def start(self, streams: int = 1) -> ThresholdState:
        """Return the state of ``streams`` streams; the limits are those of the bundle."""
        rows, settings = len(self._floor), self._settings
        block = (streams, settings.update_samples, rows)
        return ThresholdState(
            history=[History.empty(rows, settings.history_samples) for _ in range(streams)],
            block=np.full(block, np.nan, np.float32),
            block_outside=np.zeros(block, np.bool_),
            pending=np.zeros(streams, np.int64),
            settled=np.zeros(streams, np.int64),
            threshold=np.tile(self._floor, (streams, 1)),
            calm=np.tile(self._calm, (streams, 1)),
            learning=np.zeros((streams, rows), np.bool_),
            fixed=np.tile(self._fixed, (streams, 1)),
        )

    @property
    def block_samples(self) -> int:
        """Samples between two updates."""
        return self._settings.update_samples

    def room(self, state: ThresholdState, who: Index, samples: int) -> int:
        """Return the number of samples of the streams ``who`` that fit into their blocks.

        It is at least 1, because ``update`` empties a full block. It may be a lower bound if it is
        not less than ``samples``.
        """
        if state.room >= samples:
            return state.room
        state.room = self.block_samples - int(np.maximum.reduce(state.pending))
        return self.block_samples - int(np.maximum.reduce(state.pending[who]))

    def full(self, state: ThresholdState, who: Index) -> list[int]:
        """Return the columns of the streams whose ``update`` is due."""
        if state.room > 0:
            return []
        columns: list[int] = np.flatnonzero(state.pending[who] == self.block_samples).tolist()
        return columns

    def compare(
        self, state: ThresholdState, who: Index, at: BlockPosition, smoothed: Float32
    ) -> tuple[Float32, Exceedance]:
        """Compare errors with the threshold in force, and append them to the blocks.

        The score of a sample is its largest ratio. An error of NaN is never outside and never
        enters the history. Errors of 0 divide by zero, so the caller must set ``np.errstate``.

        Args:
            state: of ``N`` streams, changed in place.
            who: the ``B`` streams.
            at: positions (B, n) in the blocks. ``update`` is due when a block is ``full``.
            smoothed: (n, B, R) smoothed errors in scaled units.

        Returns:
            The scores (n, B) and the comparison.

        """
        threshold = state.threshold[who][None]
        ratio = smoothed / threshold
        if self._judges_calm:  # fmax ignores the NaN of 0 / 0
            np.fmax(ratio, state.calm[who] / smoothed, out=ratio)
        score: Float32 = np.fmax.reduce(ratio, axis=-1)
        highest = score.item() if score.size == 1 else np.fmax.reduce(score, axis=None)
        some = bool(highest > 1)
        outside = np.zeros(ratio.shape, np.bool_)
        if some:
            np.minimum(ratio, RATIO_MAX, out=ratio)  # also for infinity
            np.minimum(score, RATIO_MAX, out=score)
            np.greater(ratio, 1, out=outside)
        kept_out = outside
        if not state.all_settled:
            settled = self._settled(state, who, smoothed)[..., None]
            outside = kept_out = outside & settled
            if self._settings.settle_judged:
                kept_out = np.where(settled, outside, smoothed > threshold)
        state.block[at] = smoothed.swapaxes(0, 1)
        if some:
            state.block_outside[at] = kept_out.swapaxes(0, 1)
        if who is ALL:
            state.pending += len(smoothed)
        else:
            state.pending[who] += len(smoothed)
        state.room -= len(smoothed)
        shown = threshold.repeat(len(smoothed), axis=0)  # a copy: the update changes it
        return score, Exceedance(shown, ratio, outside, some)

    def limits(self, state: ThresholdState, stream: int) -> Limits:
        """Return a copy of the limits in force."""
        return Limits(state.threshold[stream].copy(), state.calm[stream].copy())

    def normal_scores(self, state: ThresholdState, stream: int, limits: Limits) -> Float32:
        """Return the scores (n,) that a stream's normal samples have under ``limits``.

        They follow from the history, so they are those of the newest samples that were judged
        normal. Rows with fewer than ``update_samples`` errors are left out, and so are scores above
        1: they came from unjudged samples or under wider limits. Some errors may be 0, so the
        caller must set ``np.errstate``.
        """
        history, least = state.history[stream], self._settings.update_samples
        rows = np.flatnonzero(history.written >= least)
        if len(rows) == 0:
            return np.empty(0, np.float32)
        kept = [history.kept(row) for row in rows.tolist()]
        count = min(len(errors) for errors in kept)
        errors = np.stack([each[-count:] for each in kept])
        ratio = errors / limits.threshold[rows, None]
        if self._judges_calm:
            np.fmax(ratio, limits.calm[rows, None] / errors, out=ratio)
        score: Float32 = np.fmax.reduce(ratio, axis=0)
        return score[score <= 1]

    def accepts(self, open_samples: int | None) -> bool:
        """Return whether ``update`` accepts the open anomaly as the new normal, which ends it."""
        settings = self._settings
        return settings.accepts and (open_samples or 0) >= settings.adapt_samples

    def update(self, state: ThresholdState, stream: int, open_samples: int | None) -> list[Found]:
        """Recompute the threshold of each row and move the block's normal errors to the history.

        While an anomaly is open, the block is dropped, and thresholds and history do not change.
        After ``adapt_samples`` the block becomes the new normal. If events can be accepted, their
        rows begin a new history after half of this time, so that the new limits are based on more
        than one block.

        Args:
            state: of ``N`` streams, changed in place; the block of ``stream`` is full.
            stream: index in the state.
            open_samples: scored samples since the open anomaly opened; None: none is open.

        Returns:
            The anomalous sequences that only the new thresholds reveal.

        """
        found: list[Found] = []
        settings = self._settings
        if open_samples is None:
            found = self._learn(state, stream)
        elif open_samples >= settings.adapt_samples:
            self._adapt(state, stream)
        elif settings.accepts and 2 * open_samples >= settings.adapt_samples:
            self._prepare(state, stream)
        state.pending[stream] = 0
        state.block_outside[stream] = False
        return found

    def _settled(self, state: ThresholdState, who: Index, smoothed: Float32) -> Bool:
        """Return which samples may be judged, (n, B); count the scored samples."""
        scored = np.asarray(~np.isnan(smoothed).all(axis=-1))
        settled = self.settled(state.settled[who], scored)
        so_far = state.settled[who] + scored.sum(axis=0)
        state.settled[who] = np.minimum(so_far, self._settings.settle_samples)
        state.all_settled = bool(state.settled.min() >= self._settings.settle_samples)
        return settled

    def settled(self, before: Int64, scored: Bool) -> Bool:
        """Return which samples (n, B) of streams may be judged.

        ``scored`` (n, B) are those with a score, ``before`` (B,) is the ``settled`` of the streams.
        """
        return before + np.cumsum(scored, axis=0) > self._settings.settle_samples

    def _learn(self, state: ThresholdState, stream: int) -> list[Found]:
        block, history = state.block[stream].T, state.history[stream]
        self._unlearn(state, stream)
        known = not np.isnan(np.add.reduce(block, axis=None))
        normal = None  # all
        if not known or state.block_outside[stream].any():
            normal = ~np.isnan(block) & ~state.block_outside[stream].T
        before = state.threshold[stream].copy()
        mean, deviation, enough = self._limit(state, stream, block, normal)
        found: list[Found] = []
        if state.settled[stream] >= self._settings.settle_samples:
            lowest = np.maximum(self._floor, mean + self._z[0] * deviation).astype(np.float32)
            highest = np.maximum.reduce(
                block if normal is None else np.where(normal, block, np.float32(0)), axis=1
            )
            for row in np.flatnonzero(enough & (highest > lowest)).tolist():
                if normal is None:
                    normal = np.ones(block.shape, np.bool_)
                anomalous = self._select(state, stream, row, block[row], normal[row])
                if anomalous.any():
                    found.append(_found(row, block[row], anomalous, state, stream, before[row]))
                    normal[row] &= ~anomalous
        history.remember_where(block, None if normal is not None and normal.all() else normal)
        return found

    def _adapt(self, state: ThresholdState, stream: int) -> None:
        """Begin a new history for the rows that have been outside, at the latest with this block.

        Their limits follow their errors from now on.
        """
        begun = self._begin(state, stream)
        if self._settings.accepts:
            state.fixed[stream] &= ~begun
        block, history = state.block[stream].T, state.history[stream]
        known = ~np.isnan(block)
        self._limit(state, stream, block, known)
        history.remember_where(block, None if known.all() else known)
        state.learning[stream] = False

    def _prepare(self, state: ThresholdState, stream: int) -> None:
        """Begin a new history for the rows that are outside, from the open anomaly's errors."""
        begun, block = self._begin(state, stream), state.block[stream].T
        state.history[stream].remember_where(block, ~np.isnan(block) & begun[:, None])

    def _begin(self, state: ThresholdState, stream: int) -> Bool:
        """Delete the history of the rows outside; return the rows whose history is new, (R,)."""
        outside: Bool = state.block_outside[stream].any(axis=0)
        state.history[stream].forget(outside & ~state.learning[stream])
        state.learning[stream] |= outside
        begun: Bool = state.learning[stream].copy()
        return begun

    def _unlearn(self, state: ThresholdState, stream: int) -> None:
        """Delete the history of rows from an anomaly that closed before it was accepted."""
        if state.learning[stream].any():
            state.history[stream].forget(state.learning[stream])
            state.learning[stream] = False

    def _select(
        self, state: ThresholdState, stream: int, row: int, recent: Float32, normal: Bool
    ) -> Bool:
        """Choose the row's threshold for later samples; return which of ``recent`` exceed it.

        Only errors of the block can be found, because the history was judged before.
        """
        floor, errors = self._floor[row], recent[normal]
        errors = np.concatenate([state.history[stream].kept(row), errors])
        mean, deviation = float(errors.mean(dtype=np.float64)), float(errors.std(dtype=np.float64))
        chosen = np.float32(max(floor, most_telling(errors, mean, deviation, self._z)))
        found = normal & (recent > chosen)
        normal_max = float(errors[errors <= chosen].max(initial=0.0))
        found &= _stands_out(recent, found, normal_max, self._settings.prune_drop)
        if found.any():
            state.threshold[stream, row] = chosen
        return found

    def _limit(
        self, state: ThresholdState, stream: int, block: Float32, normal: Bool | None
    ) -> tuple[Float64, Float64, Bool]:
        """Set the limits from normal errors: the history, and those of ``block`` (R, U).

        Returns mean and deviation of each row, (R,), and whether it has enough normal errors. With
        too few errors, only the bundle's limits apply.
        """
        count, mean, squares = merged(state.history[stream].moments(), moments(block, normal))
        deviation = np.sqrt(squares / np.maximum(count, 1))
        enough = np.asarray(count >= self._settings.update_samples) & ~state.fixed[stream]
        far = self._z[-1] * deviation
        high = np.maximum(self._floor, mean + far)
        low = np.maximum(0.0, np.minimum(self._calm, mean - far))
        state.threshold[stream] = np.where(enough, high, self._floor)
        state.calm[stream] = np.where(enough, low, self._calm)
        return mean, deviation, enough


def _found(
    row: int,
    errors: Float32,
    anomalous: Bool,
    state: ThresholdState,
    stream: int,
    before: np.float32,
) -> Found:
    """Describe the found sequence of a row's block; ``before`` is the former threshold."""
    peak = int(np.nanargmax(np.where(anomalous, errors, np.nan)))
    error, onset = float(errors[peak]), int(np.argmax(anomalous))
    threshold = float(state.threshold[stream, row])
    return Found(row, onset, peak, error / threshold, error / float(before))


def most_telling(errors: Float32, mean: float, deviation: float, z: Float64) -> float:
    """Return the threshold ``mean + z * deviation`` with the largest value of the criterion.

    The criterion is (Δmean/mean + Δdeviation/deviation) / (sequences² + errors).
    """
    best, best_merit = mean + z[-1] * deviation, 0.0
    if mean <= 0 or deviation <= 0:  # a constant history: the criterion is undefined
        return float(best)
    for factor in z:
        candidate = mean + factor * deviation
        above = errors > candidate
        count = int(above.sum())
        if count == 0:
            break  # higher candidates have none either
        if count * 2 >= len(errors):
            continue
        normal = errors[~above].astype(np.float64)
        drop = (mean - normal.mean()) / mean + (deviation - normal.std()) / deviation
        sequences = int(above[0]) + int((above[1:] & ~above[:-1]).sum())
        merit = drop / (sequences**2 + count)
        if merit >= best_merit:
            best, best_merit = candidate, merit
    return float(best)


def _stands_out(recent: Float32, found: Bool, normal_max: float, prune_drop: float) -> Bool:
    """Prune the sequences of ``found`` that do not stand out from what is normal.

    The sequences' maxima and the largest normal error are sorted in descending order. All values
    below the last relative drop of at least ``prune_drop`` are considered normal after all.
    """
    starts = np.flatnonzero(found & ~np.concatenate([[False], found[:-1]]))
    ends = np.flatnonzero(found & ~np.concatenate([found[1:], [False]])) + 1
    peaks = np.array([recent[a:b].max() for a, b in zip(starts, ends, strict=True)], np.float64)
    order = np.argsort(-peaks)
    ladder = np.append(peaks[order], normal_max)
    drops = (ladder[:-1] - ladder[1:]) / ladder[:-1]
    large = np.flatnonzero(drops >= prune_drop)
    kept = np.zeros_like(found)
    for sequence in order[: large[-1] + 1 if len(large) else 0]:
        kept[starts[sequence] : ends[sequence]] = True
    return kept
