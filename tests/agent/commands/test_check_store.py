"""What ``check`` says of the files in the store's directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.commands.check import Finding, check
from agent.defects.quarantine import NOTES, Quarantine

SECONDS_MAX = 60
# root without what lets it pass over modes
DISARMED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] * (os.geteuid() == 0)
CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "."
[[streams]]
name = "pump"
[streams.baseline]
period_s = 0.2
channels = [{ name = "flow" }]
[[inputs]]
name = "in"
stream = "pump"
type = "simulator"
channels = ["flow"]
"""


def store_finding(directory: Path) -> Finding:
    path = directory / "agent.toml"
    path.write_text(CONFIG)
    (found,) = [one for one in check(path) if one.what == f"store {directory}"]
    return found


def test_notes_of_an_agent_that_ran_are_fine(tmp_path: Path) -> None:
    assert store_finding(tmp_path).ok
    quarantine = Quarantine(tmp_path, ())
    quarantine.open()
    quarantine.close()
    assert store_finding(tmp_path).ok


@pytest.mark.parametrize(
    ("make", "kind"), [(Path.mkdir, "a directory"), (os.mkfifo, "a named pipe")]
)
def test_what_stands_in_the_place_of_the_notes_is_named(
    tmp_path: Path,
    make: Callable[[Path], None],
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the agent starts without them: neither opening nor writing waits for anybody."""
    make(tmp_path / NOTES)
    found = store_finding(tmp_path)
    told = f"{tmp_path / NOTES} is {kind}, where a file belongs: move it away"
    assert (found.ok, found.exit_code, found.detail) == (False, 74, told)
    quarantine = Quarantine(tmp_path, ())
    quarantine.open()
    quarantine.close()
    assert (
        f"cannot write the message in work to {tmp_path / NOTES}, continuing without: "
        in caplog.text
    )


def test_notes_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / NOTES).touch(mode=0o000)
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG)
    ended = subprocess.run(
        [*DISARMED, sys.executable, "-m", "agent", "check", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert ended.returncode == 74
    assert f"{tmp_path / NOTES} cannot be read by user " in ended.stdout + ended.stderr
