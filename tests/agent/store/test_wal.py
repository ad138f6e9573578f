"""A log that lost commits is told from one that a power cut ended."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from agent.store.wal import Log, read_log

COMMITS = 8
PAGE, HEAD, FRAME = 4096, 32, 24


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of some commits, as a kill leaves it."""
    with contextlib.closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("CREATE TABLE t (x)")
        for _ in range(COMMITS - 1):
            live.execute("INSERT INTO t VALUES (zeroblob(9000))")
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"live.db{suffix}", tmp_path / f"copy.db{suffix}")
    return tmp_path / "copy.db-wal"


def lost(log: Path) -> int:
    found = read_log(log)
    with contextlib.closing(sqlite3.connect(log.with_name("copy.db"))) as connection:
        (_, frames, _) = connection.execute("PRAGMA wal_checkpoint").fetchone()
    return found.lost(frames)


def change(log: Path, at: int) -> None:
    data = bytearray(log.read_bytes())
    data[at] ^= 1
    log.write_bytes(data)


def test_a_sound_log_and_none_at_all_have_lost_nothing(log: Path, tmp_path: Path) -> None:
    assert len(read_log(log).commits) == COMMITS
    assert lost(log) == 0
    assert read_log(tmp_path / "absent") == Log(True, [])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_log_that_ends_too_early_has_lost_nothing_that_was_said(log: Path, share: float) -> None:
    data = log.read_bytes()
    log.write_bytes(data[: int(share * len(data))])
    assert lost(log) == 0


def test_a_commit_that_was_not_over_is_no_loss(log: Path) -> None:
    frames = read_log(log).commits
    change(log, HEAD + frames[-2] * (FRAME + PAGE) + 100)  # in the last commit's first page
    assert lost(log) == 0


def test_commits_after_a_damaged_frame_are_counted(log: Path) -> None:
    frames = read_log(log).commits
    change(log, HEAD + frames[2] * (FRAME + PAGE) + 100)  # in the fourth commit's first page
    assert lost(log) == COMMITS - 3


def test_a_damaged_head_loses_all(log: Path) -> None:
    change(log, 16)
    assert lost(log) == COMMITS
