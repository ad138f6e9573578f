"""Turns recordings into training data: the grid, the parts, the scaling, the sequences.

    recordings ─> align (as on a gateway) ─> split by time ─┬─> scaling, from the training part
                                                            └> series: inputs and targets

Every fitted value depends on one part only. Some samples between two parts belong to neither.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.align import Aligner
from models.errors import DataError, DataQualityError, InsufficientDataError
from models.features import Features
from models.manifest import (
    MAGNITUDE_MAX,
    MAGNITUDE_MIN,
    Channel,
    Feature,
    Manifest,
    Sampling,
    Source,
    StreamRules,
)
from models.messages import Float32, Float64, Samples, joined
from models.telemanom import fill_forward as fill_forward
from models.times import iso_time
from trainer import leakage, lineage
from trainer.cleaning import filled, known
from trainer.config import ChannelTable, Config, NetworkTable, PrepareTable
from trainer.datasets import Recording, time_in

AS_IT_IS = PrepareTable()  # nothing is left out or filled
CALIBRATE_SAMPLES_MIN = 1000  # the largest error of fewer samples says little
TEST_SAMPLES_MIN = 200

_TAIL = 0.005  # share of the values at each end that the scale ignores
_TAILS_APART = 5.15  # standard deviations between these quantiles of a normal distribution
_CONSTANT_SHARE = 0.01  # a constant channel's scale, as a share of its magnitude
_FLOAT32_STEPS = 1e-6  # a scale below this share of the magnitude would be rounding noise

_DENSE_SHARE = 1e-3  # of the period; closer rows have another unit of time
_RATE_TOLERANCE = 0.05  # the largest error of a clock, as a share of a source's rate

_STUCK_FACTOR = 2  # times the longest run of equal values in normal operation
_STUCK_SAMPLES_MIN = 25
_STUCK_SHARE_MAX = 0.1  # of the recorded samples; with more, the channel repeats by nature


class Parts(NamedTuple):
    """The samples of training, calibration and test, in order of time, (n, C) each."""

    train: Samples
    calibrate: Samples
    test: Samples


class Series(NamedTuple):
    """One sequence without gaps, as the network sees it."""

    inputs: Float32  # (n, C) scaled and clipped; the last known value replaces a missing one
    targets: Float32  # (n, P) scored channels H samples later, scaled; NaN where missing


class Preprocessing(NamedTuple):
    """The scaling of samples to the network's inputs and targets."""

    center: Float32  # (C,) in the channels' units
    scale: Float32  # (C,) in the channels' units
    scored: list[int]  # positions of the channels that are predicted
    input_clip: float  # in scales
    heads: tuple[str, ...]
    horizon: int = 1  # samples from the input to the target


class Grid(NamedTuple):
    """The definition of a sample: the grid, the features, and the raw channels."""

    sampling: Sampling
    features: Sequence[Feature | None]  # of each channel; None: the channel is not a feature
    sources: Sequence[Source]

    @classmethod
    def of(cls, rules: StreamRules) -> Grid:
        """Return the grid of a manifest."""
        made = [channel.feature for channel in rules.channels]
        return cls(rules.sampling, made, rules.sources)

    def start(self) -> Features | None:
        """Return new features of raw readings; None if there are no sources."""
        return Features(self.features, self.sources, self.sampling) if self.sources else None


def align(recordings: Sequence[Recording], grid: Grid) -> tuple[Samples, Counter[str]]:
    """Put recordings on the sampling grid, in order of time, with the gateway's code.

    Their columns are the channels that are not features, then the sources.

    Returns:
        The samples, and the counts of rows that were ``late``, ``duplicate`` and so on; see
        ``models.align`` and ``models.features``.

    Raises:
        LeakageError: two recordings overlap in time.
        DataError: the grid is much finer or coarser than their rows, or the rate of a source
            differs from the configured one.

    """
    sampling, features = grid.sampling, grid.start()
    for recording in recordings:
        _check_period(recording, grid)
        _check_rates(recording, grid)
    ordered = sorted(recordings, key=lambda recording: float(recording.readings.times.min()))
    leakage.check_times(ordered)
    aligner = Aligner(sampling, len(grid.features), anchored=features is not None)
    pieces = []
    for recording in ordered:
        readings = features.push(recording.readings) if features else recording.readings
        pieces.append(aligner.push(readings))
    return joined(pieces), aligner.counters + (features.counters if features else Counter())


def _check_period(recording: Recording, grid: Grid) -> None:
    """Refuse rows too far apart for the grid, or so close that nearly all would be left out."""
    if len(recording.readings.times) < 2:
        return
    apart_s, period_s = float(np.median(np.diff(recording.readings.times))), grid.sampling.period_s
    found = (
        f"{recording.name} has a row every {apart_s:.3g} s, but sampling.period_s is {period_s:g}"
    )
    if apart_s > 1.5 * period_s:
        raise DataError(f"{found}: most samples would be missing; set a longer period")
    if apart_s < _DENSE_SHARE * period_s and not grid.sources:
        raise DataError(
            f"{found}: nearly all rows would be left out; set a shorter period, or"
            ' data.time_format = "excel" if the times are days of a spreadsheet'
        )


def _check_rates(recording: Recording, grid: Grid) -> None:
    """Refuse a source with a wrong rate: its frequencies or windows would be wrong."""
    times, values = recording.readings
    for position, source in enumerate(grid.sources, len(values.T) - len(grid.sources)):
        known = times[~np.isnan(values[:, position])]
        _, counts = np.unique(np.floor(known / grid.sampling.period_s), return_counts=True)
        if len(counts) == 0:
            raise DataError(f"{recording.name} has no value for source {source.name}")
        found = float(np.median(counts)) / grid.sampling.period_s
        most_off = _RATE_TOLERANCE * source.rate_hz + 1 / grid.sampling.period_s
        if abs(found - source.rate_hz) > most_off:
            raise DataError(
                f"{recording.name} has {found:g} values per second for source {source.name}, but"
                f" rate_hz is {source.rate_hz:g}"
            )


def split(samples: Samples, config: Config) -> Parts:
    """Split the samples by time into the parts of the configuration.

    The first samples after a cut belong to no part, ``gap_samples`` of them: a part's first errors
    and forecasts would depend on the last samples of the part before.

    Raises:
        InsufficientDataError: a part is too short; the text has the needed and the actual length.

    """
    count, gap = len(samples.times), config.gap_samples
    first = round(count * config.split.train)
    second = round(count * (config.split.train + config.split.calibrate))
    bounds = {
        "train": (0, first),
        "calibrate": (min(first + gap, second), second),
        "test": (min(second + gap, count), count),
    }
    for name, needed in _needed(config).items():
        begin, end = bounds[name]
        if end - begin < needed:
            raise InsufficientDataError(_too_little(name, end - begin, needed, config))
    return Parts(*(_cut(samples, begin, end) for begin, end in bounds.values()))


def parts_of(recordings: Sequence[Recording], manifest: Manifest) -> Parts:
    """Split recordings into the parts of a bundle's training, by its lineage.

    Args:
        recordings: all recordings of the training, in any order.
        manifest: of the bundle.

    Raises:
        DataError: these are not the recordings of the training, or their samples differ.

    """
    files, origin = list(recordings), manifest.lineage
    order = {name: place for place, name in enumerate(origin.data_files)}
    files.sort(key=lambda recording: order.get(recording.name, len(order)))
    _check_same(files, manifest)
    samples, _ = align(files, Grid.of(manifest))
    cuts = [
        (time_in("lineage", "cuts", begin, iso_time(0)), time_in("lineage", "cuts", end, ""))
        for begin, end in origin.cuts
    ]
    samples = without(samples, cuts)
    return Parts(*(_part(samples, name, manifest) for name in Parts._fields))


def _check_same(files: Sequence[Recording], manifest: Manifest) -> None:
    """Refuse other values than the training's; of an older bundle, other bytes."""
    origin = manifest.lineage
    named = ", ".join(origin.data_files)
    if origin.data is None:
        if data_digest(files) != origin.data_digest:
            raise DataError(
                "these are not, byte for byte, the recordings that the bundle was trained on:"
                f" give all of {named}, unchanged"
            )
        return
    names = [channel.name for channel in manifest.source_channels]
    channels = lineage.values_of(files, names).channels()
    if differs := lineage.differences(channels, origin.data.channels, "channel"):
        raise DataError(
            "these are not the recordings that the bundle was trained on, or not all of"
            f" {named}: {'; '.join(differs)}"
        )


def _part(samples: Samples, name: str, manifest: Manifest) -> Samples:
    if name not in manifest.lineage.parts:
        raise DataError(f"{manifest.name}: its lineage has no {name} part")
    *ends, count = manifest.lineage.parts[name]
    first, last = (time_in("lineage", f"parts.{name}", end, iso_time(0)) for end in ends)
    half = manifest.sampling.period_s / 2
    begin, end = np.searchsorted(samples.times, [first - half, last + half]).tolist()
    if end - begin != count:
        raise DataError(
            f"the recordings have {end - begin} samples in the {name} part, but the bundle had"
            f" {count}: another version of this software trained it, and aligned them differently"
        )
    return _cut(samples, begin, end)


def without(samples: Samples, intervals: Sequence[tuple[float, float]]) -> Samples:
    """Return the samples outside all intervals (begin and end inclusive, Unix seconds).

    The times jump there, as over a gap.
    """
    keep = np.ones(len(samples.times), np.bool_)
    for begin, end in intervals:
        keep &= (samples.times < begin) | (samples.times > end)
    quality = None if samples.quality is None else samples.quality[keep]
    return Samples(samples.times[keep], samples.values[keep], quality)


def data_digest(recordings: Sequence[Recording]) -> str:
    """Return the sha256 of the recordings' sha256 digests, in order, as hexadecimal digits."""
    digests = "".join(recording.sha256 for recording in recordings)
    return hashlib.sha256(digests.encode()).hexdigest()


def split_all(samples: Samples, config: Config) -> Parts:
    """Split samples into a training and a calibration part, with an empty test part.

    No sample is left out. This is for benchmarks, which have separate test recordings and may have
    little training data.

    Raises:
        DataError: there are too few samples for one sequence of the network; the text has the
            needed number.

    """
    count, shares = len(samples.times), config.split
    cut = round(count * shares.train / (shares.train + shares.calibrate))
    learnt = round(cut * (1 - config.fit.validation))
    if learnt < config.fit.chunk_samples:
        needed = int(np.ceil(config.fit.chunk_samples * count / max(learnt, 1)))
        raise DataError(
            f"too little data for one sequence: of {count} samples, {learnt} are for training, but"
            f" fit.chunk_samples is {config.fit.chunk_samples}: at least {needed} are needed"
        )
    return Parts(_cut(samples, 0, cut), _cut(samples, cut, count), _cut(samples, count, count))


def training_and_validation(part: Samples, config: Config) -> tuple[Samples, Samples]:
    """Split the training part into training data and, at the end, validation data.

    The validation data begins with the last ``warm_up_samples`` of the training data, which only
    warm up the network.
    """
    cut = round(len(part.times) * (1 - config.fit.validation))
    warm = max(0, cut - config.sampling.warm_up_samples)
    return _cut(part, 0, cut), _cut(part, warm, len(part.times))


def channels(parts: Parts, tables: Sequence[ChannelTable]) -> list[Channel]:
    """Return the channels of the manifest, with their scaling and ``stuck_samples``.

    Raises:
        DataQualityError: a channel has no value in the training part, its values are too large or
            too small for a bundle, or a scored channel has no value in the calibration part.

    """
    normal = np.concatenate([parts.train.values, parts.calibrate.values])
    return [
        _channel(table, _known(parts, column, table), normal[:, column])
        for column, table in enumerate(tables)
    ]


def _known(parts: Parts, column: int, table: ChannelTable) -> Float32:
    """Return a channel's known values in the training part."""
    values = parts.train.values[:, column]
    known: Float32 = values[~np.isnan(values)]
    if len(known) == 0:
        raise DataQualityError(
            f"channel {table.name} ({_origin(table)}) has no value in the training"
            " part: remove it from data.channels, or correct the recordings"
        )
    if table.scored and np.isnan(parts.calibrate.values[:, column]).all():
        raise DataQualityError(
            f"channel {table.name} ({_origin(table)}) has no value in the calibration part: its"
            " threshold cannot be set; remove it from data.channels, or correct the recordings"
        )
    return known


def _channel(table: ChannelTable, known: Float32, normal: Float32) -> Channel:
    """Return a channel; ``known``: values to scale by, ``normal``: all of normal operation."""
    center = float(np.median(known))
    scale = _scale(known.astype(np.float64), center)
    if abs(center) > MAGNITUDE_MAX or not MAGNITUDE_MIN <= scale <= MAGNITUDE_MAX:
        raise DataQualityError(
            f"channel {table.name} ({_origin(table)}) has values that a bundle cannot store:"
            f" their median is {center:.3g}, their spread {scale:.3g}; set low and high of the"
            " channel, or use another unit"
        )
    return Channel(
        name=table.name,
        unit=table.unit,
        low=table.low,
        high=table.high,
        center=center,
        scale=scale,
        scored=table.scored,
        feature=table.feature,
        # a command may stay the same for any time
        stuck_samples=_stuck_samples(normal) if table.scored else None,
    )


def remarks(part: Samples, tables: Sequence[ChannelTable]) -> list[str]:
    """Return a remark for each channel that never changes in the training part."""
    found = []
    for column, table in enumerate(tables):
        known = part.values[:, column]
        known = known[~np.isnan(known)]
        if len(known) and known.min() == known.max():
            value = f"{known[0]:g} {table.unit}".rstrip()
            so = "any change of it will look abnormal" if table.scored else "it has no use"
            found.append(
                f"{table.name} is always {value} in the training part, so the network learns"
                f" nothing of it, and {so}; remove it, or use recordings in which it changes"
            )
    return found


def _origin(table: ChannelTable) -> str:
    if table.feature is None:
        return f"column {table.source!r}"
    return f"{table.feature.kind} of source {table.feature.source}"


def preprocessing(described: Sequence[Channel], network: NetworkTable) -> Preprocessing:
    """Return the scaling of the manifest's channels as arrays."""
    return Preprocessing(
        np.array([channel.center for channel in described], np.float32),
        np.array([channel.scale for channel in described], np.float32),
        [position for position, channel in enumerate(described) if channel.scored],
        network.input_clip,
        tuple(network.heads),
        network.horizon_samples,
    )


def series(
    samples: Samples, how: Preprocessing, period_s: float, cleaning: PrepareTable = AS_IT_IS
) -> list[Series]:
    """Return the sequences of ``samples`` without gaps, as the network sees them."""
    breaks = np.flatnonzero(np.abs(np.diff(samples.times) - period_s) > 0.5 * period_s) + 1
    return [_series(values, how, cleaning) for values in np.split(samples.values, breaks)]


def _series(values: Float32, how: Preprocessing, cleaning: PrepareTable) -> Series:
    scaled = known((values - how.center) / how.scale, cleaning)
    last = fill_forward(scaled, np.full(scaled.shape[1], np.nan, np.float32))
    held = np.where(np.isnan(imputed := filled(scaled, cleaning)), last, imputed)
    inputs = np.clip(np.nan_to_num(held), -how.input_clip, how.input_clip)
    ahead = how.horizon
    scored, before = scaled[ahead:, how.scored], last[:-ahead, how.scored]
    after = {"value": scored, "change": scored - before}
    targets = np.concatenate([after[head] for head in how.heads], axis=1)
    return Series(inputs[:-ahead], targets)


def _cut(samples: Samples, begin: int, end: int) -> Samples:
    return Samples(samples.times[begin:end], samples.values[begin:end])


def _needed(config: Config) -> dict[str, int]:
    """Return the least number of samples in each part."""
    warm_up, fit = config.sampling.warm_up_samples, config.fit
    learn = (warm_up + 4 * fit.chunk_samples) / (1 - fit.validation)
    validate = (warm_up + fit.chunk_samples) / fit.validation
    return {
        "train": int(np.ceil(max(learn, validate))) + 1,
        "calibrate": warm_up + CALIBRATE_SAMPLES_MIN,
        "test": warm_up + TEST_SAMPLES_MIN,
    }


def _too_little(name: str, found: int, needed: int, config: Config) -> str:
    share, period_s = getattr(config.split, name), config.sampling.period_s
    whole = needed / share + 2 * config.gap_samples
    return (
        f"too little data: the {name} part has {found} samples and needs {needed}"
        f" ({needed * period_s:g} s). With split.{name} = {share:g} you need recordings of about"
        f" {whole * period_s / 3600:.2g} h without gaps"
    )


def _scale(known: Float64, center: float) -> float:
    """Return the spread of a channel in normal operation, in its unit; never zero.

    It is the distance between two outer quantiles, divided by their distance in a standard normal
    distribution. So it ignores rare outliers, and covers every operating mode. It is at least the
    channel's resolution. For a channel that rarely changes, it is the standard deviation. For a
    constant channel, it is a share of its magnitude, or 1 if that is zero.
    """
    low, high = np.quantile(known, [_TAIL, 1 - _TAIL])
    steps = np.diff(np.unique(known))
    if len(steps) == 0:
        return abs(center) * _CONSTANT_SHARE or 1.0
    spread = float(high - low) / _TAILS_APART or float(known.std())
    return max(spread, float(steps.min()), abs(center) * _FLOAT32_STEPS)


def _stuck_samples(values: Float32) -> int | None:
    """Return how many equal values in a row are abnormal; None if no number is."""
    run = _longest_run(values)
    limit = max(_STUCK_FACTOR * run, _STUCK_SAMPLES_MIN)
    return None if limit > _STUCK_SHARE_MAX * len(values) else limit


def _longest_run(values: Float32) -> int:
    """Return the length of the longest run of equal values."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1  # NaN differs from NaN
    return int(np.diff([0, *changes.tolist(), len(values)]).max())
