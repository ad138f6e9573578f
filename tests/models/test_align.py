"""Alignment to the grid: what a sample is, whatever the way readings come in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.align import FAR_LATE_ROWS, Aligner, Aligners
from models.manifest import Gap, Sampling
from models.messages import QUALITIES, Readings, Samples

NAN = math.nan
START = 1_700_000_000.3
GRID = Sampling(
    period_s=1.0, hold_samples_max=2, missing_samples=3, reset_gap_samples=5, warm_up_samples=0
)


def aligner(lateness_samples: int = 0, gap: Gap = "hold") -> Aligner:
    return Aligner(GRID.model_copy(update={"gap": gap}), 2, lateness_samples)


def readings(*rows: tuple[float, float, float]) -> Readings:
    """Rows of (seconds since START, value, value)."""
    table = np.array(rows, np.float64).reshape(-1, 3)
    return Readings(START + table[:, 0], table[:, 1:].astype(np.float32))


def seen(samples: Samples) -> list[tuple[float, ...]]:
    """Rows of (seconds since START, value, value); NaN as None, which is equal to itself."""
    times = np.round(samples.times - START, 4).tolist()
    return [
        (time, *(None if math.isnan(value) else value for value in values))
        for time, values in zip(times, samples.values.tolist(), strict=True)
    ]


def flags(samples: Samples) -> list[tuple[str, ...]]:
    """The qualities by name; what is not flagged is good."""
    if samples.quality is None:
        return [("good",) * samples.values.shape[1] for _ in samples.times]
    return [tuple(QUALITIES[code] for code in row) for row in samples.quality.tolist()]


def pushed(target: Aligner, *rows: tuple[float, float, float]) -> list[tuple[float, ...]]:
    return seen(target.push(readings(*rows)))


# ---- whole rows


def test_rows_go_to_the_nearest_slot_of_the_first_rows_grid():
    rows = [(0, 1, 10), (0.8, 2, 20), (2.4, 3, 30)]
    assert pushed(aligner(), *rows) == [(0, 1, 10), (1, 2, 20), (2, 3, 30)]


def test_types_and_shapes():
    target = aligner()
    for rows in ([], [(0, 1, 10)], [(1, NAN, 10), (2, 2, 20)]):
        samples = target.push(readings(*rows))
        assert samples.times.dtype == np.float64
        assert samples.values.dtype == np.float32
        assert samples.values.shape == (len(samples.times), 2)


def test_the_grid_does_not_drift():
    grid = GRID.model_copy(update={"period_s": 0.1})
    times = START + np.arange(100_000) * 0.1
    samples = Aligner(grid, 1).push(Readings(times, np.ones((len(times), 1), np.float32)))
    assert np.abs(samples.times - times).max() < 1e-6


def test_an_anchored_grid_lies_on_multiples_of_the_period():
    """As features' windows end, whatever reading came first, before a clock step and after."""
    target = Aligner(GRID, 1, anchored=True)
    times = np.array([1_700_000_000.3, 1_700_000_001.0, 1_700_000_002.4])
    back = 1_600_000_000.7 + np.arange(FAR_LATE_ROWS + 2)
    samples = target.push(Readings(np.append(times, back), np.ones((len(times) + len(back), 1))))
    assert samples.times[:3].tolist() == [1_700_000_000, 1_700_000_001, 1_700_000_002]
    assert samples.times[3:].tolist() == [1_600_000_010, 1_600_000_011, 1_600_000_012]


# ---- parts of rows


def test_a_slot_goes_out_as_soon_as_every_channel_has_a_value():
    target = aligner()
    assert pushed(target, (0, 1, NAN)) == []
    assert pushed(target, (0.2, NAN, 10)) == [(0, 1, 10)]


def test_a_later_reading_ends_a_slot():
    target = aligner()
    assert pushed(target, (0, 1, 10), (1, 2, NAN)) == [(0, 1, 10)]
    assert pushed(target, (2, NAN, 30)) == [(1, 2, 10)]


def test_a_missing_channel_is_held_for_so_long_and_no_longer():
    rows = [(0, 1, 10), *((slot, slot + 1, NAN) for slot in range(1, 6))]
    assert pushed(aligner(), *rows) == [
        (0, 1, 10),
        (1, 2, 10),
        (2, 3, 10),
        (3, 4, None),
        (4, 5, None),
    ]


def test_a_row_without_any_value_still_moves_time_on():
    rows = [(0, 1, 10), *((slot, NAN, NAN) for slot in range(1, 5))]
    assert pushed(aligner(), *rows) == [(0, 1, 10), (1, 1, 10), (2, 1, 10), (3, None, None)]


def test_nothing_is_held_before_the_first_value():
    assert pushed(aligner(), (0, 1, NAN), (1, 2, 20)) == [(0, 1, None), (1, 2, 20)]


# ---- gaps


def test_missing_slots_are_held_then_nan():
    assert pushed(aligner(), (0, 1, 10), (5, 6, 60)) == [
        (0, 1, 10),
        (1, 1, 10),
        (2, 1, 10),
        (3, None, None),
        (4, None, None),
        (5, 6, 60),
    ]


@pytest.mark.parametrize(("gap", "rows"), [(5, 7), (6, 2), (1e8, 2)])
def test_a_gap_longer_than_the_limit_is_a_jump(gap, rows):
    samples = pushed(aligner(), (0, 1, 10), (gap + 1, 2, 20))
    assert len(samples) == rows
    assert samples[-1] == (gap + 1, 2, 20)


def test_nothing_is_held_over_a_jump():
    target = Aligner(GRID.model_copy(update={"hold_samples_max": 100}), 2)
    assert pushed(target, (0, 1, 10), (7, 2, NAN), (8, 3, 30)) == [
        (0, 1, 10),
        (7, 2, None),
        (8, 3, 30),
    ]


# ---- gap policies, and where a value comes from


def test_with_missing_nothing_is_held():
    rows = [(0, 1, 10), (1, 2, NAN), (3, 4, 40)]
    samples = aligner(gap="missing").push(readings(*rows))
    assert seen(samples) == [(0, 1, 10), (1, 2, None), (2, None, None), (3, 4, 40)]
    assert flags(samples) == [
        ("good", "good"),
        ("good", "missing"),
        ("missing", "missing"),
        ("good", "good"),
    ]


def test_a_row_that_ends_a_short_gap_fills_it_with_a_straight_line():
    samples = aligner(gap="interpolate").push(readings((0, 1, 10), (3, 4, 70)))
    assert seen(samples) == [(0, 1, 10), (1, 2, 30), (2, 3, 50), (3, 4, 70)]
    between = ("interpolated", "interpolated")
    assert flags(samples) == [("good", "good"), between, between, ("good", "good")]


def test_a_longer_gap_is_missing_from_its_beginning():
    samples = aligner(gap="interpolate").push(readings((0, 1, 10), (4, 5, 50)))
    assert seen(samples)[1:4] == [(1, None, None), (2, None, None), (3, None, None)]
    assert flags(samples)[1:4] == [("missing", "missing")] * 3


def test_no_line_is_drawn_over_a_jump():
    grid = GRID.model_copy(update={"gap": "interpolate", "hold_samples_max": 100})
    samples = Aligner(grid, 2).push(readings((0, 1, 10), (7, 2, NAN), (9, 4, 40)))
    assert seen(samples)[1:] == [(7, 2, None), (8, 3, None), (9, 4, 40)]


def test_a_channel_that_the_ending_row_lacks_is_held():
    samples = aligner(gap="interpolate").push(readings((0, 1, 10), (2, 3, NAN), (3, 4, 40)))
    assert seen(samples) == [(0, 1, 10), (1, 2, 10), (2, 3, 10), (3, 4, 40)]
    assert flags(samples)[1:3] == [("interpolated", "held"), ("good", "held")]


@pytest.mark.parametrize("lateness", [0, 3])
@pytest.mark.parametrize(
    ("gap", "slow", "quality"),
    [
        ("hold", [10, 10, 10, 40, 40, 40, 70], "held"),
        ("interpolate", [10, 10, 10, 40, 40, 40, 70], "held"),
        ("missing", [10, None, None, 40, None, None, 70], "missing"),
    ],
)
def test_a_channel_slower_than_the_grid(gap, slow, quality, lateness):
    """Its next value is not there yet when a sample goes out, however late readings may come."""
    rows = [(slot, slot, 10 + 10 * slot if slot % 3 == 0 else NAN) for slot in range(11)]
    samples = aligner(lateness, gap).push(readings(*rows))
    assert [row[2] for row in seen(samples)][:7] == slow
    assert flags(samples)[:4] == [("good", "good"), *[("good", quality)] * 2, ("good", "good")]


def test_a_line_begins_at_the_last_value_not_at_the_last_sample():
    """The slow channel's last value is older than the gap."""
    samples = aligner(gap="interpolate").push(readings((0, 1, 10), (1, 2, NAN), (3, 4, 40)))
    assert seen(samples) == [(0, 1, 10), (1, 2, 10), (2, 3, 30), (3, 4, 40)]


def test_whole_rows_in_order_have_no_flags():
    assert aligner().push(readings((0, 1, 10), (1, 2, 20))).quality is None


# ---- order


def test_the_newest_value_wins_while_the_slot_is_open():
    target = aligner()
    rows = [(0, 1, NAN), (0.3, 2, NAN), (0.1, 3, NAN), (0.2, NAN, 10)]
    assert pushed(target, *rows) == [(0, 3, 10)]
    assert target.counters == {"duplicate": 2, "out_of_order": 2}


def test_a_second_row_for_a_slot_that_was_complete_is_a_duplicate():
    target = aligner()
    assert pushed(target, (0, 1, 10), (0.3, 2, 20), (1, 3, 30)) == [(0, 1, 10), (1, 3, 30)]
    assert target.counters == {"duplicate": 1}


def test_a_late_reading_is_counted_and_not_used():
    target = aligner()
    assert pushed(target, (0, 1, 10), (1, 2, 20), (0.1, 9, 90), (2, 3, 30)) == [
        (0, 1, 10),
        (1, 2, 20),
        (2, 3, 30),
    ]
    assert target.counters == {"late": 1}


def test_with_lateness_readings_are_put_back_into_order():
    target = aligner(lateness_samples=2)
    assert pushed(target, (0, 1, 10), (2, 3, 30), (1, 2, 20)) == [
        (0, 1, 10),
        (1, 2, 20),
        (2, 3, 30),
    ]
    assert target.counters == {"out_of_order": 1}


def test_with_lateness_a_slot_that_stays_empty_is_waited_for_only_so_long():
    target = aligner(lateness_samples=2)
    assert pushed(target, (0, 1, 10), (2, 3, 30), (3, 4, 40)) == [(0, 1, 10)]
    assert pushed(target, (4, 5, 50)) == [
        (0 + 1, 1, 10),
        (2, 3, 30),
        (3, 4, 40),
        (4, 5, 50),
    ]


def test_a_reading_out_of_order_does_not_make_others_wait_longer():
    target = aligner(lateness_samples=2)
    assert pushed(target, (0, 1, 10), (4, 5, 50)) == [(0, 1, 10)]
    assert pushed(target, (2, 3, 30)) == [(1, 1, 10), (2, 3, 30)]


# ---- clocks


def test_a_clock_set_back_begins_a_new_grid():
    target = aligner()
    pushed(target, (0, 1, 10), (1, 2, 20))
    rows = [(slot + 0.4 - 3600, slot, slot) for slot in range(FAR_LATE_ROWS + 1)]
    after = pushed(target, *rows)
    assert [row[0] for row in after] == [rows[-2][0], rows[-1][0]]
    assert target.counters == {"late": FAR_LATE_ROWS - 1, "clock_step": 1}


def test_what_was_open_before_a_clock_step_is_not_lost():
    target = aligner()
    rows = [(slot - 3600, slot, slot) for slot in range(FAR_LATE_ROWS)]
    assert pushed(target, (0, 1, NAN), *rows)[0] == (0, 1, None)


def test_nothing_is_held_over_a_clock_step():
    target = aligner()
    rows = [(slot - 3600, slot, NAN) for slot in range(FAR_LATE_ROWS + 1)]
    assert pushed(target, (0, 1, 10), *rows)[-1] == (rows[-2][0], rows[-2][1], None)


def test_a_restart_does_not_hide_a_clock_step():
    before, after = aligner(), aligner()
    pushed(before, (0, 1, 10), *[(-3600, 2, 20)] * (FAR_LATE_ROWS - 1))
    after.restore(before.to_bytes())
    assert pushed(after, (-3600, 3, 30)) == [(-3600, 3, 30)]


@pytest.mark.parametrize("in_time", [(1, 10), (1, NAN)])
def test_stragglers_do_not_set_the_clock_back(in_time):
    target = aligner()
    for slot in range(100):
        pushed(target, (slot, *in_time), *[(slot - 50, 9, 90)] * (FAR_LATE_ROWS - 1))
    assert set(target.counters) == {"late"}


def test_readings_within_the_gap_do_not_set_the_clock_back():
    target = aligner()
    pushed(target, (0, 1, 10), (5, 2, 20))
    assert pushed(target, *[(0.1, 9, 90)] * (2 * FAR_LATE_ROWS)) == []
    assert target.counters == {"late": 2 * FAR_LATE_ROWS}


def test_one_wild_time_does_not_lock_the_stream():
    target = aligner()
    pushed(target, (0, 1, 10), (1e9, 2, 20))
    after = pushed(target, *((slot, slot, slot) for slot in range(1, 50)))
    assert len(after) == 50 - FAR_LATE_ROWS
    assert after[-1] == (49, 49, 49)


def test_a_clock_that_stands_still_gives_no_samples():
    target = aligner()
    assert len(pushed(target, *[(0, 1, 10)] * 1000)) == 1
    assert target.counters == {"duplicate": 999}


def test_a_small_step_back_is_waited_out():
    target = aligner()
    rows = [(slot, 1, 10) for slot in range(10)] + [(slot, 2, 20) for slot in range(6, 13)]
    assert [row[0] for row in pushed(target, *rows)] == list(range(13))
    assert target.counters == {"late": 3, "duplicate": 1}


# ---- properties


reproducible = settings(derandomize=True, deadline=None)

STEPS = [1] * 8 + [0, 2, 4, 6, 7, 50]
OFFSETS = [0] * 6 + [-1, -2]
NUMBERS = [1.0, 2.0, 3.0]
GAPS = st.sampled_from(["hold", "interpolate", "missing"])
VALUES = st.sampled_from([1.0, 2.0, NAN])


def streams(steps=STEPS, values=(*NUMBERS, NAN)) -> st.SearchStrategy[Readings]:
    """Mostly rows in order; some gaps, doubles, stragglers, holes, and steps of the clock."""
    row = st.tuples(
        st.sampled_from(steps),
        st.sampled_from(OFFSETS),
        st.sampled_from([0, 0.3, -0.4]),
        st.tuples(st.sampled_from(values), st.sampled_from(values)),
    )
    return st.lists(row, max_size=30).map(from_steps)


def from_steps(rows) -> Readings:
    slots = np.cumsum([step for step, _, _, _ in rows])
    return readings(
        *(
            (slot + offset + jitter, *values)
            for slot, (_, offset, jitter, values) in zip(slots, rows, strict=True)
        )
    )


def in_pieces(target: Aligner, given: Readings, sizes: list[int]) -> list[tuple[float, ...]]:
    found, begin = [], 0
    for size in [*sizes, len(given.times)]:
        part = slice(begin, begin + size)
        samples = target.push(Readings(given.times[part], given.values[part]))
        found += told(samples)
        begin += size
    return found


def told(samples: Samples) -> list[tuple[float, ...]]:
    """All of the samples, flags too."""
    return [(*row, *flag) for row, flag in zip(seen(samples), flags(samples), strict=True)]


@reproducible
@given(streams([*STEPS, -100]), st.lists(st.integers(0, 9)), st.sampled_from([0, 1, 3]), GAPS)
def test_chunking_changes_nothing(given, sizes, lateness, gap):
    whole, pieces = aligner(lateness, gap), aligner(lateness, gap)
    assert in_pieces(pieces, given, sizes) == told(whole.push(given))
    assert pieces.counters == whole.counters
    assert pieces.to_bytes() == whole.to_bytes()


@reproducible
@given(streams([*STEPS, -100]), st.integers(0, 40), st.sampled_from([0, 3]), GAPS)
def test_a_restart_changes_nothing(given, at, lateness, gap):
    whole, before, after = (aligner(lateness, gap) for _ in range(3))
    found = told(before.push(Readings(given.times[:at], given.values[:at])))
    after.restore(before.to_bytes())
    found += told(after.push(Readings(given.times[at:], given.values[at:])))
    assert found == told(whole.push(given))


@reproducible
@given(streams(values=NUMBERS), st.sampled_from([0, 2, 3]), GAPS)
def test_whole_rows_and_their_halves_give_the_same(given, lateness, gap):
    """Halves never take the way of whole rows, which is another one in the code.

    A row later than the lateness allows would go out with its first half.
    """
    halves = np.repeat(given.values, 2, axis=0)
    halves[::2, 1] = halves[1::2, 0] = NAN
    split = aligner(lateness, gap).push(Readings(np.repeat(given.times, 2), halves))
    assert told(split) == told(aligner(lateness, gap).push(given))


@reproducible
@given(streams([*STEPS, -100]), st.sampled_from([0, 3]), GAPS)
def test_a_flag_says_missing_where_there_is_no_value_and_only_there(given, lateness, gap):
    samples = aligner(lateness, gap).push(given)
    missing = [tuple(one == "missing" for one in row) for row in flags(samples)]
    assert missing == [tuple(row) for row in np.isnan(samples.values).tolist()]


@reproducible
@given(streams())
def test_samples_lie_on_the_grid_each_slot_once_in_order(given):
    samples = aligner().push(given)
    slots = samples.times - given.times[:1].sum()
    assert np.abs(slots - np.round(slots)).max(initial=0) < 1e-6
    steps = np.round(np.diff(samples.times))
    assert (steps >= 1).all()
    # a jump, or one slot after the other: never a gap that could have been filled
    assert ((steps == 1) | (steps > GRID.reset_gap_samples + 1)).all()


@reproducible
@given(streams())
def test_lateness_undoes_disorder(given):
    """Where nothing comes later than the lateness, order is as if it had come in order."""
    order = np.argsort(np.round(given.times - given.times[:1]), kind="stable")
    first = int(order[0]) if len(order) else 0
    if first != 0:  # the first reading defines where the stream begins
        return
    straight = aligner(8).push(Readings(given.times[order], given.values[order]))
    crooked = aligner(8)
    found = seen(crooked.push(given))
    if not crooked.counters["late"]:
        assert found == seen(straight)[: len(found)]


# ---- what may have come before


def test_what_comes_again_is_no_news_and_no_clock_step():
    target = aligner()
    rows = [(second, 1, 10) for second in range(40)]
    pushed(target, *rows)
    again = readings(*rows[:30], (40, 2, 20), (41, 3, 30))
    assert seen(target.push(target.news(again))) == [(40, 2, 20), (41, 3, 30)]
    assert target.counters == {"duplicate": 30}


def test_raw_rows_are_news_as_long_as_their_window_is_not_over():
    target = aligner()
    pushed(target, *[(second, 1, 10) for second in range(5)])
    raw = readings((3.2, 1, 10), (4.0, 1, 10), (4.3, 1, 10), (5.0, 1, 10))
    assert seen(target.news(raw, raw=True))[0][0] == 4.3
    assert seen(target.news(raw)) == [(5, 1, 10)]


def test_before_the_first_reading_all_is_news():
    assert len(aligner().news(readings((0, 1, 10))).times) == 1


def test_rows_that_waited_are_forgotten_once_a_later_sample_is_known():
    target = aligner(3)
    pushed(target, (0, 1, 10), (2, 3, 30))  # the row of slot 1 may still come
    saved = target.to_bytes()
    pushed(target, (1, 2, 20), (3, 4, 40))
    after = aligner(3)
    after.restore(saved)
    after.caught_up(Samples(np.array([START + 3]), np.array([[4, 40]], np.float32)))
    assert pushed(after, (4, 5, 50)) == pushed(target, (4, 5, 50)) == [(4, 5, 50)]


@reproducible
@given(
    *[st.lists(st.tuples(st.sampled_from([1, 1, 1, 2, 4, 7, -1]), VALUES, VALUES))] * 3,
    st.sampled_from([0, 3]),
    GAPS,
)
def test_samples_made_after_the_place_was_saved_say_where_it_is(before, lost, after, late, gap):
    """What was held, missing or waiting then is so again; what was not acknowledged comes anew."""
    rows = [*before, *lost, *after]
    seconds = np.cumsum([step for step, *_ in rows])
    given = [(second, *values) for second, (_, *values) in zip(seconds, rows, strict=True)]
    calm, crashed = aligner(late, gap), aligner(late, gap)
    pushed(calm, *given[: len(before)])
    crashed.restore(calm.to_bytes())
    again = readings(*given[len(before) : len(before) + len(lost)])
    made = calm.push(again)
    if len(made.times):
        crashed.caught_up(made)
    assert seen(crashed.push(crashed.news(again))) == []
    rest = readings(*given[len(before) + len(lost) :])
    expected, found = calm.push(rest), crashed.push(rest)
    assert (seen(found), flags(found)) == (seen(expected), flags(expected))


@reproducible
@given(
    st.lists(
        st.tuples(st.sampled_from([1] * 8 + [2, 4, 6, 7, 50]), *[st.sampled_from([1.0, NAN])] * 2)
    ),
    st.sampled_from([1, 3]),
    GAPS,
)
def test_of_readings_in_order_the_lateness_changes_nothing(rows, lateness, gap):
    """Whatever is missing, and however slow a channel is; what waits at the end goes out later."""
    slots = np.cumsum([step for step, *_ in rows])
    given = readings(
        *(
            (slot, first * slot, second * slot)
            for slot, (_, first, second) in zip(slots, rows, strict=True)
        )
    )
    found = told(aligner(lateness, gap).push(given))
    assert found == told(aligner(0, gap).push(given))[: len(found)]


@reproducible
@given(
    st.lists(streams([1, 1, 1, *STEPS, -100]), min_size=3, max_size=3),
    st.permutations([0, 1, 2]) | st.lists(st.integers(0, 2), min_size=1),
    st.just(3) | st.integers(1, 12),  # with a permutation, 3 are rounds
    st.sampled_from([0, 3]),
    GAPS,
)
def test_together_is_as_each_by_itself(given, turns, size, lateness, gap):
    """Rows of three streams, mixed in any way, some of them restarted on their way."""
    together = Aligners(GRID.model_copy(update={"gap": gap}), 2, [lateness] * 3)
    alone = [aligner(lateness, gap) for _ in range(3)]
    at, found, expected = [0, 0, 0], [[], [], []], [[], [], []]
    mixed = [turns[row % len(turns)] for row in range(60)]
    for begin in range(0, len(mixed), size):
        part, rows = [], []
        for stream in mixed[begin : begin + size]:
            if at[stream] < len(given[stream].times):
                part.append(stream)
                rows.append(at[stream])
                at[stream] += 1
        if not part:
            continue
        times = np.array([given[stream].times[row] for stream, row in zip(part, rows, strict=True)])
        values = np.array(
            [given[stream].values[row] for stream, row in zip(part, rows, strict=True)]
        )
        for aligned in together.push(np.array(part), Readings(times, values)):
            for column, stream in enumerate(np.arange(3)[aligned.who]):
                quality = None if aligned.quality is None else aligned.quality[:, column]
                samples = Samples(aligned.times[:, column], aligned.values[:, column], quality)
                found[stream] += told(samples)
        for stream, row in zip(part, rows, strict=True):
            one = slice(row, row + 1)
            push = Readings(given[stream].times[one], given[stream].values[one])
            expected[stream] += told(alone[stream].push(push))
        together.restore(part[0], together.of(part[0]).to_bytes())
    assert found == expected
    for stream in range(3):
        assert together.of(stream).to_bytes() == alone[stream].to_bytes()


def test_whole_rounds_in_any_order_are_as_each_by_itself():
    random = np.random.default_rng(11)
    together = Aligners(GRID, 2, [0] * 3)
    alone = [aligner() for _ in range(3)]
    begins = random.uniform(0, 10, 3)
    for number in range(40):
        streams = random.permutation(3)
        times = begins[streams] + number + random.uniform(-0.3, 0.3, 3) * (number > 0)
        values = random.random((3, 2), np.float32)
        if number % 10 == 9:
            values[number % 3, 0] = NAN
        found = together.push(streams, Readings(times, values))
        whole = number > 0 and number % 10 not in (9, 0)
        assert not whole or len(found) == 1  # at once
        for row, stream in enumerate(streams.tolist()):
            own = alone[stream].push(Readings(times[row : row + 1], values[row : row + 1]))
            got = [
                sample
                for aligned in found
                for column, who in enumerate(np.arange(3)[aligned.who].tolist())
                if who == stream
                for sample in seen(Samples(aligned.times[:, column], aligned.values[:, column]))
            ]
            assert got == seen(own)
    for stream in range(3):
        assert together.of(stream).to_bytes() == alone[stream].to_bytes()
