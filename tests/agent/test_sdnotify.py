"""Notifications to systemd, on a real datagram socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.sdnotify import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_messages_arrive_as_systemd_expects_them(tmp_path: Path, abstract: bool) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        notifier = Notifier("@" + name if abstract else name)
        notifier.ready()
        notifier.status("3 samples")
        notifier.watchdog()
        notifier.stopping()
        received = [systemd.recv(100) for _ in range(4)]
    assert received == [b"READY=1", b"STATUS=3 samples", b"WATCHDOG=1", b"STOPPING=1"]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()


def test_a_systemd_that_is_gone_does_not_end_the_agent(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody")).watchdog()
