"""Workers that Dask's profiler would disturb do nothing."""

from __future__ import annotations

from collections.abc import Iterator

import dask.config
import pytest
from distributed import LocalCluster

from models.errors import ConfigError
from trainer.fleet import dask_pool
from trainer.workers import Finished


def double(number: int) -> int:
    return 2 * number


@pytest.fixture(params=[True, False], ids=["profiled", "not profiled"])
def cluster(request: pytest.FixtureRequest) -> Iterator[tuple[bool, str]]:
    """Whether the one worker has a profiler, and the address of its scheduler."""
    with (
        dask.config.set({"distributed.worker.profile.enabled": request.param}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as found,
    ):
        yield request.param, found.scheduler_address


def test_a_worker_with_a_profiler_is_refused_with_what_to_do(cluster: tuple[bool, str]) -> None:
    profiled, address = cluster
    happenings = dask_pool.follow(double, {"one": 1}, address, None)
    if profiled:
        with pytest.raises(ConfigError, match="DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"):
            next(happenings)
    else:
        assert Finished("one", None, 2) in list(happenings)
