"""Worker processes: what ends well, what is refused, what dies, and what is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import DataError
from trainer.benchmark import workers
from trainer.benchmark.workers import Finished


def do(task: str) -> None:
    """Be a task that does as it is told; a worker imports it from here."""
    print("worker speaking", flush=True)
    if task == "refuse":
        raise DataError("not with these data")
    if task == "break":
        raise ZeroDivisionError("nobody thought of that")
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task.startswith("threads into "):
        threads = os.environ["OMP_NUM_THREADS"]
        Path(task.removeprefix("threads into ")).write_text(f"{threads} {os.getpid()}")
    if task == "sleep":
        time.sleep(600)


def ends(tasks: list[str], jobs: int, logs: Path) -> dict[str, str | None]:
    return dict(workers.run(do, {task: task for task in tasks}, jobs, logs))


@pytest.mark.parametrize("jobs", [1, 3])
def test_one_that_dies_or_is_refused_takes_no_other_along(tmp_path: Path, jobs: int) -> None:
    found = ends(["refuse", "die", "nothing", "break", "more"], jobs, tmp_path / "logs")
    assert list(sorted(found)) == ["break", "die", "more", "nothing", "refuse"]
    assert found["nothing"] is None and found["more"] is None
    assert found["refuse"] == "not with these data"
    assert "SIGKILL" in str(found["die"])
    assert "ZeroDivisionError: nobody thought of that" in str(found["break"])
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["break.log", "die.log"]
    assert "worker speaking" in (tmp_path / "logs" / "die.log").read_text()


def test_a_worker_has_one_thread_and_does_several_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    tasks = [f"threads into {tmp_path / name}" for name in ("a", "b")]
    named = dict(zip(("a", "b"), tasks, strict=True))
    assert list(workers.run(do, named, 1, tmp_path / "logs")) == [
        Finished("a", None),
        Finished("b", None),
    ]
    written = {(tmp_path / name).read_text() for name in ("a", "b")}
    assert len(written) == 1  # the same process
    assert written.pop().startswith("1 ")
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_closing_ends_the_workers(tmp_path: Path, alive: Callable[[], set[int]]) -> None:
    running = workers.run(do, {"now": "nothing", "long": "sleep"}, 2, tmp_path / "logs")
    assert next(running) == Finished("now", None)
    assert alive()
    running.close()
    assert not alive()


def test_no_tasks(tmp_path: Path) -> None:
    assert ends([], 4, tmp_path) == {}


@pytest.fixture
def alive() -> Callable[[], set[int]]:
    """Processes of the pool that run now."""
    import multiprocessing

    return lambda: {int(process.pid or 0) for process in multiprocessing.active_children()}
