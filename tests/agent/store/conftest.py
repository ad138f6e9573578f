"""A store on a disk that can fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.store.writer import Store
from tests.disk import Disk


@pytest.fixture
def store_on_disk(tmp_path: Path, disk: Disk) -> Iterator[Store]:
    """Its disk fails when ``disk`` says so."""
    with disk.here():
        made = Store(tmp_path, "plant", "gw-1", 1000, 10_000)
        made.open()
        yield made
        disk.works()
        made.close()
