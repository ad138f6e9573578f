"""Makes a store's files in a process of its own, as ``python -m`` with the directory.

What makes tables takes more memory than the agent that finds them there, and it would stay.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.store import Store

SITE, GATEWAY = "bench", "gateway"
_SECONDS_MAX = 60.0


def new_store(directory: Path) -> None:
    """Make ``directory`` with the files of an empty store in it."""
    directory.mkdir()
    subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", __spec__.name, str(directory)], check=True, timeout=_SECONDS_MAX
    )


if __name__ == "__main__":
    store = Store(Path(sys.argv[1]), SITE, GATEWAY, outbox_rows_max=1, ring_rows_max=1)
    store.open()
    store.close()
