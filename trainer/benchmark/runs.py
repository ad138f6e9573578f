"""A run of a benchmark: what there is to do, what earlier runs did, and what came of it.

names ─> plan ─┬─> kept (same configuration, data and software)
               └─> workers ─> channel ─> work directory ─> document, report
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataError
from trainer import seal
from trainer.benchmark import channel, outcome, workers
from trainer.benchmark.cases import Benchmark
from trainer.benchmark.channel import Task
from trainer.benchmark.document import document
from trainer.benchmark.outcome import Outcome, WorkDirectory
from trainer.benchmark.settings import Settings
from trainer.benchmark.workers import Finished


@dataclass(frozen=True, slots=True)
class Run:
    """The channels of a run: to do, finished or failed. They move out of ``tasks``."""

    benchmark: Benchmark
    settings: Settings
    work: WorkDirectory
    software: dict[str, str]
    names: list[str]
    tasks: dict[str, Task]
    outcomes: dict[str, Outcome]
    failed: dict[str, str]  # message by name

    def go_on(self, jobs: int) -> Generator[Finished, None, None]:
        """Run the channels to do, ``jobs`` at a time; yield each as it ends."""
        for finished in workers.run(channel.perform, dict(self.tasks), jobs, self.work.logs):
            task = self.tasks.pop(finished.name)
            found = self.work.outcome(task.name, task.key) if finished.error is None else None
            if found is None:
                self.failed[task.name] = finished.error or f"its outcome is not in {self.work.path}"
            else:
                self.outcomes[task.name] = found
            yield finished

    def document(self) -> dict[str, Any]:
        """Return the figures of all channels that came through, ready for JSON."""
        about = {
            "benchmark": self.benchmark.name,
            "protocol": self.benchmark.protocol,
            "config_digest": self.settings.digest,
            "seed": self.settings.config.fit.seed,
            "software": self.software,
        }
        return document(about, self.in_order(), self.failed)

    def in_order(self) -> list[Outcome]:
        """Return the outcomes in the order of the names."""
        return [self.outcomes[name] for name in self.names if name in self.outcomes]


def plan(
    benchmark: Benchmark,
    data: Path,
    names: Sequence[str],
    settings: Settings,
    work: WorkDirectory,
    tflite_python: Path | None = None,
) -> Run:
    """Return a run without the channels that are finished already.

    A channel whose data cannot be read fails at once.
    """
    software = seal.software() | {"interpreters": "2" if tflite_python else "1"}
    run = Run(benchmark, settings, work, software, list(names), {}, {}, {})
    for name in names:
        try:
            case = benchmark.read(data, name)
        except DataError as error:
            run.failed[name] = str(error)
            continue
        key = outcome.key(benchmark.name, settings.digest, case.sha256, case.labels, software)
        kept = work.outcome(name, key)
        if kept is None:
            run.tasks[name] = Task(benchmark.name, data, name, settings, work, key, tflite_python)
        else:
            run.outcomes[name] = kept
    return run
