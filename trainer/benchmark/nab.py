"""Runs the detector for streams without a bundle on NAB, the Numenta Anomaly Benchmark.

The detector runs as on a gateway, without training. Each file is one stream. Every row with a score
of at least the threshold is a detection; see ``trainer.benchmark.nab_score``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.families import detector_of
from models.manifest import Events, Sampling, Severities, unscaled
from models.messages import Float64, Samples
from models.novelty import NoveltySettings, entry_samples
from models.shown import short, shown
from trainer.benchmark.nab_score import PROFILES, Profile, Rated, sweep, wrong
from trainer.datasets import nab
from trainer.datasets.nab import NabFile

PROTOCOL: Final = (
    "NAB's own: each file is a stream from its first row on, with the same settings for all files"
    " and no training. The first 15 % of a file, at most 750 rows, are on probation. One threshold"
    " serves all files: that of the best sum, and beside it the detector's own, which no label"
    " chose. 0 is a detector that never detects, 100 one that detects each window at its first row"
    " and nothing else."
)
OWN_THRESHOLD: Final = 1.0
_HISTORY_S: Final = 14 * 86_400.0  # as on a gateway


class Judged(NamedTuple):
    """One file with the scores of the detector."""

    file: NabFile
    scores: Float64  # (n,) NaN before there is a score

    @property
    def rated(self) -> Rated:
        """The part of the file that the NAB scorer needs."""
        return Rated(self.scores, self.file.windows)


def run(directory: Path) -> dict[str, Any]:
    """Return the figures of all files in the directory, ready for JSON.

    Raises:
        DataError: the directory does not hold this data set, or a file cannot be used.

    """
    files = [nab.read(directory, name) for name in nab.names(directory)]
    began = time.process_time()
    judged = [Judged(file, scores(file)) for file in files]
    seconds = time.process_time() - began
    rows = sum(len(file.values) for file in files)
    return {
        "benchmark": "nab",
        "protocol": PROTOCOL,
        "detector": "novelty",
        "files": len(files),
        "rows": rows,
        "us_per_sample": seconds / rows * 1e6,
        "profiles": {profile.name: _profile(judged, profile) for profile in PROFILES},
        "wrong": _wrong(judged),
    }


def scores(file: NabFile) -> Float64:
    """Return the score of each row, (n,), from an initial state; NaN: no score."""
    detector = detector_of(settings_for(file))
    samples = Samples(_rising(file.times), file.values[:, None])
    result = detector.step(detector.start(), samples)
    return np.asarray(result.scores.score, np.float64)


def settings_for(file: NabFile) -> NoveltySettings:
    """Return the gateway's settings for a stream; only the period differs between files."""
    period_s = float(np.median(np.diff(_rising(file.times)))) if len(file.times) > 1 else 1.0
    defaults = NoveltySettings.model_fields
    entries, update = defaults["history_entries"].default, defaults["update_samples"].default
    return NoveltySettings(
        channels=[unscaled("value", "", None, None)],
        resolution=[0.0],
        sampling=Sampling(
            period_s=period_s,
            hold_samples_max=2,
            missing_samples=25,
            reset_gap_samples=50,
            warm_up_samples=200,
        ),
        entry_samples=entry_samples(_HISTORY_S, period_s, entries, update),
        adapt_samples=432_000,
        events=Events(on_samples=1, off_samples=150, deadband=0.7, further_ratio=1.5),
        severities=Severities(medium=1e-4, high=1e-6, unrated="medium"),
    )


def _rising(times: Float64) -> Float64:
    """Return strictly rising times: equal or falling times become 1 ms apart."""
    return np.asarray(np.maximum.accumulate(times) + np.arange(len(times)) * 1e-3)


def _profile(judged: Sequence[Judged], profile: Profile) -> dict[str, Any]:
    swept = sweep([one.rated for one in judged], profile)
    return {
        "threshold": short(swept.best),
        "score": swept.scaled(swept.best),
        "own_threshold": OWN_THRESHOLD,
        "own_score": swept.scaled(OWN_THRESHOLD),
        "windows": swept.windows,
        "folders": {
            folder: _folder(
                [one for one in judged if one.file.folder == folder], profile, swept.best
            )
            for folder in sorted({one.file.folder for one in judged})
        },
    }


def _folder(judged: Sequence[Judged], profile: Profile, threshold: float) -> dict[str, Any]:
    """Return the contribution of one folder to the sum, at the common threshold."""
    swept = sweep([one.rated for one in judged], profile)
    return {
        "files": len(judged),
        "windows": swept.windows,
        "found": sum(_found(one.rated, threshold) for one in judged),
        "sum": swept.at(threshold),
        "score": swept.scaled(threshold),
        "own_score": swept.scaled(OWN_THRESHOLD),
    }


def _wrong(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Return the errors of each file that has some, at the detector's own threshold."""
    found = {one.file.name: wrong(one.rated, OWN_THRESHOLD) for one in judged}
    return {name: each._asdict() for name, each in found.items() if any(each)}


def _found(file: Rated, threshold: float) -> int:
    """Return the number of windows with a detection."""
    detected = file.scores >= threshold
    return sum(bool(detected[start : end + 1].any()) for start, end in file.windows)


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures as tables for a terminal."""
    yield f"{'profile':22}{'score':>8}{'threshold':>11}{'at 1':>8}"
    for name, row in document["profiles"].items():
        yield (
            f"{name:22}{_shown(row['score']):>8}{shown(row['threshold'], '.3f', absent='–'):>11}"
            f"{_shown(row['own_score']):>8}"
        )
    yield ""
    yield f"{'standard':22}{'files':>8}{'windows':>11}{'found':>8}{'score':>8}{'at 1':>8}"
    for name, row in document["profiles"]["standard"]["folders"].items():
        yield (
            f"{name:22}{row['files']:>8}{row['windows']:>11}{row['found']:>8}"
            f"{_shown(row['score']):>8}{_shown(row['own_score']):>8}"
        )
    yield f"{document['us_per_sample']:.1f} µs per sample"


def _shown(score: float | None) -> str:
    return shown(score, ".1f", absent="–")
