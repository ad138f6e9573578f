"""The window of an alarm has what the detector saw, expected and scored, however it came."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.bundles.load import baseline, load
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, sudden
from agent.scoring.fleet import Fleet
from agent.scoring.windows import Windows
from agent.store.batch import Batch
from agent.store.correction import Correction
from agent.store.reader import Reader
from agent.store.window import Seen
from agent.store.windows import window
from agent.store.writer import Store
from models.detector import Detector
from models.messages import QUALITIES, Float32, Readings, Samples, stored_samples
from models.times import iso_time, unix_s
from tests.conftest import ZOO_BUNDLE
from tests.fleet_rig import FAR, NORMAL, WARM_UP, Fleeting
from tests.fleet_rig import START_S as FLEET_START_S
from tests.fleet_rig import rows as calm_rows

START_S = 1_700_000_000.0
ROWS = 1200
FAULT_S = 180.0
NAMES = [channel.name for channel in CHANNELS]
SAMPLES = 60  # of each half of a window


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load(ZOO_BUNDLE)[1]


@pytest.fixture(scope="module")
def rows() -> Float32:
    """A fault, and a channel that now and then has no value, which is held."""
    made = Pump(4, [sudden("blocked_valve", FAULT_S, 30.0)]).run(ROWS)
    made[7::17, 2] = np.nan
    return made


class Gateway:
    """One stream with its store, as the daemon's loop has them."""

    def __init__(
        self, directory: Path, detector: Detector, samples: int = SAMPLES, ring: int = 100_000
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.store = Store(directory, "plant", "gw-1", 10_000, ring)
        self.store.open()
        alarms = {"window_samples": samples}
        table = StreamTable.model_validate(
            {"name": "pump", "bundle": str(ZOO_BUNDLE), "alarms": alarms},
            context={"directory": directory},
        )
        self.fleet = Fleet(detector, [table], 10.0, Clock())
        (self.stream,) = self.fleet.streams
        self.batch, records = Batch(), self.store.records
        number = records.last_alarm_number("pump")
        saved, alarms_open = records.state("pump"), records.open_alarms("pump")
        goes_on = self.stream.restore(saved, alarms_open, number, self.batch)
        self.stream.windows.resume(records.unfinished_windows("pump"), goes_on, self.batch)
        if goes_on:
            assert self.stream.saved_through is not None
            if chunks := self.store.readings.samples_from("pump", self.stream.saved_through):
                samples_again = stored_samples(chunks, len(detector.manifest.channels))
                self.stream.catch_up(samples_again, self.batch)

    def feed(self, rows: Float32, first: int, whole: bool = False, stopping: bool = False) -> None:
        times = START_S + (first + np.arange(len(rows))) * PERIOD_S
        readings = self.fleet.news(0, Readings(times, rows))
        self.fleet.take(np.zeros(len(readings.times), np.int64), readings, self.batch)
        self.fleet.flush(self.batch)
        number = self.store.readings.next_sample + self.batch.rows()
        self.stream.save(self.batch, number, whole, stopping)
        self.store.commit(self.batch, "synced")

    def run(self, rows: Float32, step: int, first: int = 0) -> None:
        for at in range(first, len(rows), step):
            self.feed(rows[at : at + step], at, whole=at + step >= len(rows))

    def window(self, number: int = 1) -> Seen:
        found = kept(self.store.directory, number)
        assert found is not None
        return found

    def scored(self) -> tuple[Samples, Float32]:
        """All samples as they were stored, and their scores."""
        with Reader(self.store.directory) as reader:
            chunks = reader.newest_samples("pump", 10**6)
        samples = stored_samples([(t, v, q) for t, v, _, q in chunks], len(CHANNELS))
        return samples, np.frombuffer(b"".join(one.scores for one in chunks), np.float32)


def kept(directory: Path, number: int = 1, stream: str = "pump") -> Seen | None:
    with Reader(directory) as reader:
        return window(reader.query_records, stream, number)


def floats(values: Sequence[float | None]) -> Float32:
    return np.array([np.nan if value is None else value for value in values], np.float32)


class Gateways:
    """Makes gateways in a directory, and closes them."""

    def __init__(self, directory: Path, detector: Detector) -> None:
        self._directory, self._detector = directory, detector
        self._open: list[Gateway] = []

    def start(self, name: str = "gateway", **settings: int) -> Gateway:
        self._open.append(Gateway(self._directory / name, self._detector, **settings))
        return self._open[-1]

    def kill(self, gateway: Gateway) -> None:
        """What is not committed is lost."""
        self._open.remove(gateway)
        gateway.store.close()

    def close(self) -> None:
        for one in self._open:
            one.store.close()


@pytest.fixture
def gateways(tmp_path: Path, detector: Detector) -> Iterator[Gateways]:
    made = Gateways(tmp_path, detector)
    yield made
    made.close()


def onset_of(gateway: Gateway, number: int = 1) -> float:
    alarm = gateway.store.records.alarm("pump", number)
    assert alarm is not None
    return unix_s(alarm["onset"])


@pytest.mark.parametrize("step", [1, 10, 77, ROWS])
def test_it_has_to_the_bit_what_the_detector_saw_expected_and_scored(
    gateways: Gateways, detector: Detector, rows: Float32, step: int
) -> None:
    gateway = gateways.start()
    gateway.run(rows, step)
    samples, scores = gateway.scored()
    seen, again = gateway.window(), detector.step(detector.start(), samples)
    first = int(np.flatnonzero(samples.times == seen.times[0])[0])
    part = slice(first, first + len(seen.times))
    assert seen.times == samples.times[part].tolist()
    np.testing.assert_array_equal(floats(seen.score), scores[part])
    np.testing.assert_array_equal(floats(seen.score), again.scores.score[part])
    assert samples.quality is not None
    for at, name in enumerate(NAMES):
        np.testing.assert_array_equal(floats(seen.observed[name]), samples.values[part, at])
        expected = again.scores.predicted[part, at]
        np.testing.assert_array_equal(floats(seen.expected[name]), expected)
        assert seen.quality[name] == [QUALITIES[code] for code in samples.quality[part, at]]
    assert "held" in seen.quality[NAMES[2]]
    assert seen.to_come == 0
    onset_s = onset_of(gateway)
    assert sum(time < onset_s - 0.001 for time in seen.times) == SAMPLES
    assert sum(time > onset_s + 0.001 for time in seen.times) >= SAMPLES
    assert max(score or 0 for score in seen.score[SAMPLES:]) > seen.threshold == 1.0


@pytest.mark.parametrize("later", [0, 1, 3])
def test_after_a_kill_a_window_that_grows_continues_as_if_nothing_had_been(
    gateways: Gateways, rows: Float32, later: int
) -> None:
    calm, killed = gateways.start("calm"), gateways.start("killed")
    commits_with_it = 0
    for at in range(0, ROWS, 10):
        calm.feed(rows[at : at + 10], at)
        killed.feed(rows[at : at + 10], at)
        commits_with_it += kept(killed.store.directory) is not None
        if commits_with_it == 1 + later:
            assert killed.window().to_come > 0
            gateways.kill(killed)
            killed = gateways.start("killed")
    for one in (calm, killed):
        one.feed(rows[:0], ROWS, whole=True)
    assert commits_with_it > 1 + later
    assert killed.window() == calm.window()
    assert calm.window().to_come == 0


def test_where_a_kill_came_before_the_alarm_the_window_begins_later(
    gateways: Gateways, rows: Float32
) -> None:
    gateway = gateways.start()
    for at in range(0, ROWS, 10):
        if at * PERIOD_S == FAULT_S:
            gateways.kill(gateway)
            gateway = gateways.start()
        gateway.feed(rows[at : at + 10], at, whole=at * PERIOD_S == FAULT_S - 10 or at == ROWS - 10)
    seen = gateway.window()
    assert seen.times[0] == START_S + FAULT_S - 8  # the first that was scored again
    assert seen.to_come == 0


def test_a_stop_saves_the_newest_samples_and_a_crash_after_it_does_not_use_them_again(
    gateways: Gateways, rows: Float32
) -> None:
    calm, stopped = gateways.start("calm"), gateways.start("stopped")
    for at in range(0, ROWS, 10):
        calm.feed(rows[at : at + 10], at)
        stopped.feed(rows[at : at + 10], at, stopping=at == 890)
        if at == 890:
            assert len(stopped.store.records.state("pump")["windows"]) > 1000
            gateways.kill(stopped)
            stopped = gateways.start("stopped")
    for one in (calm, stopped):
        one.feed(rows[:0], ROWS, whole=True)
    assert stopped.window() == calm.window()
    assert stopped.store.records.state("pump")["windows"] == b""


def test_a_stuck_sensor_has_one_around_the_opening(gateways: Gateways, rows: Float32) -> None:
    """Its onset is long ago: the newest samples before the opening are kept."""
    gateway, stuck = gateways.start(samples=12), rows.copy()
    stuck[100:, 0] = stuck[100, 0]
    gateway.run(stuck, 10)
    (number, opened) = stuck_alarm(gateway)
    seen = gateway.window(number)
    assert onset_of(gateway, number) < seen.times[0]
    assert sum(time <= opened + 0.001 for time in seen.times) == 18
    assert len(seen.times) == 30
    assert len(set(seen.observed[NAMES[0]])) == 1


def stuck_alarm(gateway: Gateway) -> tuple[int, float]:
    with Reader(gateway.store.directory) as reader:
        found = [alarm for alarm in reader.alarms(100) if alarm["kind"] == "stuck"]
    return found[0]["number"], unix_s(found[0]["opened"])


def test_it_stays_when_the_ring_has_lost_the_samples(gateways: Gateways, rows: Float32) -> None:
    gateway = gateways.start(ring=50)
    gateway.run(rows, 10)
    samples, _ = gateway.scored()
    assert samples.times[0] > gateway.window().times[-1]


def test_without_samples_there_are_no_windows(gateways: Gateways, rows: Float32) -> None:
    gateway = gateways.start(samples=0)
    gateway.run(rows, 10)
    assert gateway.store.records.alarm("pump", 1) is not None
    assert kept(gateway.store.directory) is None


class Fleetings:
    """A stream of two channels whose batch is committed."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.store = Store(directory, "plant", "gw-1", 10_000, 100_000)
        self.store.open()
        self.made = Fleeting("pump", **settings)
        self.rows = 0

    def take(self, rows: Sequence[Sequence[float]], after: int = 0) -> None:
        """Take rows, one in each second, the first so many seconds later than usual."""
        self.rows += after
        self.made.take(rows, self.rows)
        self.rows += len(rows)
        self.commit()

    def commit(self) -> None:
        self.made.fleet.flush(self.made.batch)
        self.made.stream.save(self.made.batch, 0, whole=True)
        self.store.commit(self.made.batch, "synced")

    def kinds(self) -> dict[int, str]:
        with Reader(self.store.directory) as reader:
            return {alarm["number"]: alarm["kind"] for alarm in reader.alarms(100)}

    def window(self, number: int) -> Seen:
        found = kept(self.store.directory, number)
        assert found is not None
        return found


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[Callable[..., Fleetings]]:
    made: list[Fleetings] = []

    def make(**settings: Any) -> Fleetings:
        made.append(Fleetings(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.mark.parametrize("at_once", [False, True])  # as what a broker has kept comes
def test_alarms_that_open_together_share_a_window_and_a_later_one_has_its_own(
    pump: Callable[..., Fleetings], at_once: bool
) -> None:
    fleet = pump(alarms={"window_samples": 40})
    twice = [calm_rows(4, FAR), calm_rows(8)] * 2  # two alarms within half of the window
    parts = [calm_rows(200), *twice, calm_rows(100), calm_rows(4, FAR), calm_rows(100)]
    for rows in [list(chain(*parts))] if at_once else parts:
        fleet.take(rows)
    assert fleet.kinds() == dict.fromkeys((1, 2, 3), "anomaly")
    first, third = fleet.window(1), fleet.window(3)
    assert fleet.window(2) == first
    assert (first.number, first.last, first.to_come) == (1, 2, 0)
    assert (third.number, third.last, third.to_come) == (3, 3, 0)
    assert first.times[-1] < third.times[0]
    assert kept(fleet.store.directory, 4) is None
    assert kept(fleet.store.directory, 1, "fan") is None


def test_a_silence_has_what_came_before_it_and_after_it(pump: Callable[..., Fleetings]) -> None:
    fleet = pump(alarms={"window_samples": 30})
    fleet.take(calm_rows(200))
    clock = fleet.made.fleet.clock
    fleet.made.stream.open_silence(clock.monotonic_s(), fleet.made.batch)
    fleet.commit()
    (number,) = fleet.kinds()
    before = fleet.window(number)
    assert before.times[-1] == FLEET_START_S + 199
    assert before.to_come == 30
    fleet.made.stream.save(fleet.made.batch, 0, whole=True)
    assert fleet.made.batch.windows == {}  # else a silent stream would write it again and again
    fleet.take(calm_rows(50), after=1000)
    after = fleet.window(number)
    assert after.times[: len(before.times)] == before.times
    assert after.times[len(before.times) :] == [FLEET_START_S + 1200 + at for at in range(30)]
    assert after.to_come == 0


def test_before_the_first_sample_there_is_no_window_yet(pump: Callable[..., Fleetings]) -> None:
    fleet = pump()
    fleet.made.stream.open_silence(fleet.made.fleet.clock.monotonic_s(), fleet.made.batch)
    fleet.commit()
    (number,) = fleet.kinds()
    assert kept(fleet.store.directory, number) is None
    fleet.take(calm_rows(5))
    assert len(fleet.window(number).times) == 5


def test_a_passed_limit_and_a_missing_channel_have_one(pump: Callable[..., Fleetings]) -> None:
    limits = [{"channel": "flow", "unit": "m", "high_critical": 80.0}]
    fleet = pump(limits=limits, alarms={"window_samples": 30}, missing_samples=25)
    fleet.take(calm_rows(WARM_UP - 10))  # nothing is scored yet
    fleet.take([[85.0, 2.0 + at / 100] for at in range(3)])
    (number,) = fleet.kinds()
    assert fleet.kinds()[number] == "limit_passed"
    seen = fleet.window(number)
    assert [value for value in seen.observed["flow"] if value and value > 80] == [85.0] * 3
    assert set(seen.score) == {None}
    fleet.take(calm_rows(100))
    fleet.take([[row[0], math.nan] for row in calm_rows(60)])
    (missing,) = (number for number, kind in fleet.kinds().items() if kind == "missing")
    seen = fleet.window(missing)
    assert seen.observed["pressure"].count(None) >= 25
    assert seen.quality["pressure"].count("missing") >= 25
    assert None not in seen.observed["flow"]


def test_a_stream_of_many_channels_has_them_all(tmp_path: Path) -> None:
    names = [f"c{at}" for at in range(300)]
    channels = [{"name": name, "unit": "m"} for name in names]
    table = {"period_s": 1.0, "channels": channels, "warm_up_samples": 20, "history_samples": 40}
    settings = StreamTable.model_validate({"name": "pump", "baseline": table})
    assert settings.baseline is not None
    fleet, batch = Fleet(baseline(settings.baseline), [settings], 10.0, Clock()), Batch()
    values = np.random.default_rng(1).normal(5.0, 0.01, (700, 300)).astype(np.float32)
    values[400:405, 7] = 50.0
    for at in range(0, 700, 10):
        times = FLEET_START_S + at + np.arange(10.0)
        fleet.take(np.zeros(10, np.int64), Readings(times, values[at : at + 10]), batch)
        fleet.flush(batch)
        fleet.streams[0].save(batch, 0, whole=True)
    store = Store(tmp_path, "plant", "gw-1", 10_000, 100_000)
    store.open()
    store.commit(batch, "synced")
    seen = kept(tmp_path)
    assert seen is not None
    first = int(seen.times[0] - FLEET_START_S)
    part = values[first : first + len(seen.times)]
    for at, name in enumerate(names):
        np.testing.assert_array_equal(floats(seen.observed[name]), part[:, at])
    assert store.document()["windows_bytes"] < 2**20
    store.close()


def test_a_stream_that_leaves_completes_its_windows(pump: Callable[..., Fleetings]) -> None:
    fleet = pump()
    fleet.take(calm_rows(300))
    fleet.take(calm_rows(4, FAR))
    before = fleet.window(1)
    assert before.to_come > 0
    fleet.made.stream.close("unwatched", fleet.made.batch)
    fleet.store.commit(fleet.made.batch, "synced")
    assert fleet.window(1) == before._replace(to_come=0)


def test_another_number_of_samples_applies_to_the_next_alarm(
    pump: Callable[..., Fleetings],
) -> None:
    fleet = pump(alarms={"window_samples": 50})
    fleet.take(calm_rows(300))
    stream, (table,) = fleet.made.stream, fleet.made.tables
    for samples in (20, 0, 20):
        alarms = table.alarms.model_copy(update={"window_samples": samples})
        settings = table.model_copy(update={"alarms": alarms})
        stream.reconfigure(settings, 10.0, fleet.made.batch)
        fleet.take(calm_rows(30))
        fleet.take(calm_rows(4, FAR))
        fleet.take(calm_rows(60))
    assert len(fleet.window(1).times) in range(40, 50)
    assert kept(fleet.store.directory, 2) is None
    assert len(fleet.window(3).times) in range(40, 50)


def test_where_the_memory_is_lost_a_window_ends_as_it_is(pump: Callable[..., Fleetings]) -> None:
    fleet = pump()
    fleet.take(calm_rows(300))
    fleet.take(calm_rows(4, FAR))
    unfinished = fleet.store.records.unfinished_windows("pump")
    assert [one.number for one in unfinished] == [1]
    other, batch = Fleeting("pump"), Batch()
    other.stream.windows.resume(unfinished, watched=False, batch=batch)
    fleet.store.commit(batch, "synced")
    assert fleet.window(1).to_come == 0
    assert fleet.store.records.unfinished_windows("pump") == []


def test_times_of_a_wrong_clock_are_corrected_in_memory(pump: Callable[..., Fleetings]) -> None:
    fleet = pump(alarms={"window_samples": 50})
    fleet.take(calm_rows(300))
    fleet.take(calm_rows(4, FAR))
    wrong = fleet.window(1)
    last_s = FLEET_START_S + 303
    by = Correction(1e6, last_s - 20, last_s, frozenset({"pump"}), 0, 0, 0, 0, 0)
    fleet.made.stream.windows.correct(by)
    fleet.take(calm_rows(100), after=1_000_000)
    right = fleet.window(1)
    count = len(wrong.times)
    moved = [time + 1e6 if time >= last_s - 21 else time for time in wrong.times]
    assert right.times[:count] == moved
    assert right.times[count] == last_s + 1 + 1e6
    fleet.take(calm_rows(4, FAR))
    fleet.take(calm_rows(100))
    assert np.diff(fleet.window(max(fleet.kinds())).times).max() == 1.0


def test_an_alarm_that_opened_just_before_the_clock_was_set_has_its_own_time() -> None:
    """Its window begins with the next commit, and the buffer's times are correct by then."""
    windows, batch = Windows("pump", ("flow",), 50), Batch()

    def see(begin_s: float, count: int) -> None:
        values = np.zeros((count, 1), np.float32)
        windows.see(Samples(begin_s + np.arange(count), values), values, values[:, 0])

    see(0.0, 70)
    windows.opened({"number": 1, "onset": iso_time(60.0), "opened": iso_time(69.0)})
    windows.correct(Correction(1e6, 0.0, 69.0, frozenset({"pump"}), 0, 0, 0, 0, 0))
    see(1e6 + 70, 10)
    windows.put(batch)
    one = batch.windows["pump", 1]
    assert np.frombuffer(one.times).tolist() == [1e6 + at for at in range(10, 80)]
    assert one.to_come == 40


def test_streams_of_one_fleet_have_each_its_own_values() -> None:
    fleet = Fleeting("a", "b", "c", alarms={"window_samples": 30})
    about = {0: NORMAL, 1: (500.0, 20.0), 2: (5.0, 0.5)}
    for at in range(100):
        for stream in (2, 0, 1):
            far = at >= 60 and stream == 1
            value = about[stream][0] * (3 if far else 1)
            fleet.take(calm_rows(1, (value, about[stream][1]), seed=at), at, stream)
        if at % 7 == 0 or at == 99:
            fleet.fleet.flush(fleet.batch)
    for stream in fleet.fleet.streams:
        stream.save(fleet.batch, 0, whole=True)
    (kept_window,) = fleet.batch.windows.values()
    assert kept_window.stream == "b"
    expected = np.frombuffer(kept_window.expected, np.float32).reshape(2, -1)
    assert np.abs(expected[0] - 500).max() < 1
    assert np.abs(expected[1] - 20).max() < 1


@pytest.mark.parametrize("crossed", [False, True])
def test_another_detector_continues_with_the_newest_samples_of_channels_in_the_same_order(
    pump: Callable[..., Fleetings], crossed: bool
) -> None:
    before = pump(alarms={"window_samples": 30})
    before.take(calm_rows(200))
    before.take(calm_rows(3, FAR))
    (table,) = before.made.tables
    assert table.baseline is not None
    settings = table.baseline.model_copy(update={"deviations_max": 7.0})
    if crossed:
        settings = settings.model_copy(update={"channels": settings.channels[::-1]})
    other = Fleet(baseline(settings), [table], 10.0, before.made.fleet.clock)
    other.replace(0, before.made.fleet, 0, before.made.batch)
    before.commit()
    assert before.window(1).to_come == 0
    before.made.fleet = other
    order = slice(None, None, -1 if crossed else 1)
    before.take([row[order] for row in calm_rows(25)])
    before.take([row[order] for row in calm_rows(3, FAR)])
    before.take([row[order] for row in calm_rows(60)])
    seen = before.window(max(before.kinds()))
    assert (seen.number, seen.to_come) == (2, 0)
    assert seen.times[0] - FLEET_START_S == (203 if crossed else 228 - 30)
    fault = seen.times.index(FLEET_START_S + 228)
    assert seen.observed["flow"][fault] == pytest.approx(FAR[0], abs=0.1)
