"""The agent killed at random moments under load; ``make soak`` does that 500 times."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import RealAgent, RealBroker
from tests.kill_rig import Acknowledgement, Killing, LoadKind, wrong


@pytest.mark.parametrize(("load", "acknowledgement"), [("serial", "broker"), ("mqtt", "central")])
def test_kill_9_loses_nothing_that_was_committed_and_changes_no_score(
    tmp_path: Path,
    broker: RealBroker,
    start_agent: Callable[[Path], RealAgent],
    load: LoadKind,
    acknowledgement: Acknowledgement,
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    killing = Killing(tmp_path, broker, start_agent, load, acknowledgement, random.Random(seed))
    counts = killing.run(3)
    print(counts)
    assert wrong(counts) == {}
    assert counts["samples_stored"] > 0
    assert counts["summaries"] > 0
    assert counts["alarms"] > 0 or load == "serial"  # which loses the readings it needs for one
