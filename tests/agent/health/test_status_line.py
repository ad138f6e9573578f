"""The line of ``systemctl status``: what it says, and how rarely it is sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.health.sdnotify import Notifier
from agent.health.status_line import INTERVAL_S, StatusLine, brief


def document(**others: Any) -> dict[str, Any]:
    """Return what of the agent's document the line shows, with nothing wrong."""
    return {
        "counters": {"readings": 0},
        "streams": {name: {"open_alarms": [], "refused": None} for name in ("pump", "fan")},
        "inputs": {"line": {"connected": True}},
        "uplink": {"state": "online"},
        "store": {"outbox_rows": 0},
        "configuration": {"loaded": "10:00", "refused": None, "needs_restart": []},
    } | others


class Systemd:
    """The end of systemd of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def told(self) -> list[str]:
        """Return everything that has arrived since the last call."""
        lines = []
        while True:
            try:
                lines.append(self._sock.recv(1000).decode())
            except BlockingIOError:
                return lines


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield Systemd(sock)


def test_a_healthy_agent_in_one_line() -> None:
    told = brief(document(store={"outbox_rows": 12}), 20.04)
    assert told == "no alarm open, 2 streams, 20.0 readings/s, broker online, 12 messages waiting"


def test_what_should_not_be_comes_first() -> None:
    told = brief(
        document(
            streams={"pump": {"open_alarms": [{}, {}], "refused": {"why": "digest"}}},
            inputs={"line": {"connected": False}, "file": {"connected": True}},
            uplink={"state": "offline"},
            store={"outbox_rows": 1},
            configuration={"refused": "no such file", "needs_restart": ["gateway.name"]},
        )
    )
    assert told == (
        "1 REFUSED bundle, 1 input not connected, reload REFUSED, 1 setting waiting for a restart,"
        " 2 alarms open, 1 stream, broker offline, 1 message waiting"
    )


def test_a_gateway_without_broker_and_streams() -> None:
    told = brief(document(streams={}, inputs={}, uplink=None))
    assert told == "no alarm open, no stream, no broker configured"


def test_it_is_sent_every_ten_seconds_however_often_the_agent_commits(systemd: Systemd) -> None:
    line = StatusLine(Notifier())
    for tenth in range(301):
        line.show(document(counters={"readings": 2 * tenth}), 1000 + tenth / 10)
    told = systemd.told()
    assert len(told) == 1 + 30 / INTERVAL_S
    assert "readings/s" not in told[0]  # nothing to compare with
    assert all("20.0 readings/s" in text for text in told[1:])


def test_a_reload_shows_at_once(systemd: Systemd) -> None:
    line = StatusLine(Notifier())
    line.show(document(), 0.0)
    loaded = {"loaded": "10:01", "refused": None, "needs_restart": ["mqtt"]}
    line.show(document(configuration=loaded), 1.0)
    line.show(document(configuration=loaded), 2.0)
    assert len(told := systemd.told()) == 2
    assert "1 setting waiting for a restart" in told[1]


def test_a_stream_that_counts_anew_gives_no_negative_rate(systemd: Systemd) -> None:
    line = StatusLine(Notifier())
    line.show(document(counters={"readings": 5000}), 0.0)
    line.show(document(counters={"readings": 10}), INTERVAL_S)
    assert "0.0 readings/s" in systemd.told()[1]
