"""The borders of the grid: a time on one belongs to one interval, by rule, on every way in."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.scoring.summary import Summary
from models.align import Aligned, Aligner, Aligners
from models.forecaster import step_numbers
from models.grid import (
    BORDER_S,
    begun_by,
    ended_by,
    interval_of,
    slot_of,
    slots_of,
    windows_of,
)
from models.manifest import Sampling
from models.messages import Readings, Samples

# as somebody writes them: what a float64 makes of them is not exact
PERIODS = st.sampled_from(
    ["0.001", "0.004", "0.01", "0.02", "0.1", "0.2", "0.3", "0.7", "1", "1.1", "7", "60", "3600"]
) | st.integers(1, 10**7).map(lambda ms: str(Decimal(ms) / 1000))
FIRST = st.integers(946_684_800_000, 4_102_444_800_000).map(lambda ms: Decimal(ms) / 1000)
SLOTS = st.integers(1, 10**6)
ULPS = st.integers(-2, 2)


def moved(time: float, ulps: int) -> float:
    for _ in range(abs(ulps)):
        time = math.nextafter(time, math.copysign(math.inf, ulps))
    return time


def sampling(period_s: str) -> Sampling:
    return Sampling(
        period_s=float(period_s),
        hold_samples_max=0,
        missing_samples=1,
        reset_gap_samples=2,
        warm_up_samples=0,
    )


@given(PERIODS, FIRST, SLOTS, ULPS)
def test_a_reading_on_a_border_belongs_to_the_later_slot(
    period: str, first: Decimal, slots: int, ulps: int
) -> None:
    """Half-way between two slots, as exactly as a float64 has it, of any phase."""
    period_s, begin = float(period), float(first)
    phase_s = math.fmod(begin, period_s)
    border = moved(float(first + (slots - Decimal("0.5")) * Decimal(period)), ulps)
    number = slot_of(begin, phase_s, period_s) + slots
    assert slot_of(border, phase_s, period_s) == number
    assert slots_of(np.array([border]), phase_s, period_s).tolist() == [number]
    assert slots_of(np.array([border]), np.array([phase_s]), period_s).tolist() == [number]
    before = slots_of(np.array([border - 4 * BORDER_S]), phase_s, period_s)
    assert before.tolist() == [number - 1]


@given(PERIODS, FIRST, st.integers(1, 50), ULPS, st.integers(1, 4))
def test_all_paths_agree_on_a_border(
    period: str, first: Decimal, slots: int, ulps: int, streams: int
) -> None:
    """One stream, one row, all streams at once, some of them: as each stream's own aligner."""
    begin = float(first)
    border = moved(float(first + (slots - Decimal("0.5")) * Decimal(period)), ulps)
    # the slots up to the border's, so that it is the next one's, or is not
    centres = [float(first + number * Decimal(period)) for number in range(1, slots)]
    times = [begin, *centres, border]
    own = Aligner(sampling(period), 1)
    alone = own.push(column(times)).times.tolist()
    for together in (streams, streams + 1):  # all of them, or all but one
        many = Aligners(sampling(period), 1, [0] * together)
        found: list[float] = []
        who = np.arange(streams)
        for time in times:
            aligned = many.push(who, column([time] * streams))
            found += [time for one in aligned for time in of_first(one, together)]
        assert found == alone
    number = slot_of(begin, math.fmod(begin, float(period)), float(period)) + slots
    assert alone[-1] == pytest.approx(float(first + slots * Decimal(period)), abs=4 * BORDER_S)
    assert own.next_whole_slot == number + 1


def of_first(aligned: Aligned, streams: int) -> list[float]:
    """The times of the first stream's samples."""
    who = np.arange(streams)[aligned.who].tolist()
    return aligned.of(who.index(0)).times.tolist() if 0 in who else []


def column(times: list[float]) -> Readings:
    return Readings(np.array(times), np.ones((len(times), 1), np.float32))


@given(PERIODS, st.integers(10**3, 10**9), ULPS)
def test_a_time_on_a_border_begins_a_summary_and_ends_a_window_and_a_step(
    period: str, number: int, ulps: int
) -> None:
    interval = Decimal(period)
    if not 946_684_800 <= number * interval <= 4_102_444_800:
        number = int(Decimal(1_700_000_000) / interval) + number % 1000
    interval_s, border = float(period), np.array([moved(float(number * interval), ulps)])
    assert begun_by(border, interval_s).tolist() == [number]
    assert interval_of(float(border[0]), interval_s) == number
    assert ended_by(border, interval_s).tolist() == [number]
    assert windows_of(border, interval_s).tolist() == [number]
    assert step_numbers(border, interval_s, interval_s).tolist() == [number]


@pytest.mark.parametrize("pieces", [[(0, 5)], [(0, 2), (2, 4), (4, 5)]])
@pytest.mark.parametrize("ulps", range(-2, 3))
def test_a_summary_begins_with_the_sample_on_its_border(
    ulps: int, pieces: list[tuple[int, int]]
) -> None:
    summary = Summary(["flow"], 60.0)
    times = [1_700_000_000.0 + at for at in (30.0, 39.8, 40.0, 40.2, 100.0)]  # 40: a whole minute
    times[2], times[4] = moved(times[2], ulps), moved(times[4], ulps)
    ended = []
    for begin, end in pieces:
        row = np.array(times[begin:end])
        samples = Samples(row, np.ones((len(row), 1), np.float32))
        ended += summary.add(samples, np.zeros(len(row), np.float32))
    assert [one["n"] for one in ended] == [2, 2]
    assert [one["from"][11:19] for one in ended] == ["22:13:00", "22:14:00"]
