"""Calls one function on many tasks in worker processes; a worker that dies affects no other.

A pool of the standard library breaks as a whole when one of its processes is killed, and does not
report the task of that process. This module reports the task by name and starts a new process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
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


class Finished(NamedTuple):
    """The end of one task."""

    name: str
    error: str | None  # the error message; None if the task succeeded


def run(
    perform: Callable[[T], None], tasks: Mapping[str, T], jobs: int, logs: Path
) -> Generator[Finished, None, None]:
    """Call ``perform`` on each task, ``jobs`` at a time; yield the end of each task.

    Args:
        perform: a module-level function, which the worker can import. A ``FieldwatchError`` that
            it raises fails the task; any other exception ends the worker and fails the task too.
        tasks: its arguments, by name of the task.
        jobs: number of processes, each with one thread for arithmetic.
        logs: directory for the output of workers; only that of dead workers is kept.

    Closing the iterator ends all workers.

    """
    waiting = deque(tasks.items())
    busy: dict[Connection, _Worker] = {}
    try:
        for _ in range(min(jobs, len(waiting))):
            _start(perform, logs, waiting.popleft(), busy)
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy.pop(connection)
                finished, alive = worker.end_of_task(logs)
                if waiting and alive:
                    worker.give(waiting.popleft())
                    busy[connection] = worker
                elif waiting:
                    _start(perform, logs, waiting.popleft(), busy)
                else:
                    worker.stop()
                yield finished
    finally:
        for worker in busy.values():
            worker.stop()


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    name: str = ""  # name of the current task

    def give(self, task: tuple[str, Any]) -> None:
        self.name = task[0]
        with contextlib.suppress(BrokenPipeError):  # the worker has died; its end is read later
            self.connection.send(task)

    def end_of_task(self, logs: Path) -> tuple[Finished, bool]:
        """Return the end of the task, and whether the worker can take another task."""
        try:
            error = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return Finished(self.name, _death(self.process.exitcode or 0, logs, self.name)), False
        return Finished(self.name, error), True

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _start(
    perform: Callable[[T], None],
    logs: Path,
    task: tuple[str, T],
    busy: dict[Connection, _Worker],
) -> None:
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(perform, logs, there), daemon=True)
    with _for_children():
        process.start()
    there.close()  # otherwise this process would never see its end
    worker = busy[here] = _Worker(process, here)
    worker.give(task)


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


def _serve(perform: Callable[[T], None], logs: Path, connection: Connection) -> None:
    """Process tasks until the parent closes the connection."""
    while True:
        try:
            name, task = connection.recv()
        except EOFError:
            return
        log = _log(logs, name)
        _speak_into(log)
        error = None
        try:
            perform(task)
        except FieldwatchError as refused:
            error = str(refused)
        log.unlink()
        with contextlib.suppress(BrokenPipeError):  # the parent was killed
            connection.send(error)


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
