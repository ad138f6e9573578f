"""The serial line and the central ops of the tests of the whole agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_rig import Ops
from tests.conftest import RealBroker
from tests.serial_line import Line


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "ttyPUMP")
    yield made
    made.close()


@pytest.fixture
def ops(broker: RealBroker) -> Iterator[Ops]:
    made = Ops(broker.port)
    yield made
    made.close()
