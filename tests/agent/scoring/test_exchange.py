"""Another detector for running streams: the samples are as if there had been no exchange."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from agent.bundles.load import baseline
from agent.clock import Clock
from agent.config.inputs import InputTable
from agent.config.load import StreamTable
from agent.inputs.source import Chunk
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet, misfit
from agent.scoring.streams import Streams
from agent.store.batch import Batch
from models.bundle import Bundle
from models.detector import Detector
from models.messages import Readings
from models.pipeline import Pipeline
from tests.agent.scoring.test_leaps import NOW_S, YEAR_1970_S, World
from tests.conftest import ZOO_BUNDLE

START_S = 1_700_000_000.0
CHANNELS = ("flow", "pressure", "current")
WARM_UP = 20
AHEAD_S = 400 * 86_400


def table_of(name: str, channels: Sequence[str] = CHANNELS, **settings: Any) -> StreamTable:
    of_baseline = {
        "period_s": 1.0,
        "channels": [{"name": channel} for channel in channels],
        "history_samples": 40,
        "update_samples": 5,
        "warm_up_samples": WARM_UP,
        "off_samples": 5,
    }
    return StreamTable.model_validate({"name": name, "baseline": of_baseline} | settings)


def detector_of(table: StreamTable, **settings: Any) -> Detector:
    assert table.baseline is not None
    return baseline(table.baseline.model_copy(update=settings))


class Rig:
    """Streams s0, s1 … of one detector, each with the inputs whose columns are given."""

    def __init__(
        self,
        *columns: Sequence[str],
        streams: int = 1,
        clock: Clock | None = None,
        lateness_samples: int = 0,
        **settings: Any,
    ) -> None:
        self.clock, self.batch = clock or Clock(), Batch()
        self.tables = [table_of(f"s{n}", lateness_samples=lateness_samples) for n in range(streams)]
        detector = detector_of(self.tables[0])
        self.fleets = [Fleet(detector, self.tables, 10.0, self.clock)]
        of = {f"s{n}/{at}": f"s{n}" for n in range(streams) for at in range(len(columns))}
        self.parsers = {
            name: LineParser(
                InputTable.model_validate(
                    {"name": name.replace("/", "-"), "stream": stream}
                    | ({"columns": columns[int(name[-1])]} if "header" not in settings else {})
                    | settings
                ),
                detector.manifest.channels,
            )
            for name, stream in of.items()
        }
        self.streams = Streams(self.fleets, of, self.parsers)

    def take(self, name: str, *lines: str) -> None:
        text = [line.encode() for line in lines]
        self.streams.take([Chunk(name, START_S, self.clock.monotonic_s(), text)], self.batch)

    def exchange(self, *names: str, channels: Sequence[str] = CHANNELS, **settings: Any) -> Fleet:
        tables = [
            table_of(name, channels, lateness_samples=self.tables[0].lateness_samples)
            for name in names
        ]
        detector = detector_of(tables[0], deviations_max=7.0, **settings)
        fleet = Fleet(detector, tables, 10.0, self.clock)
        assert misfit(self.fleets[0].streams[0].manifest, detector.manifest) is None
        self.streams.exchange(fleet, self.batch)
        self.fleets.append(fleet)
        return fleet

    def samples(self, name: str = "s0") -> list[tuple[float, list[float]]]:
        """The times and values of a stream; each in the order that its detector then had."""
        self.streams.flush(self.batch)
        return [
            row
            for own, samples, _ in self.batch.samples
            if own == name
            for row in zip(samples.times.tolist(), samples.values.tolist(), strict=True)
        ]

    def counters(self, name: str = "s0") -> dict[str, int]:
        counters: dict[str, int] = self.streams.document(lambda _: 0)[name]["counters"]
        return counters


def row(second: int, channels: Sequence[str] = CHANNELS) -> str:
    """A line with the values of these channels, each of its own tens."""
    values = [10.0 * (1 + CHANNELS.index(name)) + (second * 7 % 10) / 10 for name in channels]
    return ",".join(f"{number:.3f}" for number in [START_S + second, *values])


def values_by(order: Sequence[str], samples: list[Any]) -> list[tuple[float, list[float]]]:
    """Samples whose values are in this order, put into that of ``CHANNELS``."""
    at = [order.index(name) for name in CHANNELS]
    return [(time, [values[n] for n in at]) for time, values in samples]


def as_if_nothing_had_happened(rig: Rig, calm: Rig, before: int, order: Sequence[str]) -> None:
    found, expected = rig.samples(), calm.samples()
    assert found[:before] + values_by(order, found[before:]) == expected


REVERSED = CHANNELS[::-1]


@pytest.mark.parametrize("order", [CHANNELS, REVERSED])
@pytest.mark.parametrize("lateness_samples", [0, 3])
def test_rows_that_wait_for_others_of_their_sample_go_on_waiting(
    order: Sequence[str], lateness_samples: int
) -> None:
    columns = ["time", "flow"], ["time", "current", "pressure"]
    rigs = [Rig(*columns, lateness_samples=lateness_samples) for _ in range(2)]
    rig, calm = rigs
    for one in rigs:
        for second in range(10):
            one.take("s0/0", row(second, ["flow"]))
            one.take("s0/1", row(second, ["current", "pressure"]))
        one.take("s0/0", row(10, ["flow"]), row(11, ["flow"]))
    before = len(rig.samples())
    rig.exchange("s0", channels=order)
    for one in rigs:
        for second in range(10, 35):
            if second != 10:  # its last values are held
                one.take("s0/1", row(second, ["current", "pressure"]))
            if second > 11:
                one.take("s0/0", row(second, ["flow"]))
        one.take("s0/0", row(5, ["flow"]))  # too late, and counted by both
    as_if_nothing_had_happened(rig, calm, before, order)
    warmed_up = {"scored": rig.counters()["scored"]}  # the other detector did once more
    assert rig.counters() == calm.counters() | warmed_up
    assert rig.counters()["late"] >= 1


@pytest.mark.parametrize("order", [CHANNELS, REVERSED])
def test_lines_below_a_header_are_read_on_and_rejects_counted_on(order: Sequence[str]) -> None:
    rigs = [Rig([], header=True, time_key="t") for _ in range(2)]
    rig, calm = rigs
    for one in rigs:
        one.take("s0/0", "current,t,flow,pressure")
        for second in range(5):
            at, *values = row(second, ["current", "flow", "pressure"]).split(",")
            one.take("s0/0", ",".join([values[0], at, *values[1:]]), "no row")
    before = len(rig.samples())
    rig.exchange("s0", channels=order)
    for one in rigs:
        for second in range(5, 9):
            at, *values = row(second, ["current", "flow", "pressure"]).split(",")
            one.take("s0/0", ",".join([values[0], at, *values[1:]]), "no row")
    as_if_nothing_had_happened(rig, calm, before, order)
    assert rig.streams.rejects("s0/0")["rejected"] == {"truncated": 9}
    assert len(rig.streams.rejects("s0/0")["rejects"]) == len(
        calm.streams.rejects("s0/0")["rejects"]
    )


@pytest.mark.parametrize("rows_follow", [True, False])
@pytest.mark.parametrize("order", [CHANNELS, REVERSED])
def test_rows_that_are_held_until_their_time_is_believed_stay_held(
    order: Sequence[str], rows_follow: bool
) -> None:
    worlds = [World(NOW_S, "unsynced") for _ in range(2)]
    rigs = [Rig(["time", *CHANNELS], clock=world.clock()) for world in worlds]

    def second(at: int, ahead_s: int) -> None:
        for world, one in zip(worlds, rigs, strict=True):
            world.wait(1.0)
            one.clock.look()
            line = row(at + ahead_s).split(",")[1:]
            one.take("s0/0", ",".join([f"{NOW_S + at + ahead_s:.3f}", *line]))
            one.streams.tick(one.batch)

    rig, calm = rigs
    for at in range(1, 6):
        second(at, 0)
    for at in range(6, 11):
        second(at, AHEAD_S)
    before = len(rig.samples())
    assert before == 5
    rig.exchange("s0", channels=order)
    for at in range(11, 30 if rows_follow else 11):
        second(at, AHEAD_S)
    for world, one in zip(worlds, rigs, strict=True):
        world.wait(70.0)
        one.clock.look()
        one.streams.tick(one.batch)
    as_if_nothing_had_happened(rig, calm, before, order)
    assert len(calm.samples()) == 5 + (24 if rows_follow else 5)


def test_a_wild_time_right_after_an_exchange_is_judged_by_the_past() -> None:
    world = World(NOW_S, "unsynced")
    rig = Rig(["time", *CHANNELS], clock=world.clock())
    for at in range(1, 20):
        world.wait(1.0)
        rig.clock.look()
        if at == 10:
            rig.exchange("s0")
        time = NOW_S + at + (AHEAD_S if at == 10 else 0)
        rig.take("s0/0", f"{time:.3f},1,2,3")
    assert [time - NOW_S for time, _ in rig.samples()] == [n for n in range(1, 20)]
    assert rig.streams.rejects("s0/0")["rejected"] == {"in_future": 1}


def test_a_long_silence_before_an_exchange_is_no_leap() -> None:
    world = World(YEAR_1970_S, "unsynced")  # only the stream's own past says what time it is
    rig = Rig(["time", *CHANNELS], clock=world.clock())
    for at in [1, 2, 3, AHEAD_S + 4, AHEAD_S + 5]:
        world.wait(AHEAD_S + 1.0 if at == AHEAD_S + 4 else 1.0)
        rig.clock.look()
        if at == AHEAD_S + 4:
            rig.streams.tick(rig.batch)
            rig.exchange("s0")
        rig.take("s0/0", f"{NOW_S + at:.3f},1,2,3")
    assert len(rig.samples()) == 5


def test_others_of_the_fleet_go_on_as_they_were() -> None:
    rigs = [Rig(["time", *CHANNELS], streams=3) for _ in range(2)]
    rig, calm = rigs
    for second in range(60):
        if second == 30:
            rig.exchange("s1")
        for one in rigs:
            chunks = [
                Chunk(f"s{n}/0", START_S, 0.0, [row(second).encode()])
                for n in range(len(one.tables))
            ]
            one.streams.take(chunks, one.batch)
    for name in ("s0", "s1", "s2"):
        assert rig.samples(name) == calm.samples(name)
    documents = [one.streams.document(lambda _: 0) for one in rigs]
    for name in ("s0", "s2"):
        assert documents[0][name] == documents[1][name]
    assert documents[0]["s1"]["counters"]["samples"] == 60
    assert documents[0]["s1"]["counters"]["scored"] == 60 - 2 * WARM_UP
    assert rig.streams.inference()["samples"] == 180


def test_an_exchange_of_an_exchange_leaves_nothing_of_those_before() -> None:
    rig = Rig(["time", *CHANNELS], streams=2)
    for number in range(6):
        for second in range(10 * number, 10 * number + 10):
            rig.take("s0/0", row(second))
            rig.take("s1/0", row(second))
        rig.exchange("s0", "s1")
    assert len(rig.samples("s0")) == len(rig.samples("s1")) == 60
    assert rig.streams.inference()["samples"] == 120
    assert rig.counters()["samples"] == 60


def test_the_old_network_is_freed_at_once() -> None:
    rig = Rig(["time", *CHANNELS])
    rig.take("s0/0", row(0))
    stream = weakref.ref(rig.fleets[0].streams[0])
    gc.disable()  # which would free it in the end, after many exchanges
    try:
        rig.exchange("s0")
        rig.fleets.pop(0)
        assert stream() is None
    finally:
        gc.enable()


def test_raw_values_of_a_window_go_to_the_other_bundle(signal_bundle: Bundle) -> None:
    table = StreamTable(name="s0", bundle=ZOO_BUNDLE)
    detector = Pipeline(signal_bundle)
    rng = np.random.default_rng(3)
    times = START_S + np.arange(1, 1001) / 250.0
    values = rng.normal(50, 1, (1000, 7)).astype(np.float32)
    found = []
    for at in (None, 510):
        batch, clock = Batch(), Clock()
        fleet = Fleet(detector, [table], 60.0, clock)
        for begin, end in ((0, 510), (510, 1000)):
            if begin == at:
                other = Fleet(detector, [table], 60.0, clock)
                fleet.flush(batch)
                other.replace(0, fleet, 0, batch)
                fleet = other
            rows = Readings(times[begin:end], values[begin:end])
            fleet.take(np.zeros(end - begin, np.int64), rows, batch)
        fleet.flush(batch)
        found.append(np.concatenate([samples.values for _, samples, _ in batch.samples]))
    np.testing.assert_array_equal(found[0], found[1])
    assert len(found[0]) == 19


def test_what_is_told_of_the_old_detector_is_told_before_the_new_one() -> None:
    rig = Rig(["time", *CHANNELS])
    for second in range(WARM_UP + 15):
        rig.take("s0/0", row(second))
    for second in range(WARM_UP + 15, WARM_UP + 20):
        rig.take("s0/0", row(second).replace(",10.", ",99."))
    rig.streams.flush(rig.batch)
    rig.streams.save(rig.batch, 41, True, False)
    assert {alarm["state"] for alarm in rig.batch.alarms} == {"opened"}
    digest = rig.fleets[0].streams[0].detector.digest
    summed = sum(m.data["n"] for m in rig.batch.messages if m.kind == "summary")

    fleet = rig.exchange("s0")
    assert (rig.batch.alarms[-1]["number"], rig.batch.alarms[-1]["state"]) == (1, "closed")
    *_, summary, closing = rig.batch.messages
    assert (summary.kind, summary.data["n"]) == ("summary", 40 - summed)
    assert (closing.kind, closing.data["state"]) == ("alarm", "closed")
    assert {summary.bundle, closing.bundle} == {digest}
    assert rig.batch.forgotten == {"s0"}
    assert "s0" not in rig.batch.state
    rig.streams.save(rig.batch, 41, False, False)  # the first commit has all of the new memory
    assert {"head", "through", "aligner"} <= rig.batch.state["s0"].keys()
    assert rig.batch.state["s0"]["through"] == b"41"

    for second in range(WARM_UP + 20, 3 * WARM_UP):
        rig.take("s0/0", row(second))
    for second in range(3 * WARM_UP, 3 * WARM_UP + 5):
        rig.take("s0/0", row(second).replace(",10.", ",99."))
    rig.streams.flush(rig.batch)
    assert (rig.batch.alarms[-1]["number"], rig.batch.alarms[-1]["state"]) == (2, "opened")
    assert rig.batch.messages[-1].bundle == fleet.streams[0].detector.digest
