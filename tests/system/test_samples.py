"""Samples on their way: ring, lane below all others, broker, collector, Parquet, trainer."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import polars
import pytest

from agent.collector.enrolled import Enrolled
from agent.collector.overview import lines as told
from agent.collector.overview import overview
from agent.collector.tidying import Keeping
from agent.inputs.plant import Pump
from agent.mqtt.client import Client
from agent.store.batch import Batch
from agent.uplink.progress import SAMPLES, At, Progress
from models.keys import new_key
from models.messages import HELD, MISSING, Samples
from tests.agent_rig import (
    UNSIGNED_CENTRAL,
    StartAgent,
    configure,
    kept_scores,
    lines,
    running,
    scored,
    status,
)
from tests.collector_process import CollectorProcess
from tests.conftest import WAIT_S_MAX, RealBroker, wait_until
from tests.serial_line import Line
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
        self.progress.see(readings.next_sample, readings.durable, readings.ring_epoch)
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


class Listener:
    """Any client of the broker: notes the kinds of messages in the order of their arrival."""

    def __init__(self, port: int) -> None:
        self.topics: list[str] = []
        self.bodies: list[bytes] = []
        self._subscribed = threading.Event()
        self._client = Client(client_id="listener", protocol=paho.MQTTv311)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("fieldwatch/v1/plant/gw-1/+/+", 1)
        assert self._subscribed.wait(WAIT_S_MAX)

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        self.topics.append(message.topic)
        self.bodies.append(message.payload)

    def kinds(self) -> list[str]:
        return [topic.split("/")[4] for topic in self.topics]

    def publish(self, topic: str, body: bytes) -> None:
        self._client.publish(topic, body, qos=1).wait_for_publish(WAIT_S_MAX)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


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


def test_no_sample_goes_before_a_message_that_waits(tmp_path: Path, broker: RealBroker) -> None:
    listener = Listener(broker.port)
    lane = {"chunk_bytes_max": 4096}
    sending = Sending(tmp_path, broker.port, lane, replay_rate_max=100.0)
    try:
        sending.progress.begin()
        for begin in range(0, 900, 100):
            sending.put("pump-1", begin, 100, 2)
        sending.gateway.put(5, "alarm", "pump-1")
        sending.gateway.put(150, "summary", "pump-1")  # a backlog of more than a second
        sending.gateway.put(5, "alarm", "fan")
        sending.start()
        wait_until(lambda: sending.all_sent(300), "the first samples")
        sending.gateway.put(3, "alarm", "pump-1")
        sending.gateway.put(3, "summary", "pump-1")
        wait_until(lambda: sending.all_sent(900), "all samples")
        wait_until(lambda: listener.kinds().count("alarm") == 13, "all alarms")
    finally:
        sending.close()
        listener.close()
    kinds = listener.kinds()
    first = kinds.index("samples")
    assert kinds[:10] == ["alarm"] * 10
    assert kinds[10:first] == ["summary"] * 150
    assert kinds.count("summary") == 153


def test_a_long_outage_fills_the_ring_not_the_outbox(tmp_path: Path, broker: RealBroker) -> None:
    broker.kill()
    listener = None
    sending = Sending(tmp_path, broker.port, {})  # its ring has 1000 samples
    try:
        sending.start()
        for begin in range(0, 3000, 100):
            sending.put("pump-1", begin, 100, 2)
        assert sending.gateway.store.document()["outbox_rows"] == 0
        broker.start()
        listener = Listener(broker.port)
        wait_until(lambda: sending.all_sent(900), "what the ring still has")
        sending.put("pump-1", 3000, 100, 2)
        wait_until(lambda: sending.document()["behind"] == 0, "the newest samples")
        done = sending.document()
    finally:
        sending.close()
        if listener is not None:
            listener.close()
    assert done["missed"] >= 1900
    assert done["sent"] + done["missed"] == 3100
    assert done["day_bytes"] == sum(map(len, listener.bodies))


def test_a_collector_that_dies_and_one_without_samples_lose_nothing(
    tmp_path: Path, broker: RealBroker
) -> None:
    central = tmp_path / "central"
    plain = Collecting(broker.port, tmp_path / "plain")
    sending = Sending(tmp_path, broker.port, {}, acknowledgement="central", central_timeout_s=2)
    collecting = None
    try:
        sending.start()
        sending.put("pump-1", 0, 50, 2)
        sending.gateway.put(1, "alarm", "pump-1")
        wait_until(lambda: plain.numbers() == [1], "the alarm")
        assert sending.document()["day_bytes"] == 0  # nobody would store them
        plain.close()
        process = CollectorProcess(broker.port, central, more=["--samples"])
        wait_until(lambda: sending.all_sent(50), "the first samples")
        process.end()  # killed, before it has written a file
        sending.put("pump-1", 50, 50, 2)
        collecting = Collecting(broker.port, central, samples=Keeping())
        wait_until(lambda: sending.all_sent(100), "the other samples")
        sending.close()
        sending = Sending(tmp_path, broker.port, {}, acknowledgement="central")
        sending.progress.at = At(next=1)  # as of an older copy of its database
        sending.put("pump-1", 100, 10, 2)
        sending.start()
        wait_until(lambda: sending.all_sent(110), "all samples once more")
        collecting.close()
        assert collecting.collector.counters["samples"] == 60
    finally:
        sending.close()
        plain.close()
        if collecting is not None:
            collecting.close()
    assert parquet_of(central, "pump-1")["time"].dt.timestamp("ms").to_list() == [
        round((BEGIN_S + n) * 1000) for n in range(110)
    ]
    document = overview(central, None, 10)
    assert [(one["stream"], one["samples"]) for one in document["samples"]] == [("pump-1", 110)]
    assert any("110 samples of pump-1" in line for line in told(document))


@pytest.mark.parametrize("count", [40, 70])
def test_a_ring_that_gives_numbers_again_loses_none_of_its_samples(
    tmp_path: Path, broker: RealBroker, count: int
) -> None:
    """Its file was lost after samples were sent, and before that was on the disk."""
    central = tmp_path / "central"
    collecting = Collecting(broker.port, central, samples=Keeping())
    sending = Sending(tmp_path, broker.port, {}, acknowledgement="central")
    try:
        sending.start()
        sending.put("pump-1", 0, 50, 2)
        wait_until(lambda: sending.all_sent(50), "the first samples")
        sending.progress.at = At(next=1)  # as it was on the disk
        sending.commit()
        sending.close()
        for file in tmp_path.glob("readings.db*"):
            file.unlink()
        sending = Sending(tmp_path, broker.port, {}, acknowledgement="central")
        sending.put("pump-1", 100, 20, 2)
        sending.put("pump-1", 120, count - 20, 2)
        sending.start()
        wait_until(lambda: sending.all_sent(count), "the samples with the same numbers")
        collecting.close()
    finally:
        sending.close()
        collecting.close()
    assert collecting.collector.rejected == {}
    assert parquet_of(central, "pump-1")["time"].sort().dt.timestamp("ms").to_list() == [
        round((BEGIN_S + n) * 1000) for n in (*range(50), *range(100, 100 + count))
    ]


def test_signed_chunks_are_stored_and_those_of_others_are_not(
    tmp_path: Path, broker: RealBroker
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    secret = tmp_path / "gw-1.key"
    shutil.copy(new_key(secret, "gateway", "plant/gw-1"), keys)
    enrolled = Enrolled(keys, "plant", required=True)
    central = tmp_path / "central"
    collecting = Collecting(broker.port, central, enrolled=enrolled, samples=Keeping())
    sending = Sending(
        tmp_path, broker.port, {}, acknowledgement="central", sign=secret, dialect="cbor"
    )
    listener = Listener(broker.port)
    try:
        sending.start()
        sending.put("pump-1", 0, 50, 2)
        wait_until(lambda: sending.all_sent(50), "the samples")
        topic, body = listener.topics[-1], listener.bodies[-1]
        forged = body[:-1] + bytes([body[-1] ^ 1])
        for other in (forged, body.replace(b'"signature"', b'"signed"'), body.partition(b"\n")[0]):
            listener.publish(topic, other)
        wait_until(lambda: collecting.collector.counters["rejected"] == 3, "the refusals")
        rejected = dict(collecting.collector.rejected)
    finally:
        sending.close()
        listener.close()
        collecting.close()
    assert rejected == {"implausible": 1, "unsigned": 1, "unreadable": 1}
    assert len(parquet_of(central, "pump-1")) == 50


def test_an_agent_sends_each_sample_through_a_reload_and_a_kill(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent
) -> None:
    config = configure(tmp_path, line, broker.port)
    plain = config.read_text().replace("[mqtt]", f"[mqtt]\n{UNSIGNED_CENTRAL}")
    plain = plain.replace("[store]", "[store]\nstate_interval_s = 0.2")  # so the ring is synced
    config.write_text(plain)
    central = CollectorProcess(broker.port, tmp_path / "central", more=["--samples"])
    rows = Pump(11, []).run(900)
    try:
        agent = start_agent(config)
        wait_until(lambda: running(tmp_path), "the agent")
        line.write(lines(rows[:300]))
        wait_until(lambda: scored(tmp_path) == 300, "the first samples")
        assert status(tmp_path)["uplink"]["samples"] is None
        more = "[mqtt.samples]\nenabled = true\ninterval_s = 0.2\nrequire_synced_clock = false\n"
        config.write_text(f"{plain}{more}")
        assert agent.process is not None
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(tmp_path)["uplink"]["samples"] is not None, "the lane")
        line.write(lines(rows[300:600], 300))
        wait_until(lambda: status(tmp_path)["uplink"]["samples"]["sent"] >= 100, "some samples")
        agent.kill()
        agent.start()
        wait_until(lambda: running(tmp_path), "the agent again")
        line.write(lines(rows[600:], 600))
        wait_until(lambda: len(kept_scores(tmp_path)) >= 850, "the other samples")
        wait_until(
            lambda: stored(tmp_path / "central") == len(kept_scores(tmp_path)) - 300,
            "all of them at the collector",
        )
        assert agent.stop() == 0, agent.log()
        central.send_signal(signal.SIGTERM)
        assert central.ended(WAIT_S_MAX) == 0
    finally:
        central.end()
    kept = kept_scores(tmp_path)[300:]
    found = parquet_of(tmp_path / "central", "pump")
    assert found["time"].is_sorted()
    assert found["time"].is_unique().all()
    sent = found["fieldwatch:score"].fill_null(float("nan")).to_numpy()
    np.testing.assert_array_equal(sent, kept)


def stored(directory: Path) -> int:
    return sum(int(one["samples"]) for one in overview(directory, None, 0)["samples"])
