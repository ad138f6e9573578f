"""What stands in a database's way: each command says what, where, and what to do; none hangs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.collector.books import Collected
from agent.store.batch import Batch
from agent.store.migrations import COLLECTED, READINGS, RECORDS
from agent.store.sqlite import LOCK
from agent.store.writer import Store
from tests.conftest import AGENT, ROOT, ZOO_BUNDLE

WRITERS = {"run", "check", "collect"}
ALL = WRITERS | {"status", "alarms", "forecast"}
SECONDS_MAX = 120
# root without what lets it pass over modes
DISARMED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] * (os.geteuid() == 0)

Obstacle = Callable[[Path], None]


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.with_name("gone"))


def closed(path: Path) -> None:
    path.touch()
    path.chmod(0)


def read_only(path: Path) -> None:
    path.chmod(0o500 if path.is_dir() else 0o400)


def unlocked(path: Path) -> None:
    for lock in (path / LOCK, path / f"{COLLECTED}.lock"):
        lock.unlink(missing_ok=True)
    read_only(path)


# what is done to which file, who it stops, and what they say of it
TRAPS: dict[str, tuple[Obstacle, str, set[str], str]] = {
    "no right to read": (closed, "{db}", ALL, "{db} cannot be read by user"),
    "a directory": (folder, "{db}", ALL, "{db} is a directory, where a file belongs: move it"),
    "a named pipe": (pipe, "{db}", ALL, "{db} is a named pipe, where a file belongs: move it"),
    "a link to nothing": (dangling, "{db}", ALL, "{db} links to {dir}/gone, which does not exist"),
    "no right to write": (read_only, "{db}", WRITERS, "{db} cannot be written by user"),
    "log: a directory": (folder, "{db}-wal", ALL, "{db}-wal is a directory"),
    "log: a named pipe": (pipe, "{db}-wal", ALL, "{db}-wal is a named pipe"),
    "log: no right to read": (closed, "{db}-wal", ALL, "{db}-wal cannot be read by user"),
    "index: a directory": (folder, "{db}-shm", ALL, "{db}-shm is a directory"),
    "index: no right to read": (closed, "{db}-shm", ALL, "{db}-shm cannot be read by user"),
    "lock: a directory": (folder, "{lock}", WRITERS, "{lock} is a directory"),
    "lock: a named pipe": (pipe, "{lock}", WRITERS, "{lock} is a named pipe"),
    "lock: no right": (closed, "{lock}", WRITERS, "{lock} cannot be read by user"),
    "directory: no right to write": (read_only, "{dir}", WRITERS, "{dir} cannot be written by"),
    "no lock, no right to write": (unlocked, "{dir}", WRITERS, "{dir} cannot be written by"),
    "directory: closed": (closed, "{dir}", ALL, " by user"),
}


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    """A gateway's and a collector's, with databases and locks."""
    gateway, central = tmp_path / "data", tmp_path / "central"
    gateway.mkdir()
    store = Store(gateway, "plant", "gw-1", 100, 100)
    store.open()
    status = '{"running": false, "updated": "2026-01-01T00:00:00.000Z"}'
    store.commit(Batch(status=lambda: status), "synced")
    store.close()
    with Collected(central, "plant"):
        pass
    return gateway, central


def commands(directory: Path) -> dict[str, tuple[int, str]]:
    """Run them; return how they ended, and what they printed."""
    (directory / "readings.csv").touch()
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "file"
stream = "pump"
type = "file"
path = "{directory / "readings.csv"}"
format = "json"
""")
    together = ["-m", "tests.every_command", str(config), str(directory / "central")]
    ended = subprocess.run(
        [*DISARMED, sys.executable, *together],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=SECONDS_MAX,
        check=True,
    )
    found: dict[str, tuple[int, str]] = json.loads(ended.stdout)
    run = subprocess.run(
        [*DISARMED, *AGENT, "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        timeout=SECONDS_MAX,
        check=False,
    )
    return found | {"run": (run.returncode, run.stdout.decode())}


@pytest.mark.parametrize("trap", TRAPS)
def test_each_command_says_what_is_in_the_way(
    tmp_path: Path, directories: tuple[Path, Path], trap: str
) -> None:
    lay, where, who, says = TRAPS[trap]
    gateway, central = directories
    names = [
        {"dir": gateway, "db": gateway / RECORDS, "lock": gateway / LOCK},
        {"dir": gateway, "db": gateway / READINGS, "lock": gateway / LOCK},
        {"dir": central, "db": central / COLLECTED, "lock": central / f"{COLLECTED}.lock"},
    ]
    laid = {where.format(**name) for name in names}
    try:
        for path in laid:
            lay(Path(path))
        found = commands(tmp_path)
    finally:
        gateway.chmod(0o700)
        central.chmod(0o700)
    assert set(found) == ALL
    said = {says.format(**name) for name in names}
    for command in sorted(who):
        code, text = found[command]
        assert code == 74, (command, text)
        assert any(one in text for one in said), (command, text)
        assert "Traceback" not in text
        assert "[Errno" not in text


def test_a_file_in_the_directorys_place(tmp_path: Path, directories: tuple[Path, Path]) -> None:
    for directory in directories:
        shutil.rmtree(directory)
        directory.touch()
    found = commands(tmp_path)
    code, text = found["collect"]
    assert (code, "is a file" in text) == (2, True)  # of a command line that is wrong
    for command in sorted(ALL - {"collect"}):
        code, text = found[command]
        assert code == 74, (command, text)
        assert "a file, where a directory belongs" in text
        assert "Traceback" not in text
    (only,) = found["run"][1].splitlines()  # not first of what else is missing there
    assert "a file, where a directory belongs" in only
