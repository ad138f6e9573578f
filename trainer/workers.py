"""Calls one function on many tasks in worker processes; a worker that dies affects no other.

A pool of the standard library breaks as a whole when one of its processes is killed, and does not
report the task of that process. This module reports the task by name and starts a new process. A
process that has needed much memory is replaced by a new one, so that memory stays bounded.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from models.errors import FieldwatchError

T = TypeVar("T")

_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ),
    "1",
)
_LAST_WORDS_MAX = 300  # characters of a dead worker's last line
_SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit TensorFlow's locks


class Started(NamedTuple):
    """A worker has begun a task."""

    name: str


class Finished(NamedTuple):
    """The end of one task."""

    name: str
    error: str | None  # the error message; None if the task succeeded
    result: Any = None  # what the function returned, if the task succeeded


class Idle(NamedTuple):
    """Nothing has happened for a while."""


Happening = Started | Finished | Idle


class Rules(NamedTuple):
    """How workers are run."""

    jobs: int  # number of processes, each with one thread for arithmetic
    logs: Path  # directory for the output of workers; only that of dead workers is kept
    attempts: int = 1  # at a task, as long as a signal ends its worker
    memory_bytes_max: int | None = None  # a worker that has needed more takes no other task
    idle_s: float | None = None  # seconds without anything else until ``Idle``; None: never


def run(
    perform: Callable[[T], Any], tasks: Mapping[str, T], jobs: int, logs: Path
) -> Generator[Finished, None, None]:
    """Call ``perform`` on each task, ``jobs`` at a time; yield the end of each task.

    See ``follow``.
    """
    with contextlib.closing(follow(perform, tasks, Rules(jobs, logs))) as happenings:
        for happening in happenings:
            if isinstance(happening, Finished):
                yield happening


def follow(
    perform: Callable[[T], Any], tasks: Mapping[str, T], rules: Rules
) -> Generator[Happening, None, None]:
    """Call ``perform`` on each task; yield its start and its end.

    Args:
        perform: a module-level function, which the worker can import. A ``FieldwatchError`` that
            it raises fails the task; any other exception ends the worker and fails the task too.
        tasks: its arguments, by name of the task.
        rules: for the workers.

    Closing the iterator ends all workers.

    """
    pool = _Pool(perform, rules, deque(tasks.items()))
    try:
        yield from pool.begin()
        while pool.busy:
            ready = wait(list(pool.busy), rules.idle_s)
            for connection in ready:
                assert isinstance(connection, Connection)
                yield from pool.end_of_task(connection)
            if not ready:
                yield Idle()
    finally:
        pool.stop()


class _Pool:
    """The workers, and the tasks that wait for one."""

    def __init__(
        self,
        perform: Callable[[Any], Any],
        rules: Rules,
        waiting: deque[tuple[str, Any]],
    ) -> None:
        self._perform = perform
        self._rules = rules
        self._waiting = waiting
        self._attempts: Counter[str] = Counter()
        self.busy: dict[Connection, _Worker] = {}

    def begin(self) -> Iterator[Started]:
        """Start the first workers."""
        for _ in range(min(self._rules.jobs, len(self._waiting))):
            yield self._give(_start(self._perform, self._rules.logs))

    def end_of_task(self, connection: Connection) -> list[Happening]:
        """Take the end of a task, and give its worker, or a new one, the next."""
        worker = self.busy.pop(connection)
        ended = worker.end_of_task(self._rules.logs)
        again = ended.killed and self._attempts[worker.task[0]] < self._rules.attempts
        if again:
            self._waiting.append(worker.task)
        happened: list[Happening] = [] if again else [ended.finished]
        if self._waiting and ended.peak_bytes is not None and not self._is_large(ended.peak_bytes):
            return [*happened, self._give(worker)]
        worker.stop()
        if self._waiting:
            happened.append(self._give(_start(self._perform, self._rules.logs)))
        return happened

    def stop(self) -> None:
        """End all workers."""
        for worker in self.busy.values():
            worker.stop()

    def _give(self, worker: _Worker) -> Started:
        task = self._waiting.popleft()
        self._attempts[task[0]] += 1
        self.busy[worker.connection] = worker
        worker.give(task)
        return Started(task[0])

    def _is_large(self, peak_bytes: int) -> bool:
        most = self._rules.memory_bytes_max
        return most is not None and peak_bytes > most


class _Ended(NamedTuple):
    """The end of a worker's task."""

    finished: Finished
    peak_bytes: int | None  # the most memory that the worker has needed; None: it has ended
    killed: bool = False  # whether a signal has ended the worker


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    task: tuple[str, Any] = ("", None)  # name and argument of the current task

    def give(self, task: tuple[str, Any]) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # the worker has died; its end is read later
            self.connection.send(task)

    def end_of_task(self, logs: Path) -> _Ended:
        """Return the end of the task."""
        name, _ = self.task
        try:
            error, result, peak_bytes = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            exit_code = self.process.exitcode or 0
            return _Ended(Finished(name, _death(exit_code, logs, name)), None, exit_code < 0)
        return _Ended(Finished(name, error, result), peak_bytes)

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _start(perform: Callable[[Any], Any], logs: Path) -> _Worker:
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(perform, logs, there), daemon=True)
    with _for_children():
        process.start()
    there.close()  # otherwise this process would never see its end
    return _Worker(process, here)


@contextlib.contextmanager
def _for_children() -> Iterator[None]:
    """Give processes started in this context one thread, and leave Ctrl-C to their parent.

    SIGINT is blocked, not ignored, so the parent still receives a Ctrl-C of this moment. Child
    processes inherit the block.
    """
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    resource_tracker.ensure_running()  # starting it later would unblock Ctrl-C
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(perform: Callable[[Any], Any], logs: Path, connection: Connection) -> None:
    """Process tasks until the parent closes the connection."""
    while True:
        try:
            name, task = connection.recv()
        except EOFError:
            return
        log = _log(logs, name)
        _speak_into(log)
        error = result = None
        try:
            result = perform(task)
        except FieldwatchError as refused:
            error = str(refused)
        log.unlink()
        with contextlib.suppress(BrokenPipeError):  # the parent was killed
            connection.send((error, result, peak_memory_bytes()))


def peak_memory_bytes() -> int:
    """Return the most memory that this process has needed."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _speak_into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)


def _log(logs: Path, name: str) -> Path:
    return logs / f"{name.replace('/', '-')}.log"


def _death(exit_code: int, logs: Path, name: str) -> str:
    log = _log(logs, name)
    if exit_code < 0:
        return f"its process was ended by {signal.Signals(-exit_code).name}; see {log}"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    last = next((line for line in reversed(lines) if line.strip()), "without a word")
    return f"its process failed: {last[:_LAST_WORDS_MAX]}; see {log}"
