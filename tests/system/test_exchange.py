"""Another bundle for a running agent: a real process, a real line, and kill -9 in between."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.control.client import ask
from agent.control.protocol import Refused
from agent.inputs.plant import PERIOD_S, Pump, sudden
from agent.store.batch import THROUGH
from agent.store.reader import Reader
from agent.store.writer import Store
from models import bundle as bundles
from models.bundle import Bundle
from models.messages import Samples
from models.pipeline import Pipeline
from models.state import StateMismatch
from tests.agent_rig import START_S, StartAgent, configure, lines
from tests.conftest import WAIT_S_MAX, ZOO_BUNDLE, RealAgent, wait_until
from tests.exchange_rig import put
from tests.serial_line import Line


class Gateway:
    """An agent with one line, whose bundle is a file of its own."""

    def __init__(self, directory: Path, line: Line, start: StartAgent) -> None:
        self.directory, self.line = directory, line
        self.bundle = directory / "pump.fieldwatch"
        shutil.copy(ZOO_BUNDLE, self.bundle)
        self.config = configure(directory, line, 1, bundle=str(self.bundle))
        self._start = start
        self.sent = 0
        self.start()

    def start(self) -> None:
        said = len(self.log())
        self.agent = self._start(self.config)
        wait_until(lambda: ": ready: " in self.log()[said:], "the agent")
        wait_until(lambda: "line: reading" in self.log()[said:], "its line")

    def log(self) -> str:
        log = self.config.with_suffix(".log")
        return log.read_text() if log.exists() else ""

    def ask(self, command: str) -> dict[str, Any]:
        return ask(self.directory / "data" / "control.sock", command)

    def stream(self) -> dict[str, Any]:
        stream: dict[str, Any] = self.ask("state")["streams"]["pump"]
        return stream

    def send(self, rows: np.ndarray[Any, Any]) -> None:
        self.line.write(lines(rows, self.sent))
        self.sent += len(rows)

    def samples(self) -> tuple[Samples, np.ndarray[Any, Any]]:
        """All that are stored, with their scores."""
        with Reader(self.directory / "data") as reader:
            chunks = reader.newest_samples("pump", 10**6)
        times, values, scores = (b"".join(parts) for parts in list(zip(*chunks, strict=True))[:3])
        table = np.frombuffer(values, np.float32).reshape(-1, 8)
        return Samples(np.frombuffer(times), table), np.frombuffer(scores, np.float32)

    def has_stored(self, count: int) -> bool:
        with Reader(self.directory / "data") as reader:
            chunks = reader.newest_samples("pump", 10**6)
        return sum(len(chunk.scores) // 4 for chunk in chunks) >= count

    def alarms(self) -> list[tuple[int, str, str]]:
        with Reader(self.directory / "data") as reader:
            alarms = reader.alarms(100)
        return sorted((alarm["number"], alarm["kind"], alarm["state"]) for alarm in alarms)


@pytest.fixture
def gateway(tmp_path: Path, line: Line, start_agent: StartAgent) -> Gateway:
    return Gateway(tmp_path, line, start_agent)


def scores_of(*parts: tuple[Bundle, Samples]) -> np.ndarray[Any, Any]:
    """The scores of consecutive samples by one bundle after the other, each from nothing."""
    found = []
    for bundle, samples in parts:
        pipeline = Pipeline(bundle)
        found.append(pipeline.step(pipeline.start(), samples).scores.score)
    return np.concatenate(found)


def test_an_exchange_under_load_loses_no_sample(gateway: Gateway, zoo_bundle: Bundle) -> None:
    rows, enough = Pump(1).run(40_000), threading.Event()

    def write() -> None:
        for block in itertools.count():
            gateway.send(rows[20 * block : 20 * block + 20])
            if enough.wait(0.01):
                return

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: gateway.has_stored(200), "samples")
    later = put(zoo_bundle, gateway.bundle, version=2)
    assert gateway.ask("reload") == {
        "changed": [],
        "exchanged": {"pump": {"bundle": "pump version 2", "bundle_digest": later.digest}},
        "needs_restart": [],
        "still_refused": {},
        "mended": [],
    }
    so_far = gateway.sent
    wait_until(lambda: gateway.sent > so_far + 200, "more readings")
    enough.set()
    writer.join()
    wait_until(lambda: gateway.has_stored(gateway.sent), "all samples")
    stream = gateway.stream()
    assert (stream["bundle"], stream["bundle_digest"]) == ("pump version 2", later.digest)
    assert stream["counters"]["samples"] == gateway.sent
    assert gateway.agent.stop() == 0
    samples, scores = gateway.samples()
    expected = START_S + np.arange(gateway.sent) * PERIOD_S
    np.testing.assert_allclose(samples.times, expected, rtol=0, atol=1e-3)
    warmed_up = int(np.argmin(np.isnan(scores)))
    at = warmed_up + int(np.argmax(np.isnan(scores[warmed_up:])))
    assert at > warmed_up
    parts = (zoo_bundle, samples.part(0, at)), (later, samples.part(at, len(scores)))
    assert np.array_equal(scores, scores_of(*parts), equal_nan=True)


def test_alarms_of_the_old_bundle_close_and_numbers_go_on(
    gateway: Gateway, zoo_bundle: Bundle
) -> None:
    rows = Pump(4, [sudden("blocked_valve", 60.0, 300.0)]).run(900)
    gateway.send(rows[:450])
    wait_until(lambda: gateway.alarms() == [(1, "anomaly", "opened")], "the alarm")
    wait_until(lambda: gateway.has_stored(450), "the samples")
    put(zoo_bundle, gateway.bundle, version=2)
    gateway.ask("reload")
    assert gateway.alarms() == [(1, "anomaly", "closed")]
    log = gateway.log()
    assert "alarm closed: anomaly" in log
    assert "another detector watches the stream, or its memory is lost\n" in log
    assert "stream pump: now watched by pump version 2, digest " in log
    stream = gateway.stream()
    assert stream["open_alarms"] == []
    assert stream["counters"]["alarms_closed"] == stream["counters"]["alarms_unwatched"] == 1
    with Reader(gateway.directory / "data") as reader:
        records = reader.outbox(("summary", "alarm"), 0, 10**6)
    sent = [(record.kind, json.loads(record.data)) for record in records]
    assert [data["state"] for kind, data in sent if kind == "alarm"] == ["opened", "closed"]
    # the summary in progress is sent: all samples are in one
    assert sum(data["n"] for kind, data in sent if kind == "summary") == 450
    assert gateway.agent.stop() == 0
    gateway.start()
    gateway.send(Pump(4, [sudden("blocked_valve", 60.0, 300.0)]).run(500))
    wait_until(lambda: (2, "anomaly", "opened") in gateway.alarms(), "another alarm")
    assert gateway.stream()["bundle"] == "pump version 2"


@pytest.mark.parametrize("wrong", ["cut", "absent"])
def test_a_bundle_that_is_refused_changes_nothing(gateway: Gateway, wrong: str) -> None:
    gateway.send(Pump(1).run(100))
    wait_until(lambda: gateway.has_stored(100), "samples")
    before = gateway.stream()
    drop_in = gateway.directory / "conf.d" / "a.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("[health]\ninterval_s = 7\n")
    whole = gateway.bundle.read_bytes()
    gateway.bundle.unlink()
    if wrong == "cut":
        gateway.bundle.write_bytes(whole[:-1000])
    with pytest.raises(Refused, match=str(gateway.bundle)) as refused:
        gateway.ask("reload")
    assert (refused.value.code, refused.value.exit_code) == ("bundle", 65)
    state = gateway.ask("state")
    assert state["configuration"]["refused"] == str(refused.value)
    assert f"reload refused, nothing has changed: {refused.value}" in gateway.log()
    assert state["streams"]["pump"]["bundle_digest"] == before["bundle_digest"]
    gateway.send(Pump(1).run(100))
    wait_until(lambda: gateway.has_stored(200), "more samples")
    assert gateway.stream()["counters"]["scored"] == before["counters"]["scored"] + 100
    gateway.bundle.write_bytes(whole)
    assert gateway.ask("reload")["changed"] == ["health.interval_s"]  # now the whole of it


def test_a_stream_goes_from_a_baseline_to_a_bundle_and_back(gateway: Gateway) -> None:
    """Its channels are in another order there."""
    by_bundle = gateway.config.read_text()
    names = [channel.name for channel in bundles.read(ZOO_BUNDLE).manifest.channels]
    channels = ", ".join(f'{{ name = "{name}" }}' for name in reversed(names))
    table = f"baseline = {{ period_s = {PERIOD_S}, channels = [{channels}] }}"
    digest = gateway.stream()["bundle_digest"]
    rows = Pump(1).run(150)
    gateway.send(rows[:50])
    wait_until(lambda: gateway.has_stored(50), "samples")

    gateway.config.write_text(by_bundle.replace(f'bundle = "{gateway.bundle}"', table))
    told = gateway.ask("reload")
    assert told["changed"] == ["streams.pump.bundle", "streams.pump.baseline"]
    assert told["exchanged"].keys() == {"pump"}
    gateway.send(rows[50:100])
    wait_until(lambda: gateway.has_stored(100), "samples")
    assert gateway.stream()["detector"] == "novelty"

    gateway.config.write_text(by_bundle)
    assert gateway.ask("reload")["exchanged"]["pump"]["bundle_digest"] == digest
    gateway.send(rows[100:])
    wait_until(lambda: gateway.has_stored(150), "samples")
    assert gateway.agent.stop() == 0
    samples, _ = gateway.samples()
    expected = rows.astype(np.float32).copy()
    expected[50:100] = expected[50:100, ::-1]
    np.testing.assert_allclose(samples.values, expected, atol=1e-3)
    assert len(np.unique(samples.times)) == 150


def test_kill_9_during_an_exchange_leaves_the_old_bundle_or_the_new_one_whole(
    gateway: Gateway, zoo_bundle: Bundle
) -> None:
    rows = Pump(4, [sudden("blocked_valve", 60.0, 3000.0)]).run(450)
    bundle = bundles.read(gateway.bundle)
    for number, delay_s in enumerate([0.0, 0.002, 0.005, 0.02]):
        gateway.send(rows)
        wait_until(lambda: gateway.has_stored(gateway.sent), "samples")
        old, bundle = bundle, put(zoo_bundle, gateway.bundle, version=number + 2)
        process = gateway.agent.process
        assert process is not None
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + WAIT_S_MAX
        while f"digest {bundle.digest}, not signed" not in gateway.log():
            assert time.monotonic() < deadline, "waited for the bundle to be loaded"
            time.sleep(0.001)  # the exchange follows at once
        time.sleep(delay_s)
        gateway.agent.kill()
        assert owner_of_what_is_stored(gateway, old, bundle) in {"old", "new"}
        gateway.start()
        assert gateway.stream()["bundle"] == f"pump version {number + 2}"
    samples, _ = gateway.samples()
    assert len(samples.times) == gateway.sent
    numbers = [number for number, _, _ in gateway.alarms()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_defect_during_an_exchange_leaves_the_old_memory_whole(
    gateway: Gateway, zoo_bundle: Bundle
) -> None:
    assert gateway.agent.stop() == 0
    trigger = gateway.directory / "trigger"
    mistake = f"agent.parsing.lines:LineParser:for_channels:{trigger}"
    agent = RealAgent(gateway.config, [sys.executable, "-m", "tests.planted", mistake])
    agent.start()
    try:
        wait_until(lambda: gateway.log().count(": ready: ") == 2, "the agent")
        wait_until(lambda: gateway.log().count("line: reading") == 2, "its line")
        gateway.send(Pump(4, [sudden("blocked_valve", 60.0, 300.0)]).run(450))
        wait_until(lambda: gateway.has_stored(450), "the samples")
        later = put(zoo_bundle, gateway.bundle, version=2)
        trigger.write_text("")
        with pytest.raises(Refused, match="nothing was done"):
            gateway.ask("reload")
        assert agent.process is not None
        assert agent.process.wait(WAIT_S_MAX) == 70
    finally:
        agent.kill()
    assert owner_of_what_is_stored(gateway, zoo_bundle, later) == "old"
    assert gateway.alarms() == [(1, "anomaly", "opened")]


def owner_of_what_is_stored(gateway: Gateway, old: Bundle, new: Bundle) -> str:
    """Say whose memory is stored; fail where it is of both, or alarms are of another."""
    store = Store(gateway.directory / "data", "plant", "gw-1", 10**5, 10**6)
    store.open()
    parts, alarms = store.records.state("pump"), store.records.open_alarms("pump")
    through = int(parts[THROUGH])
    next_sample = store.readings.next_sample
    store.close()
    for name, bundle in (("old", old), ("new", new)):
        try:
            state = Pipeline(bundle).restore(parts)
        except StateMismatch:
            continue
        events = state.events[0]
        opened = [event.number for event in Pipeline(bundle).open_events(state)]
        assert [alarm["number"] for alarm in alarms] == opened
        assert events.next_number > max([0, *opened])
        assert through <= next_sample
        return name
    pytest.fail("the stored memory is of no bundle")
