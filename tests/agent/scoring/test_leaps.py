"""Times that are ahead: one wild time costs its own row, and a clock that was set a short wait."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bundles.load import baseline
from agent.config.inputs import InputTable, ReplayTable, SimulatorTable
from agent.config.load import StreamTable
from agent.inputs.source import Chunk
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.scoring.intake import Intake
from agent.store.batch import Batch
from models.messages import ClockQuality
from tests.agent.test_clock import NOW_S, YEAR_1970_S, World

DAY_S = 86_400.0
WILD_S = 3_976_214_400.0  # 2096
QUALITIES: tuple[ClockQuality, ...] = ("synced", "unsynced", "unknown")
NOT_KEPT: tuple[ClockQuality, ...] = ("unsynced", "unknown")


class Rig:
    """A stream of a channel for each input, at 1 Hz; ``streams`` alike, each with its own input."""

    def __init__(
        self,
        quality: ClockQuality,
        inputs: int = 1,
        streams: int = 1,
        wall_s: float = NOW_S,
        timed: bool = True,
        **settings: object,
    ) -> None:
        self.world = World(wall_s, quality)
        self.clock = self.world.clock()
        self.names = [f"c{number}" for number in range(inputs)]
        table = {"period_s": 1.0, "channels": [{"name": name} for name in self.names]}
        tables = [
            StreamTable.model_validate({"name": f"s{number}", "baseline": table})
            for number in range(streams)
        ]
        assert tables[0].baseline is not None
        detector = baseline(tables[0].baseline)
        self.fleet = Fleet(detector, tables, 60.0, self.clock)
        of = {f"i{at}": "s0" for at in range(inputs)}
        of |= {f"i{at}": f"s{at}" for at in range(streams)}
        self.parsers = {
            name: LineParser(
                InputTable.model_validate(
                    {
                        "name": name,
                        "stream": stream,
                        "columns": [*(["time"] if timed else []), f"c{int(name[1:]) % inputs}"],
                    }
                    | settings
                ),
                detector.manifest.channels,
            )
            for name, stream in of.items()
        }
        self.intake = Intake([self.fleet], of, self.parsers)
        self.batch = Batch()

    def bring(self, *rows: tuple[int, float, float]) -> list[str]:
        """Take rows of (input, time, value) as one chunk each, at once."""
        chunks = [
            Chunk(f"i{at}", 0.0, self.clock.monotonic_s(), [f"{time},{value}".encode()])
            for at, time, value in rows
        ]
        return [stream for _, stream in self.intake.take(chunks, self.batch)]

    def second(self, at: int, time: float, value: float) -> list[str]:
        """Let a second pass, and take one row."""
        self.world.wait(1.0)
        self.clock.look()
        heard = self.bring((at, time, value))
        return heard + self.intake.look(self.batch)

    def stored(self, stream: str = "s0") -> list[tuple[float, list[float]]]:
        self.fleet.flush(self.batch)
        return [
            row
            for name, samples, _ in self.batch.samples
            if name == stream
            for row in zip(samples.times.tolist(), samples.values.tolist(), strict=True)
        ]

    def times(self) -> list[float]:
        return [time - NOW_S for time, _ in self.stored()]

    def in_future(self) -> list[int]:
        return [parser.counters["in_future"] for parser in self.parsers.values()]

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.fleet.streams[0].document()["counters"]
        return counters


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_a_wild_time_now_and_then_blinds_no_input(quality: ClockQuality, inputs: int) -> None:
    calm, wild = Rig(quality, inputs), Rig(quality, inputs)
    for second in range(1, 40):
        for rig in (calm, wild):
            rig.world.wait(1.0)
            rig.clock.look()
            if rig is wild and second % 3 == 2:
                rig.bring((0, WILD_S + second, 9.0))
            rig.bring(*((at, NOW_S + second, float(second)) for at in range(inputs)))
    assert len(calm.stored()) == 39
    assert wild.stored() == calm.stored()
    assert wild.in_future() == [13] + [0] * (inputs - 1)
    assert not {"late", "clock_step", "out_of_order"} & wild.counters().keys()
    (reject, *_) = wild.parsers["i0"].rejects()
    assert reject.cause == "in_future"
    assert "2096" in reject.excerpt or str(WILD_S)[:4] in reject.excerpt


@given(
    st.lists(
        st.tuples(st.floats(DAY_S + 60, 2e9), st.integers(0, 2), st.booleans()),
        min_size=5,
        max_size=30,
    ),
    st.sampled_from(QUALITIES),
)
def test_whatever_wild_rows_there_are_between_genuine_ones(
    rows: list[tuple[float, int, bool]], quality: ClockQuality
) -> None:
    calm, wild = Rig(quality, 2), Rig(quality, 2)
    for second, (ahead_s, count, which) in enumerate(rows, 1):
        for rig in (calm, wild):
            rig.world.wait(1.0)
            if rig is wild:
                time = min(NOW_S + second + ahead_s, 4.1e9)
                rig.bring(*((int(which), time + extra, 9.0) for extra in range(count)))
            rig.bring((0, NOW_S + second, 1.0), (1, NOW_S + second, 2.0))
    assert wild.stored() == calm.stored()
    assert sum(wild.in_future()) == sum(count for _, count, _ in rows)


@pytest.mark.parametrize("quality", QUALITIES)
def test_ahead_of_the_clock_by_less_than_the_limit_is_legal(quality: ClockQuality) -> None:
    rig = Rig(quality)
    for second in range(1, 5):
        rig.second(0, NOW_S + second + 7200, 1.0)
    assert len(rig.stored()) == 4
    strict = Rig(quality, ahead_max_s=60)
    for second in range(1, 5):
        strict.second(0, NOW_S + second + 7200, 1.0)
    assert strict.stored() == []


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("streams", [2, 5])
def test_a_wild_row_in_a_block_of_streams_costs_no_other(
    quality: ClockQuality, streams: int
) -> None:
    rig = Rig(quality, streams=streams)
    for second in range(1, 20):
        rig.world.wait(1.0)
        wild = second % 4 == 3
        rows = [(at, NOW_S + second, 1.0) for at in range(streams)]
        rig.bring(*([(1, WILD_S, 9.0)] if wild else []), *rows)
    for at in range(streams):
        assert [time - NOW_S for time, _ in rig.stored(f"s{at}")] == list(range(1, 20))
    assert rig.in_future() == [0, 5] + [0] * (streams - 2)


@pytest.mark.parametrize("quality", NOT_KEPT)
def test_a_device_whose_clock_was_set_is_followed_after_ten_rows_and_none_is_lost(
    quality: ClockQuality,
) -> None:
    """The gateway's clock is years behind: the device may be right."""
    rig, set_by_s = Rig(quality), 400 * DAY_S
    for second in range(1, 6):
        rig.second(0, NOW_S + second, 1.0)
    heard = [rig.second(0, NOW_S + set_by_s + second, 2.0) for second in range(6, 30)]
    assert [bool(streams) for streams in heard] == [False] * 9 + [True] * 15
    assert rig.times() == [*range(1, 6), *(set_by_s + second for second in range(6, 30))]
    assert rig.in_future() == [0]


@pytest.mark.parametrize("quality", NOT_KEPT)
def test_of_a_slow_device_two_rows_and_a_minute_are_enough(quality: ClockQuality) -> None:
    rig = Rig(quality)
    rig.second(0, NOW_S + 1, 1.0)
    for row in range(4):
        rig.world.wait(40.0)
        rig.bring((0, NOW_S + 100 * DAY_S + 40 * row, 2.0))
    assert len([time for time in rig.times() if time > DAY_S]) >= 4


def test_what_was_held_is_used_although_nothing_more_comes() -> None:
    rig = Rig("unsynced")
    rig.second(0, NOW_S + 1, 1.0)
    rig.bring((0, NOW_S + 100 * DAY_S, 2.0), (0, NOW_S + 100 * DAY_S + 1, 2.0))
    assert rig.intake.look(rig.batch) == []
    rig.world.wait(61.0)
    assert rig.intake.look(rig.batch) == ["s0"]
    assert rig.intake.look(rig.batch) == []
    assert rig.times() == [1, 100 * DAY_S, 100 * DAY_S + 1]


@pytest.mark.parametrize("quality", NOT_KEPT)
def test_one_of_two_that_leaps_is_held_while_the_other_goes_on(quality: ClockQuality) -> None:
    rig = Rig(quality, 2)
    for second in range(1, 200):
        rig.world.wait(1.0)
        ahead_s = 400 * DAY_S if 20 <= second < 180 else 0.0
        rig.bring((0, NOW_S + second + ahead_s, 1.0), (1, NOW_S + second, 2.0))
    assert rig.times() == list(range(1, 200))
    values = np.array([values for _, values in rig.stored()])
    assert (values[:, 1] == 2.0).all()
    assert (values[-15:, 0] == 1.0).all()
    assert rig.in_future() == [160, 0]


def test_what_leaps_is_followed_once_the_other_is_silent() -> None:
    rig = Rig("unsynced", 2)
    for second in range(1, 100):
        rig.world.wait(1.0)
        leapt = second >= 10
        rig.bring((0, NOW_S + second + 400 * DAY_S * leapt, 1.0))
        if second < 20:
            rig.bring((1, NOW_S + second, 2.0))
    assert rig.times()[-1] == 400 * DAY_S + 98  # the last waits for its other channel
    assert rig.in_future() == [0, 0]


def test_where_all_leap_they_are_followed_at_once() -> None:
    """As after a week without power, with a clock that has no battery."""
    rig = Rig("unsynced", 2)
    for second in range(1, 5):
        rig.world.wait(1.0)
        rig.bring((0, NOW_S + second, 1.0), (1, NOW_S + second, 2.0))
    for second in range(5, 9):
        rig.world.wait(1.0)
        there = NOW_S + 7 * DAY_S + second
        rig.bring((0, there, 1.0), (1, there, 2.0))
        assert rig.times()[-1] == 7 * DAY_S + second
    assert sum(rig.in_future()) == 0


def test_two_of_three_are_the_majority() -> None:
    rig = Rig("unsynced", 3)
    for second in range(1, 40):
        rig.world.wait(1.0)
        ahead_s = 30 * DAY_S if second >= 10 else 0.0
        for at in range(3):
            rig.bring((at, NOW_S + second + (ahead_s if at < 2 else 0.0), 1.0))
    assert rig.times()[-1] > 30 * DAY_S
    assert sum(rig.in_future()) == 0
    assert rig.counters()["late"] >= 25  # of the third


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_pause_is_no_leap(quality: ClockQuality) -> None:
    """While the gateway runs it knows how long nothing came, whatever its clock shows."""
    rig = Rig(quality)
    rig.second(0, NOW_S + 1, 1.0)
    rig.world.wait(10 * DAY_S)
    rig.world.wall_s = NOW_S + 10 * DAY_S if quality == "synced" else NOW_S
    assert rig.bring((0, NOW_S + 10 * DAY_S, 2.0)) == ["s0"]


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("gap_s", [3.0, 30 * DAY_S])
def test_times_long_ago_are_legal_with_any_gaps(quality: ClockQuality, gap_s: float) -> None:
    """A file of old rows is read at once."""
    rig = Rig(quality)
    rows = [(0, 1.3e9 + gap_s * number, 1.0) for number in range(12)]
    assert rig.bring(*rows) == ["s0"] * 12
    assert [time for time, _ in rig.stored()][-1] == rows[-1][1]
    assert rig.in_future() == [0]


def test_a_clock_that_was_never_set_holds_nothing_back() -> None:
    rig = Rig("unsynced", wall_s=YEAR_1970_S)
    for second in range(1, 5):
        assert rig.second(0, NOW_S + second, 1.0) == ["s0"]
    assert rig.times() == [1, 2, 3, 4]
    # from then on the stream knows what time it is
    assert rig.second(0, WILD_S, 9.0) == []
    assert rig.second(0, NOW_S + 6, 1.0) == ["s0"]
    assert rig.in_future() == [1]


@pytest.mark.parametrize("quality", NOT_KEPT)
def test_an_input_by_arrival_is_judged_beside_a_device(quality: ClockQuality) -> None:
    """Somebody sets the gateway's clock to 2096 by hand: the device goes on."""
    rig = Rig(quality, 2)
    columns = InputTable(name="i1", stream="s0", columns=["c1"])
    rig.parsers["i1"] = LineParser(columns, rig.fleet.streams[0].manifest.channels)
    rig.intake = Intake([rig.fleet], {"i0": "s0", "i1": "s0"}, rig.parsers)
    for second in range(1, 60):
        rig.world.wait(1.0)
        if second in (30, 45):
            rig.world.wall_s += (WILD_S - NOW_S) * (1 if second == 30 else -1)
            rig.clock.look()
        rig.bring((0, NOW_S + second, 1.0))
        chunk = Chunk("i1", 0.0, rig.clock.monotonic_s(), [b"2"])
        rig.intake.take([chunk], rig.batch)
    assert {"late", "clock_step"}.isdisjoint(rig.counters())
    assert rig.times()[-1] >= 58
    assert rig.in_future() == [0, 15]


def test_what_was_held_is_judged_once_the_time_is_known() -> None:
    rig = Rig("unsynced", 2)
    for second in range(1, 5):
        rig.world.wait(1.0)
        rig.bring((0, NOW_S + second, 1.0), (1, NOW_S + second, 2.0))
    right_s = NOW_S + 50 * DAY_S
    rig.bring((0, right_s, 1.0), (1, WILD_S, 9.0))
    assert rig.intake.look(rig.batch) == []
    rig.world.wall_s, rig.world.quality = right_s, "synced"
    rig.clock.look()
    assert rig.intake.look(rig.batch) == ["s0"]
    rig.bring((0, right_s + 1, 1.0), (1, right_s + 1, 2.0))
    assert rig.times()[-2:] == [50 * DAY_S, 50 * DAY_S + 1]
    assert rig.in_future() == [0, 1]


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_stream_that_was_left_in_the_future_finds_back(quality: ClockQuality) -> None:
    """By what an agent saved that knew no limit; and a device whose clock is set back."""
    before = Rig("unsynced", wall_s=YEAR_1970_S)
    before.second(0, WILD_S, 9.0)
    before.fleet.streams[0].save(before.batch, 0, whole=True)
    rig = Rig(quality)
    assert rig.fleet.streams[0].restore(before.batch.state["s0"], [], 0, rig.batch)
    for second in range(1, 30):
        rig.second(0, NOW_S + second, 1.0)
    assert rig.times() == list(range(10, 30))
    assert (rig.counters()["late"], rig.counters()["clock_step"]) == (9, 1)
    # the past is a witness again
    rig.second(0, WILD_S, 9.0)
    rig.second(0, NOW_S + 31, 1.0)
    assert rig.in_future() == [1]


def test_recordings_and_the_simulator_may_run_ahead() -> None:
    replay = ReplayTable.model_validate(
        {"name": "r", "type": "replay", "stream": "s0", "path": "/x.csv"}
    )
    simulator = SimulatorTable.model_validate({"name": "p", "type": "simulator", "stream": "s0"})
    for table in (replay.lines, simulator.lines):
        assert table.ahead_max_s is None


@pytest.mark.parametrize("quality", QUALITIES)
def test_without_a_limit_nothing_is_judged(quality: ClockQuality) -> None:
    rig = Rig(quality, ahead_max_s=None)
    rig.second(0, NOW_S + 1, 1.0)
    assert rig.second(0, WILD_S, 1.0) == ["s0"]
