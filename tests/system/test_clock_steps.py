"""The real agent while its clock is set: what it stored and queued with wrong times is put right.

The clock is faked below the agent by libfaketime; monotonic time is the machine's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from agent.plant import CHANNELS, PERIOD_S, Pump, csv_line
from agent.store import Reader
from tests.agent_rig import Ops, configure, status
from tests.conftest import PARTS, RealAgent, RealBroker, wait_until
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
    times = [np.frombuffer(times) for times, _, _ in chunks]
    values = [np.frombuffer(values, np.float32) for _, values, _ in chunks]
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
    assert abs(times[-1] - time.time()) < 5
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
    assert abs(times[-1] - (time.time() - 2 * HOUR_S)) < 10
    counts = counters(tmp_path)
    assert counts["readings"] == rows.size
    assert not {"late", "out_of_order", "clock_step"} & counts.keys()
    # each row in its order; of two that came within one slot, one is kept
    sent = [np.float32(csv_line(0, row).split(",")[1]) for row in rows]
    values = values[~np.isnan(values)]  # of slots that none came for
    kept = [value for at, value in enumerate(values) if at == 0 or value != values[at - 1]]
    ahead = iter(sent)
    assert all(value in ahead for value in kept)
    assert len(kept) >= len(rows) - counts.get("duplicate", 0) - 2  # two rows may be alike
    numbers = sorted(message["seq"] for message in ops.numbered())
    assert all(after - before <= 1 for before, after in pairwise(numbers))
