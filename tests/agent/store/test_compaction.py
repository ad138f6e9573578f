"""Merged summaries say what one long summary would have said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.collector.books import Collected
from agent.collector.reading import Source
from agent.scoring.summary import Summary
from agent.store.batch import Batch
from agent.store.compaction import Summary as Waiting
from agent.store.compaction import merge
from agent.store.reader import Reader
from agent.store.record import Outgoing, Record
from agent.store.writer import Store
from models.messages import GOOD, HELD, INTERPOLATED, MISSING, Samples
from models.times import unix_s
from tests.conftest import RealBroker, wait_until
from tests.uplink_rig import Collecting, Gateway

CHANNELS = ["flow", "pressure", "dead"]


def summaries(interval_s: float, seconds: int = 120) -> list[dict[str, Any]]:
    """Of 10 samples a second of a walk with holes, on a mean."""
    rng = np.random.default_rng(3)
    times = np.arange(10 * seconds) / 10
    values = (100 + rng.normal(size=(len(times), 3)).cumsum(axis=0)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 2] = np.nan
    score = rng.exponential(0.5, len(times)).astype(np.float32)
    score[:400] = np.nan
    summary = Summary(CHANNELS, interval_s)
    codes = rng.choice([GOOD, HELD, INTERPOLATED], values.shape, p=[0.99, 0.009, 0.001])
    quality = np.where(np.isnan(values), MISSING, codes).astype(np.uint8)
    quality[:, 1] = np.where(quality[:, 1] == HELD, GOOD, quality[:, 1])
    return [*summary.add(Samples(times, values, quality), score), *summary.close()]


def waiting(seq: int, data: dict[str, Any]) -> Waiting:
    message = Outgoing("summary", "pump", unix_s(data["to"]), data, "b", "d")
    return Waiting.of(message.numbered(seq, "synced"))


def all_waiting(interval_s: float) -> list[Waiting]:
    return [waiting(3 * at + 1, data) for at, data in enumerate(summaries(interval_s))]


def assert_same(found: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    channels = found["channels"]
    assert found.keys() == wanted.keys()
    for name in found.keys() - {"channels"}:
        assert found[name] == pytest.approx(wanted[name]), name
    assert channels["dead"] == wanted["channels"]["dead"]
    for name in ("flow", "pressure"):
        assert channels[name] == pytest.approx(wanted["channels"][name], rel=2e-5), name


def test_merged_summaries_are_as_one_long_one() -> None:
    short, (long,) = all_waiting(1.0), all_waiting(120.0)
    once = merge(short)
    numbers = once.data.pop("merged")
    assert_same(once.data, long.data)
    assert long.data["uncertain"] > 0
    assert long.data["channels"]["flow"]["held"] > 0
    assert "held" not in once.data["channels"]["pressure"]
    assert numbers == [[3 * number + 1] * 2 for number in range(120)]
    halves = [merge(short[:50]), merge(short[50:])]
    again = merge([waiting(400 + at, half.data) for at, half in enumerate(halves)])
    assert again.data.pop("merged") == [*numbers, [400, 401]]
    assert_same(again.data, long.data)


def minutes(count: int, stream: str) -> list[Outgoing]:
    """Summaries of a minute with one sample each, whose value is their number."""

    def data(number: int) -> dict[str, Any]:
        at = [f"2026-01-01T{m // 60:02}:{m % 60:02}:00.000Z" for m in (number, number + 1)]
        value = {"missing": 0, "min": number, "mean": number, "max": number, "std": 0.0}
        scores = {"scored": 1, "score_max": 0.1, "share_anomalous": 0.0}
        times = {"from": at[0], "to": at[1], "last_sample": at[0]}
        return times | {"n": 1, "channels": {"flow": value}} | scores

    return [Outgoing("summary", stream, 60.0 * n, data(n), "b", "d") for n in range(count)]


def queued(directory: Path, kind: str) -> list[Record]:
    with Reader(directory) as reader:
        return reader.outbox([kind], 0, 10_000)


def test_a_crowded_outbox_merges_summaries_and_loses_no_sample(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 400, 1000)
    store.open()
    alarms = [Outgoing("alarm", "pump", 0.0, {}) for _ in range(50)]
    store.commit(Batch(messages=alarms), "synced")
    for pump, fan in zip(minutes(1000, "pump"), minutes(1000, "fan"), strict=True):
        store.commit(Batch(messages=[pump, fan]), "synced")
    totals = store.document()
    assert totals["evicted"] == {"health": 0, "summary": 0, "transition": 0, "alarm": 0}
    assert len(queued(tmp_path, "alarm")) == 50
    rows = queued(tmp_path, "summary")
    assert totals["outbox_rows"] == len(rows) + 50 <= 400
    assert totals["merged"] == 2000 - len(rows)
    for stream in ("pump", "fan"):
        data = [row.read() for row in rows if row.stream == stream]
        assert sum(one["n"] for one in data) == 1000
        assert {one["from"] for one in data} >= {"2026-01-01T00:00:00.000Z"}
        total = sum(one["n"] * one["channels"]["flow"]["mean"] for one in data)
        assert total == pytest.approx(sum(range(1000)), rel=1e-4)
    assert len({row.seq for row in rows}) == len(rows)
    store.close()
    store.open()
    assert store.document()["merged"] == totals["merged"]
    store.close()


def test_a_collector_that_has_what_was_merged_counts_nothing_twice(
    broker: RealBroker,
    collecting: Callable[..., Collecting],
    gateway: Callable[..., Gateway],
    tmp_path: Path,
) -> None:
    one = gateway(broker.port, acknowledgement="central")
    central = collecting(broker.port)
    (first,) = minutes(1, "pump")
    one.store.commit(Batch(messages=[first]), "synced")
    one.uplink.start()
    wait_until(lambda: central.numbers() == [1], "the first")
    data = merge([Waiting.of(first.numbered(1, "synced"))]).data
    assert data["merged"] == [[1, 1]]
    one.store.commit(Batch(messages=[Outgoing("summary", "pump", 60.0, data)]), "synced")
    wait_until(lambda: one.delete_acknowledged() == 0, "an empty outbox")
    central.close()
    with Collected(tmp_path / "central", "plant") as collected:
        assert [seq for seq, _ in collected.messages(Source("gw-1", one.store.origin.epoch))] == [2]
