"""Predictive alarms: when they open and close, what they say, and what a restart keeps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.alarms.document import describe, time_to_limit
from agent.alarms.predicted import LimitWatch
from agent.config.streams import LimitTable, PredictionTable
from agent.health.status import describe as describe_status
from agent.store.reader import Reader
from models.bundle import Bundle
from models.forecaster import Forecaster
from models.messages import Event, Forecast
from models.pipeline import Pipeline
from tests.forecast_rig import LIMITS, RISE_STEPS, START_S, Gateway, configure, rising

HORIZON = 12
BEARING = 5
MakeBundle = Callable[..., Bundle]
# chance to pass a limit of 80 -> where the quantiles lie that give it
PASSING = {0.975: 80.3, 0.75: 80.1, 0.5: 80.0, 0.25: 79.9, 0.1: 79.8, 0.025: 79.7}


@pytest.fixture(scope="module")
def forecaster(forecasting_bundle: MakeBundle) -> Forecaster:
    made = Pipeline(forecasting_bundle()).forecaster
    assert made is not None
    return made


def forecast(chance: float, number: int = 0) -> Forecast:
    """A forecast whose chance to pass 80 degC is this at every step, and that to fall too."""
    shifts = np.array([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3], np.float32)
    quantiles = np.full((8, HORIZON, 7), 50.0, np.float32) + shifts
    quantiles[BEARING] = np.float32(PASSING[chance]) + shifts
    last = np.full(8, 80.0, np.float32)  # at the limit, not beyond
    time = START_S + 2.0 * number
    times = time + 1.0 + np.arange(HORIZON)
    return Forecast(time, times, last, np.ones(8, np.float32), quantiles, HORIZON, 0)


class Watched:
    """A watch, fed with forecasts by their chance; remembers what it said."""

    def __init__(self, forecaster: Forecaster, limits: dict[str, float], **settings: Any) -> None:
        self._made = (forecaster, limits, settings)
        self.watch = self._new()
        self.events: list[Event] = []
        self._numbers = itertools.count(7)
        self._fed = 0

    def _new(self) -> LimitWatch:
        forecaster, limits, settings = self._made
        table = LimitTable.model_validate({"channel": "bearing_temperature"} | limits)
        return LimitWatch.of([table], PredictionTable(**settings), forecaster)

    def feed(self, *chances: float) -> list[str]:
        said = []
        for chance in chances:
            made = forecast(chance, self._fed)
            events = self.watch.take(made, lambda: next(self._numbers))
            self.events += events
            said += [event.state for event in events]
            self._fed += 1
        return said

    def restart(self) -> None:
        saved = self.watch.to_bytes()
        self.watch = self._new()
        assert self.watch.restore(saved) == []


def test_an_alarm_opens_after_three_in_a_row_and_closes_after_three(forecaster: Forecaster) -> None:
    watched = Watched(forecaster, {"high_critical": 80.0})
    assert watched.feed(0.5, 0.75) == []
    assert watched.feed(0.75) == ["opened"]
    opened = watched.events[0]
    assert (opened.number, opened.kind, opened.detector) == (7, "limit", "transformer")
    assert (opened.severity, opened.probability) == ("high", None)
    assert (opened.onset, opened.opened) == (START_S, START_S + 4.0)
    assert opened.score == pytest.approx(0.75 / 0.5)
    assert opened.limit is not None
    assert (opened.limit.value, opened.limit.unit) == (80.0, "degC")
    assert opened.limit.probability == pytest.approx(0.75)
    assert opened.channels[0].channel == "bearing_temperature"
    assert watched.feed(0.25, 0.1) == []
    assert watched.feed(0.025) == ["closed"]
    assert watched.events[1].number == 7
    assert watched.events[1].closed == START_S + 10.0
    assert watched.watch.open_events() == []


def test_within_the_deadband_an_alarm_stays(forecaster: Forecaster) -> None:
    settings = {"probability": 0.5, "clear_probability": 0.2}
    watched = Watched(forecaster, {"high_critical": 80.0}, **settings)
    assert watched.feed(0.5, 0.5, 0.5, *[0.25] * 20) == ["opened"]
    assert watched.feed(0.1, 0.1, 0.25, 0.1, 0.1) == []
    assert watched.feed(0.1) == ["closed"]


def test_a_chance_that_swings_about_the_level_opens_once(forecaster: Forecaster) -> None:
    watched = Watched(forecaster, {"high_critical": 80.0})
    assert watched.feed(*[0.75, 0.25] * 20) == []
    assert watched.feed(0.75, 0.75, *[0.75, 0.25] * 50) == ["opened"]


def test_an_open_event_shows_the_newest_forecast(forecaster: Forecaster) -> None:
    watched = Watched(forecaster, {"high_critical": 80.0})
    watched.feed(0.5, 0.5, 0.5, 0.975)
    (event,) = watched.watch.open_events()
    assert event.limit is not None
    assert event.limit.made == START_S + 6.0
    assert event.limit.probability == pytest.approx(0.975)


def test_warning_and_critical_are_watched_each_for_itself(forecaster: Forecaster) -> None:
    watched = Watched(forecaster, {"high_critical": 80.09, "high_warning": 79.9})
    assert watched.feed(0.5, 0.5, 0.5) == ["opened"]
    assert watched.feed(0.75, 0.75, 0.75) == ["opened"]
    assert [(e.number, e.severity) for e in watched.events] == [(7, "medium"), (8, "high")]
    assert len(watched.watch.open_events()) == 2


def test_a_low_limit_is_passed_from_above(forecaster: Forecaster) -> None:
    watched = Watched(forecaster, {"low_warning": 80.0})
    assert watched.feed(*[0.75] * 5) == []
    assert watched.feed(*[0.25] * 3) == ["opened"]  # the chance to be above: 0.75 to be below
    limit = watched.events[0].limit
    assert limit is not None
    assert (limit.side, limit.level) == ("low", "warning")
    assert limit.probability == pytest.approx(0.75)


@pytest.mark.parametrize("after", range(9))
def test_a_restart_changes_nothing(forecaster: Forecaster, after: int) -> None:
    chances = [0.5, 0.75, 0.5, 0.5, 0.1, 0.1, 0.1, 0.5, 0.5]
    whole = Watched(forecaster, {"high_critical": 80.0})
    whole.feed(*chances)
    assert [event.state for event in whole.events] == ["opened", "closed"]
    parts = Watched(forecaster, {"high_critical": 80.0})
    parts.feed(*chances[:after])
    parts.restart()
    parts.feed(*chances[after:])
    assert parts.events == whole.events
    assert parts.watch.document(0.0) == whole.watch.document(0.0)


def test_the_document_tells_every_limit_from_the_start(forecaster: Forecaster) -> None:
    watched = Watched(forecaster, {"high_critical": 80.0, "low_warning": 20.0})
    high, low = watched.watch.document(0.0)
    assert (high["side"], high["value"], high["unit"]) == ("high", 80.0, "degC")
    assert high["probability"] is None
    keys = set(low)
    watched.feed(0.75)
    high, low = watched.watch.document(0.0)
    assert set(high) == set(low) == keys
    assert (high["channel"], high["probability"]) == ("bearing_temperature", 0.75)
    assert high["median_s"] == pytest.approx(0.5 / 0.75, 1e-3)  # 1 s until the first step
    assert (high["latest_s"], high["horizon_s"]) == (None, 12.0)
    assert high["made"] == "2023-11-14T22:13:20.000Z"
    assert low["probability"] < 1e-6
    json.dumps([high, low])


def test_a_limit_of_what_is_not_forecast_is_left_to_what_is_measured(
    forecaster: Forecaster,
) -> None:
    for channel, by in (("flow", None), ("valve", forecaster)):
        limit = LimitTable(channel=channel, high_warning=1)
        watch = LimitWatch.of([limit], PredictionTable(), by)
        assert watch.take(forecast(0.975), lambda: 1) == []
        assert watch.document(0.0) == []


def test_a_limit_that_is_passed_opens_no_alarm_and_its_own_is_withdrawn(
    forecaster: Forecaster,
) -> None:
    watched = Watched(forecaster, {"high_critical": 80.0})
    key = "bearing_temperature high critical 80.0"
    watched.feed(0.75, 0.75, 0.75)
    assert watched.watch.withdraw({"flow high critical 1.0", key}) == [7]
    assert watched.watch.withdraw({key}) == watched.watch.open_events() == []
    for number in range(5):
        assert watched.watch.take(forecast(0.975, number), lambda: 8, {key}) == []
    (shown,) = watched.watch.document(0.0)
    assert shown["probability"] == 0.975  # it is forecast all the same
    assert watched.feed(0.75, 0.75) == []  # and counted anew
    assert watched.feed(0.75) == ["opened"]


HOURS = {
    "side": "high",
    "level": "critical",
    "value": 80.0,
    "unit": "degC",
    "probability": 0.93,
    "median_s": 3.2 * 3600,
    "earliest_s": 2.1 * 3600,
    "latest_s": 5.5 * 3600,
    "horizon_s": 8 * 3600.0,
    "made": "2026-01-01T00:00:00.000Z",
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {},
            "will rise above 80 degC (critical limit) in 3.2 h (80 %: 2.1-5.5 h), chance 93 %",
        ),
        ({"latest_s": None}, "in 3.2 h (80 %: 2.1 h or later than 8.0 h), chance 93 % within 8.0"),
        ({"earliest_s": 1800.0}, "in 3.2 h (80 %: 30.0 min to 5.5 h)"),
        ({"median_s": None, "latest_s": None, "probability": 0.3}, "may rise above 80 degC (crit"),
        ({"median_s": None, "probability": 0.3}, "critical limit), chance 30 % within 8.0 h"),
        (
            {"median_s": 0.0, "earliest_s": 0.0, "latest_s": 0.0},
            "is above 80 degC (critical limit)",
        ),
        ({"probability": 0.9999}, "chance over 99 %"),
        ({"median_s": None, "probability": 1e-9}, "chance under 1 %"),
        ({"side": "low"}, "will fall below 80 degC (critical limit) in 3.2 h"),
        ({"side": "low", "median_s": None, "level": "warning"}, "may fall below 80 degC (warning"),
        ({"side": "low", "median_s": 0.0}, "is below 80 degC (critical limit)"),
        ({"unit": ""}, "will rise above 80 (critical limit)"),
    ],
)
def test_the_time_to_a_limit_reads_as_a_person_would_say_it(
    changes: dict[str, Any], says: str
) -> None:
    assert says in time_to_limit(HOURS | changes)


# ---- in a stream, with the store


@pytest.fixture
def opened(tmp_path: Path, forecasting_bundle: MakeBundle) -> Iterator[Callable[[str], Gateway]]:
    """Start the gateway with these settings of its stream, stopping the one before."""
    running: list[Gateway] = []

    def start(stream: str = LIMITS) -> Gateway:
        for gateway in running:
            gateway.close()
        running[:] = [Gateway(configure(tmp_path, forecasting_bundle(), stream))]
        return running[0]

    yield start
    for gateway in running:
        gateway.close()


def kept(directory: Path) -> list[dict[str, Any]]:
    with Reader(directory / "data") as reader:
        return [alarm for alarm in reader.alarms(100) if alarm["kind"] == "limit"]


def test_a_rise_towards_a_limit_raises_one_alarm_before_it_is_passed(
    tmp_path: Path, opened: Callable[..., Gateway]
) -> None:
    gateway = opened()
    gateway.feed(rising(RISE_STEPS + 6))
    (sent,) = gateway.sent
    assert (sent["kind"], sent["state"], sent["severity"]) == ("limit", "opened", "high")
    assert sent["probability"] is None
    assert sent["limit"]["value"] == 60.0
    line = describe(sent)
    assert " limit, severity high, since 2023-11-14T22:" in line
    assert ": bearing_temperature may rise above 60 degC (critical limit), chance " in line
    assert line.endswith(
        ". To do: find out why bearing_temperature rises, and act before it passes the limit"
    )
    document = gateway.stream.document()
    (shown,) = [alarm for alarm in document["open_alarms"] if alarm["kind"] == "limit"]
    (stored,) = kept(tmp_path)
    assert shown == stored
    assert stored["limit"]["made"] == document["forecast"]["last_forecast"]  # the newest
    assert {"channel": "bearing_temperature"} | stored["limit"] in document["forecast"]["limits"]
    gateway.feed(rising(RISE_STEPS + 60)[(RISE_STEPS + 6) * 5 + 1 :], (RISE_STEPS + 6) * 5 + 1)
    assert [alarm["state"] for alarm in gateway.sent] == ["opened", "closed"]
    assert [alarm["state"] for alarm in kept(tmp_path)] == ["closed"]


def test_a_restart_keeps_the_alarm_and_what_was_forecast(opened: Callable[..., Gateway]) -> None:
    gateway = opened()
    gateway.feed(rising(RISE_STEPS + 6))
    before = gateway.stream.document()
    after = opened().stream.document()
    assert after["open_alarms"] == before["open_alarms"]
    assert after["forecast"] == before["forecast"]


@pytest.mark.parametrize(
    "stream", ["", LIMITS.replace("60.0", "61.0"), LIMITS.replace("high_critical", "high_warning")]
)
def test_an_alarm_whose_limit_is_gone_is_closed_at_the_start(
    tmp_path: Path, opened: Callable[..., Gateway], stream: str
) -> None:
    opened().feed(rising(RISE_STEPS + 6))
    gateway = opened(stream)
    (sent,) = gateway.sent
    assert sent["state"] == "closed"
    assert [alarm["state"] for alarm in kept(tmp_path)] == ["closed"]
    open_kinds = [alarm["kind"] for alarm in gateway.stream.document()["open_alarms"]]
    assert "limit" not in open_kinds


def test_a_gap_changes_nothing(opened: Callable[..., Gateway]) -> None:
    gateway = opened()
    rows = rising(RISE_STEPS + 20)
    begin = (RISE_STEPS + 6) * 5 + 1
    gateway.feed(rows[:begin])
    rows[begin:] = np.nan
    gateway.feed(rows[begin:], begin)
    document = gateway.stream.document()
    assert document["forecast"]["refused"].startswith("missing values: ")
    assert [alarm["state"] for alarm in gateway.sent] == ["opened"]
    assert any(alarm["kind"] == "limit" for alarm in document["open_alarms"])


def test_status_says_what_is_forecast_and_how_good_that_has_been(
    opened: Callable[..., Gateway],
) -> None:
    gateway = opened()
    gateway.feed(rising(RISE_STEPS + 6))
    stream = gateway.stream.document()
    json.dumps(stream)
    accuracy = stream["forecast"]["accuracy"]["bearing_temperature"]
    assert accuracy["unit"] == "degC"
    assert accuracy["judged"] > 10
    assert accuracy["bias"] < -0.5  # a random walk does not foresee the rise
    assert accuracy["mae"] == pytest.approx(-accuracy["bias"], 1e-3)
    assert [lead["lead_s"] for lead in stream["forecast"]["by_lead"]] == [1.0, 3.0, 6.0, 12.0]
    text = "\n".join(describe_status(_status(stream)))
    assert "forecast  12 s ahead, from 2023-11-14T22:14:06.000Z" in text
    assert f"bearing_temperature {accuracy['mae']:.3g} degC" in text
    assert "80 % intervals covered " in text
    assert "LIMIT   bearing_temperature may rise above 60 degC (critical limit), chance " in text


def test_a_status_stored_before_there_were_forecasts_is_still_shown(
    opened: Callable[..., Gateway],
) -> None:
    stream = opened().stream.document()
    del stream["forecast"]
    assert not any("forecast" in line for line in describe_status(_status(stream)))


def _status(stream: dict[str, Any]) -> dict[str, Any]:
    empty = {"ring_rows": 0, "outbox_rows": 0, "evicted": {}, "set_aside": []}
    return {
        "gateway": "plant/gw-1",
        "version": "0",
        "started": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z",
        "running": False,
        "clock": "synced",
        "rss_mb": 1.0,
        "latency": {"reading_to_commit_ms_p50": None},
        "inputs": {},
        "streams": {"pump": stream},
        "store": empty,
        "uplink": None,
    }
