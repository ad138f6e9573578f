"""The version of the code that trains: its release, and in a git tree its commit."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import models
from models.manifest import Code

ROOT: Final = Path(models.__file__).resolve().parent.parent
_PACKAGES: Final = ("agent", "models", "trainer")
_TIMEOUT_S: Final = 60


@cache
def code_version(root: Path = ROOT) -> Code:
    """Return the version of the packages below ``root``.

    Without git, or where the packages are not in a git tree, it is only that of the release.
    """
    version = models.__version__
    # a virtual environment may be inside the tree of another project, which git does not list
    if not _git(root, "ls-files", "--", "trainer/code_version.py"):
        return Code(version=version)
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", *_PACKAGES)
    return Code(
        version=version, commit=commit or None, dirty=None if changed is None else changed != ""
    )


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints; None if it fails, or is not installed."""
    try:
        done = subprocess.run(  # noqa: S603  the arguments are those above
            ["git", "-C", str(root), "--no-optional-locks", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
