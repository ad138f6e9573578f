"""A gateway that sends, and a collector that listens, for the tests of the uplink."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.journal import JournalHandler
from tests.conftest import RealBroker
from tests.uplink_rig import Collecting, Gateway, Ops


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def make(port: int, **settings: Any) -> Gateway:
        made.append(Gateway(tmp_path, port, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def ops(broker: RealBroker) -> Iterator[Ops]:
    made = Ops(broker.port)
    yield made
    made.close()


@pytest.fixture
def collecting(tmp_path: Path) -> Iterator[Callable[..., Collecting]]:
    made: list[Collecting] = []

    def make(port: int, name: str = "central", **settings: Any) -> Collecting:
        made.append(Collecting(port, tmp_path / name, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def journal_entries(tmp_path: Path) -> Iterator[Callable[[], list[bytes]]]:
    """Log to the journal's protocol; returns what came since the last call, as it came."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journald"))
        listening.setblocking(False)
        handler = JournalHandler(tmp_path / "journald", logging.NullHandler())
        logging.getLogger().addHandler(handler)

        def received() -> list[bytes]:
            entries = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    entries.append(listening.recv(100_000))
            return entries

        yield received
        logging.getLogger().removeHandler(handler)
