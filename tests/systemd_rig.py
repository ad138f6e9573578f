"""``systemd-analyze``, for the tests of units."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT

Analyze = Callable[..., subprocess.CompletedProcess[str]]


def analyzer(runtime: Path) -> Analyze:
    """Return ``systemd-analyze`` as a user's: it needs neither root nor a system run by systemd."""
    parts = ROOT / ".parts" / "usr"
    found = shutil.which("systemd-analyze", path=f"{os.environ['PATH']}:/usr/bin:{parts}/bin")
    assert found, "the tests need systemd-analyze; get it with: make parts"
    environment = os.environ | {"XDG_RUNTIME_DIR": str(runtime)}
    if found.startswith(str(parts)):  # the units that ours stands on are unpacked there too
        environment["SYSTEMD_UNIT_PATH"] = f"{parts}/lib/systemd/user:"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [found, "--user", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    return run
