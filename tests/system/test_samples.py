"""Samples on their way: ring, lane below all others, broker, collector, Parquet, trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import polars
import pytest

from agent.collector.tidying import Keeping
from agent.mqtt.client import Client
from agent.store.batch import Batch
from agent.store.record import Outgoing
from agent.uplink.progress import SAMPLES, Progress
from models.messages import HELD, MISSING, Samples
from tests.conftest import RealBroker, wait_until
from tests.uplink_rig import Collecting, Gateway

BEGIN_S = 1_790_121_600.0 - 30  # half a minute before midnight, UTC
NAMES = ["flow", "heat"]
LANE: dict[str, Any] = {"enabled": True, "interval_s": 0.05, "require_synced_clock": False}


class Sending:
    """A gateway that stores samples and sends them."""

    def __init__(self, directory: Path, port: int, lane: dict[str, Any], **more: Any) -> None:
        self.gateway = Gateway(directory, port, samples=LANE | lane, **more)
        store = self.gateway.store
        store.readings.history.describe({"pump-1": NAMES, "fan": ["speed"]})
        self.progress = Progress.of(store.records.state(SAMPLES).get(SAMPLES))
        store.readings.number_from(self.progress.at.next or 0)
        self.progress.newest = store.readings.next_sample
        self.commit()

    def start(self) -> None:
        self.gateway.uplink.start(self.progress)

    def put(self, stream: str, begin: int, count: int, channels: int) -> None:
        self.commit(Batch(samples=[(stream, samples_of(begin, count, channels), scores(count))]))

    def commit(self, batch: Batch | None = None) -> None:
        batch = batch or Batch()
        if (news := self.progress.news()) is not None:
            batch.state[SAMPLES] = {SAMPLES: news}
        batch.acked = self.gateway.uplink.acknowledged()
        acked = list(batch.acked)
        batch.state.setdefault("durable", {})["through"] = b""  # so that it is synced
        self.gateway.store.commit(batch, "synced")
        readings = self.gateway.store.readings
        self.progress.see(readings.next_sample, readings.durable)
        self.gateway.uplink.committed(acked)

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.gateway.uplink.snapshot()["samples"]
        return found

    def all_sent(self, count: int) -> bool:
        self.commit()
        return bool(self.document()["sent"] >= count)

    def close(self) -> None:
        self.gateway.close()


def samples_of(begin: int, count: int, channels: int) -> Samples:
    times = BEGIN_S + np.arange(begin, begin + count)
    values = np.random.default_rng(begin).normal(50, 5, (count, channels)).round(2)
    quality = np.zeros((count, channels), np.uint8)
    quality[0, 0], values[0, 0] = MISSING, np.nan
    quality[1, 0] = HELD
    return Samples(times, values.astype(np.float32), quality)


def scores(count: int) -> Any:
    found = np.linspace(0, 1, count, dtype=np.float32)
    found[0] = np.nan
    return found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealBroker]:
    one = RealBroker(tmp_path)
    one.start()
    yield one
    one.kill()


def parquet_of(directory: Path, stream: str) -> polars.DataFrame:
    files = sorted((directory / "samples").glob(f"gateway=gw-1/stream={stream}/day=*/*.parquet"))
    return polars.concat([polars.read_parquet(file) for file in files], how="diagonal")


def test_samples_arrive_once_and_whole_as_parquet_of_each_day(
    tmp_path: Path, broker: RealBroker
) -> None:
    central = tmp_path / "central"
    collecting = Collecting(broker.port, central, samples=Keeping())
    sending = Sending(tmp_path, broker.port, {}, acknowledgement="central")
    try:
        sending.start()
        for begin in range(0, 60, 10):
            sending.put("pump-1", begin, 10, 2)
            sending.put("fan", begin, 10, 1)
        wait_until(lambda: sending.all_sent(120), "all samples to be confirmed")
        collecting.close()
    finally:
        sending.close()
        collecting.close()
    days = [path.name for path in (central / "samples/gateway=gw-1/stream=pump-1").iterdir()]
    assert sorted(days) == ["day=2026-09-22", "day=2026-09-23"]
    found = parquet_of(central, "pump-1")
    assert found.columns == ["time", *NAMES, "fieldwatch:score", "flow:quality", "heat:quality"]
    assert found["time"].dt.timestamp("us").to_list() == [
        round((BEGIN_S + n) * 1e6) for n in range(60)
    ]
    put = [samples_of(begin, 10, 2) for begin in range(0, 60, 10)]
    expected = np.concatenate([one.values for one in put])
    measured = np.concatenate([np.asarray(one.quality) for one in put]) == 0
    for at, name in enumerate(NAMES):
        values = found[name].to_numpy()
        assert np.array_equal(values[measured[:, at]], expected[measured[:, at], at])
        assert np.isnan(values[~measured[:, at]]).all()
    assert found["flow:quality"].to_list()[:3] == ["missing", "held", "good"]
    assert found["fieldwatch:score"].null_count() == 6
    assert len(parquet_of(central, "fan")) == 60
