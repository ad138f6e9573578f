"""What one channel of a benchmark gave, and the work directory that keeps it.

A channel's outcome is written as a whole or not at all, with a key of everything it came from:
a run that was killed goes on where it stopped, and nothing is reused after a change.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

import models
import trainer
from models.messages import Float32
from trainer.benchmark.counts import Alarm, Span, union

Detector = Literal["quantized", "float", "baseline", "last_value", "constant"]
HEADLINE: Final = "anomaly"  # the kind of alarm that the benchmarks are about
DETECTORS: Final[tuple[Detector, ...]] = get_args(Detector)

# what counts and shows the kept alarms; a change of it needs no new training
_PRESENTATION = {
    *("cli.py", "figures.py", "report.py", "pages.py", "drawing.py", "forecast_report.py"),
    *("chance.py", "document.py", "lives.py", "remaining.py", "tables.py", "suite.py"),
}


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Judged(_Kept):
    """One detector on one test array."""

    alarms: list[Alarm]  # of every kind that says something of the values
    vus_pr: float | None = None  # None where nothing is labelled
    model_bytes: int = 0  # of the network's file
    us_per_sample: float | None = None  # processor time of the whole pipeline

    def of(self, *kinds: str) -> list[Alarm]:
        """Return the alarms of these kinds."""
        return [alarm for alarm in self.alarms if alarm.kind in kinds]


class Outcome(_Kept):
    """All detectors on one test array."""

    name: str
    key: str  # digest of what this came from
    steps: int  # samples of the test array
    rows: list[list[Span]]  # first and last sample of the labelled sequences, row by row
    quantization: str  # that the parity gate chose
    detectors: dict[Detector, Judged]
    fails: bool = False  # at its end: a machine run to failure
    seconds: list[float] = []  # of each sample, where one step is not one period

    @property
    def labels(self) -> list[Span]:
        """The labelled sequences of all rows; those that overlap are one."""
        return union(label for row in self.rows for label in row)


class Watched(NamedTuple):
    """One detector, or a reference, on one test array."""

    outcome: Outcome
    judged: Judged


class Curve(NamedTuple):
    """One error row of the quantized network over the test array, for the report's plot."""

    channel: str
    row: str  # head and span of the error
    signal: Float32  # (n,) in the channel's unit
    predicted: Float32  # (n,) in the channel's unit
    smoothed: Float32  # (n,) error, in scaled units
    threshold: Float32  # (n,) in scaled units


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """The outcomes of earlier runs; made when the first is kept."""

    path: Path

    @property
    def logs(self) -> Path:
        """The directory for the output of workers that died."""
        return self.path / "logs"

    def outcome(self, name: str, key: str) -> Outcome | None:
        """Return the outcome kept of this channel; None where none is of this key."""
        try:
            kept = Outcome.model_validate_json(self._file(name, ".json").read_bytes())
        except (FileNotFoundError, ValidationError):  # none, or of another version
            return None
        return kept if kept.key == key and self.curves(name) is not None else None

    def curves(self, name: str) -> list[Curve] | None:
        """Return the curves kept of this channel; None where there are none."""
        try:
            data = BytesIO(self._file(name, ".npz").read_bytes())
            with np.load(data, allow_pickle=False) as kept:
                named = zip(kept["names"].tolist(), kept["values"], strict=True)
                return [Curve(*names, *values) for names, values in named]
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
            return None  # damaged is as good as none: it is made again

    def keep(self, outcome: Outcome, curves: Sequence[Curve]) -> None:
        """Keep what a channel gave; the outcome last, as the sign that all is there."""
        self.path.mkdir(parents=True, exist_ok=True)
        names = np.array([curve[:2] for curve in curves])
        values = np.stack([np.stack(curve[2:]) for curve in curves])
        partial = self._file(outcome.name, ".partial.npz")
        np.savez_compressed(partial, names=names, values=values)
        self._file(outcome.name, ".json").unlink(missing_ok=True)  # it is of other curves
        partial.replace(self._file(outcome.name, ".npz"))
        partial = self._file(outcome.name, ".partial")
        partial.write_text(outcome.model_dump_json(indent=2) + "\n")
        partial.replace(self._file(outcome.name, ".json"))

    def _file(self, name: str, suffix: str) -> Path:
        return self.path / f"{name.replace('/', '-')}{suffix}"


def key(
    benchmark: str,
    config_digest: str,
    data_sha256: str,
    labels: Sequence[Sequence[Sequence[Span]]],
    software: dict[str, str],
) -> str:
    """Return the sha256 of everything that an outcome depends on."""
    sources = [benchmark, config_digest, data_sha256, labels, software, _code_sha256()]
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


def _code_sha256() -> str:
    """Return the sha256 of the code that trains and scores."""
    digest = hashlib.sha256()
    for package in (models, trainer):
        root = Path(package.__path__[0])
        for file in sorted(root.rglob("*.py")):
            if file.name not in _PRESENTATION:
                digest.update(f"{root.name}/{file.relative_to(root)}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()
