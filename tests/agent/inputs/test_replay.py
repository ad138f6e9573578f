"""The replay and the simulator: inputs without a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.config import inputs as input_tables
from agent.config.inputs import ReplayTable, SimulatorTable
from agent.inputs import plant
from agent.inputs.kinds import open_input
from agent.inputs.replay import probe_recording
from agent.inputs.source import Chunk, Input
from agent.parsing.lines import LineParser
from models.manifest import Channel
from models.messages import Readings
from tests.conftest import wait_until

CHANNELS = [Channel(name=name, unit="", center=0, scale=1) for name in ("flow", "temp")]
RECORDING = "time,note,flow\n1700000000,a,1\nodd\n1700000000.5,b,2\n1700000001,c,3\n"


class Playing:
    """A running input, and what it brought."""

    def __init__(self, settings: ReplayTable | SimulatorTable) -> None:
        self.settings = settings
        self.input: Input = open_input(settings)
        self.chunks: list[Chunk] = []
        self.input.start(self.chunks.append)

    def lines(self) -> int:
        return self.input.status().lines

    def readings(self, channels: list[Channel]) -> list[Readings]:
        parser = LineParser(self.settings.lines, channels)
        return [parser.parse(chunk.rows, 0.0) for chunk in self.chunks]


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[Callable[..., Playing]]:
    made: list[Playing] = []

    def make(text: str = RECORDING, **more: Any) -> Playing:
        path = tmp_path / "recording.csv"
        path.write_text(text)
        table = {"name": "again", "stream": "pump", "type": "replay", "path": path, "speed": 1000.0}
        made.append(Playing(ReplayTable.model_validate(table | more)))
        return made[-1]

    yield make
    for one in made:
        one.input.stop()


def flat(readings: list[Readings]) -> list[tuple[float, float]]:
    return [
        (time, flow)
        for one in readings
        for time, flow in zip(one.times.tolist(), one.values[:, 0].tolist(), strict=True)
    ]


def test_a_recording_is_played_once_with_its_own_times(playing: Callable[..., Playing]) -> None:
    one = playing(times="recorded")
    wait_until(lambda: one.input.status().last_error is not None, "the end")
    status = one.input.status()
    assert (status.connected, status.lines) == (False, 4)
    assert status.last_error == "the recording has ended"
    assert flat(one.readings(CHANNELS)) == [(1.7e9, 1.0), (1.7e9 + 0.5, 2.0), (1.7e9 + 1, 3.0)]


def test_times_may_be_of_now_and_go_on_over_the_passes(playing: Callable[..., Playing]) -> None:
    before = time.time()
    one = playing(loop=True)
    wait_until(lambda: one.lines() >= 12, "three passes")
    one.input.stop()
    played = flat(one.readings(CHANNELS))
    assert before <= played[0][0] <= time.time()
    gaps = [late - early for (early, _), (late, _) in pairwise(played)]
    assert gaps == pytest.approx([0.5] * len(gaps), abs=1e-5)
    assert [flow for _, flow in played[:6]] == [1.0, 2.0, 3.0] * 2


def test_it_does_not_run_away_from_the_store(playing: Callable[..., Playing]) -> None:
    rows = "".join(f"{1_700_000_000 + row},x,{row}\n" for row in range(100_000))
    one = playing(f"time,note,flow\n{rows}", speed=10_000.0, times="recorded")
    wait_until(lambda: len(one.chunks) >= 50, "fifty chunks")
    time.sleep(0.2)
    assert len(one.chunks) == 50
    one.input.committed([chunk.token for chunk in one.chunks[:10]])
    wait_until(lambda: len(one.chunks) == 60, "ten more")


def test_columns_and_separators_as_of_any_csv(playing: Callable[..., Playing]) -> None:
    text = "1,5;1700000000,5\n2,5;1700000001\n"
    given = {"header": False, "columns": ["flow", "time"], "separator": ";", "decimal": ","}
    one = playing(text, **given)
    wait_until(lambda: one.input.status().last_error is not None, "the end")
    played = flat(one.readings(CHANNELS))
    assert [flow for _, flow in played] == [1.5, 2.5]
    assert played[1][0] - played[0][0] == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no column 'time' among a, b"),
        ("", "no column 'time' among "),
    ],
)
def test_what_is_no_recording_is_told(
    playing: Callable[..., Playing], text: str, said: str
) -> None:
    one = playing(text)
    assert said in str(probe_recording(one.settings))
    wait_until(lambda: said in str(one.input.status().last_error), "the refusal")
    assert not one.input.status().connected


def test_a_recording_that_goes_backwards_names_the_line(playing: Callable[..., Playing]) -> None:
    one = playing("title\ntime,flow\n1700000001,1\n1700000002,2\n1700000000,3\n")
    said = "recording.csv:5: the time is earlier than in the row above"
    assert said in str(probe_recording(one.settings))
    wait_until(lambda: said in str(one.input.status().last_error), "the refusal")


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("0,1\n0.5,2\n", {}),
        ("2023-11-14 23:13:20,1\n2023-11-14 23:13:20.5,2\n", {"time_zone": "Europe/Berlin"}),
        ("45244.5,1\n45244.500005787,2\n", {"time_format": "excel"}),
        ('"1700000000000","1"\n"1700000000500","2"\n', {}),
    ],
)
def test_a_recording_may_have_times_of_any_form(
    playing: Callable[..., Playing], text: str, given: dict[str, Any]
) -> None:
    before = time.time()
    one = playing(f'"time","flow"\n{text}', **given)
    wait_until(lambda: one.input.status().last_error is not None, "the end")
    assert one.input.status().last_error == "the recording has ended"
    (first, flow), (second, more) = flat(one.readings(CHANNELS))
    assert (flow, more) == (1.0, 2.0)
    assert before - 0.01 <= first <= time.time()
    assert second - first == pytest.approx(0.5, abs=0.01)


def test_a_recording_without_a_row_is_told(
    playing: Callable[..., Playing], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        one = playing("time,flow\n")
        assert probe_recording(one.settings) is None
        wait_until(lambda: one.input.status().since is not None, "the refusal")
    assert "no row with a time" in str(one.input.status().last_error)
    assert "playing" not in caplog.text


@pytest.mark.parametrize("given", [{"time_key": None}, {"header": False, "columns": ["flow"]}])
def test_times_are_needed(playing: Callable[..., Playing], given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a replay needs times"):
        playing(**given)


# ---- the simulator


def test_the_simulator_is_the_pump_of_its_seed() -> None:
    table = {"name": "sim", "stream": "pump", "type": "simulator", "seed": 7}
    before = time.time()
    one = Playing(SimulatorTable.model_validate(table | {"channels": ["flow", "voltage"]}))
    wait_until(lambda: len(one.chunks) >= 3, "three rows")
    one.input.stop()
    assert before <= one.chunks[0].arrived_s
    names = [channel.name for channel in plant.CHANNELS]
    pump = [Channel(name=name, unit="", center=0, scale=1) for name in ("voltage", "flow")]
    expected = plant.Pump(7).run(3)
    for number, readings in enumerate(one.readings(pump)[:3]):
        flow, voltage = (expected[number, names.index(name)] for name in ("flow", "voltage"))
        assert readings.values[0].tolist() == pytest.approx([voltage, flow], abs=0.01)
        assert readings.times[0] - before == pytest.approx(number * plant.PERIOD_S, abs=5.0)


def test_the_table_knows_the_pump() -> None:
    assert tuple(channel.name for channel in plant.CHANNELS) == input_tables.PUMP_CHANNELS
    with pytest.raises(
        ValueError, match="channels: 'flwo' is not a channel of the pump: vibration_x"
    ):
        SimulatorTable(name="a", stream="s", type="simulator", channels=["flwo"])


def test_a_fault_sets_in() -> None:
    table = {"name": "sim", "stream": "pump", "type": "simulator"}
    given = {"fault": "loss_of_signal", "fault_at_s": 0.3, "fault_duration_s": 3600}
    one = Playing(SimulatorTable.model_validate(table | given))
    wait_until(lambda: len(one.chunks) >= 3, "three rows")
    one.input.stop()
    lost = [len(chunk.measurements[0].values) < 8 for chunk in one.chunks[:3]]
    assert lost == [False, False, True]
