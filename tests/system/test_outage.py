"""A broker that is away for hours of the gateway's life; ``make soak`` does a week."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import RealAgent, RealBroker
from tests.outage_rig import PERSISTENT, Outage, wrong

HOUR = 1 / 24  # days


@pytest.fixture
def persistent_broker(tmp_path: Path) -> Iterator[RealBroker]:
    broker = RealBroker(tmp_path, PERSISTENT.format(tmp_path))
    broker.start()
    yield broker
    broker.kill()


def test_all_that_waited_comes_in_order_and_live_messages_beside_it(
    tmp_path: Path, persistent_broker: RealBroker, start_agent: Callable[[Path], RealAgent]
) -> None:
    slowly = "replay_rate_max = 50.0"  # so that there is a while to see live messages in
    report = Outage(tmp_path, persistent_broker, slowly).run(2 * HOUR, start_agent)
    print(report)
    assert wrong(report) == {}
    assert report["backlog"] >= 120
    assert report["merged"] == 0
    assert report["alarms"] >= 2
    assert report["live"]["summary"] > 0


def test_a_backlog_above_its_cap_is_merged_and_not_an_alarm_of_it(
    tmp_path: Path, persistent_broker: RealBroker, start_agent: Callable[[Path], RealAgent]
) -> None:
    outage = Outage(tmp_path, persistent_broker, outbox_rows_max=100)
    report = outage.run(6 * HOUR, start_agent)
    print(report)
    assert wrong(report) == {}  # nothing is missing, nothing evicted, every sample summed up once
    assert report["backlog"] <= 100
    assert report["merged"] > 200
    assert report["alarms"] >= 6
