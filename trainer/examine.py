"""Examines the data of a configuration: coverage, gaps, ranges, and what is unusable and why.

In contrast to a training, it goes on after an error: whatever can be read is described.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import DataError
from models.messages import Float32, Float64, Samples
from models.times import iso_time
from trainer import prepare, seal
from trainer.config import ChannelTable, ConfigFile
from trainer.datasets import Recording
from trainer.prepared import Prepared, Say, Source, prepare_from, readers
from trainer.steps import Step

GAPS_MAX: Final = 20  # that are named, the longest first
_SEGMENT: Final = 1024  # samples of a periodogram
_ROUNDING: Final = 1e-12  # of the square of a value
_PEAK: Final = 20.0  # times the median of a spectrum
_OFFSET = re.compile(  # of a time of day; "no zone" if it has none
    rb"\d\d:\d\d(?::\d\d(?:[.,]\d+)?)? ?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?(?=[^\d:]|$)"
)
_TEXT: Final = (".csv", ".txt", ".tsv")


class SourceFacts(NamedTuple):
    """What one recording has."""

    name: str
    rows: int
    first: float  # Unix seconds
    last: float
    out_of_range: int
    rejected: Mapping[str, int]


class ChannelFacts(NamedTuple):
    """What one channel has, on the grid; figures are None without any value."""

    name: str
    unit: str
    known: int
    share: float  # of the samples
    gaps: int
    longest_gap_s: float
    quantiles: Sequence[float] | None  # lowest, 1 %, median, 99 %, highest
    mean: float | None
    deviation: float | None
    different: int  # different values
    longest_run: int  # equal values in a row
    strongest_period_s: float | None  # of its spectrum, if one stands out
    unusable: str  # why; empty: it can be used


class Gap(NamedTuple):
    """A stretch without samples."""

    begin: float  # Unix seconds
    end: float


@dataclass(eq=False, slots=True)
class Examined:
    """The facts about the data of a configuration."""

    file: ConfigFile
    sources: list[SourceFacts]
    samples: Samples | None  # on the grid; None: nothing could be put there
    channels: list[ChannelFacts]
    gaps: list[Gap]
    spectra: dict[str, tuple[Float64, Float64]]  # frequency (Hz) and density, by channel
    correlations: Float64  # (C, C); NaN where there is none
    prepared: Prepared | None  # None: a training would be refused
    refused: list[str] = field(default_factory=list)  # sentences: what a training would refuse
    remarks: list[str] = field(default_factory=list)  # sentences: what is odd

    @property
    def steps(self) -> list[Step]:
        """What the preparation changed."""
        return [] if self.prepared is None else self.prepared.steps


def examine(file: ConfigFile, say: Say) -> Examined:
    """Read and describe the data of a configuration.

    Raises:
        ConfigError: a pattern matches no file, or a query's settings are wrong.

    """
    refused: list[str] = []
    read = list(_readable(readers(file, say), refused))
    prepared = _prepared(file, read, refused, say) if read and not refused else None
    samples = _samples(file, [source.recording for source in read])
    tables, period_s = file.config.data.channels, file.config.sampling.period_s
    spectra = {} if samples is None else dict(_spectra(samples, tables, period_s))
    channels = [] if samples is None else list(_channels(samples, tables, period_s, spectra))
    refused += _told_by_channel(channels, refused)
    return Examined(
        file,
        [_source_facts(source.recording) for source in read],
        samples,
        channels,
        [] if samples is None else _gaps(samples.times, period_s),
        spectra,
        np.empty((0, 0)) if samples is None else _correlations(samples.values),
        prepared,
        refused,
        [*_zones(read), *([] if prepared is None else prepared.remarks)],
    )


def _readable(sources: Sequence[Callable[[], Source]], refused: list[str]) -> Iterator[Source]:
    for source in sources:
        try:
            yield source()
        except DataError as error:
            refused.append(str(error))


def _prepared(
    file: ConfigFile, read: Sequence[Source], refused: list[str], say: Say
) -> Prepared | None:
    try:
        return prepare_from(file, read, say)
    except DataError as error:
        refused.append(str(error))
        return None


def _samples(file: ConfigFile, recordings: Sequence[Recording]) -> Samples | None:
    """Return the samples of all recordings; if they exclude each other, of the longest."""
    if not recordings:
        return None
    longest = max(recordings, key=lambda recording: len(recording.readings.times))
    for chosen in (recordings, [longest]):
        try:
            return prepare.align(chosen, seal.grid(file.config))[0]
        except DataError:  # it is told by the preparation
            continue
    return None


def _told_by_channel(channels: Sequence[ChannelFacts], refused: Sequence[str]) -> list[str]:
    """Return the channels without a value that no other sentence names."""
    return [
        f"channel {channel.name}: {channel.unusable}"
        for channel in channels
        if not channel.known and not any(f"channel {channel.name} " in line for line in refused)
    ]


def _source_facts(recording: Recording) -> SourceFacts:
    times = recording.readings.times
    return SourceFacts(
        recording.name,
        len(times),
        float(times.min()),
        float(times.max()),
        recording.out_of_range,
        recording.rejected,
    )


def _zones(read: Sequence[Source]) -> Iterator[str]:
    """Yield a sentence for each file of text whose times have different offsets, or only some."""
    for source in read:
        if source.path is not None and source.path.suffix.lower() in _TEXT:
            found = offsets(source.path.read_bytes())
            if len(found) > 1:
                said = ", ".join(f"{zone} in {rows} rows" for zone, rows in found.most_common())
                yield (
                    f"{source.recording.name} has times of mixed zones: {said}. Each is read in the"
                    " zone that it names, and times without a zone in data.time_zone: check that"
                    " they mean what they say"
                )


def offsets(text: bytes) -> Counter[str]:
    """Return the offsets of the first time in each row of a file of text, with their number."""
    found = (_OFFSET.search(row) for row in text.splitlines())
    return Counter(
        "no zone" if time[1] is None else time[1].decode().upper() for time in found if time
    )


def _channels(
    samples: Samples,
    tables: Sequence[ChannelTable],
    period_s: float,
    spectra: Mapping[str, tuple[Float64, Float64]],
) -> Iterator[ChannelFacts]:
    for column, table in enumerate(tables):
        yield _channel(table, samples.values[:, column], period_s, spectra.get(table.name))


def _channel(
    table: ChannelTable,
    values: Float32,
    period_s: float,
    spectrum: tuple[Float64, Float64] | None,
) -> ChannelFacts:
    missing = np.isnan(values)
    known = values[~missing].astype(np.float64)
    gaps = _runs(missing)
    quantiles = np.quantile(known, [0, 0.01, 0.5, 0.99, 1]).tolist() if len(known) else None
    different = len(np.unique(known))
    return ChannelFacts(
        table.name,
        table.unit,
        len(known),
        len(known) / max(len(values), 1),
        len(gaps),
        float(gaps.max(initial=0)) * period_s,
        quantiles,
        float(known.mean()) if len(known) else None,
        float(known.std()) if len(known) else None,
        different,
        int(_runs(np.diff(known) == 0).max(initial=0)) + 1 if len(known) else 0,
        None if spectrum is None else _strongest(*spectrum),
        _unusable(table, known, different),
    )


def _unusable(table: ChannelTable, known: Float64, different: int) -> str:
    if len(known) == 0:
        return f"it has no value in any recording (column {table.source!r})"
    if different == 1:
        shown = f"{known[0]:g} {table.unit}".rstrip()
        return f"it is always {shown}, so there is nothing to learn"
    return ""


def _runs(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the lengths of the runs of true values."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges[1::2] - edges[::2]


def _gaps(times: Float64, period_s: float) -> list[Gap]:
    apart = np.diff(times)
    at = np.flatnonzero(apart > 1.5 * period_s)
    longest = at[np.argsort(-apart[at], kind="stable")][:GAPS_MAX]
    return [Gap(float(times[place]), float(times[place + 1])) for place in longest]


def _correlations(values: Float32) -> Float64:
    """Return the correlations of channels (C, C) over rows that have both."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    exact = np.where(known, values, np.float32(0)).astype(np.float64)
    filled = np.where(known, exact - exact.sum(axis=0) / np.maximum(count, 1), 0.0)
    weight = known.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        both = weight.T @ weight
        means = (filled.T @ weight) / both  # of each channel, where the other is known
        spread = np.square(filled).T @ weight / both - np.square(means)
        spread = np.where(
            spread > _ROUNDING * np.square(exact).max(axis=0)[:, None], spread, np.nan
        )
        found: Float64 = (filled.T @ filled / both - means * means.T) / np.sqrt(spread * spread.T)
    return np.clip(found, -1, 1)


def _spectra(
    samples: Samples, tables: Sequence[ChannelTable], period_s: float
) -> Iterator[tuple[str, tuple[Float64, Float64]]]:
    """Yield the mean periodogram of each channel that has stretches without gaps."""
    breaks = np.flatnonzero(np.diff(samples.times) > 1.5 * period_s) + 1
    stretches = np.split(samples.values, breaks)
    for column, table in enumerate(tables):
        pieces = [piece for values in stretches for piece in _pieces(values[:, column])]
        if pieces:
            window = np.hanning(_SEGMENT)
            cut = np.array(pieces, np.float64)
            cut -= cut.mean(axis=1, keepdims=True)
            power = np.square(np.abs(np.fft.rfft(cut * window, axis=1)))
            density: Float64 = power.mean(axis=0)
            frequency = np.arange(1, len(density), dtype=np.float64) / (_SEGMENT * period_s)
            if density[1:].any():  # a constant has no spectrum
                yield table.name, (frequency, density[1:])


def _pieces(values: Float32) -> Iterator[Float32]:
    """Yield pieces of ``_SEGMENT`` samples, overlapping by half, without missing values."""
    for begin in range(0, len(values) - _SEGMENT + 1, _SEGMENT // 2):
        piece = values[begin : begin + _SEGMENT]
        if not np.isnan(piece).any():
            yield piece


def _strongest(frequency: Float64, density: Float64) -> float | None:
    """Return the period of the highest peak, in seconds; None if none stands out."""
    at = int(np.argmax(density))
    # a peak, and not the beginning of a spectrum that falls
    stands_out = at > 2 and density[at] > max(_PEAK * np.median(density), 2 * density[at // 2])
    return float(1 / frequency[at]) if stands_out else None


def times_of(examined: Examined) -> tuple[str, str]:
    """Return the first and the last time of all recordings, as texts."""
    first = min(source.first for source in examined.sources)
    last = max(source.last for source in examined.sources)
    return iso_time(first), iso_time(last)
