"""The test of the running containers says plainly that there is no engine, and then fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

NEEDED = ("bash", "dirname")


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        ({}, "install Docker or Podman"),
        ({"docker": "exit 1"}, "the program docker is here, and no engine answers it"),
        (
            {"podman": '[ "$1" = info ]'},
            "podman runs, and has no Compose: install docker-compose-plugin or podman-compose",
        ),
    ],
)
def test_without_an_engine_it_fails(programs: dict[str, str], says: str, tmp_path: Path) -> None:
    for name in NEEDED:
        (tmp_path / name).symlink_to(Path("/usr/bin", name))
    for name, does in programs.items():
        (tmp_path / name).write_text(f"#!{tmp_path / 'bash'}\n{does}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", ROOT / "scripts" / "smoke-containers"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"error: not tested, as there is no container engine: {says}\n"
    assert (done.returncode, done.stderr, done.stdout) == (69, said, "")
