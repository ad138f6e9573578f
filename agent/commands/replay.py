"""Scores a recording at full speed, through the parser, aligner and pipeline that run live."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from agent.alarms.lifecycle import Alarms
from agent.bundles.load import load
from agent.config.inputs import IGNORED, TIME, InputTable
from agent.parsing.lines import LineParser
from agent.scoring.summary import uncertain
from models.align import Aligner
from models.errors import DataError
from models.features import features_of
from models.interpreter import Runtime
from models.manifest import Manifest
from models.messages import QUALITIES, named_quality

CHUNK_LINES = 5000


def replay(recording: Path, bundle_file: Path, interpreter: Runtime = "auto") -> dict[str, Any]:
    """Return the events of a CSV recording, with counts; its header names the columns.

    Columns that are no channel of the bundle are ignored.

    Raises:
        BundleError: the bundle is refused.
        DataError: the recording cannot be read, or lacks the time or every channel.

    """
    bundle, pipeline = load(bundle_file, interpreter)
    manifest = bundle.manifest
    parser = LineParser(_columns(recording, manifest), manifest.source_channels)
    features = features_of(manifest)
    aligner = Aligner(manifest.sampling, len(manifest.channels), anchored=bool(features))
    state = pipeline.start()
    alarms = Alarms(recording.stem, {channel.name: channel.unit for channel in manifest.channels})
    events, samples, scored, doubtful = [], 0, 0, 0
    made_up: Counter[str] = Counter()
    began = time.perf_counter()
    for lines in _chunks(recording):
        readings = parser.parse(lines, 0.0)
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
            quality = named_quality(manifest.channel_names, aligned.quality_at(event.time))
            if (change := alarms.take(event, quality)) is not None:
                events.append(change.alarm)
    return {
        "recording": str(recording),
        "bundle_digest": bundle.digest,
        "interpreter": pipeline.runtime,
        "samples": samples,
        "scored": scored,
        "uncertain": doubtful,
        "values": dict(made_up),
        "rejected": dict(
            parser.counters + aligner.counters + (features.counters if features else Counter())
        ),
        "events": events,
        "samples_per_s": round(samples / max(time.perf_counter() - began, 1e-9)),
    }


def _columns(recording: Path, manifest: Manifest) -> InputTable:
    """Read the header; return how to read the lines below it."""
    try:
        with recording.open(encoding="utf-8") as file:
            header = [name.strip() for name in file.readline().split(",")]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{recording}: cannot be read: {error}") from error
    names = [channel.name for channel in manifest.source_channels]
    known = {TIME, *names}
    missing = sorted(known - set(header))
    if TIME in missing or not known - {TIME} - set(missing):
        raise DataError(
            f"{recording}: the header has {', '.join(header)}; it needs {TIME} and"
            f" channels of the bundle: {', '.join(names)}"
        )
    columns = [name if name in known else IGNORED for name in header]
    return InputTable(name="replay", stream="replay", columns=columns)


def _chunks(recording: Path) -> Iterator[list[bytes]]:
    with recording.open("rb") as file:
        next(file)  # the header
        while lines := [line.rstrip(b"\r\n") for line in islice(file, CHUNK_LINES)]:
            yield lines
