"""The interface of a family of models that can be trained.

    configuration ─> family ─> fit ─> export ─> calibrate ─> (sealed by the trainer) ─> evaluate
                               train part       calibration part                        test part

A family does only what is its own. Everything else is the same for all: reading, preparing and
splitting the recordings, sealing, evaluation of events against labels, verdict, report, lineage.
``trainer.families`` finds the family that a configuration names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from models.bundle import Bundle
from models.manifest import Channel, Lineage
from models.messages import Samples
from trainer import seal
from trainer.config import Config
from trainer.epochs import Epoch
from trainer.evaluate import Judgement, Labelled
from trainer.prepare import Parts

if TYPE_CHECKING:
    from trainer.detector.trained import TrainedNetwork

Say = Callable[[str], None]
OnEpoch = Callable[[str, Epoch], None]  # called with the name of a network after each epoch
F = TypeVar("F")
E = TypeVar("E")


def unheard(network: str, epoch: Epoch) -> None:
    """Take no note of an epoch."""


@dataclass(eq=False, frozen=True, slots=True, kw_only=True)
class Job:
    """What is given to a training: the settings, and data that is prepared and split."""

    config: Config
    parts: Parts  # samples (n, C) on the grid, in the channels' units, NaN where missing
    channels: list[Channel]  # the C channels of the samples, with center and scale
    origin: Lineage
    created: datetime
    labelled: Sequence[Labelled] = ()  # recordings with known faults; for evaluation only
    lives: Sequence[Samples] = ()  # recordings of machines until they failed
    tflite_python: Path | None = None  # a Python with tflite-runtime, to compare with
    say: Say = lambda line: None  # prints a line of progress
    on_epoch: OnEpoch = unheard  # a family with epochs calls it after each of them
    network: TrainedNetwork | None = None  # of a type of machine, instead of one of its own

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of a package's family, as they are in the configuration."""
        return self.config.family.settings

    @property
    def manifest_keys(self) -> dict[str, Any]:
        """The keys of the manifest that every family has, before calibration: without a tail."""
        return seal.common(self.config, self.channels, self.origin, self.created)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A calibrated bundle in memory, without metrics, and the figures of its training."""

    bundle: Bundle  # with its known answers, see ``trainer.answers``
    metrics: dict[str, Any] = field(default_factory=dict)
    epochs: Sequence[Epoch] = ()
    rest: Any = None  # what the family's ``evaluate`` needs besides


def _no_sections(bundle: Bundle) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A family's own figures of a sealed bundle, beside those that every bundle has."""

    metrics: dict[str, Any] = field(default_factory=dict)
    measured_on: Mapping[str, str] = field(default_factory=dict)  # part, by table of all metrics
    lines: Sequence[str] = ()  # printed after the training
    sections: Callable[[Bundle], Iterable[str]] = _no_sections  # of the report, HTML


class Family(Protocol[F, E]):
    """How bundles of one family are trained.

    The trainer calls ``check`` before any work, perhaps again after the reading. Then it calls
    ``fit``, ``export``, ``calibrate`` and ``evaluate``, each once and with the same job. A class of
    another package derives from this one, or has its members.
    """

    packages: Sequence[str] = ()  # as in ``import``; without them a training does not begin
    tables: Sequence[str] = ()  # of ``trainer.families.TABLES``, which its trainings use

    def check(self, config: Config) -> None:
        """Refuse settings before any work; this must not need ``packages``.

        Raises:
            ConfigError: the text says which setting, and what to do.

        """

    def fit(self, job: Job) -> F:
        """Learn from ``job.parts.train``, and from no other part.

        The same seed (``job.config.fit.seed``), data and software give the same result.

        Raises:
            DataError: the samples cannot be used.
            ConfigError: a bundle cannot have these settings.

        """

    def export(self, job: Job, fitted: F) -> E:
        """Turn what was learnt into what a gateway reads: files, or settings of the manifest."""

    def calibrate(self, job: Job, exported: E) -> Built:
        """Set thresholds, by the deployed code on ``job.parts.calibrate``; return the whole bundle.

        Raises:
            DataError: the samples cannot be used.

        """

    def evaluate(self, job: Job, built: Built, sealed: Bundle, judged: Judgement) -> Evaluated:
        """Measure what only this family has.

        Args:
            job: as before; ``job.parts.test`` is what nothing was fitted to.
            built: the result of ``calibrate``.
            sealed: the same bundle as a gateway reads it from its file.
            judged: the scores and events that every bundle is judged by.

        """


AnyFamily = Family[Any, Any]


def build(family: Family[F, E], job: Job) -> Built:
    """Train, export and calibrate a bundle, without writing files.

    Raises:
        DataError: the samples cannot be used.
        ConfigError: a bundle cannot have these settings.

    """
    return family.calibrate(job, family.export(job, family.fit(job)))
