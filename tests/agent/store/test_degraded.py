"""What is said and kept while nothing can be stored.

The disk's own faults are in ``tests/system/test_disk.py``, what is dropped first in ``test_batch``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.store.batch import WAITING_MESSAGES_MAX, WAITING_SAMPLES_MAX, Batch
from agent.store.degraded import Trouble
from agent.store.record import Outgoing
from agent.store.writer import Store
from models.errors import StoreError
from models.messages import Float32, Samples

NOW_S = 1_700_000_000.0
SINCE = "2023-11-14T22:13:20.000Z"


def alarm(number: int, state: str = "opened") -> Outgoing:
    data = {"stream": "pump", "number": number, "state": state, "onset": f"at {number}"}
    return Outgoing("alarm", "pump", NOW_S, data)


def samples(count: int) -> tuple[str, Samples, Float32]:
    values = np.zeros((count, 2), np.float32)
    return "pump", Samples(NOW_S + np.arange(float(count)), values), np.zeros(count, np.float32)


@pytest.fixture
def trouble(caplog: pytest.LogCaptureFixture) -> Trouble:
    caplog.set_level(logging.INFO)
    return Trouble()


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Store]:
    """A store that cannot write: it has given its files back."""
    store = Store(tmp_path, "plant", "gw-1", 1000, 100_000)
    store.open()
    store.close()
    yield store


def test_without_trouble_nothing_is_said(
    trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    batch = Batch(messages=[alarm(1)])
    assert trouble.error is None
    assert trouble.news(batch) is None
    assert not trouble.over()
    assert set(trouble.counters().values()) == {0}
    assert caplog.records == []


def test_a_store_that_cannot_write_keeps_the_batch_and_the_trouble_says_why(
    trouble: Trouble, closed: Store
) -> None:
    batch = Batch(samples=[samples(5)], messages=[alarm(1)], alarms=[alarm(1).data])
    with pytest.raises(StoreError) as raised:
        closed.commit(batch, "synced")
    trouble.failed(raised.value, batch, NOW_S)
    assert trouble.error == str(raised.value)
    assert (batch.rows(), batch.messages, batch.alarms) == (5, [alarm(1)], [alarm(1).data])
    assert SINCE in trouble.brief()
    assert str(raised.value) in trouble.brief()


def test_central_ops_is_told_since_when_why_and_of_the_newest_alarms(trouble: Trouble) -> None:
    batch = Batch(messages=[Outgoing("health", None, NOW_S, {}), *(alarm(n) for n in range(30))])
    trouble.failed(StoreError("disk is full"), batch, NOW_S)
    trouble.failed(StoreError("disk is read-only"), batch, NOW_S + 60)
    news = trouble.news(batch)
    assert news is not None
    assert news["since"] == SINCE  # of the first failure
    assert news["error"] == "disk is read-only"  # of the last
    assert news["alarms_waiting"] == 30
    assert [one["onset"] for one in news["alarms"]] == [f"at {n}" for n in range(10, 30)]
    # a number that is not on the disk is told nobody: the next alarm may get it after a kill
    assert {one["number"] for one in news["alarms"]} == {None}


def test_it_is_logged_once_when_it_begins_and_once_when_it_ends(
    trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        trouble.failed(StoreError("disk is full"), Batch(), NOW_S)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "disk is full" in caplog.text
    assert trouble.over()
    assert not trouble.over()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "nothing was lost" in caplog.text
    assert trouble.news(Batch()) is None


def test_what_was_dropped_counts_for_good_and_is_told_of_its_own_trouble(
    trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    health = [Outgoing("health", None, NOW_S, {}) for _ in range(WAITING_MESSAGES_MAX)]
    batch = Batch(samples=[samples(7), samples(WAITING_SAMPLES_MAX)], messages=[*health, alarm(1)])
    trouble.failed(StoreError("disk is full"), batch, NOW_S)
    assert batch.rows() == WAITING_SAMPLES_MAX
    counters = {"samples_not_stored": 7, "messages_not_stored": 1, "alarms_not_stored": 0}
    counters |= {"logbook_not_stored": 0, "notices_not_stored": 0, "windows_not_stored": 0}
    assert trouble.counters() == counters
    assert trouble.over()
    assert "samples 7" in caplog.messages[-1]
    assert "health 1" in caplog.messages[-1]
    trouble.failed(StoreError("disk is full"), Batch(), NOW_S)
    assert trouble.over()
    assert "nothing was lost" in caplog.messages[-1]  # this time
    assert trouble.counters() == counters
