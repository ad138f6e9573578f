"""A run of a benchmark: open channels, outcomes of earlier runs, and results.

names ─> plan ─┬─> kept (same configuration, data and software)
               └─> workers ─> channel ─> work directory ─> document, report
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import DataError
from trainer import seal, workers
from trainer.benchmark import channel, outcome, remaining
from trainer.benchmark.cases import Benchmark
from trainer.benchmark.channel import Task
from trainer.benchmark.document import document, over_seeds
from trainer.benchmark.outcome import Outcome, WorkDirectory
from trainer.benchmark.settings import Settings
from trainer.workers import Finished

_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(eq=False, frozen=True, slots=True)
class Run:
    """The channels of a run with one seed: open, finished or failed.

    A channel leaves ``tasks`` when it finishes or fails.
    """

    benchmark: Benchmark
    settings: Settings
    work: WorkDirectory
    software: dict[str, str]
    units: dict[str, list[str]]  # by channel, in order
    tasks: dict[str, Task]
    outcomes: dict[str, Outcome]  # by unit
    failed: dict[str, str]  # message by name

    def go_on(self, jobs: int) -> Generator[Finished, None, None]:
        """Run the open channels, ``jobs`` at a time; yield each channel when it ends."""
        for finished in workers.run(channel.perform, dict(self.tasks), jobs, self.work.logs):
            task = self.tasks.pop(finished.name)
            found = self._kept(task)
            if finished.error is not None or found is None:
                self.failed[task.name] = finished.error or f"its outcome is not in {self.work.path}"
            else:
                self.outcomes.update(found)
            yield finished

    def _kept(self, task: Task) -> dict[str, Outcome] | None:
        """Return the saved outcomes of all units of a task; None if one is missing."""
        found = {name: self.work.outcome(name, task.key) for name in self.units[task.name]}
        kept = {name: outcome for name, outcome in found.items() if outcome is not None}
        return kept if len(kept) == len(found) else None

    def add(self, task: Task) -> None:
        """Use the saved outcomes of a task; if they are incomplete, schedule the task."""
        found = self._kept(task)
        if found is None:
            self.tasks[task.name] = task
        else:
            self.outcomes.update(found)

    def document(self) -> dict[str, Any]:
        """Return the figures of all finished channels, ready for JSON."""
        about = {"benchmark": self.benchmark.name, "config_digest": self.settings.digest}
        return document(about, self.in_order(), self.failed, self.benchmark.style)

    def in_order(self) -> list[Outcome]:
        """Return the outcomes in the order of the channels."""
        names = [name for units in self.units.values() for name in units]
        return [self.outcomes[name] for name in names if name in self.outcomes]


def all_documents(runs: Mapping[int, Run], beside: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """Return the figures of the runs, one per seed, and their spread.

    ``beside`` contains figures of the data set that need no detector.
    """
    first = next(iter(runs.values()))
    found = {seed: run.document() for seed, run in runs.items()}
    return {
        "benchmark": first.benchmark.name,
        "protocol": first.benchmark.protocol,
        "style": first.benchmark.style,
        "software": first.software,
        "seeds": {str(seed): each for seed, each in found.items()},
        "over_seeds": over_seeds(list(found.values())),
        **beside,
    }


def beside(benchmark: Benchmark, data: Path) -> dict[str, Any]:
    """Return the figures of a data set that need no detector: the remaining life of engines.

    Raises:
        DataError: a file for them is missing or has another layout.

    """
    if benchmark.style != "engines" or not remaining.is_there(data):
        return {}
    return {"remaining_life": remaining.document(data)}


def plan_seeds(
    benchmark: Benchmark,
    data: Path,
    names: Sequence[str],
    settings: Settings,
    seeds: Sequence[int],
    work: Path,
    tflite_python: Path | None = None,
) -> dict[int, Run]:
    """Return a run for each seed; each run saves its outcomes in its own directory."""
    return {
        seed: plan(
            benchmark,
            data,
            names,
            settings.with_seed(seed),
            WorkDirectory(work / f"seed-{seed}"),
            tflite_python,
        )
        for seed in seeds
    }


def plan(
    benchmark: Benchmark,
    data: Path,
    names: Sequence[str],
    settings: Settings,
    work: WorkDirectory,
    tflite_python: Path | None = None,
) -> Run:
    """Return a run that skips the channels that are already finished.

    A channel whose data cannot be read fails at once.
    """
    software = seal.software() | {"interpreters": "2" if tflite_python else "1"}
    run = Run(benchmark, settings, work, software, {}, {}, {}, {})
    for name in names:
        try:
            case = benchmark.read(data, name)
        except DataError as error:
            run.failed[name] = str(error)
            continue
        run.units[name] = [unit.name for unit in case.units]
        labels = [unit.rows for unit in case.units]
        key = outcome.key(benchmark.name, settings.digest, case.sha256, labels, software)
        run.add(Task(benchmark.name, data, name, settings, work, key, tflite_python))
    return run
