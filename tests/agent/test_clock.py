"""The gateway's time: the clock's quality, and what its steps do to order and to scores."""

from __future__ import annotations

import ctypes
import math
import struct
import sys

import numpy as np
import pytest

from agent.bundles.load import load
from agent.clock import STEP_S, Clock, Step, Timex, clock_quality, quality_of
from agent.config.inputs import InputTable
from agent.config.load import StreamTable
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump
from agent.inputs.source import Chunk
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.scoring.intake import Intake
from agent.store.batch import Batch
from models.detector import Detector
from models.messages import ClockQuality
from tests.conftest import ZOO_BUNDLE

OK, ERROR, REFUSED = 0, 5, -1
SYNCED, UNSYNCED = 0x2001, 0x40  # PLL and nanoseconds; STA_UNSYNC


@pytest.mark.parametrize(
    ("state", "status", "quality"),
    [
        (OK, SYNCED, "synced"),
        (ERROR, UNSYNCED, "unsynced"),
        (ERROR, SYNCED, "unsynced"),
        (OK, UNSYNCED, "unsynced"),
        (REFUSED, 0, "unknown"),
    ],
)
def test_what_the_kernels_answer_means(state: int, status: int, quality: str) -> None:
    assert quality_of(state, status) == quality


def test_the_kernel_is_asked() -> None:
    # where asking is allowed, so that "unknown" is not all that this ever says
    timex = Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    assert clock_quality() == quality_of(state, timex.status)


def test_the_structure_is_the_kernels() -> None:
    words = 8 if sys.maxsize > 2**32 else 4
    assert Timex.maxerror.offset == 3 * words
    assert Timex.status.offset == 5 * words
    timex = Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) != REFUSED:
        assert timex.maxerror > 0  # microseconds; the kernel lets it grow until synchronized
        assert 0 <= timex.status < 0x10000
        # after status come constant, precision, tolerance: 1 and 32768000 on every Linux
        after = (ctypes.c_long * 3).from_buffer_copy(timex, 6 * words)
        assert list(after)[1:] == [1, 32768000]


YEAR_1970_S, NOW_S, HOUR_S = 100.0, 1_750_000_000.0, 3600.0


class World:
    """A wall clock that can be set, and the time that passes."""

    def __init__(self, wall_s: float, quality: ClockQuality = "synced") -> None:
        self.wall_s, self.passed_s = wall_s, 0.0
        self.quality: ClockQuality = quality

    def clock(self, saved: bytes | None = None) -> Clock:
        clock = Clock(lambda: self.quality, lambda: self.wall_s, lambda: self.passed_s)
        if saved is not None:
            clock.restore(saved)
        return clock

    def wait(self, seconds: float) -> None:
        self.wall_s += seconds
        self.passed_s += seconds


@pytest.mark.parametrize("by_s", [NOW_S - YEAR_1970_S, HOUR_S, -HOUR_S])
def test_steady_time_goes_on_and_the_walls_is_put_right(by_s: float) -> None:
    world = World(NOW_S, "unsynced")
    clock = world.clock()
    world.wait(10)
    before = clock.steady_s()
    assert clock.look() is None
    assert clock.quality() == "unsynced"
    world.wall_s, world.quality = world.wall_s + by_s, "synced"
    assert clock.look() == Step(pytest.approx(by_s), NOW_S)
    assert clock.steady_s() == before
    assert clock.wall_s() == pytest.approx(world.wall_s)
    assert clock.quality() == "synced"
    world.wait(5)
    assert clock.look() is None
    assert clock.steady_s() == before + 5


def test_a_clock_that_was_kept_is_trusted_for_what_lies_behind() -> None:
    world = World(NOW_S)
    clock = world.clock()
    world.wall_s += HOUR_S
    assert clock.look() == Step(pytest.approx(HOUR_S), None)


def test_a_clock_that_runs_a_little_faster_is_no_step() -> None:
    world = World(NOW_S)
    clock = world.clock()
    world.wall_s += 0.9 * STEP_S
    assert clock.look() is None


def test_a_boot_in_1970_goes_on_from_the_last_time_known() -> None:
    first = World(NOW_S)
    clock = first.clock()
    first.wait(100)
    saved = clock.to_bytes()
    second = World(YEAR_1970_S, "synced")  # as an RTC that lost its battery would have it
    clock = second.clock(saved)
    assert clock.steady_s() == pytest.approx(NOW_S + 100)
    assert clock.quality() == "unsynced"
    second.wait(20)
    assert clock.look() is None
    assert clock.wall_s() == pytest.approx(NOW_S + 120)
    second.wall_s = NOW_S + 5000
    assert clock.look() == Step(pytest.approx(4880), pytest.approx(NOW_S + 100))
    assert clock.wall_s() == pytest.approx(NOW_S + 5000)
    assert clock.steady_s() == pytest.approx(NOW_S + 120)
    assert clock.quality() == "synced"


def test_a_start_goes_on_from_the_latest_that_was_saved() -> None:
    """Of the state that is saved now and then, and of what each commit of samples has."""
    world = World(NOW_S, "unsynced")
    clock = world.clock()
    world.wait(10)
    clock.look()
    early, early_packed = clock.to_bytes(), clock.packed()
    world.wait(20)
    world.wall_s, world.quality = world.wall_s + HOUR_S, "synced"
    clock.look()
    late, late_packed = clock.to_bytes(), clock.packed()
    assert len(late_packed) == 24
    for saved in ([late], [late_packed], [early, late_packed], [late, early_packed]):
        again = Clock(lambda: "synced", lambda: YEAR_1970_S, lambda: 0.0)
        again.restore(*saved)
        assert again.steady_s() == pytest.approx(clock.steady_s())
        assert again.wall_s() == pytest.approx(world.wall_s)
    unsure = [Clock(lambda: "synced", lambda: NOW_S, lambda: 0.0) for _ in range(2)]
    for again, saved in zip(unsure, (early, early_packed), strict=True):
        again.restore(saved)
    assert len({again.to_bytes() for again in unsure}) == 1


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\xff" * 23,
        b"{}",
        b"[1, 2, 3]",
        b'{"steady_s": "x", "correction_s": 0, "unsure_since_s": null}',
        struct.pack("<3d", 1e300, 0.0, 0.0),
        struct.pack("<3d", math.nan, 0.0, 0.0),
        struct.pack("<3d", NOW_S, -math.inf, 0.0),
        b'{"steady_s": 1e999, "correction_s": 0, "unsure_since_s": null}',
    ],
)
def test_a_saved_state_that_is_damaged_is_passed_over(damaged: bytes) -> None:
    world = World(NOW_S)
    clock = world.clock()
    world.wait(100)
    saved = clock.packed()
    for states, expected_s in (([damaged], NOW_S), ([damaged, saved], NOW_S + 100)):
        again = World(NOW_S).clock()
        again.restore(*states)
        assert again.steady_s() == pytest.approx(expected_s)


def test_steady_time_goes_on_over_a_restart_after_a_step() -> None:
    world = World(NOW_S)
    clock = world.clock()
    world.wall_s -= HOUR_S
    clock.look()
    world.wait(30)
    again = world.clock(clock.to_bytes())
    assert again.steady_s() == pytest.approx(clock.steady_s())
    assert again.wall_s() == pytest.approx(world.wall_s)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load(ZOO_BUNDLE)[1]


@pytest.mark.parametrize("device_time", [False, True])
def test_no_step_loses_reorders_or_interrupts_a_stream(
    detector: Detector, device_time: bool
) -> None:
    steps = {200: NOW_S - YEAR_1970_S, 300: -2 * HOUR_S, 350: HOUR_S}
    calm, _ = scored(detector, {}, device_time)
    stepped, world = scored(detector, steps, device_time)
    assert len(stepped) == len(calm) == 400
    scores = [np.array([score for _, score in rows]) for rows in (calm, stepped)]
    np.testing.assert_array_equal(*scores)
    assert np.isfinite(scores[0][-150:]).all()
    times = np.array([time for time, _ in stepped])
    if device_time:
        np.testing.assert_allclose(np.diff(times), PERIOD_S, atol=1e-3)
        return
    moved = {at: by for at, by in enumerate(np.diff(times) - PERIOD_S, 1) if abs(by) > 1e-3}
    assert moved == {at: pytest.approx(by, abs=1e-3) for at, by in steps.items()}
    assert times[-1] == pytest.approx(world.wall_s, abs=PERIOD_S)


def scored(
    detector: Detector, steps: dict[int, float], device_time: bool
) -> tuple[list[tuple[float, float]], World]:
    """Times and scores as stored, of a stream that is read while the clock is set."""
    world = World(YEAR_1970_S, "unsynced")
    clock = world.clock()
    table = StreamTable(name="pump", bundle=ZOO_BUNDLE)
    fleet = Fleet(detector, [table], 60.0, clock)
    names = [channel.name for channel in CHANNELS]
    columns = ["time", *names] if device_time else names
    settings = InputTable(name="line", stream="pump", columns=columns)
    parser = LineParser(settings, detector.manifest.channels)
    intake, batch = Intake([fleet], {"line": "pump"}, {"line": parser}), Batch()
    for number, values in enumerate(Pump(3).run(400)):
        world.wait(PERIOD_S)
        if number in steps:
            fleet.flush(batch)
            world.wall_s += steps[number]
            clock.look()
        fields = [f"{value:.4f}" for value in values]
        if device_time:
            fields.insert(0, f"{NOW_S + number * PERIOD_S:.3f}")
        chunk = Chunk("line", world.wall_s, clock.monotonic_s(), [",".join(fields).encode()])
        intake.take([chunk], batch)
    fleet.flush(batch)
    rows = [
        row
        for _, samples, score in batch.samples
        for row in zip(samples.times.tolist(), score.tolist(), strict=True)
    ]
    return rows, world
