"""What is old goes, if it is asked for and the clock can be trusted; and it is counted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from agent.store import writer as store_module
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.retention import Retention
from agent.store.writer import Store
from models.times import iso_time
from tests.agent.store.test_writer import samples

DAY_S = 86400.0


@pytest.fixture(autouse=True)
def _each_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOOK_S", 0.0)


def opened(directory: Path, retention: Retention) -> Store:
    store = Store(directory, "plant", "gw-1", 100, 10_000, retention=retention)
    store.open()
    return store


def fill(store: Store, clock: str) -> None:
    now = time.time()
    for days in (9.0, 5.0, 1.0, 0.0):
        alarm = {"stream": "pump", "number": int(days), "state": "closed"}
        alarm["closed"] = iso_time(now - days * DAY_S)
        opened = {"stream": "fan", "number": int(days), "state": "opened", "closed": None}
        chunk = samples(10, now - 10 - days * DAY_S)
        store.commit(Batch(samples=[chunk], alarms=[alarm, opened]), clock)


def test_samples_and_closed_alarms_go_by_their_own_times(tmp_path: Path) -> None:
    store = opened(tmp_path, Retention(samples_days_max=3, alarms_days_max=7))
    fill(store, "synced")
    with Reader(tmp_path) as reader:
        kept = np.concatenate([np.frombuffer(t) for t, *_ in reader.newest_samples("pump", 100)])
        alarms = [(alarm["stream"], alarm["number"]) for alarm in reader.alarms(100)]
    assert len(kept) == 20
    assert kept.min() > time.time() - 2 * DAY_S
    assert sorted(alarms) == sorted(
        [*(("fan", n) for n in (9, 5, 1, 0)), *(("pump", n) for n in (5, 1, 0))]
    )
    dropped = store.document()["dropped"]
    assert (dropped["samples_old"], dropped["alarms_old"]) == (20, 1)
    assert store.document()["ring_rows"] == 20
    store.close()


@pytest.mark.parametrize(
    ("retention", "clock"), [(Retention(3, 7), "unsynced"), (Retention(), "synced")]
)
def test_without_a_limit_or_a_clock_nothing_goes(
    tmp_path: Path, retention: Retention, clock: str
) -> None:
    store = opened(tmp_path, retention)
    fill(store, clock)
    assert store.document()["ring_rows"] == 40
    assert sum(store.document()["dropped"].values()) == 0
    store.close()
