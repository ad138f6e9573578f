"""What Dask lacks is told: a scheduler in time, and workers without a profiler."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.errors import ConfigError
from tests.conftest import hold_port
from tests.trainer.fleet.conftest import FLEET, PROFILER, record, running
from trainer.cli import commands
from trainer.fleet import dask_pool


def touch(path: Path) -> None:
    path.touch()


def test_a_worker_with_a_profiler_is_refused_with_what_to_do(tmp_path: Path) -> None:
    mark = tmp_path / "done"
    with running(tmp_path, workers=1, profiled=True) as cluster:
        with (
            closing(
                dask_pool.follow(touch, {"one": mark}, cluster.address, None, 300.0)
            ) as happenings,
            pytest.raises(ConfigError, match=f"{PROFILER}=False"),
        ):
            next(happenings)
    assert not mark.exists()


def test_a_scheduler_that_is_not_there_is_waited_for_as_long_as_is_set(tmp_path: Path) -> None:
    path = tmp_path / "FLEET.toml"
    wait = '[fleet]\nfind = "data/{stream}.csv"\nscheduler_wait_s = 0.5'
    path.write_text(FLEET.replace('[fleet]\nfind = "data/{stream}.csv"', wait))
    (tmp_path / "data").mkdir()
    record(tmp_path, "pump-1", 1)
    record(tmp_path, "pump-2", 2)
    address = f"tcp://127.0.0.1:{hold_port(touch)}"
    result = CliRunner().invoke(commands, ["batch", str(path), "--scheduler", address, "-q"])
    assert isinstance(result.exception, ConfigError)
    assert f"{address}: there is no scheduler of Dask within 0.5 s" in str(result.exception)
