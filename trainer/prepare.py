"""From recordings to what is learnt from: the grid, the parts, the scaling, the stretches.

    recordings ─> align (as on a gateway) ─> split by time ─┬─> scaling, from the training part
                                                            └> series: inputs and targets

Nothing that is set from one part sees another; between two parts some samples belong to none.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.align import Aligner
from models.errors import DataError
from models.features import Features
from models.manifest import Channel, Feature, Manifest, Sampling, Source, StreamRules
from models.messages import Float32, Float64, Samples, joined
from models.telemanom import fill_forward as fill_forward
from models.times import iso_time
from trainer.config import ChannelTable, Config, NetworkTable
from trainer.datasets import Recording, time_in

CALIBRATE_SAMPLES_MIN = 1000  # a largest error of fewer says little
TEST_SAMPLES_MIN = 200

_TAIL = 0.005  # share of the values at each end that the scale takes no notice of
_TAILS_APART = 5.15  # standard deviations between these quantiles of a normal distribution
_CONSTANT_SHARE = 0.01  # of its magnitude is the scale of a channel that never moved
_FLOAT32_STEPS = 1e-6  # a scale below this share of the magnitude would be rounding noise

_RATE_TOLERANCE = 0.05  # of a source's rate, that clocks may be off by

_STUCK_FACTOR = 2  # times the longest run of equal values seen in normal operation
_STUCK_SAMPLES_MIN = 25
_STUCK_SHARE_MAX = 0.1  # of what was recorded; more says that the channel repeats by nature


class Parts(NamedTuple):
    """The samples by what they are for, in order of time."""

    train: Samples
    calibrate: Samples
    test: Samples


class Series(NamedTuple):
    """One unbroken stretch, as the network sees it."""

    inputs: Float32  # (n, C) scaled, clipped, the last known value where one is missing
    targets: Float32  # (n, P) of the scored channels H samples on, NaN where they are missing


class Preprocessing(NamedTuple):
    """How samples become the network's inputs and targets."""

    center: Float32  # (C,)
    scale: Float32  # (C,)
    scored: list[int]  # positions of the channels that are predicted
    input_clip: float
    heads: tuple[str, ...]
    horizon: int = 1  # samples ahead


class Grid(NamedTuple):
    """What samples are: the grid, how each of the channels is made, and the raw channels."""

    sampling: Sampling
    features: Sequence[Feature | None]  # None: a channel's readings come as they are
    sources: Sequence[Source]

    @classmethod
    def of(cls, rules: StreamRules) -> Grid:
        """Return that of a manifest."""
        made = [channel.feature for channel in rules.channels]
        return cls(rules.sampling, made, rules.sources)

    def start(self) -> Features | None:
        """Return what makes features of raw readings; None where there are none."""
        return Features(self.features, self.sources, self.sampling) if self.sources else None


def align(recordings: Sequence[Recording], grid: Grid) -> tuple[Samples, Counter[str]]:
    """Put recordings on the sampling grid, one after the other, by the gateway's own code.

    Their columns are the channels that are no features, then the sources.

    Returns:
        The samples, and how many rows were ``late``, ``duplicate`` and so on; see
        ``models.align`` and ``models.features``.

    Raises:
        DataError: two recordings overlap in time, or the grid is much finer than they are; or a
            source has another rate than is said.

    """
    sampling, features = grid.sampling, grid.start()
    for recording in recordings:
        _check_period(recording, sampling.period_s)
        _check_rates(recording, grid)
    ordered = sorted(recordings, key=lambda recording: float(recording.readings.times.min()))
    for before, after in itertools.pairwise(ordered):
        if float(before.readings.times.max()) >= float(after.readings.times.min()):
            raise DataError(f"{before.name} and {after.name} overlap in time; leave one out")
    aligner = Aligner(sampling, len(grid.features), anchored=features is not None)
    pieces = []
    for recording in ordered:
        readings = features.push(recording.readings) if features else recording.readings
        pieces.append(aligner.push(readings))
    return joined(pieces), aligner.counters + (features.counters if features else Counter())


def _check_period(recording: Recording, period_s: float) -> None:
    apart = np.diff(recording.readings.times)
    if len(apart) and float(np.median(apart)) > 1.5 * period_s:
        raise DataError(
            f"{recording.name} has a row every {np.median(apart):g} s, and sampling.period_s is"
            f" {period_s:g}: most samples would be missing"
        )


def _check_rates(recording: Recording, grid: Grid) -> None:
    """Refuse a source with another rate: its frequencies would be wrong, or its windows short."""
    times, values = recording.readings
    for position, source in enumerate(grid.sources, len(values.T) - len(grid.sources)):
        known = times[~np.isnan(values[:, position])]
        _, counts = np.unique(np.floor(known / grid.sampling.period_s), return_counts=True)
        if len(counts) == 0:
            raise DataError(f"{recording.name} has no value of source {source.name}")
        found = float(np.median(counts)) / grid.sampling.period_s
        most_off = _RATE_TOLERANCE * source.rate_hz + 1 / grid.sampling.period_s
        if abs(found - source.rate_hz) > most_off:
            raise DataError(
                f"{recording.name} has {found:g} values of source {source.name} a second, and its"
                f" rate_hz is {source.rate_hz:g}"
            )


def split(samples: Samples, config: Config) -> Parts:
    """Cut the samples by time into the parts of the configuration.

    The first ``warm_up_samples`` after a cut are in no part: a part's first errors would still
    be near the last samples of the part before.

    Raises:
        DataError: a part is too short to be of use; says how much is needed and how much is there.

    """
    count, gap = len(samples.times), config.sampling.warm_up_samples
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
            raise DataError(_too_little(name, end - begin, needed, config))
    return Parts(*(_cut(samples, begin, end) for begin, end in bounds.values()))


def parts_of(recordings: Sequence[Recording], manifest: Manifest) -> Parts:
    """Cut recordings into the parts that a bundle was made of, as its lineage says.

    Args:
        recordings: those that it was trained on, in any order.
        manifest: of the bundle.

    Raises:
        DataError: they are other recordings, or give other samples.

    """
    files, lineage = list(recordings), manifest.lineage
    order = {name: place for place, name in enumerate(lineage.data_files)}
    files.sort(key=lambda recording: order.get(recording.name, len(order)))
    if data_digest(files) != lineage.data_digest:
        raise DataError(
            "these are not the recordings that the bundle was trained on, byte for byte: it names"
            f" {', '.join(lineage.data_files)}"
        )
    samples, _ = align(files, Grid.of(manifest))
    return Parts(*(_part(samples, name, manifest) for name in Parts._fields))


def _part(samples: Samples, name: str, manifest: Manifest) -> Samples:
    if name not in manifest.lineage.parts:
        raise DataError(f"{manifest.name}: its lineage does not say which samples were its {name}")
    *ends, count = manifest.lineage.parts[name]
    first, last = (time_in("lineage", f"parts.{name}", end, iso_time(0)) for end in ends)
    half = manifest.sampling.period_s / 2
    begin, end = np.searchsorted(samples.times, [first - half, last + half]).tolist()
    if end - begin != count:
        raise DataError(
            f"the recordings give {end - begin} samples of the {name} part, and the bundle's had"
            f" {count}: another version of this software put them on the grid otherwise"
        )
    return _cut(samples, begin, end)


def data_digest(recordings: Sequence[Recording]) -> str:
    """Return the sha256 of the recordings' own sha256, in order."""
    digests = "".join(recording.sha256 for recording in recordings)
    return hashlib.sha256(digests.encode()).hexdigest()


def split_all(samples: Samples, config: Config) -> Parts:
    """Cut samples that are all there to learn from: no test part, and nothing left out.

    For benchmarks, which bring a test recording of their own and may have little to learn from.

    Raises:
        DataError: there is not enough for one sequence of the network; says how much is needed.

    """
    count, shares = len(samples.times), config.split
    cut = round(count * shares.train / (shares.train + shares.calibrate))
    learnt = round(cut * (1 - config.fit.validation))
    if learnt < config.fit.chunk_samples:
        needed = int(np.ceil(config.fit.chunk_samples * count / max(learnt, 1)))
        raise DataError(
            f"too little data for one sequence: {count} samples leave {learnt} to learn from, and"
            f" fit.chunk_samples is {config.fit.chunk_samples}: at least {needed} are needed"
        )
    return Parts(_cut(samples, 0, cut), _cut(samples, cut, count), _cut(samples, count, count))


def training_and_validation(part: Samples, config: Config) -> tuple[Samples, Samples]:
    """Cut the training part into what is learnt from and the tail that says when to stop.

    The tail begins with the last ``warm_up_samples`` of what is learnt from, which count for
    nothing in it.
    """
    cut = round(len(part.times) * (1 - config.fit.validation))
    warm = max(0, cut - config.sampling.warm_up_samples)
    return _cut(part, 0, cut), _cut(part, warm, len(part.times))


def channels(parts: Parts, tables: Sequence[ChannelTable]) -> list[Channel]:
    """Describe the channels for the manifest: scaling and the limit of being stuck.

    Raises:
        DataError: a channel has no value in the training part.

    """
    normal = np.concatenate([parts.train.values, parts.calibrate.values])
    described = []
    for column, table in enumerate(tables):
        known = parts.train.values[:, column]
        known = known[~np.isnan(known)]
        if len(known) == 0:
            raise DataError(
                f"channel {table.name} ({_origin(table)}) has no value in the training"
                " part: leave it out of data.channels, or mend the recordings"
            )
        center = float(np.median(known))
        described.append(
            Channel(
                name=table.name,
                unit=table.unit,
                low=table.low,
                high=table.high,
                center=center,
                scale=_scale(known.astype(np.float64), center),
                scored=table.scored,
                feature=table.feature,
                # a command may hold for as long as it likes
                stuck_samples=_stuck_samples(normal[:, column]) if table.scored else None,
            )
        )
    return described


def _origin(table: ChannelTable) -> str:
    if table.feature is None:
        return f"column {table.source!r}"
    return f"{table.feature.kind} of source {table.feature.source}"


def preprocessing(described: Sequence[Channel], network: NetworkTable) -> Preprocessing:
    """Return how the manifest's channels are scaled, in arrays."""
    return Preprocessing(
        np.array([channel.center for channel in described], np.float32),
        np.array([channel.scale for channel in described], np.float32),
        [position for position, channel in enumerate(described) if channel.scored],
        network.input_clip,
        tuple(network.heads),
        network.horizon_samples,
    )


def series(samples: Samples, how: Preprocessing, period_s: float) -> list[Series]:
    """Return the unbroken stretches of ``samples`` as the network sees them."""
    breaks = np.flatnonzero(np.abs(np.diff(samples.times) - period_s) > 0.5 * period_s) + 1
    return [_series(values, how) for values in np.split(samples.values, breaks)]


def _series(values: Float32, how: Preprocessing) -> Series:
    scaled = (values - how.center) / how.scale
    filled = fill_forward(scaled, np.full(scaled.shape[1], np.nan, np.float32))
    inputs = np.clip(np.nan_to_num(filled), -how.input_clip, how.input_clip)
    ahead = how.horizon
    scored, before = scaled[ahead:, how.scored], filled[:-ahead, how.scored]
    after = {"value": scored, "change": scored - before}
    targets = np.concatenate([after[head] for head in how.heads], axis=1)
    return Series(inputs[:-ahead], targets)


def _cut(samples: Samples, begin: int, end: int) -> Samples:
    return Samples(samples.times[begin:end], samples.values[begin:end])


def _needed(config: Config) -> dict[str, int]:
    """Least number of samples of each part."""
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
    whole = needed / share + 2 * config.sampling.warm_up_samples
    return (
        f"too little data: the {name} part has {found} samples and needs {needed}"
        f" ({needed * period_s:g} s). With split.{name} = {share:g} that takes recordings of"
        f" about {whole * period_s / 3600:.2g} h without gaps"
    )


def _scale(known: Float64, center: float) -> float:
    """Spread of a channel in normal operation; never zero.

    The distance of two quantiles near the ends, so that rare outliers do not count and every
    operating mode does, in standard deviations of a normal distribution; at least the
    channel's resolution. A channel that moved too rarely for that: its standard deviation. One
    that never moved: a share of its magnitude, or 1 if that is zero.
    """
    low, high = np.quantile(known, [_TAIL, 1 - _TAIL])
    steps = np.diff(np.unique(known))
    if len(steps) == 0:
        return abs(center) * _CONSTANT_SHARE or 1.0
    spread = float(high - low) / _TAILS_APART or float(known.std())
    return max(spread, float(steps.min()), abs(center) * _FLOAT32_STEPS)


def _stuck_samples(values: Float32) -> int | None:
    """How many equal values in a row are out of the normal; None where that is normal."""
    run = _longest_run(values)
    limit = max(_STUCK_FACTOR * run, _STUCK_SAMPLES_MIN)
    return None if limit > _STUCK_SHARE_MAX * len(values) else limit


def _longest_run(values: Float32) -> int:
    """Most equal values in a row."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1  # NaN differs from NaN
    return int(np.diff([0, *changes.tolist(), len(values)]).max())
