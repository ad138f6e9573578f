"""Creates, migrates, checks and repairs the database files in a separate process.

Run it with ``python -m`` and the directory, ``--mend FILE`` or ``--check FILE``. sqlite-utils,
which creates the tables, takes 33 MB of memory. A long-running agent would never release that
memory. The repair or check of a large file takes seconds; the agent's loop keeps running meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.journal import log_to_stderr
from agent.store.copies import GOING_BACK, keep_copy
from agent.store.migrations import READINGS, RECORDS
from agent.store.salvage import Numbers, Report, mend
from agent.store.sqlite import (
    LOCK,
    Damaged,
    check,
    errors_of,
    lock,
    open_for_reading,
    open_for_writing,
    outdated,
)
from agent.store.switch import finish
from models import console
from models.errors import StoreError
from models.printable import printable

_LOG = logging.getLogger(__name__)

_SECONDS_MAX = 600  # a migration may rewrite the whole file
_NOT_POSSIBLE = 3


class Helper:
    """A process that does one of these tasks; the loop may wait for it or continue."""

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-P", "-m", __spec__.name, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def poll(self) -> Report | None:
        """Return the report of the process; None while it runs.

        Raises:
            StoreError: it failed; the text states why.

        """
        return None if self._process.poll() is None else self.wait()

    def wait(self) -> Report:
        """Wait until it ends; return its report, and log its warnings.

        Raises:
            StoreError: it failed; the text states why.

        """
        out, err = self._process.communicate()
        if self._process.returncode == -signal.SIGALRM:
            raise StoreError(f"the maintenance process was stopped after {_SECONDS_MAX} s")
        if self._process.returncode == _NOT_POSSIBLE:
            raise StoreError(err.strip())
        if self._process.returncode:
            raise StoreError(f"the maintenance process failed:\n{err}")
        for line in err.splitlines():
            _LOG.warning("%s", printable(line))
        report: Report = json.loads(out)
        return report

    def stop(self) -> None:
        """Kill the process; the files remain unchanged."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def bring_up_to_date(directory: Path) -> None:
    """Create the files in ``directory``, or migrate them if they are old; a copy is kept.

    A way back after an upgrade that a power cut interrupted is completed first.

    Raises:
        StoreError: it failed; the text states why.

    """
    with errors_of(directory):
        if finish(directory / GOING_BACK):
            _LOG.warning("%s: the way back to the former version is complete", directory)
    if not any(outdated(directory / name) for name in (RECORDS, READINGS)):
        return
    with errors_of(directory):
        Helper(str(directory)).wait()


def mending(path: Path, numbers: Numbers | None = None, commits_lost: int = 0) -> Helper:
    """Start the repair of a file; see ``agent.store.salvage.mend``. The caller holds the lock."""
    epoch, last_seq = numbers or ("", 0)
    with errors_of(path):
        return Helper("--mend", str(path), epoch, str(last_seq), str(commits_lost))


def mend_meanwhile(path: Path, numbers: Numbers | None, commits_lost: int) -> Report:
    """Do what ``agent.store.salvage.mend`` does, in another process, and wait for it."""
    return mending(path, numbers, commits_lost).wait()


def checking(path: Path) -> Helper:
    """Start the check of a whole file; the report is empty or has a ``finding``."""
    with errors_of(path):
        return Helper("--check", str(path))


def main(words: list[str]) -> int:
    """Run the command line; SIGALRM ends the process after ``_SECONDS_MAX``."""
    signal.alarm(_SECONDS_MAX)
    console.begin()
    log_to_stderr("%(message)s", logging.WARNING)
    try:
        match words:
            case ["--mend", path, epoch, last_seq, commits_lost]:
                numbers = Numbers(epoch, int(last_seq)) if epoch else None
                _say(mend(Path(path), numbers, int(commits_lost)))
            case ["--check", path]:
                _say(_finding(Path(path)))
            case [directory]:
                _make(Path(directory))
                _say({})
            case _:
                raise AssertionError(words)
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return _NOT_POSSIBLE
    return 0


def _say(report: Report) -> None:
    sys.stdout.write(json.dumps(report))


def _make(directory: Path) -> None:
    with errors_of(directory), lock(directory / LOCK):
        keep_copy(directory)
        for name in (RECORDS, READINGS):
            try:
                open_for_writing(directory / name, "FULL").close()
            except Damaged:  # the agent repairs the file when it opens it
                continue


def _finding(path: Path) -> dict[str, Any]:
    os.nice(19)
    connection, _ = open_for_reading(path)
    with closing(connection), errors_of(path):
        try:
            check(connection, path)
        except Damaged as damage:
            return {"finding": str(damage)}
    return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
