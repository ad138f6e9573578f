"""Opening database files: damaged, of others, in use, full; and by those who may only read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.store.batch import Batch
from agent.store.migrations import READINGS, RECORDS
from agent.store.reader import Reader
from agent.store.record import Outgoing
from agent.store.sqlite import LOCK, locked
from agent.store.writer import Store
from models.errors import StoreError
from tests.conftest import ROOT

NOBODY = 65534
# has the lock of the log's index that says "I checkpoint", as SQLite takes it
CHECKPOINTING = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    fcntl.lockf(index, fcntl.LOCK_EX, 1, 121)
    print("held", flush=True)
    sys.stdin.read()
"""


def opened(directory: Path) -> Store:
    store = Store(directory, "plant", "gw-1", 1000, 1000)
    store.open()
    return store


def fill(store: Store) -> None:
    for _ in range(10):
        messages = [Outgoing("summary", "pump", 0.0, {"text": "x" * 300})] * 20
        state = {"pump": {"head": os.urandom(3000)}}
        store.commit(Batch(messages=messages, state=state, status=lambda: '{"up": 1}'), "synced")


@pytest.fixture(scope="module")
def stopped_and_killed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files as a clean stop leaves them, and as a kill does: much of it in the log."""
    stopped, killed = (tmp_path_factory.mktemp(name) for name in ("stopped", "killed"))
    store = opened(stopped)
    fill(store)
    shutil.copytree(stopped, killed, dirs_exist_ok=True)
    store.close()
    return [stopped, killed]


def epoch_in(directory: Path) -> str:
    with Reader(directory) as reader:
        return str(reader.meta("epoch"))


def queued(directory: Path) -> list[int]:
    with Reader(directory) as reader:
        return [one.seq for one in reader.outbox(["summary"], 0, 10_000)]


def cut(data: bytearray, moment: random.Random) -> None:
    del data[moment.randrange(len(data)) :]


def change_the_head(data: bytearray, moment: random.Random) -> None:
    data[moment.randrange(60)] ^= moment.randrange(1, 256)  # beyond is the version, ours


def change_some_bytes(data: bytearray, moment: random.Random) -> None:
    for _ in range(20):
        data[moment.randrange(len(data))] ^= moment.randrange(1, 256)


def overwrite_a_page(data: bytearray, moment: random.Random) -> None:
    begin = moment.randrange(len(data) // 4096) * 4096
    data[begin : begin + 4096] = moment.randbytes(4096)


@pytest.mark.parametrize("damage", [cut, change_the_head, change_some_bytes, overwrite_a_page])
def test_no_damage_keeps_the_agent_from_starting(
    tmp_path: Path,
    stopped_and_killed: list[Path],
    damage: Callable[[bytearray, random.Random], None],
) -> None:
    moment = random.Random(2)
    set_aside = 0
    epochs = [epoch_in(directory) for directory in stopped_and_killed]
    for number in range(24):
        directory = tmp_path / str(number)
        shutil.copytree(stopped_and_killed[number % 2], directory)
        file = directory / moment.choice([RECORDS, READINGS])
        data = bytearray(file.read_bytes())
        damage(data, moment)
        file.write_bytes(data)
        store = opened(directory)
        set_aside += len(store.set_aside)
        if [path for path in store.set_aside if path.name.startswith(RECORDS)]:
            (report,) = store.document()["damage"]
            numbers = queued(directory)
            assert len(numbers) == report["saved"]["outbox"]
            # the same numbers in the same epoch, or a new one from 1
            if report["epoch"] == "kept":
                assert store.last_seq == 200
                assert store.origin.epoch == epochs[number % 2]
            else:
                assert numbers == list(range(1, store.last_seq + 1))
                assert store.origin.epoch not in epochs
        assert all(path.exists() for path in store.set_aside)
        store.close()
    assert set_aside > 0


def test_what_is_not_the_files_fault_does_not_set_it_aside(tmp_path: Path) -> None:
    (tmp_path / READINGS).mkdir()  # not a file: cannot be opened
    with pytest.raises(
        StoreError, match=r"readings\.db is a directory, where a file belongs: move it away"
    ):
        opened(tmp_path)
    assert (tmp_path / READINGS).is_dir()
    assert not list(tmp_path.glob("*.corrupt*"))


def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"fieldwatch\.db: disk I/O error"),
        file_size_limit(100),
    ):
        opened(tmp_path)
    assert not list(tmp_path.glob("*.corrupt*"))


def test_a_checkpoint_of_another_process_is_not_taken_for_damage(
    stopped_and_killed: list[Path], tmp_path: Path
) -> None:
    """Somebody looks at the file of a killed agent with a tool that checkpoints."""
    _, killed = stopped_and_killed
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    for name in (RECORDS, READINGS):
        (tmp_path / f"{name}-shm").unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(tmp_path / RECORDS)) as tool:
        tool.execute("SELECT * FROM meta").fetchall()  # makes the -shm file
        hold = [sys.executable, "-c", CHECKPOINTING, str(tmp_path / f"{RECORDS}-shm")]
        with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            store = opened(tmp_path)
            holder.communicate()
    assert store.set_aside == []
    assert store.document()["outbox_rows"] == 200
    store.close()


def test_a_failed_opening_lets_others_in(tmp_path: Path) -> None:
    (tmp_path / READINGS).mkdir()
    with pytest.raises(StoreError):
        opened(tmp_path)
    (tmp_path / READINGS).rmdir()
    opened(tmp_path).close()


def test_no_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist: create it, owned by the agent's user"):
        opened(tmp_path / "absent")


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("999999999999")  # a longer number than any, from before
    store = opened(tmp_path)
    with pytest.raises(StoreError, match=rf"another agent \(process {os.getpid()}\)"):
        opened(tmp_path)
    store.close()


def test_a_lock_outlives_no_process(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from agent.store.sqlite import lock; "
    script += "held = lock(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(StoreError, match=f"another agent .process {other.pid}"):
            opened(tmp_path)
        other.kill()
    opened(tmp_path).close()


def test_commands_that_ask_who_has_the_lock_do_not_keep_an_agent_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long such a command stands still with it, as on a busy gateway."""
    opened(tmp_path).close()
    asking = os.open(tmp_path / LOCK, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    waits = iter(range(99, -1, -1))

    def wait(_: float) -> None:
        if next(waits) == 0:
            os.close(asking)

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", wait)
        store = opened(tmp_path)
    assert locked(tmp_path / LOCK)
    store.close()
    assert not locked(tmp_path / LOCK)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files: a write beyond it fails, as on a broken disk.

    Only while a test's own call runs: the limit is the process's, and the output of the tests
    may be a file too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_error_costs_nothing_once_the_disk_works_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    fill(store)
    batch = Batch(messages=[Outgoing("alarm", "pump", 0.0, {"text": "x" * 300})] * 500)
    log_bytes = (tmp_path / f"{RECORDS}-wal").stat().st_size
    with (
        pytest.raises(StoreError, match=r"fieldwatch\.db: disk I/O error"),
        file_size_limit(log_bytes),
    ):
        store.commit(batch, "synced")
    assert store.last_seq == 200
    store.commit(batch, "synced")
    assert store.last_seq == 700
    with Reader(tmp_path) as reader:
        rows = reader.outbox(["summary", "alarm"], 0, 10_000)
    assert [one.seq for one in rows] == list(range(1, 701))
    store.close()


def test_a_current_file_opens_without_sqlite_utils(tmp_path: Path) -> None:
    opened(tmp_path).close()
    script = """if True:
        import sys
        from pathlib import Path
        from agent.store.writer import Store
        store = Store(Path(sys.argv[1]), "plant", "gw-1", 10, 10)
        store.open()
        store.close()
        assert "sqlite_utils" not in sys.modules, "loaded"
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=ROOT)


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that every user may read; pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="fieldwatch ?#%25 ") as name:  # and an ugly name
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


class SomebodyElse:
    """Another user, who may only read: a fork that becomes nobody, with one reader for life."""

    def __init__(self, directory: Path) -> None:
        self._here, there = socket.socketpair()
        self._child = os.fork()
        if self._child == 0:
            self._here.close()
            self._read_when_asked(there, directory)
        there.close()

    def _read_when_asked(self, asked: socket.socket, directory: Path) -> None:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            with Reader(directory) as reader:
                while asked.recv(1):
                    asked.sendall(json.dumps(reader.status()).encode())
        except StoreError:
            traceback.print_exc()
        finally:
            os._exit(0)

    def status(self) -> dict[str, int] | None:
        """What it read; None where it could not."""
        self._here.sendall(b"?")
        answer = self._here.recv(1000)
        return json.loads(answer) if answer else None

    def close(self) -> None:
        self._here.close()
        os.waitpid(self._child, 0)


@pytest.fixture
def somebody_else(public_directory: Path) -> Iterator[SomebodyElse]:
    other = SomebodyElse(public_directory)
    yield other
    other.close()


def test_another_user_reads_before_beside_and_after_the_agent(
    public_directory: Path, somebody_else: SomebodyElse
) -> None:
    opened(public_directory).close()
    for run in range(1, 4):
        store = opened(public_directory)
        store.commit(Batch(status=lambda run=run: json.dumps({"up": run})), "synced")
        if run > 1:  # its first look is at the files of an agent that is not running
            assert somebody_else.status() == {"up": run}
        store.close()
        public_directory.chmod(0o555)  # without root, being the owner must not help
        assert somebody_else.status() == {"up": run}
        public_directory.chmod(0o755)


def test_another_user_reads_what_a_kill_left(
    public_directory: Path, somebody_else: SomebodyElse, stopped_and_killed: list[Path]
) -> None:
    shutil.copytree(stopped_and_killed[1], public_directory, dirs_exist_ok=True)
    public_directory.chmod(0o555)
    assert somebody_else.status() == {"up": 1}
    public_directory.chmod(0o755)


def test_a_reader_from_before_the_start_sees_what_is_written_after_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit(Batch(status=lambda: '{"up": 1}'), "synced")
    store.close()
    with Reader(tmp_path) as reader:
        assert reader.status() == {"up": 1}
        store = opened(tmp_path)
        store.commit(Batch(status=lambda: '{"up": 2}'), "synced")
        assert reader.status() == {"up": 2}
        store.close()
        assert reader.status() == {"up": 2}
