"""The outcome of one benchmark channel, and the work directory that stores it.

An outcome is written atomically, with a key that covers all its inputs. So a killed run resumes
where it stopped, and no outcome is reused after a change of its inputs.
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
from trainer.benchmark.tail_check import Exceeding

Detector = Literal["quantized", "float", "baseline", "last_value", "constant"]
HEADLINE: Final = "anomaly"  # the kind of alarm that the main figures count
DETECTORS: Final[tuple[Detector, ...]] = get_args(Detector)

# modules that count and present saved alarms; changing them requires no new training
_PRESENTATION = {
    *("cli.py", "figures.py", "report.py", "pages.py", "drawing.py", "forecast_report.py"),
    *("chance.py", "document.py", "lives.py", "remaining.py", "tables.py", "suite.py"),
}


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Judged(_Kept):
    """The result of one detector on one test array."""

    alarms: list[Alarm]  # of all kinds that concern values
    vus_pr: float | None = None  # None if nothing is labelled
    model_bytes: int = 0  # size of the network's file
    us_per_sample: float | None = None  # processor time of the whole pipeline
    tail: Exceeding | None = None  # None if its scores have no probabilities

    def of(self, *kinds: str) -> list[Alarm]:
        """Return the alarms of these kinds."""
        return [alarm for alarm in self.alarms if alarm.kind in kinds]


class Outcome(_Kept):
    """The results of all detectors on one test array."""

    name: str
    key: str  # digest of all inputs of this outcome
    steps: int  # samples of the test array
    rows: list[list[Span]]  # first and last sample of the labelled sequences, row by row
    quantization: str  # the form that the parity gate chose
    detectors: dict[Detector, Judged]
    fails: bool = False  # whether the machine fails at the end of the array
    seconds: list[float] = []  # time of each sample, if the samples are not one period apart

    @property
    def labels(self) -> list[Span]:
        """The labelled sequences of all rows, with overlapping sequences merged."""
        return union(label for row in self.rows for label in row)


class Watched(NamedTuple):
    """The result of one detector, or of one reference, on one test array."""

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
    """The outcomes of earlier runs; the directory is created with the first outcome."""

    path: Path

    @property
    def logs(self) -> Path:
        """The directory for the output of workers that died."""
        return self.path / "logs"

    def outcome(self, name: str, key: str) -> Outcome | None:
        """Return the saved outcome of this channel; None if there is none with this key."""
        try:
            kept = Outcome.model_validate_json(self._file(name, ".json").read_bytes())
        except (FileNotFoundError, ValidationError):  # none, or of another version
            return None
        return kept if kept.key == key and self.curves(name) is not None else None

    def curves(self, name: str) -> list[Curve] | None:
        """Return the saved curves of this channel; None if there are none."""
        try:
            data = BytesIO(self._file(name, ".npz").read_bytes())
            with np.load(data, allow_pickle=False) as kept:
                named = zip(kept["names"].tolist(), kept["values"], strict=True)
                return [Curve(*names, *values) for names, values in named]
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
            return None  # a damaged file counts as missing: it is created again

    def keep(self, outcome: Outcome, curves: Sequence[Curve]) -> None:
        """Save curves and outcome; the outcome comes last and marks the channel as complete."""
        self.path.mkdir(parents=True, exist_ok=True)
        names = np.array([curve[:2] for curve in curves])
        values = np.stack([np.stack(curve[2:]) for curve in curves])
        partial = self._file(outcome.name, ".partial.npz")
        np.savez_compressed(partial, names=names, values=values)
        self._file(outcome.name, ".json").unlink(missing_ok=True)  # it belongs to the old curves
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
    """Return the sha256 of all inputs of an outcome."""
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
