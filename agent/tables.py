"""Makes or migrates the database files in a process of its own: ``python -m`` with the directory.

What makes tables (sqlite-utils) takes 33 MB, which would stay with an agent that runs for years.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from agent.schema import LOCK, READINGS, RECORDS, errors_of, lock, open_for_writing, outdated
from models.errors import StoreError

_SECONDS_MAX = 600.0  # a migration may rewrite all there is
_NOT_POSSIBLE = 3


def bring_up_to_date(directory: Path) -> None:
    """Make the files in ``directory``, or migrate them, where that is needed.

    Raises:
        StoreError: it cannot be done; the text says why.

    """
    if not any(outdated(directory / name) for name in (RECORDS, READINGS)):
        return
    with errors_of(directory):
        ended = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", __spec__.name, str(directory)],
            stderr=subprocess.PIPE,
            text=True,
            timeout=_SECONDS_MAX,
            check=False,
        )
    if ended.returncode == _NOT_POSSIBLE:
        raise StoreError(ended.stderr.strip())
    if ended.returncode:
        raise StoreError(f"{directory}: making the tables failed:\n{ended.stderr}")


def main(directory: Path) -> int:
    """Do it, here."""
    logging.basicConfig(format="%(message)s")
    try:
        with errors_of(directory), lock(directory / LOCK):
            for name in (RECORDS, READINGS):
                connection, _ = open_for_writing(directory / name, "FULL")
                connection.close()
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return _NOT_POSSIBLE
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
