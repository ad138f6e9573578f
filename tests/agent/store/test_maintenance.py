"""The database files are made by another process, so that the agent stays small."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.store.maintenance import bring_up_to_date, checking
from agent.store.migrations import READINGS, RECORDS
from agent.store.sqlite import LOCK, lock, outdated
from agent.store.writer import Store
from models.errors import StoreError

PROGRAM = """
import sys
from pathlib import Path
from agent.store.writer import Store
from agent.store.maintenance import bring_up_to_date
directory = Path(sys.argv[1])
bring_up_to_date(directory)
store = Store(directory, "plant", "gw-1", 10, 10)
store.open()
store.close()
sys.exit("sqlite_utils" in sys.modules)
"""


def test_the_process_that_uses_the_tables_does_not_load_what_makes_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, timeout=60)


def test_files_are_made_once(tmp_path: Path) -> None:
    bring_up_to_date(tmp_path)
    assert not outdated(tmp_path / RECORDS)
    assert not outdated(tmp_path / READINGS)
    store = Store(tmp_path, "plant", "gw-1", 10, 10)
    store.open()
    epoch = store.origin.epoch
    store.close()
    bring_up_to_date(tmp_path)
    store.open()
    assert store.origin.epoch == epoch
    store.close()


def test_the_reason_is_told_where_it_cannot_be_done(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no/such"):
        bring_up_to_date(tmp_path / "no" / "such")
    with lock(tmp_path / LOCK), pytest.raises(StoreError, match="in use by another agent"):
        bring_up_to_date(tmp_path)


def test_a_damaged_file_is_left_to_the_opening(tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_bytes(b"no database" * 500)
    assert not outdated(tmp_path / RECORDS)


def children() -> set[str]:
    """The processes that this thread has started and that have not been waited for."""
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return set(listed.read_text().split())


def test_a_process_that_takes_too_long_is_told(tmp_path: Path) -> None:
    before = children()  # such as a broker of other tests
    helper = checking(tmp_path / RECORDS)
    (child,) = children() - before
    os.kill(int(child), signal.SIGALRM)  # as the system does after the time
    with pytest.raises(StoreError, match="stopped after 600 s"):
        helper.wait()
