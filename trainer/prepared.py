"""Reads the recordings of a configuration, and prepares them for a training.

    recordings ─> grid ─> labels cut out ─> parts ─> no part repeats another? ─> Prepared

``train`` learns from what this returns. Checks and reports of the data need nothing else, so
neither TensorFlow nor matplotlib is imported here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.errors import InsufficientDataError
from models.features import COUNTERS as FEATURE_COUNTERS
from models.manifest import Channel, DataSource, DataUsed, Lineage
from models.messages import QUALITIES, Samples
from models.times import iso_time
from trainer import cleaning, dvc, evaluate, families, leakage, lineage, prepare, seal, steps
from trainer import remaining as lives
from trainer.code_version import code_version
from trainer.config import ChannelTable, Config, ConfigFile, QueryTable
from trainer.cuts import Cuts, cut
from trainer.datasets import Recording
from trainer.datasets.database import read_query
from trainer.datasets.recordings import read_recording
from trainer.evaluate import Labelled
from trainer.family import Say as Say
from trainer.forecast import bundle as forecasting
from trainer.steps import Step


@dataclass(eq=False, frozen=True, slots=True)
class Prepared:
    """The data of the recordings."""

    recordings: list[Recording]
    parts: prepare.Parts
    channels: list[Channel]
    labelled: list[Labelled]
    lives: list[Samples]  # recordings of machines until they failed
    rejected: Counter[str]  # rows that could not be put on the grid, by cause
    remarks: list[str]  # sentences for people
    used: DataUsed
    gap_samples: int  # between two parts
    steps: list[Step]
    cuts: Cuts | None = None  # what labels cut out; None: there is no file of labels

    def metrics(self) -> dict[str, Any]:
        """Return the counts of rows read, and of rows and values that could not be used."""
        return {
            "recordings": [
                {
                    "name": recording.name,
                    "rows": len(recording.readings.times),
                    "out_of_range": recording.out_of_range,
                    "rejected": dict(sorted(recording.rejected.items())),
                }
                for recording in self.recordings
            ],
            "rejected": dict(sorted(self.rejected.items())),
            "remarks": self.remarks,
            "gap_samples": self.gap_samples,
            "steps": [step.as_json() for step in self.steps if step.touched],
            "digest": self.used.digest,
            "parts": {name: part.model_dump() for name, part in self.used.parts.items()},
        } | ({} if self.cuts is None else {"labels": self.cuts.metrics()})


def prepare_data(file: ConfigFile, say: Say) -> Prepared:
    """Read all recordings of a configuration, and divide them into the parts of the training.

    Raises:
        DataError: the recordings cannot be used.
        ConfigError: a pattern matches no file, or the family refuses the settings.

    """
    families.family_of(file.config)
    return prepare_from(file, sources(file, say), say)


def prepare_from(file: ConfigFile, read: Sequence[Source], say: Say) -> Prepared:
    """Divide recordings that were read into the parts of the training.

    Raises:
        DataError: the recordings cannot be used.
        ConfigError: a pattern matches no file.

    """
    config = file.config
    recordings = [source.recording for source in read]
    grid = seal.grid(config)
    samples, counters = prepare.align(recordings, grid)
    for cause, rows in sorted(counters.items()):
        say(f"{rows} {'' if cause in FEATURE_COUNTERS else 'rows '}{cause.replace('_', ' ')}")
    made_up = list(_made_up(samples, config.data.channels))
    for line in made_up:
        say(line)
    names = [table.name for table in config.data.channels]
    taken = [*steps.of_recordings(recordings), *steps.of_grid(samples, counters, names)]
    samples, cuts = _without_labelled(samples, file, say)
    parts = _split(samples, config, cuts)
    remarks = prepare.remarks(parts.train, config.data.channels)
    for line in remarks:
        say(line)
    channels = prepare.channels(parts, config.data.channels)
    taken += steps.of_split(0 if cuts is None else cuts.removed, len(samples.times), parts)
    taken += cleaning.steps(parts._asdict(), channels, config.prepare, config.network.input_clip)
    if config.forecast is not None:
        forecasting.check(config.forecast, parts, channels, config.sampling.period_s)
    labelled, failed = _labelled(file, grid), _lives(file, say)
    _check_leakage(config, parts, recordings, labelled)
    hours = [len(part.times) * config.sampling.period_s / 3600 for part in parts]
    say("train {:.2f} h, calibrate {:.2f} h, test {:.2f} h".format(*hours))
    return Prepared(
        recordings,
        parts,
        channels,
        list(labelled.values()),
        [prepare.align([recording], grid)[0] for recording in failed.values()],
        counters,
        made_up + remarks,
        _used(file, read, parts, cuts, labelled, failed),
        config.gap_samples,
        taken,
        cuts,
    )


def _labelled(file: ConfigFile, grid: prepare.Grid) -> dict[Path, Labelled]:
    data = file.config.data
    return {
        path: evaluate.read_labelled(path, data.sought, data.columns, grid, data.layout)
        for path in file.recordings(file.config.evaluate.files, "evaluate.files")
    }


def _check_leakage(
    config: Config,
    parts: prepare.Parts,
    recordings: Sequence[Recording],
    labelled: Mapping[Path, Labelled],
) -> None:
    tested = {
        path.name: (one.samples, one.recording)
        for path, one in labelled.items()
        if one.recording is not None
    }
    longest = config.split.repeated_samples_max
    leakage.check_split(parts._asdict(), recordings, tested, longest)


def _lives(file: ConfigFile, say: Say) -> dict[Path, Recording]:
    """Return the recordings of machines until they failed."""
    if file.config.remaining is None:
        return {}
    paths = file.recordings(file.config.remaining.files, "remaining.files")
    lives.check(len(paths))
    return {path: _read(path, file.config, say) for path in paths}


def _used(
    file: ConfigFile,
    read: Sequence[Source],
    parts: prepare.Parts,
    cuts: Cuts | None,
    labelled: Mapping[Path, Labelled],
    failed: Mapping[Path, Recording],
) -> DataUsed:
    """Return the lineage of the data."""
    names = [column.name for column in file.config.data.columns]
    values = lineage.values_of([source.recording for source in read], names)
    found = lineage.parts_of_split(
        values,
        parts._asdict(),
        [] if cuts is None else cuts.spans(),
        file.config.sampling.period_s,
    )
    if failed:
        found["lives"] = lineage.part_of_each(failed.values(), names)
    tested = {path: one.recording for path, one in labelled.items() if one.recording is not None}
    if tested:
        labels = [one.labels for one in labelled.values()]
        found["evaluate"] = lineage.part_of_each(tested.values(), names, labels)
    if cuts is not None:
        found["labels"] = lineage.part_of_labels(cuts.labels)
    others = [Source(one, path) for path, one in [*tested.items(), *failed.items()]]
    every = [_source(source) for source in [*read, *others]]
    return lineage.used(values.channels(), found, every)


def _source(source: Source) -> DataSource:
    tracked = None if source.path is None else dvc.tracked_by(source.path)
    recording = source.recording
    return DataSource(name=recording.name, sha256=recording.sha256, dvc=tracked, query=source.query)


def _without_labelled(samples: Samples, file: ConfigFile, say: Say) -> tuple[Samples, Cuts | None]:
    """Return the samples that count as normal, and what labels cut out."""
    if file.labels is None:
        return samples, None
    samples, cuts = cut(samples, file.labels, file.config)
    for line in cuts.lines():
        say(line)
    return samples, cuts


def _split(samples: Samples, config: Config, cuts: Cuts | None) -> prepare.Parts:
    try:
        return prepare.split(samples, config)
    except InsufficientDataError as error:
        if cuts is None or not cuts.removed:
            raise
        raise InsufficientDataError(
            f"{error}. The labels of {cuts.file} cut out {cuts.removed} of"
            f" {cuts.removed + cuts.remaining} samples"
        ) from error


def _made_up(samples: Samples, tables: Sequence[ChannelTable]) -> Iterator[str]:
    """Yield a line for each channel with held, interpolated or missing values."""
    if samples.quality is None:
        return
    for column, table in enumerate(tables):
        codes = np.bincount(samples.quality[:, column], minlength=len(QUALITIES)).tolist()
        shares = [
            f"{100 * count / len(samples.times):.1f} % {name}"
            for name, count in zip(QUALITIES[1:], codes[1:], strict=True)
            if count
        ]
        if shares:
            yield f"{table.name}: {', '.join(shares)}"


class Source(NamedTuple):
    """A recording, and where it is from."""

    recording: Recording
    path: Path | None = None  # None: a database
    query: str | None = None


def sources(file: ConfigFile, say: Say) -> list[Source]:
    """Read all recordings of normal operation: files, then queries.

    Raises:
        ConfigError: a pattern matches no file, or a query's settings are wrong.
        DataError: a recording cannot be used.

    """
    return [read() for read in readers(file, say)]


def readers(file: ConfigFile, say: Say) -> list[Callable[[], Source]]:
    """Return a function for each recording of normal operation that reads it.

    Raises:
        ConfigError: a pattern matches no file.

    """
    data = file.config.data
    paths = file.recordings(data.files, "data.files")
    return [
        *(partial(_read_file, path, file.config, say) for path in paths),
        *(partial(_ask, query, file, say) for query in data.queries),
    ]


def _read_file(path: Path, config: Config, say: Say) -> Source:
    return Source(_read(path, config, say), path)


def _ask(query: QueryTable, file: ConfigFile, say: Say) -> Source:
    data = file.config.data
    say(f"asking the database of {query.name}")
    found = read_query(file.path.parent, query, data.sought, data.columns, data.layout)
    return Source(_told(found, say), query=query.query)


def _read(path: Path, config: Config, say: Say) -> Recording:
    data = config.data
    say(f"reading {path.name}")
    return _told(read_recording(path, data.sought, data.columns, data.layout), say)


def _told(recording: Recording, say: Say) -> Recording:
    """Say what was read, and what was not used."""
    count = len(recording.readings.times)
    outside = f", {recording.out_of_range} values out of range" if recording.out_of_range else ""
    causes = sorted(recording.rejected.items())
    unused = "".join(f", {number} {cause.replace('_', ' ')}" for cause, number in causes)
    say(f"{recording.name}: {count} rows{outside}{unused}")
    return recording


def lineage_of(file: ConfigFile, prepared: Prepared) -> Lineage:
    """Return the origin of a bundle that is trained on these data."""
    return Lineage(
        data_digest=prepare.data_digest(prepared.recordings),
        data_files=[recording.name for recording in prepared.recordings],
        parts={name: _extent(part) for name, part in prepared.parts._asdict().items()},
        config_digest=file.digest,
        seed=file.config.fit.seed,
        software=seal.software(),
        time_column=file.config.data.time_column,
        clock_column=file.config.data.clock_column,
        columns={
            column.name: column.source
            for column in file.config.data.columns
            if column.source != column.name
        },
        cuts=[] if prepared.cuts is None else prepared.cuts.intervals(),
        data=prepared.used,
        code=code_version(),
        seeds=_seeds(file.config),
    )


def _seeds(config: Config) -> dict[str, int]:
    forecast = {} if config.forecast is None else {"forecast.fit": config.forecast.fit.seed}
    return {"fit": config.fit.seed} | forecast


def _extent(part: Samples) -> tuple[str, str, int]:
    return iso_time(part.times[0]), iso_time(part.times[-1]), len(part.times)
