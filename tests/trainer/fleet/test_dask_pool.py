"""Workers that Dask's profiler would disturb do nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from models.errors import ConfigError
from tests.trainer.fleet.conftest import PROFILER, running
from trainer.fleet import dask_pool


def touch(path: Path) -> None:
    path.touch()


def test_a_worker_with_a_profiler_is_refused_with_what_to_do(tmp_path: Path) -> None:
    mark = tmp_path / "done"
    with running(tmp_path, workers=1, profiled=True) as cluster:
        with (
            closing(dask_pool.follow(touch, {"one": mark}, cluster.address, None)) as happenings,
            pytest.raises(ConfigError, match=f"{PROFILER}=False"),
        ):
            next(happenings)
    assert not mark.exists()
