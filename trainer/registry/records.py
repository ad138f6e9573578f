"""What a registry knows of a version of a stream, and the names of its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

Alias = Literal["champion", "challenger", "shadow"]
CHAMPION: Final[Alias] = "champion"  # what gateways should run
CHALLENGER: Final[Alias] = "challenger"  # the newest version that is not the champion
SHADOW: Final[Alias] = "shadow"  # what a gateway runs beside the champion, for comparison
ALIASES: Final[tuple[Alias, ...]] = (CHAMPION, CHALLENGER, SHADOW)

FOLDER: Final = "bundle"  # of a run's files: the bundle, and what makes it a model of MLflow

# tags of a version; those of people have other names
DIGEST: Final = "fieldwatch.digest"  # of the bundle
LINEAGE: Final = "fieldwatch.lineage"  # see ``trainer.registry.identity``
DATA: Final = "fieldwatch.data"  # digest of the data
BUNDLE: Final = "fieldwatch.bundle"  # name of its file
BUNDLE_VERSION: Final = "fieldwatch.bundle_version"
FAMILY: Final = "fieldwatch.family"
TRAINED: Final = "fieldwatch.trained"  # time, RFC 3339
VERDICT: Final = "fieldwatch.verdict"  # passed, or accepted
FILES: Final = "fieldwatch.files"  # JSON: sha256 of each file registered, by its path below the run
DECISION: Final = "fieldwatch.decision"  # the last one about this version, in words
STREAM: Final = "fieldwatch.stream"  # of a run
PROCESS: Final = "fieldwatch.process"  # host, process and its start; of a run
ERROR: Final = "fieldwatch.error"  # of a run that failed
STUDY: Final = "fieldwatch.study"  # of a run that is a search, see ``trainer.registry.study``
TRIAL: Final = "fieldwatch.trial"  # number in the search, from 1; of a run that is a trial
STATE: Final = "fieldwatch.state"  # complete, pruned, failed or interrupted; of a trial
PRUNED: Final = "fieldwatch.pruned_epoch"  # after which a trial was stopped early
BEST: Final = "fieldwatch.best"  # JSON: the settings that a search found best
FILE: Final = "fieldwatch.file."  # and a path below the run: sha256 of a file that was added later
# tags of a run that MLflow's pages use
RUN_NAME: Final = "mlflow.runName"
PARENT: Final = "mlflow.parentRunId"


@dataclass(frozen=True, slots=True)
class Version:
    """A registered bundle: one version of a stream."""

    stream: str
    number: int  # counts up from 1, for each stream
    run: str  # MLflow's id of the run that made it
    registered: datetime  # UTC
    trained: str  # RFC 3339, UTC; the age of the model
    digest: str  # of the bundle, 64 hexadecimal digits
    lineage: str  # digest of data, settings and seeds; see ``trainer.registry.identity``
    data: str  # digest of the data alone
    bundle: str  # name of the file, such as pump.fieldwatch
    bundle_version: int  # of the manifest
    family: str
    verdict: str  # passed, or accepted by a person
    metrics: Mapping[str, float]  # by part and name, such as test/normal.events_per_day
    aliases: tuple[Alias, ...]
    tags: Mapping[str, str]  # all of MLflow's
    files: Mapping[str, str]  # sha256 by path below the run's files
    uri: str  # of the folder with the files of the run

    @property
    def name(self) -> str:
        """The version for people, such as ``pump version 3``."""
        return f"{self.stream} version {self.number}"
