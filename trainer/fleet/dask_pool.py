"""Workers on other machines, by Dask distributed: the same work as ``trainer.workers`` does here.

Dask gives the work of a worker that is killed to another one. A worker does one piece at a time, as
TensorFlow has one state per process. Its memory has the limit that it was started with.

Dask's profiler holds the frames of functions, and with them what they have let go. The TFLite
interpreter refuses to run while somebody holds its tensors, so the profiler must be off.
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import traceback
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from models.errors import ConfigError, FieldwatchError
from trainer.workers import Finished, Happening, Idle, Started

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
_one_at_a_time = threading.Lock()


class DaskMissing(FieldwatchError):
    """Dask is not installed."""

    exit_code = 69


def follow(
    perform: Callable[[T], Any],
    tasks: Mapping[str, T],
    address: str,
    idle_s: float | None,
    wait_s: float,
) -> Generator[Happening, None, None]:
    """Call ``perform`` on each task; yield its start and its end. See ``trainer.workers.follow``.

    Args:
        perform: a module-level function, which the workers can import.
        tasks: its arguments, by name of the task.
        address: of the scheduler, such as tcp://10.0.0.5:8786.
        idle_s: seconds without anything else until ``Idle``; None: never.
        wait_s: seconds to wait for the scheduler, and then for its first worker.

    Raises:
        DaskMissing: it is not installed.
        ConfigError: there is no scheduler, it has no worker, or its workers have a profiler.

    """
    happened: SimpleQueue[Started | Future[Any]] = SimpleQueue()
    topic = f"fieldwatch-{uuid.uuid4().hex}"
    with _client(address, wait_s) as client:
        client.subscribe_topic(topic, lambda event: happened.put(Started(event[1])))
        unfinished: dict[str, tuple[str, Future[Any]]] = {}  # name and future, by Dask's key
        for name, task in tasks.items():
            future = client.submit(_perform, perform, name, task, topic, key=f"{topic}-{name}")
            unfinished[str(future.key)] = name, future
            future.add_done_callback(happened.put)
            del future  # a result that nobody holds any more is not made again
        try:
            while unfinished:
                yield _next(happened, unfinished, idle_s)
        finally:
            client.cancel([future for _, future in unfinished.values()])


def _next(
    happened: SimpleQueue[Started | Future[Any]],
    unfinished: dict[str, tuple[str, Future[Any]]],
    idle_s: float | None,
) -> Happening:
    try:
        found = happened.get(timeout=idle_s)
    except Empty:
        return Idle()
    if isinstance(found, Started):
        return found
    name, _ = unfinished.pop(str(found.key))
    return _end(found, name)


def _end(future: Future[Any], name: str) -> Finished:
    from distributed import KilledWorker

    if future.status == "finished":
        return Finished(name, None, future.result())
    if future.status != "error":
        return Finished(name, f"the scheduler has lost it ({future.status}): is it running?")
    error = future.exception()
    if isinstance(error, FieldwatchError):
        return Finished(name, str(error))
    if isinstance(error, KilledWorker):
        return Finished(name, f"its worker was killed, at each attempt: {error}".split("\n")[0])
    return Finished(name, "".join(traceback.format_exception_only(error)).strip())


def _perform(perform: Callable[[T], Any], name: str, task: T, topic: str) -> Any:
    """Do a task in a worker."""
    from distributed import get_worker

    if _is_profiled():
        raise ConfigError(f"{get_worker().address}: {_PROFILED}")
    with _one_at_a_time:
        get_worker().log_event(topic, name)
        return perform(task)


@contextlib.contextmanager
def _client(address: str, wait_s: float) -> Iterator[Client]:
    if importlib.util.find_spec("distributed") is None:
        raise DaskMissing("--scheduler needs Dask: pip install 'fieldwatch[batch]'")
    from distributed import Client

    try:
        client = Client(address, timeout=wait_s, set_as_default=False)
    except (OSError, ValueError) as error:  # a time-out is an OSError
        raise ConfigError(
            f"{address}: there is no scheduler of Dask within {wait_s:g} s: {error}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=wait_s)
        except TimeoutError as error:
            raise ConfigError(
                f"{address}: the scheduler has no worker after {wait_s:g} s: start some with `dask"
                f" worker {address} --nworkers 2 --nthreads 1`, or raise fleet.scheduler_wait_s"
            ) from error
        if profiled := [at for at, found in client.run(_is_profiled).items() if found]:
            raise ConfigError(f"{', '.join(profiled)}: {_PROFILED}")
        yield client


def _is_profiled() -> bool:
    """Whether Dask's profiler runs in this worker."""
    import dask.config

    return bool(dask.config.get("distributed.worker.profile.enabled"))


_PROFILED: Final = (
    "the profiler of this worker is on, and it disturbs the interpreter: start workers with"
    " DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False in their environment"
)
