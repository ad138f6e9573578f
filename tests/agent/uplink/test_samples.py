"""The lane of samples: what it sends next, within which budget, and what it says it missed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config.broker import MqttTable, SamplesTable
from agent.dialects.cloudevents import CloudEvents
from agent.dialects.dialect import Message
from agent.dialects.samples import Samples, parted, unpacked
from agent.health.status import uplink_lines
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.writer import Store
from agent.uplink.acknowledgements import Central
from agent.uplink.progress import SAMPLES, At, Progress
from agent.uplink.samples import PASS_BYTES, SampleLane
from agent.uplink.sender import Uplink
from agent.uplink.trust import Trust
from agent.uplink.words import Words
from models import messages

DAY_S = 86_400.0
ROOM = 10**6
DURABLE = {"pump": {"through": b""}}  # a memory of samples, with which the ring is synced


class Ring:
    """A gateway's store, and the lane that sends its samples."""

    def __init__(self, directory: Path, rows_max: int = 1000, **settings: Any) -> None:
        self.store = Store(directory, "plant", "gw-1", 100, rows_max)
        self.store.open()
        self.store.readings.history.describe({"pump": ["flow", "heat"], "fan": ["speed"]})
        self.reader = Reader(directory)
        self.now_s = 1_790_000_000.0
        self.progress = Progress.of(self.store.records.state(SAMPLES).get(SAMPLES))
        self.store.readings.number_from(self.progress.at.next or 0)
        self.progress.see(self.store.readings.next_sample, 0)
        self.progress.begin(settings.get("streams"))
        self.lane = self.a_lane(**settings)
        self.commit()  # as an agent does when it starts

    def a_lane(self, central: Central | None = None, **settings: Any) -> SampleLane:
        table = SamplesTable(**({"enabled": True, "interval_s": 1e-6} | settings))
        dialect = CloudEvents(self.store.origin)
        lane = SampleLane(table, dialect, lambda: 5, central, 1e-6, 1e-6, lambda: self.now_s)
        lane.progress = self.progress
        return lane

    def put(self, stream: str = "pump", count: int = 10, channels: int = 2) -> None:
        number = self.store.readings.next_sample
        values = np.arange(number, number + count, dtype=np.float32)[:, None]
        times = 1_790_000_000.0 + np.arange(count)
        samples = messages.Samples(times, np.repeat(values, channels, axis=1))
        self.commit(Batch(samples=[(stream, samples, np.ones(count, np.float32))]))

    def commit(self, batch: Batch | None = None) -> None:
        batch = batch or Batch()
        batch.state |= DURABLE
        if (news := self.progress.news()) is not None:
            batch.state[SAMPLES] = {SAMPLES: news}
        self.store.commit(batch, "synced")
        readings = self.store.readings
        self.progress.see(
            readings.next_sample, readings.durable, readings.ring_epoch, readings.stored_by
        )

    def next(self) -> Message | None:
        """Look twice: at the end of a pass the next one begins."""
        return self.lane.next(self.reader, ROOM) or self.lane.next(self.reader, ROOM)

    def send(self) -> Samples | None:
        """Send a chunk, which the broker takes."""
        if (message := self.next()) is None:
            return None
        self.lane.sent()
        self.lane.taken()
        return samples_in(message)

    def send_all(self) -> list[tuple[str, int]]:
        """Send all; return channels and numbers."""
        found = []
        while (samples := self.send()) is not None:
            found += [(",".join(samples.channels), number) for number in samples.numbers.tolist()]
        return found

    def close(self) -> None:
        self.reader.__exit__()
        self.store.close()


def samples_in(message: Message) -> Samples:
    return unpacked(about_in(message), parted(message.body)[1])


def about_in(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(parted(message.body)[0])["data"]
    return found


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    one = Ring(tmp_path)
    yield one
    one.close()


def test_all_samples_are_sent_once_and_none_from_before(tmp_path: Path) -> None:
    store = Ring(tmp_path)
    store.progress.at = At()  # never enabled
    store.put()
    store.close()
    ring = Ring(tmp_path)
    for _ in range(3):
        ring.put()
        ring.put("fan", 5, 1)
    found = ring.send_all()
    assert sorted(number for _, number in found) == list(range(11, 56))
    assert {name for name, number in found if number in (11, 20)} == {"flow,heat"}
    assert ring.lane.document()["sent"] == 45
    assert ring.lane.document()["behind"] == 0
    ring.close()


def test_values_scores_and_quality_are_those_of_the_ring(ring: Ring) -> None:
    values = np.array([[1.5, np.nan], [2.5, 3.0]], np.float32)
    quality = np.array([[2, 0], [0, 1]], np.uint8)
    samples = messages.Samples(np.array([1.79e9, 1.79e9 + 0.1]), values, quality)
    score = np.array([np.nan, 0.25], np.float32)
    ring.commit(Batch(samples=[("pump", samples, score)]))
    found = ring.send()
    assert found is not None
    assert found.values.tobytes() == values.tobytes()
    assert found.scores.tobytes() == score.tobytes()
    assert found.times.tolist() == samples.times.tolist()
    assert found.quality is not None
    assert found.quality.tolist() == [[2, 3], [0, 1]]  # no number is no good one


def test_streams_get_on_together(tmp_path: Path) -> None:
    """A fast stream does not keep a slow one waiting."""
    ring = Ring(tmp_path, rows_max=10**6)
    for _ in range(100):
        ring.put("pump", 600)
        ring.put("fan", 1, 1)
    sent: dict[int, list[int]] = {1: [], 2: []}
    while (samples := ring.send()) is not None:
        sent[len(samples.channels)] += samples.numbers.tolist()
        if sent[1] and len(sent[2]) < 30_000:
            # of a pass, not more of the fast stream than fits into it
            assert sent[2][-1] < PASS_BYTES // 20 + 10_000
    assert len(sent[1]) == 100
    assert sent[2] == sorted(sent[2])
    assert len(sent[2]) == 60_000
    ring.close()


def test_only_the_configured_streams_are_sent(tmp_path: Path) -> None:
    ring = Ring(tmp_path, streams=["fan"])
    ring.put()
    ring.put("fan", 5, 1)
    assert [number for _, number in ring.send_all()] == list(range(11, 16))
    assert ring.lane.document()["missed"] == 0
    ring.close()


def test_only_what_is_sent_counts_as_behind_and_as_missed(tmp_path: Path) -> None:
    ring = Ring(tmp_path, rows_max=100, streams=["fan"])
    for _ in range(5):
        ring.put()
    assert ring.lane.document()["behind"] == 0
    for count in range(1, 41):
        ring.put(count=10 + count % 3)
        ring.put("fan", 1 + count % 4, 1)
    stored = sum(1 + count % 4 for count in range(1, 41))
    assert ring.lane.document()["behind"] == stored
    sent = ring.send_all()
    document = ring.lane.document()
    assert document["behind"] == 0
    assert document["sent"] == len(sent) > 0
    assert document["missed"] == stored - len(sent) > 0
    ring.put("fan", 7, 1)
    ring.put()
    assert ring.lane.document()["behind"] == 7
    ring.close()


def test_very_many_commits_count_as_well() -> None:
    progress = Progress(At(next=1))
    progress.begin(["fan"])
    for commit in range(1, 5001):
        progress.see(1 + 10 * commit, 0, "", {"pump": 7 * commit, "fan": 3 * commit})
    assert progress.between(1, 50_001) == 15_000
    assert progress.between(10_001, 20_001) == 3000
    progress.begin(["fan"])  # the same, with another connection
    assert progress.between(1, 50_001) == 15_000
    progress.begin(["fan", "pump"])
    progress.see(50_011, 0, "", {"pump": 35_007, "fan": 15_003})
    assert progress.between(1, 50_011) == 50_010
    progress.begin(None)
    assert progress.between(1, 50_011) == 50_010


def test_what_the_ring_dropped_before_is_counted_and_said(tmp_path: Path) -> None:
    ring = Ring(tmp_path, rows_max=100)
    for _ in range(30):
        ring.put()
    sent = [number for _, number in ring.send_all()]
    missed = ring.lane.document()["missed"]
    assert missed + len(sent) == 300
    assert sent == list(range(301 - len(sent), 301))
    assert len(sent) <= 110
    ring.put()
    message = ring.next()
    assert message is not None
    assert about_in(message)["missed"] == missed
    ring.close()


def test_a_restart_continues_and_repeats_at_most_the_pass(tmp_path: Path) -> None:
    ring = Ring(tmp_path, chunk_bytes_max=4096)
    for _ in range(20):
        ring.put(count=20)
    first = ring.send()
    assert first is not None
    ring.commit()
    ring.close()
    ring = Ring(tmp_path)
    again = [number for _, number in ring.send_all()]
    assert again == list(range(1, 401))
    ring.commit()
    ring.close()
    ring = Ring(tmp_path)
    assert ring.send_all() == []
    ring.put()
    assert [number for _, number in ring.send_all()] == list(range(401, 411))
    ring.close()


def test_a_lost_ring_gives_no_number_twice(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    ring.put()
    ring.send_all()
    ring.commit()
    ring.close()
    for path in tmp_path.glob("readings.db*"):
        path.unlink()
    ring = Ring(tmp_path)
    ring.put()
    assert [number for _, number in ring.send_all()] == list(range(11, 21))
    ring.close()


def test_each_file_has_an_epoch_of_its_ring_that_the_collector_has_to_name(
    tmp_path: Path,
) -> None:
    epochs = []
    for _ in range(2):
        for lost in (False, True):
            ring = Ring(tmp_path)
            ring.put()
            message = ring.next()
            assert message is not None
            epochs.append(about_in(message)["ring"])
            ring.close()
            if lost:
                for path in tmp_path.glob("readings.db*"):
                    path.unlink()
    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]
    ring = Ring(tmp_path)
    central = Central(CloudEvents(ring.store.origin), 1.0, Words(Trust(None), unsigned=True))
    ring.lane = ring.a_lane(central)
    status, acknowledged = central.topics
    central.heard(status, b'{"state":"online","samples":true}', ring.reader)
    ring.put()
    message = ring.next()
    assert message is not None
    ring.lane.sent()
    ring.lane.taken()
    said = {"epoch": ring.store.origin.epoch, "through_seq": 0}
    said["samples"] = [about_in(message)["last"]]
    for epoch, sent in ((epochs[0], 0), (about_in(message)["ring"], 10)):
        told = json.dumps(said | {"ring": epoch}).encode()
        central.heard(acknowledged, told, ring.reader)
        ring.next()
        assert ring.lane.document()["sent"] == sent
    ring.close()


def test_samples_that_a_power_cut_could_lose_wait(ring: Ring) -> None:
    ring.put()
    ring.progress.durable = 4
    assert ring.next() is None or samples_in(ring.next()).numbers[-1] < 11  # type: ignore[arg-type]
    ring.progress.durable = 1
    ring.lane = ring.a_lane()
    assert ring.next() is None


def test_the_budget_is_of_a_day_and_survives_a_restart(tmp_path: Path) -> None:
    ring = Ring(tmp_path, rows_max=10**6, day_bytes_max=2**16, chunk_bytes_max=2**14)
    rng = np.random.default_rng(1)
    noise = messages.Samples(1.79e9 + np.arange(10_000), rng.normal(size=(10_000, 2)).astype("f4"))
    ring.commit(Batch(samples=[("pump", noise, np.ones(10_000, np.float32))]))
    size = 0
    while (message := ring.next()) is not None:
        ring.lane.sent()
        ring.lane.taken()
        size += len(message.body)
    assert 2**15 < size <= 2**16
    assert ring.lane.document()["waits_for"] == "budget"
    assert ring.lane.document()["day_bytes"] == size
    ring.commit()
    ring.close()
    ring = Ring(tmp_path, rows_max=10**6, day_bytes_max=2**16, chunk_bytes_max=2**14)
    assert ring.lane.document()["day_bytes"] == size
    assert ring.next() is None
    ring.now_s -= 2 * DAY_S  # a clock that is set back frees nothing
    assert ring.next() is None
    ring.now_s += 3 * DAY_S
    assert ring.next() is not None
    ring.close()


def test_a_larger_budget_of_a_new_configuration_counts_at_once(tmp_path: Path) -> None:
    ring = Ring(tmp_path, day_bytes_max=2**16, chunk_bytes_max=2**14)
    ring.put()
    ring.progress.at = ring.progress.at._replace(day=int(ring.now_s // DAY_S), bytes=2**16)
    assert ring.next() is None
    ring.lane = ring.a_lane(day_bytes_max=2**17)
    assert ring.next() is not None
    ring.close()


def test_what_was_sent_and_lost_counts_too(ring: Ring) -> None:
    ring.put()
    message = ring.next()
    assert message is not None
    ring.lane.sent()
    ring.lane.lost()
    again = ring.next()
    assert again == message
    ring.lane.sent()
    assert ring.lane.document()["day_bytes"] == 2 * len(message.body)
    assert ring.lane.document()["sent"] == 0


def test_a_chunk_that_nobody_takes_waits(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    table = MqttTable(host="h").samples.model_copy(update={"enabled": True, "interval_s": 1e-6})
    dialect = CloudEvents(ring.store.origin)
    ring.lane = SampleLane(table, dialect, lambda: 5, None, 60.0, 1000.0, lambda: ring.now_s)
    ring.lane.progress = ring.progress
    ring.put()
    assert ring.next() is not None
    ring.lane.sent()
    ring.lane.hold()
    assert ring.next() is None
    assert ring.lane.document()["waits_for"] == "retry"
    ring.close()


def test_a_chunk_that_the_broker_never_takes_is_given_up(ring: Ring) -> None:
    ring.put()
    assert ring.next() is not None
    ring.lane.sent()
    ring.lane.never("packet too large")
    assert ring.next() is None
    assert ring.lane.document()["refused"] == 10
    ring.put()
    assert ring.lane.next(ring.reader, 100) is None  # smaller than any chunk
    assert ring.lane.document()["refused"] == 20


def test_wrong_times_wait_until_they_are_corrected(ring: Ring) -> None:
    ring.put()
    ring.progress.timely = False
    assert ring.next() is None
    assert ring.lane.document()["waits_for"] == "clock"
    ring.lane = ring.a_lane(require_synced_clock=False)
    assert ring.next() is not None


def test_without_the_confirmation_of_the_collector_a_chunk_is_sent_again(ring: Ring) -> None:
    central = Central(CloudEvents(ring.store.origin), 1.0, Words(Trust(None), unsigned=True))
    ring.lane = ring.a_lane(central)
    ring.put()
    assert ring.next() is None
    assert ring.lane.document()["waits_for"] == "collector"
    status, acknowledged = central.topics
    central.heard(status, b'{"state":"online"}', ring.reader)
    assert ring.next() is None
    central.heard(status, b'{"state":"online","samples":true}', ring.reader)
    message = ring.next()
    assert message is not None
    ring.lane.sent()
    ring.lane.taken()
    assert ring.lane.document()["sent"] == 0
    ring.next()
    assert ring.next() == message  # the time is over
    epoch = ring.store.origin.epoch
    said = '{"epoch":"%s","through_seq":0,"samples":%s}'
    central.heard(acknowledged, (said % (epoch, "[9]")).encode(), ring.reader)
    assert ring.next() == message
    central.heard(acknowledged, (said % (epoch, '["10"]')).encode(), ring.reader)
    assert central.rejected["malformed"] == 1
    central.heard(acknowledged, (said % (epoch, "[3, 10]")).encode(), ring.reader)
    assert ring.next() is None
    assert ring.lane.document()["sent"] == 10


@pytest.mark.parametrize(
    "wrong",
    [{"day_bytes_max": 2**16, "chunk_bytes_max": 2**16}, {"interval_s": 0}, {"streams": []}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SamplesTable(**wrong)


def test_the_lane_is_off_by_default() -> None:
    assert not MqttTable(host="h").samples.enabled


def test_a_ring_that_cannot_be_read_ends_no_connection(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    ring.put()
    ring.close()
    (tmp_path / "readings.db").write_bytes(b"junk" * 5000)
    ring.reader = Reader(tmp_path)
    assert ring.next() is None
    assert ring.lane.document()["waits_for"] == "store"
    ring.reader.__exit__()


def test_status_says_what_waits_and_what_is_lost(tmp_path: Path) -> None:
    ring = Ring(tmp_path, rows_max=100, day_bytes_max=2**16, chunk_bytes_max=2**14)
    for _ in range(30):
        ring.put()
    ring.send_all()
    ring.put()
    ring.progress.at = ring.progress.at._replace(bytes=2**16, refused=3)
    assert ring.next() is None
    settings = MqttTable(host="h", samples=SamplesTable(enabled=True))
    uplink = Uplink(settings, ring.store.origin, tmp_path, lambda: 0)
    link = uplink.snapshot() | {"samples": ring.lane.document()}
    told = " ".join(uplink_lines(link))
    missed = ring.lane.document()["missed"]
    assert "10 to send; 65536 of 65536 bytes on 2026-09-21; WAITING: the budget" in told
    assert f"samples NOT SENT: missed {missed}, refused 3" in told
    assert not any("samples" in line for line in uplink_lines(link | {"samples": None}))
    ring.close()
