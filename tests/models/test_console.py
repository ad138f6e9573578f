"""The door to the terminal: colors are ours, everything else is printable."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from models.console import LINE_CHARACTERS_MAX, Colored, say, say_error, say_json
from tests.conftest import ROOT
from tests.hostile import HOSTILE, SHOWN


def test_a_line_is_one_line_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    say("a ", Colored(HOSTILE, "red"), HOSTILE)
    say("x" * 10 * LINE_CHARACTERS_MAX, error=True)
    told = capsys.readouterr()
    assert told.out == f"a {SHOWN}{SHOWN}\n"
    assert told.err == "x" * (LINE_CHARACTERS_MAX - 1) + "…\n"


def test_further_lines_of_an_error_are_set_apart(capsys: pytest.CaptureFixture[str]) -> None:
    say_error("fieldwatch-agent", "one\nfieldwatch-agent: two\x1b[2J")
    assert capsys.readouterr().err == "fieldwatch-agent: one\n  fieldwatch-agent: two\\x1b[2J\n"


@pytest.mark.parametrize(("ours", "mark"), [(True, "<3>"), (False, "")])
@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("say_error('fieldwatch-agent', 'one\\n<0>two')", ["fieldwatch-agent: one", "  <0>two"]),
        ("begin(); raise ValueError('odd')", ["  Traceback (most recent call last):"]),
    ],
)
def test_in_the_journal_an_error_has_the_priority_of_one(
    code: str, shown: list[str], ours: bool, mark: str
) -> None:
    """Without the mark of sd-daemon(3) journald takes the line that ends the agent as "info"."""
    reading, writing = os.pipe()
    found = os.fstat(writing)
    with os.fdopen(reading) as pipe:
        subprocess.run(
            [sys.executable, "-c", f"from models.console import *; {code}"],
            stderr=writing,
            check=False,
            cwd=ROOT,
            env=os.environ | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + (not ours)}"},
            timeout=60,
        )
        os.close(writing)
        lines = pipe.read().splitlines()
    assert lines[: len(shown)] == [f"{mark}{line}" for line in shown]
    assert all(line.startswith(mark) for line in lines)


def test_json_has_no_bound(capsys: pytest.CaptureFixture[str]) -> None:
    say_json(["x" * 10 * LINE_CHARACTERS_MAX])
    assert len(capsys.readouterr().out) > 10 * LINE_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("environment", "shown"),
    [({}, b"\x1b[31m\\x1b[32mhot\x1b[0m\r\n"), ({"NO_COLOR": "1"}, b"\\x1b[32mhot\r\n")],
)
def test_on_a_terminal_the_only_colors_are_ours(environment: dict[str, str], shown: bytes) -> None:
    code = r"from models.console import *; say(Colored('\x1b[32mhot', 'red'))"
    controller, terminal = pty.openpty()
    try:
        plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        subprocess.run(
            [sys.executable, "-c", code],
            stdout=terminal,
            check=True,
            cwd=ROOT,
            env=plain | environment,
            timeout=60,
        )
        assert os.read(controller, 1000) == shown
    finally:
        os.close(controller)
        os.close(terminal)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_trace_quotes_what_led_to_it_in_lines_of_its_own(encoding: str) -> None:
    code = f"from models import console; console.begin(); raise ValueError({HOSTILE!a})"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        timeout=60,
    )
    lines = ended.stderr.decode(encoding).removesuffix("\n").split("\n")
    assert ended.returncode == 1
    assert lines[-2:] == ["  ValueError: \\ud800\\x1b[2J", "  <0>root: forged\\u202e"]
    assert all(line.startswith("  ") and line.isprintable() for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_terminal_lacks_is_shown_by_its_escape(tmp_path: Path, encoding: str) -> None:
    """Of any command; also of the help, which does not come through here."""
    (tmp_path / "温度.toml").write_text("")
    ended = subprocess.run(
        [sys.executable, "-m", "agent", "check", "--config", str(tmp_path / "温度.toml")],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        timeout=60,
    )
    assert ended.returncode == 78
    assert rb"\u6e29\u5ea6.toml" in ended.stdout
