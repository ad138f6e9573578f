"""Notifications to systemd, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent.health.sdnotify import Notifier
from tests.conftest import WAIT_S_MAX


@pytest.mark.parametrize("abstract", [False, True])
def test_messages_arrive_as_systemd_expects_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(WAIT_S_MAX)
        systemd.bind("\0" + name if abstract else name)
        notifier = Notifier()
        notifier.starting(1.5, "starting: stream a\nREADY=1")
        notifier.ready()
        notifier.status("3 samples\nSTOPPING=1\ud800")
        notifier.watchdog()
        notifier.stopping()
        received = [systemd.recv(100) for _ in range(5)]
    assert received == [
        rb"EXTEND_TIMEOUT_USEC=1500000|STATUS=starting: stream a\nREADY=1".replace(b"|", b"\n"),
        b"READY=1",
        rb"STATUS=3 samples\nSTOPPING=1\ud800",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=stopping: storing what has arrived",
    ]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()


def test_a_systemd_that_is_gone_does_not_end_the_agent(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody")).watchdog()


def test_a_systemd_that_is_too_busy_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        notifier = Notifier(name)
        for _ in range(1000):  # far more than the socket holds, and nobody reads
            notifier.watchdog()
        assert systemd.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("60000000", None, 60.0),
        ("60000000", str(os.getpid()), 60.0),
        ("60000000", "1", None),
        (None, None, None),
    ],
    ids=["no pid", "this process", "another", "no watchdog"],
)
def test_the_watchdogs_interval_is_what_systemd_gave_to_this_process(
    monkeypatch: pytest.MonkeyPatch,
    microseconds: str | None,
    pid: str | None,
    seconds: float | None,
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Notifier().watchdog_s == seconds
