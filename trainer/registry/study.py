"""A search for settings that is recorded: a run of its own, and beneath it one for each training.

    search (STUDY) ─> as configured ─> trial 1 ─> trial 2 ─> …     each with PARENT and TRIAL

A trial ends as MLflow's own storage for Optuna has it: complete is FINISHED, stopped early is
KILLED, failed is FAILED. A search that goes on goes on with its run. What a killed process left
RUNNING gets the end that the study knows, or is KILLED as interrupted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from trainer.config import Config
from trainer.epochs import Epoch
from trainer.registry import records
from trainer.registry.errors import RegistryError
from trainer.registry.registry import Registry
from trainer.registry.runs import Run, Status

if TYPE_CHECKING:
    from trainer.tune import Begun, End, Found, Settings

_STATUS: Final[Mapping[str, Status]] = {
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}


@contextlib.contextmanager
def record(registry: Registry, begun: Begun) -> Iterator[StudyRun]:
    """Record a search, see ``trainer.tune.Record``; its run is open inside the block.

    Raises:
        RegistryError: the registry cannot be written.

    """
    runs = registry.store.runs(f"tags.`{records.STUDY}` = '{begun.study}'")
    stream = begun.config.bundle.name
    tags = {
        records.STUDY: begun.study,
        records.DATA: begun.data_digest,
        records.RUN_NAME: f"{stream} search",
    }
    again = next((run.info.run_id for run in runs), None)
    with registry.run(stream, tags, again) as run:
        settings = begun.config.model_dump(
            mode="json",
            exclude={"registry": True, "tune": {"trials"}},  # more trials are the same search
        )
        run.parameters(settings)
        study = StudyRun(registry, run, begun.data_digest)
        study.settle(begun.ended)
        yield study


class StudyRun:
    """The run of a search; a ``trainer.tune.SearchRecord``."""

    def __init__(self, registry: Registry, run: Run, data_digest: str) -> None:
        self._registry, self._run, self._data = registry, run, data_digest

    @property
    def id(self) -> str:
        """MLflow's id of the run."""
        return self._run.id

    @contextlib.contextmanager
    def trial(self, number: int, settings: Settings, config: Config) -> Iterator[TrialRun]:
        """Record a training; its run is open inside the block.

        Args:
            number: from 1; 0 is the configuration itself.
            settings: that are searched, with their values.
            config: with these settings.

        """
        tags = {
            records.PARENT: self._run.id,
            records.TRIAL: str(number),
            records.DATA: self._data,
            records.RUN_NAME: f"trial {number}" if number else "as configured",
        }
        with self._registry.run(self._run.stream, tags) as run:
            run.parameters(dict(settings) | {"fit.seed": config.fit.seed})
            trial = TrialRun(run)
            try:
                yield trial
            finally:
                if not run.ended:
                    with contextlib.suppress(RegistryError):  # the error of the block is told
                        run.tag(records.STATE, "interrupted")

    def found(self, found: Found) -> None:
        """Record the result of the search."""
        self._run.tag(records.BEST, json.dumps(dict(found.settings), sort_keys=True))
        numbers = {
            "validation/loss": found.best,
            "validation/loss.as_configured": found.configured,
            "search/trials": found.trials,
            "search/stopped": found.stopped,
            "search/failed": found.failed,
        }
        self._run.numbers({name: value for name, value in numbers.items() if value is not None})

    def settle(self, ended: Mapping[int, End]) -> None:
        """End the trials that a killed process left running.

        Args:
            ended: how each trial of the study ended, by its number; the others were interrupted.

        """
        store = self._registry.store
        asked = f"tags.`{records.PARENT}` = '{self._run.id}' AND attributes.status = 'RUNNING'"
        for found in list(store.runs(asked)):
            run = Run(store, self._run.stream, {}, found.info.run_id)
            end = ended.get(int(found.data.tags[records.TRIAL]))
            if end is None:
                run.tag(records.STATE, "interrupted")
                run.terminate("KILLED")
            else:
                TrialRun(run).end(end)


class TrialRun:
    """The run of one training of a search; a ``trainer.tune.TrialRecord``."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def epoch(self, network: str, epoch: Epoch) -> None:
        """Record an epoch; its curve can be seen while the training goes on."""
        self._run.epoch(network, epoch)

    def end(self, end: End) -> None:
        """End the run, with the state and the figures of the validation."""
        run = self._run
        run.tag(records.STATE, end.state)
        if end.state == "pruned":
            run.tag(records.PRUNED, str(end.epochs))
        numbers = {
            "validation/loss": end.loss,
            "validation/best_epoch": end.best_epoch,
            "train/epochs": end.epochs,
        }
        run.numbers({name: value for name, value in numbers.items() if value is not None})
        if end.why:
            run.tag(records.ERROR, end.why)
        run.terminate(_STATUS[end.state])
