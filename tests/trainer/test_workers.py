"""Worker processes: what ends well, what is refused, what dies, and what is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import DataError
from trainer import workers
from trainer.workers import Finished, Happening, Idle, Rules, Started


def do(task: str) -> int:
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
    if task.startswith("die once beside "):
        beside = Path(task.removeprefix("die once beside "))
        if not beside.exists():
            beside.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def ends(tasks: list[str], jobs: int, logs: Path) -> dict[str, str | None]:
    found = workers.run(do, {task: task for task in tasks}, jobs, logs)
    return {each.name: each.error for each in found}


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
    found = list(workers.run(do, named, 1, tmp_path / "logs"))
    assert [(each.name, each.error) for each in found] == [("a", None), ("b", None)]
    assert found[0].result == found[1].result != os.getpid()
    written = {(tmp_path / name).read_text() for name in ("a", "b")}
    assert len(written) == 1  # the same process
    assert written.pop().startswith("1 ")
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_closing_ends_the_workers(tmp_path: Path, alive: Callable[[], set[int]]) -> None:
    running = workers.run(do, {"now": "nothing", "long": "sleep"}, 2, tmp_path / "logs")
    assert next(running).name == "now"
    assert alive()
    running.close()
    assert not alive()


def followed(tasks: list[str], rules: Rules) -> list[Happening]:
    return list(workers.follow(do, {task: task for task in tasks}, rules))


def test_a_task_whose_worker_was_killed_gets_a_second_attempt(tmp_path: Path) -> None:
    once = f"die once beside {tmp_path / 'was-here'}"
    found = followed([once, "nothing", "die"], Rules(2, tmp_path / "logs", attempts=2))
    ends = {each.name: each.error for each in found if isinstance(each, Finished)}
    assert ends[once] is None and ends["nothing"] is None and "SIGKILL" in str(ends["die"])
    assert [each.name for each in found if isinstance(each, Started)].count("die") == 2


def test_a_task_that_breaks_by_itself_gets_no_second_attempt(tmp_path: Path) -> None:
    found = followed(["break"], Rules(1, tmp_path / "logs", attempts=3))
    assert [type(each) for each in found] == [Started, Finished]


def test_a_worker_that_needed_much_memory_is_replaced(tmp_path: Path) -> None:
    found = followed(["nothing", "more"], Rules(1, tmp_path / "logs", memory_bytes_max=1))
    processes = [each.result for each in found if isinstance(each, Finished)]
    assert len(set(processes)) == 2


def test_a_long_task_is_not_silence(tmp_path: Path) -> None:
    running = workers.follow(do, {"long": "sleep"}, Rules(1, tmp_path / "logs", idle_s=0.01))
    assert next(running) == Started("long")
    assert next(running) == Idle()
    running.close()


def test_no_tasks(tmp_path: Path) -> None:
    assert ends([], 4, tmp_path) == {}


@pytest.fixture
def alive() -> Callable[[], set[int]]:
    """Processes of the pool that run now."""
    import multiprocessing

    return lambda: {int(process.pid or 0) for process in multiprocessing.active_children()}
