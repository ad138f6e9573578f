"""The log in the journal's native protocol, on a real datagram socket."""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import journal
from agent.journal import (
    INPUT,
    MESSAGE_CHARACTERS_MAX,
    STREAM,
    JournalHandler,
    PrefixFormatter,
)
from tests.conftest import ROOT, WAIT_S_MAX
from tests.hostile import HOSTILE, SHOWN

LOG = logging.getLogger("agent.test")


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(WAIT_S_MAX)
        yield listening


@pytest.fixture
def otherwise(tmp_path: Path) -> Iterator[Path]:
    """Where the log goes that journald does not take."""
    path = tmp_path / "stderr"
    fallback = logging.FileHandler(path)
    fallback.setFormatter(PrefixFormatter("%(name)s: %(message)s"))
    handler = JournalHandler(tmp_path / "journal", fallback)
    LOG.addHandler(handler)
    yield path
    LOG.removeHandler(handler)
    fallback.close()


def fields(data: bytes) -> dict[str, str]:
    """Read a datagram as journald does."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + length], rest[9 + length :]
        else:
            data = rest
        found[name.decode()] = value.decode()
    return found


@pytest.mark.usefixtures("otherwise")
def test_a_message_has_its_fields(journald: socket.socket) -> None:
    LOG.warning("input %s: gone", "a", extra={INPUT: "a", STREAM: "pump-1"})
    assert fields(journald.recv(9999)) == {
        "MESSAGE": "agent.test: input a: gone",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "fieldwatch-agent",
        "FIELDWATCH_INPUT": "a",
        "FIELDWATCH_STREAM": "pump-1",
    }


@pytest.mark.usefixtures("otherwise")
def test_what_looks_like_a_line_or_a_field_stays_in_the_message(journald: socket.socket) -> None:
    LOG.error("a\nPRIORITY=7\nb")
    found = fields(journald.recv(9999))
    assert (found["MESSAGE"], found["PRIORITY"]) == ("agent.test: a\\nPRIORITY=7\\nb", "3")


@pytest.mark.usefixtures("otherwise")
def test_text_from_outside_is_logged_whatever_is_in_it(journald: socket.socket) -> None:
    """No UTF-8 has half a pair of surrogates: encoding it would end the thread that logs."""
    LOG.error("epoch %s", HOSTILE, extra={INPUT: HOSTILE})
    found = fields(journald.recv(9999))
    assert found["MESSAGE"] == f"agent.test: epoch {SHOWN}"
    assert found["FIELDWATCH_INPUT"] == SHOWN


@pytest.mark.usefixtures("otherwise")
def test_a_trace_is_told_from_the_lines_of_the_log(journald: socket.socket) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        LOG.exception("failed")
    message, *trace = fields(journald.recv(9999))["MESSAGE"].split("\n")
    assert message == "agent.test: failed"
    assert trace[-2:] == ["  ValueError: \\ud800\\x1b[2J", "  <0>root: forged\\u202e"]
    assert all(line.startswith("  ") and line.isprintable() for line in trace)


def test_a_log_on_stderr_has_no_line_and_no_control_from_outside() -> None:
    code = (
        "import logging; from agent.journal import start_logging; start_logging();"
        f" logging.error('epoch %s', {HOSTILE!a})"
    )
    for environment in ({}, {"JOURNAL_STREAM": "1:2"}, {"PYTHONIOENCODING": "ascii:strict"}):
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stderr.endswith(f"root: epoch {SHOWN}\n")
        assert ended.stderr.count("\n") == 1


@pytest.mark.usefixtures("otherwise")
def test_a_trace_is_in_the_message(journald: socket.socket) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        LOG.exception("failed")
    assert fields(journald.recv(9999))["MESSAGE"].endswith("ValueError: odd")


def test_without_journald_it_goes_to_stderr(otherwise: Path) -> None:
    LOG.warning("gone")
    assert otherwise.read_text() == "<4>agent.test: gone\n"


def test_a_journald_that_does_not_read_holds_nobody_up(
    journald: socket.socket, otherwise: Path
) -> None:
    for _ in range(1000):  # far more than the socket holds
        LOG.warning("again")
    assert fields(journald.recv(9999))["MESSAGE"] == "agent.test: again"
    assert otherwise.read_text().startswith("<4>agent.test: again\n")


def test_a_long_message_is_cut(journald: socket.socket, otherwise: Path) -> None:
    LOG.warning("°" * 2_000_000)
    message = fields(journald.recv(99_999))["MESSAGE"]
    assert len(message) == MESSAGE_CHARACTERS_MAX
    assert message.endswith("°…")
    assert otherwise.read_text() == ""


def test_a_trace_too_long_for_it_goes_to_stderr(journald: socket.socket, otherwise: Path) -> None:
    try:
        raise ValueError("x" * 2_000_000)
    except ValueError:
        LOG.exception("failed")
    assert len(otherwise.read_text()) > 2_000_000


CODE = (
    "import logging; from agent.journal import start_logging; start_logging(); logging.error('e')"
)


@pytest.mark.parametrize(
    ("variable", "said"), [(None, " ERROR root: e\n"), ("1:2", "<3>root: e\n")]
)
def test_the_form_follows_from_where_stderr_leads(variable: str | None, said: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "JOURNAL_STREAM"}
    if variable is not None:  # some stream, but not this one: it was redirected
        environment["JOURNAL_STREAM"] = variable
    ended = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stderr.endswith(said)


def test_the_identifier_is_the_units() -> None:
    unit = Path(__file__).parents[2] / "systemd" / "fieldwatch-agent.service"
    assert f"\nSyslogIdentifier={journal.IDENTIFIER}\n" in unit.read_text()
