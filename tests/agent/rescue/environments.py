"""Environments with releases of this software: real ones, with its code in them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.conftest import ROOT

_LAST = "        _m006_records,\n"  # the migration that the former release does not have


def environment(directory: Path, former: bool = False, broken: str = "") -> Path:
    """Make an environment; a former release lacks the last migration of ``fieldwatch.db``.

    ``broken`` is a line of Python that ends its agent at each start.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("agent", "models"):
        shutil.copytree(ROOT / name, packages / name, ignore=ignore)
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    if former:
        migrations = packages / "agent" / "store" / "migrations.py"
        text = migrations.read_text()
        assert text.count(_LAST) == 1
        migrations.write_text(text.replace(_LAST, ""))
    if broken:
        daemon = packages / "agent" / "daemon.py"
        daemon.write_text(f"{daemon.read_text()}\n{broken}\n")
    script = directory / "bin" / "fieldwatch-agent"
    script.write_text(f"#!{directory}/bin/python -I\nfrom agent.cli import main\nmain()\n")
    script.chmod(0o755)
    return directory


def link(place: Path, to: Path) -> Path:
    """Make a link; return it."""
    place.symlink_to(to)
    return place
