"""Power cuts, simulated below SQLite: what was promised to be on the disk is there.

``FIELDWATCH_TEST_CUTS=200`` cuts as often; ``make soak`` does.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.disk import Op
from tests.power_cut import SAVED_EACH, Finding, cut_journal, journal_of

CUTS = int(os.environ.get("FIELDWATCH_TEST_CUTS", "15"))
COMMITS = 400 if CUTS > 100 else 120


@pytest.fixture(scope="module")
def seed() -> int:
    return random.randrange(2**32)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, seed: int) -> tuple[Path, list[Op]]:
    """A store's directory, and all that was done to its files."""
    live = tmp_path_factory.mktemp("power") / "live"
    return live, journal_of(live, COMMITS, seed)


def test_a_power_cut_costs_some_samples_and_nothing_else(
    tmp_path: Path, written: tuple[Path, list[Op]], seed: int
) -> None:
    print("seed", seed)
    live, journal = written
    cost = cut_journal(journal, live, tmp_path, CUTS, seed)
    print(cost)
    assert cost.cuts == CUTS
    assert cost.commits_max <= SAVED_EACH  # the samples since the memory was last saved


def test_a_disk_that_does_not_sync_is_found_out(
    tmp_path: Path, written: tuple[Path, list[Op]]
) -> None:
    live, journal = written
    lying = [op for op in journal if op.what != "sync"]
    with pytest.raises(Finding):
        cut_journal(lying, live, tmp_path, 50, seed=1)
