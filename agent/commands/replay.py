"""Scores a recording at full speed, with the same parser, aligner and pipeline as the agent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.alarms.document import Reason
from agent.alarms.lifecycle import Alarms, Cause, Change
from agent.alarms.limit import check_limits
from agent.bundles.load import load
from agent.config.inputs import InputTable, ReplayTable
from agent.config.load import StreamTable
from agent.parsing.lines import LineParser
from agent.scoring.parts import Limits, PassedLimits
from agent.scoring.summary import uncertain
from agent.store.batch import Batch
from agent.store.record import Kind
from models import columns
from models.align import Aligner
from models.columns import Found, Sought
from models.detector import Detector, Memory, Result
from models.errors import ConfigError, DataError
from models.features import features_of
from models.formats.header import plain
from models.formats.local_times import Unsettled, settled
from models.formats.recording import Layout, Recorded
from models.formats.separated import split
from models.formats.times import Times
from models.interpreter import Runtime
from models.manifest import Manifest
from models.messages import QUALITIES, Event, Readings, Samples, named_quality
from models.settings import explain
from models.times import iso_time
from models.validation import ValidationError

CHUNK_LINES: Final = 5000
LINE_BYTES_MAX: Final = 65536
LAYOUT: Final = Layout()


def replay(
    recording: Path,
    bundle_file: Path,
    interpreter: Runtime = "auto",
    layout: Layout = LAYOUT,
    guarded: StreamTable | None = None,
    time_column: str | None = None,
    clock_column: str | None = None,
) -> dict[str, Any]:
    """Return the events of a CSV recording, with counts; its header names the columns.

    A channel's column has the name from the bundle's training, or the channel's name. Columns that
    are not channels of the bundle are ignored. Rows are scored in the order of their times.

    Args:
        recording: The file.
        bundle_file: The bundle to score with.
        interpreter: The interpreter that runs its network.
        layout: The layout of the recording.
        guarded: The stream whose limits are also checked; None: no limits.
        time_column: The column of the times; None: that of the training, or ``time``.
        clock_column: The column of the time of day, if ``time_column`` has only the date.

    Raises:
        BundleError: the bundle is refused.
        ConfigError: a limit does not fit the bundle.
        DataError: the recording cannot be read, lacks the time or every channel, or no sample gets
            a score.

    """
    bundle, pipeline = load(bundle_file, interpreter)
    manifest = bundle.manifest
    sought = columns.of_bundle(manifest, time_column, clock_column)
    read, parser = opened(recording, manifest, sought, layout)
    features = features_of(manifest)
    aligner = Aligner(manifest.sampling, len(manifest.channels), anchored=bool(features))
    state = pipeline.start()
    told = _Told(recording.stem, pipeline, state)
    limits = None if guarded is None else _Limits(told, guarded, pipeline, state)
    samples, scored, doubtful = 0, 0, 0
    made_up: Counter[str] = Counter()
    began = time.perf_counter()
    parts = [parser.parse(lines, 0.0) for lines in _chunks(read.rows)]
    readings_in_order, backwards = _in_order(_settled(recording, parts, read, sought, layout))
    for readings in readings_in_order:
        aligned = aligner.push(features.push(readings) if features else readings)
        result = pipeline.step(state, aligned)
        samples += len(result.scores.times)
        scored += int((result.scores.score >= 0).sum())  # false for NaN
        if aligned.quality is not None:
            doubtful += uncertain(aligned.quality, result.scores.score)
            made_up.update(
                QUALITIES[code] for code in aligned.quality[aligned.quality > 0].tolist()
            )
        for event in result.events:
            told.report([event], told.batch, aligned)
        if limits is not None:
            limits.take(aligned, result)
    rejected = parser.counters + aligner.counters + (features.counters if features else Counter())
    if not scored:
        raise DataError(_unscored(recording, read, samples, rejected, parser, manifest))
    if backwards:
        rejected["backwards"] = backwards
    return {
        "recording": str(recording),
        "bundle_digest": bundle.digest,
        "interpreter": pipeline.runtime,
        "samples": samples,
        "scored": scored,
        "uncertain": doubtful,
        "values": dict(made_up),
        "rejected": dict(rejected),
        "absent": _absent(read, manifest),
        "events": told.in_order(),
        "samples_per_s": round(samples / max(time.perf_counter() - began, 1e-9)),
    }


def opened(
    recording: Path, manifest: Manifest, sought: Sought, layout: Layout
) -> tuple[Recorded, LineParser]:
    """Return a recording's rows, and their parser.

    Raises:
        DataError: the recording cannot be read, or lacks the time or every channel.

    """
    read, found = _recorded(recording, manifest, sought, layout)
    table = _table(recording, read, found, manifest, layout)
    return read, LineParser(table, manifest.source_channels)


class _Told:
    """The stream of a recording, in the role of ``agent.scoring.part.Teller``."""

    def __init__(self, name: str, pipeline: Detector, state: Memory) -> None:
        self.batch = Batch()  # never committed
        self.last_time: float | None = None
        self.correction_s = 0.0
        self._pipeline, self._state = pipeline, state
        channels = pipeline.manifest.channels
        self._alarms = Alarms(name, {channel.name: channel.unit for channel in channels})
        self._changes: list[Change] = []

    def take_number(self) -> int:
        """Return the number of a new event."""
        return self._pipeline.events(self._state).take_number()

    def report(
        self,
        events: list[Event],
        batch: Batch,
        samples: Samples | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Open and close the alarms of events."""
        names = self._pipeline.manifest.channel_names
        for event in events:
            quality = None if samples is None else samples.quality_at(event.time)
            change = self._alarms.take(event, named_quality(names, quality), reason)
            self._changes += [] if change is None else [change]

    def close_alarms(
        self, cause: Cause, batch: Batch, numbers: Iterable[int] | None = None
    ) -> None:
        """Close open alarms whose events will not close them."""
        self._changes += self._alarms.close(cause, self.last_time or 0.0, numbers)

    def send(self, kind: Kind, time: float, data: dict[str, Any], batch: Batch) -> None:
        """Do nothing: there is no receiver."""

    def in_order(self) -> list[dict[str, Any]]:
        """Return the alarms that opened or closed, in chronological order."""
        return [change.alarm for change in sorted(self._changes, key=lambda change: change.time)]


class _Limits:
    """Checks the limits of a stream over a recording, with the same parts as the agent."""

    def __init__(
        self, told: _Told, settings: StreamTable, pipeline: Detector, state: Memory
    ) -> None:
        channels = pipeline.manifest.channels
        check_limits(settings.name, settings.limits, channels)
        self._told = told
        self._measured = PassedLimits(told, settings, channels, pipeline.manifest.sampling)
        self._forecast = Limits(told, settings, pipeline, state, 0, self._measured)

    def take(self, samples: Samples, result: Result) -> None:
        """Process samples with the pipeline's result, each forecast at its time."""
        begin = 0
        for forecast in result.forecasts:
            end = int(np.searchsorted(samples.times, forecast.time, side="right"))
            self._take(samples, result, begin, end)
            self._forecast.foretell(forecast, self._told.batch)
            begin = max(begin, end)
        self._take(samples, result, begin, len(samples.times))

    def _take(self, samples: Samples, result: Result, begin: int, end: int) -> None:
        if end > begin:
            part, score = samples.part(begin, end), result.scores.score[begin:end]
            self._told.last_time = float(part.times[-1])
            self._measured.take(part, score, self._told.batch)
            self._forecast.take(part, score, self._told.batch)


def _recorded(
    recording: Path, manifest: Manifest, sought: Sought, layout: Layout
) -> tuple[Recorded, Found]:
    try:
        return columns.cut(recording.read_bytes(), sought, layout)
    except OSError as error:
        raise DataError(f"{recording}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        names = ", ".join(channel.name for channel in manifest.source_channels)
        raise DataError(
            f"{recording}: {error}; it needs {sought.time[-1]} and channels of the bundle: {names}"
        ) from error


def _absent(read: Recorded, manifest: Manifest) -> list[str]:
    """Return the channels without a column, for which no sample has a value."""
    sought = columns.of_bundle(manifest).channels
    return [
        channel.name
        for channel, names in zip(manifest.source_channels, sought, strict=True)
        if not set(names).intersection(read.header)
    ]


def _table(
    recording: Path, read: Recorded, found: Found, manifest: Manifest, layout: Layout
) -> InputTable:
    """Return the rows' layout in the form of an input's configuration."""
    meaning = found.meaning([channel.name for channel in manifest.source_channels])
    try:
        return ReplayTable(
            name="replay",
            stream="replay",
            type="replay",
            path=recording,
            header=False,
            columns=read.columns(meaning),
            separator=read.separator,
            decimal="," if read.decimal_comma else ".",
            missing_words=list(layout.missing_words),
            time_format=layout.time_format,
            time_zone=layout.time_zone,
            line_bytes_max=LINE_BYTES_MAX,
        )
    except ValidationError as error:
        raise ConfigError("\n".join(explain(ReplayTable, error))) from error


def _chunks(rows: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(rows), CHUNK_LINES):
        yield rows[start : start + CHUNK_LINES]


def _settled(
    recording: Path, parts: Sequence[Readings], read: Recorded, sought: Sought, layout: Layout
) -> Sequence[Readings]:
    """Put local times of an hour that a clock shows twice into the right one, by their order.

    Raises:
        DataError: their order does not tell.

    """
    zone = Times(layout.time_format, layout.time_zone).zone
    if zone is None or not read.rows or not _is_local(read, sought, layout):
        return parts
    times = np.concatenate([part.times for part in parts])
    try:
        made = settled(
            times,
            zone,
            lambda row: datetime.fromtimestamp(float(times[row]), zone).replace(tzinfo=None),
        )
    except Unsettled as error:
        raise DataError(f"{recording}: {iso_time(float(times[error.rows[0]]))}: {error}") from error
    ends = np.cumsum([len(part.times) for part in parts])[:-1]
    return [
        part._replace(times=some) for part, some in zip(parts, np.split(made, ends), strict=True)
    ]


def _is_local(read: Recorded, sought: Sought, layout: Layout) -> bool:
    """Whether the first row has a local time."""
    cells = split(read.rows[0].decode(errors="replace"), read.separator)
    names = [name for name in (*sought.time, sought.clock) if name in read.header]
    date, *_ = names
    columns = [date, *([sought.clock] if sought.clock in names and sought.clock != date else [])]
    at = [read.header.index(name) for name in columns if name is not None]
    text = " ".join(plain(cells[one]) for one in at if one < len(cells))
    return Times(layout.time_format, layout.time_zone).shown(text) is not None


def _in_order(parts: Sequence[Readings]) -> tuple[Sequence[Readings], int]:
    """Sort readings by their times; also return how many were earlier than their predecessor."""
    times = np.concatenate([part.times for part in parts] or [np.empty(0)])
    backwards = int((np.diff(times) < 0).sum())
    if not backwards:
        return parts, 0
    order = np.argsort(times, kind="stable")
    values = np.concatenate([part.values for part in parts])
    starts = range(0, len(order), CHUNK_LINES)
    pieces = [order[start : start + CHUNK_LINES] for start in starts]
    return [Readings(times[piece], values[piece]) for piece in pieces], backwards


def _unscored(
    recording: Path,
    read: Recorded,
    samples: int,
    rejected: Mapping[str, int],
    parser: LineParser,
    manifest: Manifest,
) -> str:
    """Return why a recording has no score."""
    if not read.rows:
        return f"{recording}: no rows below the header"
    said = [f"{recording}: none of its {len(read.rows)} rows is scored"]
    if rejected:
        said.append(", ".join(f"{count} {cause}" for cause, count in sorted(rejected.items())))
    if last := parser.rejects():
        said.append(f"the last, {last[-1].cause}: {last[-1].excerpt}")
    if samples:
        said.append(
            f"it has {samples} samples, and the first {manifest.sampling.warm_up_samples} after a"
            " start or a gap get no score: use a longer recording"
        )
    return "; ".join(said)
