"""The families of models that can be trained: one interface, found by entry point.

    configuration ─> family ─> fit ─> export ─> calibrate ─> (sealed by the trainer) ─> evaluate
                               train part       calibration part                        test part

``family.name`` of the configuration selects the family. ``telemanom`` and ``hampel`` are built in.
Another package adds one by an entry point of the group ``fieldwatch.training``: its name is that of
the family, and its object is a class or function that returns a ``Family`` without arguments. What
scores with the bundles is the entry point of the same name in ``fieldwatch.families``; both may be
in one file. CONTRIBUTING.md shows one.

A family does only what is its own. Everything else is the same for all: reading, preparing and
splitting the recordings, sealing, evaluation of events against labels, verdict, report, lineage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from models.bundle import Bundle
from models.errors import ConfigError, FamilyUnknown
from models.families import provided
from models.manifest import TELEMANOM, Channel, Lineage
from models.messages import Samples
from models.names import HAMPEL
from trainer import seal
from trainer.config import Config
from trainer.epochs import Epoch
from trainer.evaluate import Judgement, Labelled
from trainer.prepare import Parts

if TYPE_CHECKING:
    from trainer.detector.family import TrainedNetwork

TRAINING: Final = "fieldwatch.training"  # group of the entry points
# tables of the configuration that only some families use
TABLES: Final = (
    "network",
    "smoothing",
    "threshold",
    "calibrate",
    "hampel",
    "forecast",
    "remaining",
)

Say = Callable[[str], None]
OnEpoch = Callable[[str, Epoch], None]  # called with the name of a network after each epoch
F = TypeVar("F")
E = TypeVar("E")


def unheard(network: str, epoch: Epoch) -> None:
    """Take no note of an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
    tables: Sequence[str] = ()  # of ``TABLES``, which its trainings use

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


def _telemanom() -> AnyFamily:
    from trainer.detector.family import Telemanom

    return Telemanom()


def _hampel() -> AnyFamily:
    from trainer.hampel import Hampel

    return Hampel()


BUILT_IN: Final[Mapping[str, Callable[[], AnyFamily]]] = {
    TELEMANOM: _telemanom,
    HAMPEL: _hampel,
}


def family_of(config: Config) -> AnyFamily:
    """Return the family that a configuration names, after checking its settings.

    Raises:
        ConfigError: no installed package trains it, or it refuses the settings.

    """
    name = config.family.name
    try:
        family = (BUILT_IN.get(name) or provided(TRAINING, name))()
    except FamilyUnknown as error:
        known = ", ".join(sorted(BUILT_IN))
        raise ConfigError(f"family.name: {error}. Built in are {known}") from error
    unused = [f"[{table}]" for table in _changed(config) if table not in family.tables]
    if unused:
        raise ConfigError(f"the family {name} does not use {', '.join(unused)}: leave it out")
    if name in BUILT_IN and config.family.settings:
        raise ConfigError(f"family.settings: the family {name} has its own tables instead")
    family.check(config)
    return family


def _changed(config: Config) -> Iterator[str]:
    """Yield the tables that only some families use, and that are not as their defaults."""
    for table in TABLES:
        if getattr(config, table) != Config.model_fields[table].default:
            yield table


def build(family: Family[F, E], job: Job) -> Built:
    """Train, export and calibrate a bundle, without writing files.

    Raises:
        DataError: the samples cannot be used.
        ConfigError: a bundle cannot have these settings.

    """
    return family.calibrate(job, family.export(job, family.fit(job)))
