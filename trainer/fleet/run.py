"""A run over the streams of a fleet: what is to do, in which order, and what became of it.

    networks of types, streams of their own ─> pool ─> streams with a shared network ─> pool

A stream that fails hides no other. What became of each is written when it ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from models.errors import ConfigError
from models.settings import nearest
from trainer import destination, workers
from trainer.fleet import dask_pool, records
from trainer.fleet.config import FleetFile, Stream
from trainer.fleet.outcome import Outcome
from trainer.fleet.overview import IDLE_S
from trainer.fleet.shared import SharedWork, TypeOutcome
from trainer.fleet.stream import TrainWork
from trainer.fleet.work import Work, perform
from trainer.workers import Finished, Happening, Rules

OWN: Final = "own"  # folder of the bundles with a network of their own, for the comparison
_MIB: Final = 2**20


class Options(NamedTuple):
    """How a run is done, beside the configuration."""

    jobs: int | None = None  # None: as configured, or as many as there are processors
    scheduler: str | None = None  # address of Dask's; None: processes here
    only: Sequence[str] = ()  # names of streams; empty: all
    again: bool = False  # train even what is done
    tflite_python: Path | None = None


Follow = Callable[[Mapping[str, Work]], Generator[Happening, None, None]]


def pool(file: FleetFile, options: Options) -> Follow:
    """Return what does works in workers: processes here, or those of a scheduler."""

    def follow(works: Mapping[str, Work]) -> Generator[Happening, None, None]:
        if options.scheduler is not None:
            wait_s = file.fleet.scheduler_wait_s
            return dask_pool.follow(perform, works, options.scheduler, IDLE_S, wait_s)
        rules = Rules(
            options.jobs or file.fleet.jobs or os.cpu_count() or 1,
            file.output / "logs" / "workers",
            file.fleet.attempts,
            file.fleet.memory_mib_max * _MIB,
            IDLE_S,
        )
        return workers.follow(perform, works, rules)

    return follow


def chosen(file: FleetFile, only: Sequence[str]) -> list[Stream]:
    """Return the streams of a run; all if ``only`` is empty.

    Raises:
        ConfigError: one does not exist.

    """
    for name in only:
        if name not in file.streams:
            hint = nearest(name, file.streams)
            raise ConfigError(f"{file.path}: there is no stream {name!r}{hint}")
    return [stream for name, stream in file.streams.items() if not only or name in only]


def log_path(file: FleetFile, name: str) -> Path:
    """Return the path of the log of a stream."""
    return file.output / "logs" / f"{name}.log"


@dataclass(slots=True)
class Run:
    """What is known of a run; it grows while the run goes on."""

    file: FleetFile
    what: str  # is done: train, validate or check
    began: datetime
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by name of the stream
    own: dict[str, Outcome] = field(default_factory=dict)  # of networks of their own, to compare
    types: dict[str, TypeOutcome] = field(default_factory=dict)
    types_failed: dict[str, str] = field(default_factory=dict)  # why

    def take(self, name: str, finished: Finished) -> None:
        """Take the end of the work on a stream, and write its record."""
        outcome = self.outcomes[name] = _outcome(finished)
        record = outcome.document() | {
            "time": now(),
            "log": str(log_path(self.file, name)),
        }
        records.keep(self.file.output, name, self.what, record)

    @property
    def bad(self) -> dict[str, Outcome]:
        """The streams that a person has to see to."""
        return {name: outcome for name, outcome in self.outcomes.items() if outcome.is_bad}

    @property
    def own_failed(self) -> dict[str, Outcome]:
        """The streams without a network of their own to compare."""
        return {name: outcome for name, outcome in self.own.items() if outcome.state == "failed"}

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.bad and not self.types_failed and not self.own_failed


def _outcome(finished: Finished) -> Outcome:
    if finished.error is None and isinstance(finished.result, Outcome):
        return finished.result
    return Outcome("failed", finished.error or "it had no outcome")


def now() -> str:
    """Return the time, RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class FleetWorks(Protocol):
    """Works on the streams of a fleet."""

    run: Run

    @property
    def total(self) -> int:
        """The number of works."""

    def go(self) -> Generator[Happening, None, None]:
        """Do the works; yield what happens. ``run`` grows meanwhile."""


class Simple:
    """Works of which none needs another, one for each stream."""

    def __init__(
        self, file: FleetFile, what: str, works: Mapping[str, Work], options: Options
    ) -> None:
        """Plan them.

        Raises:
            ConfigError: the results cannot be written.

        """
        destination.check_directory(file.output)
        self._works = works
        self._follow = pool(file, options)
        self.run = Run(file, what, datetime.now(UTC))

    @property
    def total(self) -> int:
        """The number of works."""
        return len(self._works)

    def go(self) -> Generator[Happening, None, None]:
        """Do the works; yield what happens. ``run`` grows meanwhile."""
        with contextlib.closing(self._follow(self._works)) as happenings:
            for happening in happenings:
                if isinstance(happening, Finished):
                    self.run.take(happening.name, happening)
                yield happening


class Training:
    """The training of a fleet."""

    def __init__(self, file: FleetFile, options: Options) -> None:
        """Plan it.

        Raises:
            ConfigError: the results cannot be written, or a stream does not exist.

        """
        destination.check_directory(file.output)
        self._file = file
        self._options = options
        self._follow = pool(file, options)
        self._streams = chosen(file, options.only)
        used = {stream.type for stream in self._streams}
        self._sharing = [name for name in file.sharing if name in used]
        self.run = Run(file, "train", datetime.now(UTC))

    @property
    def total(self) -> int:
        """The number of works."""
        return len(self._first()) + len(self._shared())

    def go(self) -> Generator[Happening, None, None]:
        """Do the works; yield what happens. ``run`` grows meanwhile."""
        yield from self._do(self._first())
        works = self._shared()
        lost = [name for name in works if (self._type_of(name)) in self.run.types_failed]
        for name in lost:
            works.pop(name)
            why = self.run.types_failed[self._type_of(name)]
            error = f"the network of its type {self._type_of(name)} failed: {why}"
            yield self._taken(Finished(name, error))
        yield from self._do(works)

    def _do(self, works: Mapping[str, Work]) -> Iterable[Happening]:
        if not works:
            return
        with contextlib.closing(self._follow(works)) as happenings:
            for happening in happenings:
                if isinstance(happening, Finished):
                    self._taken(happening)
                yield happening

    def _taken(self, finished: Finished) -> Finished:
        kind, _, name = finished.name.partition(" ")
        if not name:
            self.run.take(finished.name, finished)
        elif kind == _TYPE and finished.error is not None:
            self.run.types_failed[name] = finished.error
        elif kind == _TYPE:
            self.run.types[name] = finished.result
        else:
            self.run.own[name] = _outcome(finished)
        return finished

    def _type_of(self, name: str) -> str:
        return self._file.streams[name].type or ""

    def _network(self, of_type: str) -> Path:
        return self._file.output / "types" / f"{of_type}.network.npz"

    def _first(self) -> dict[str, Work]:
        """Return what needs no other: networks of types, and streams with networks of their own."""
        works: dict[str, Work] = {}
        for name in self._sharing:
            log = log_path(self._file, f"type.{name}")
            members = self._file.of_type(name)
            again = self._options.again
            works[f"{_TYPE} {name}"] = SharedWork(name, members, self._network(name), log, again)
        for stream in self._streams:
            if stream.type not in self._sharing:
                works[stream.name] = self._training(stream, self._file.output, stream.name)
            elif self._file.types[stream.type].compare:
                where = self._file.output / OWN
                own = self._training(stream, where, f"own.{stream.name}")
                works[f"{OWN} {stream.name}"] = replace(own, register=False)
        return works

    def _shared(self) -> dict[str, Work]:
        """Return the streams that start from the network of their type."""
        return {
            stream.name: self._training(
                stream, self._file.output, stream.name, self._network(stream.type)
            )
            for stream in self._streams
            if stream.type is not None and stream.type in self._sharing
        }

    def _training(
        self, stream: Stream, output: Path, log: str, network: Path | None = None
    ) -> TrainWork:
        again, tflite_python = self._options.again, self._options.tflite_python
        return TrainWork(stream, output, log_path(self._file, log), network, again, tflite_python)


_TYPE: Final = "type"


def document(run: Run) -> dict[str, Any]:
    """Return the result of a run, ready for JSON."""
    ended = datetime.now(UTC)
    counts: dict[str, int] = {}
    for outcome in run.outcomes.values():
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
    return {
        "fleet": str(run.file.path),
        "what": run.what,
        "began": run.began.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round((ended - run.began).total_seconds(), 3),
        "passed": run.passed,
        "counts": counts,
        "streams": {
            name: outcome.document() | {"log": str(log_path(run.file, name))}
            for name, outcome in run.outcomes.items()
        },
        "types": {name: found.document() for name, found in run.types.items()},
        "types_failed": run.types_failed,
        "own": {name: outcome.document() for name, outcome in run.own.items()},
    }
