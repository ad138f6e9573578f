"""The real agent while its clock is set: what it stored and queued with wrong times is put right.

The clock is faked below the agent by libfaketime; monotonic time is the machine's.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, csv_line
from agent.store.reader import Reader
from tests.agent_rig import START_S, Ops, configure, status
from tests.conftest import PARTS, ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.database import make_files
from tests.serial_line import Line

HOUR_S = 3600.0


class FakeClock:
    """A clock that is off by so much, for the processes that run with ``environment``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        found = [
            library
            for root in (Path("/"), PARTS)
            for library in root.glob("usr/lib/*/faketime/libfaketimeMT.so.1")
        ]
        assert found, "the tests need libfaketime; get it with: make test"
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, off_s: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{off_s:+.0f}")
        os.replace(new, self._file)  # noqa: PTH105 - at once


def stored(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times, and values of the first channel."""
    with Reader(directory / "data") as reader:
        chunks = reader.newest_samples("pump", 10**6)
    times = [np.frombuffer(times) for times, *_ in chunks]
    values = [np.frombuffer(values, np.float32) for _, values, *_ in chunks]
    return (
        np.concatenate(times or [np.empty(0)]),
        np.concatenate(values or [np.empty(0)]).reshape(-1, len(CHANNELS))[:, 0],
    )


def counters(directory: Path) -> dict[str, int]:
    return status(directory)["streams"]["pump"]["counters"]


def send(line: Line, rows: np.ndarray, directory: Path) -> None:
    """Send rows at their pace, without a time; return once what they made is stored."""
    before = counters(directory).get("readings", 0)
    for row in rows:
        line.write(csv_line(0, row).partition(",")[2].encode() + b"\n")
        time.sleep(PERIOD_S)
    wait_until(
        lambda: counters(directory).get("readings", 0) >= before + rows.size, "the last readings"
    )


def test_a_boot_in_1970_and_steps_lose_and_reorder_nothing_and_are_corrected(
    tmp_path: Path,
    line: Line,
    broker: RealBroker,
    ops: Ops,
    start_agent: Callable[..., RealAgent],
) -> None:
    clock, rows = FakeClock(tmp_path / "off"), Pump(2).run(45)
    config = configure(tmp_path, line, broker.port)
    text = config.read_text().replace("interval_s = 10", "interval_s = 2")
    text = text.replace("[mqtt]", "[mqtt]\nunsubscribed_retry_s = 0.5")
    config.write_text(text.replace("'time', ", ""))
    broker.kill()  # no link and no time server: both come later
    clock.set(-time.time() + 100)
    agent = start_agent(config, **clock.environment)
    wait_until(lambda: bool(status(tmp_path)["inputs"]["line"].get("connected")), "the port")
    line.write(b"\n")  # what comes before the first line end may be cut
    send(line, rows[:15], tmp_path)
    assert stored(tmp_path)[0].max() < HOUR_S
    assert status(tmp_path)["clock"] == "unsynced"

    clock.set(0)
    wait_until(lambda: "stored times corrected" in agent.log(), "the correction")
    send(line, rows[15:30], tmp_path)
    times, _ = stored(tmp_path)
    assert abs(times[-1] - time.time()) < 60
    assert np.diff(times).min() > 0
    assert times[-1] - times[0] < HOUR_S

    broker.start()
    wait_until(lambda: len(ops.of_kind("summary")) >= 2, "summaries")
    wait_until(lambda: len(ops.of_kind("health")) >= 3, "health")
    first = min(ops.of_kind("summary"), key=lambda message: message["seq"])
    assert first["clock"] == "corrected"
    assert first["data"]["from"] > "2026"
    assert all(message["time"] > "2026" for message in ops.numbered())

    clock.set(-2 * HOUR_S)
    wait_until(lambda: agent.log().count("the clock was set") == 2, "the second step")
    send(line, rows[30:], tmp_path)
    assert agent.stop() == 0
    times, values = stored(tmp_path)
    assert abs(times[-1] - (time.time() - 2 * HOUR_S)) < 60
    counts = counters(tmp_path)
    assert counts["readings"] == rows.size
    assert not {"late", "out_of_order", "clock_step"} & counts.keys()
    assert "alarm opened: missing" not in agent.log()  # neither a pause nor a step is a sensor's
    # each row in its order; of two that came within one slot, one is kept
    sent = [np.float32(csv_line(0, row).split(",")[1]) for row in rows]
    values = values[~np.isnan(values)]  # of slots that none came for
    kept = [value for at, value in enumerate(values) if at == 0 or value != values[at - 1]]
    ahead = iter(sent)
    assert all(value in ahead for value in kept)
    assert len(kept) >= len(rows) - counts.get("duplicate", 0) - 2  # two rows may be alike
    numbers = sorted(message["seq"] for message in ops.numbered())
    assert all(after - before <= 1 for before, after in pairwise(numbers))


# what the clock does between a kill and the next start; the agent has no other witness of time
BEFORE_A_START: dict[str, Callable[[float], float]] = {
    "behind": lambda off_s: off_s - HOUR_S,
    "ahead": lambda off_s: off_s + HOUR_S,
    "none": lambda off_s: off_s,
    "1970": lambda _: -time.time() + 100,
}
TIMED_BY = ("arrival", "device")
ROWS_A_LIFE = 12


def configure_both(directory: Path) -> Path:
    """A stream that is timed by arrival and one with times; memory is hardly ever saved."""
    make_files(directory / "data")
    names = [channel.name for channel in CHANNELS]
    config = directory / "agent.toml"
    config.write_text(
        """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
state_interval_s = 3600
[summary]
interval_s = 5
[health]
interval_s = 3600
"""
        + "".join(
            f"""
[[streams]]
name = "{by}"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "{by}"
port = "{directory / by}"
stream = "{by}"
columns = {["time", *names] if by == "device" else names}
"""
            for by in TIMED_BY
        )
    )
    return config


def test_no_kill_with_any_clock_takes_time_back(
    tmp_path: Path, start_agent: Callable[..., RealAgent]
) -> None:
    """Each step after each other one, at random: ring times go on, and no interval comes twice."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    steps = list(BEFORE_A_START) * 2
    chance.shuffle(steps)
    print("steps", steps)
    clock, off_s, sent = FakeClock(tmp_path / "off"), 0.0, 0
    config, pump = configure_both(tmp_path), Pump(2)
    lines = {by: Line(tmp_path / by) for by in TIMED_BY}
    try:
        for life, step in enumerate(["none", *steps], 1):
            off_s = BEFORE_A_START[step](off_s)
            clock.set(off_s)
            agent = start_agent(config, **clock.environment)
            wait_until(lambda agent=agent, life=life: is_reading(agent, life), "the ports")
            for line in lines.values():
                line.write(b"\n")  # what comes before the first line end may be cut
            for row in pump.run(ROWS_A_LIFE):
                text = csv_line(START_S + sent * PERIOD_S, row)
                lines["device"].write(text.encode() + b"\n")
                lines["arrival"].write(text.partition(",")[2].encode() + b"\n")
                sent += 1
                time.sleep(PERIOD_S)
            wait_until(lambda: all_taken(tmp_path), "what the rows made")
            time.sleep(chance.uniform(0, 0.2))
            agent.kill()
            assert_time_goes_on(tmp_path, step)
    finally:
        for line in lines.values():
            line.close()


def is_reading(agent: RealAgent, life: int) -> bool:
    """Whether the agent of this life has begun, and opened its ports."""
    log = agent.log()
    return log.count("ready:") == life and log.count(": reading ") == life * len(TIMED_BY)


def all_taken(directory: Path) -> bool:
    streams = status(directory)["streams"]
    counts = [streams[by]["counters"].get("readings", 0) for by in TIMED_BY]
    return min(counts) >= ROWS_A_LIFE * len(CHANNELS)


def assert_time_goes_on(directory: Path, step: str) -> None:
    for by in TIMED_BY:
        counts = status(directory)["streams"][by]["counters"]
        assert not {"late", "out_of_order", "clock_step"} & counts.keys(), (by, step)
        with Reader(directory / "data") as reader:
            chunks = reader.newest_samples(by, 10**6)
            summaries = reader.outbox(["summary"], 0, 10**6)
        times = np.concatenate([np.frombuffer(times) for times, *_ in chunks])
        assert np.diff(times).min() > 0, (by, step)
        told = Counter((one.stream, one.read()["from"]) for one in summaries)
        assert max(told.values(), default=0) <= 1, (by, step, told.most_common(3))
