"""The outlook of an open alarm: sent at the opening, kept up to date, not too often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config.load import StreamTable
from agent.store.reader import Reader
from models.bundle import Bundle
from models.times import iso_time, unix_s
from tests.agent.alarms.test_lifecycle import assert_documented
from tests.agent.test_clock import World
from tests.fleet_rig import CHANNELS, Fleeting, rows
from tests.forecast_rig import LIMITS, RISE_STEPS, START_S, Gateway, configure, rising

UPDATE_S = 60.0
SHIFT = f"""
[streams.shift]
starts = ["22:20"]
zone = "UTC"
update_s = {UPDATE_S}
"""
MakeBundle = Callable[..., Bundle]


class Watched:
    """A gateway whose clock follows the samples."""

    def __init__(self, directory: Path, bundle: Bundle, stream: str = LIMITS + SHIFT) -> None:
        self._config = configure(directory, bundle, stream)
        self.world = World(START_S)
        self.rows = rising(RISE_STEPS + 400)
        self.first = 0
        self.begin()

    def begin(self) -> None:
        self.gateway = Gateway(self._config, self.world.clock())

    def run(self, seconds: int) -> list[dict[str, Any]]:
        """Take so many seconds, five samples each; return the messages of limits since."""
        before = len(self.gateway.told)
        for _ in range(seconds):
            self.world.wait(1.0)
            self.gateway.feed(self.rows[self.first : self.first + 5], self.first)
            self.first += 5
        return self.gateway.told[before:]


@pytest.fixture
def watched(tmp_path: Path, forecasting_bundle: MakeBundle) -> Iterator[Watched]:
    one = Watched(tmp_path, forecasting_bundle())
    yield one
    one.gateway.close()


def anomalies(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the first alarm; while it is open, a further one may open beside it."""
    return [one for one in messages if one["kind"] == "anomaly" and one["number"] == 1]


def test_an_open_alarm_is_sent_again_when_its_outlook_changes_and_not_too_often(
    watched: Watched, tmp_path: Path
) -> None:
    sent: list[tuple[float, dict[str, Any]]] = []
    for second in range(460):
        if second == 100:  # a restart sends nothing by itself
            watched.gateway.close()
            watched.begin()
        sent += [(float(second), one) for one in anomalies(watched.run(1))]
    assert [one["renewed"] for _, one in sent] == list(range(len(sent)))
    assert len(sent) >= 3
    assert {(one["number"], one["state"]) for _, one in sent} == {(1, "opened")}
    times = [second for second, _ in sent]
    assert min(np.diff(times)) >= UPDATE_S
    opened, *again = (one["outlook"] for _, one in sent)
    assert (opened["answer"], opened["made_at"]) == ("unknown", None)  # no forecast yet
    assert opened["shift_at"] == "2023-11-14T22:20:00.000Z"
    assert again[0]["made_at"] is not None
    assert again[-1]["shift_at"] == "2023-11-15T22:20:00.000Z"  # the next shift has begun
    with Reader(tmp_path / "data") as reader:
        stored = reader.alarm("pump", 1)
    assert stored is not None
    assert (stored["outlook"], stored["renewed"]) == (again[-1], len(sent) - 1)
    for _, one in sent:
        assert_documented(one)


def test_an_alarm_of_a_limit_opens_with_its_outlook(watched: Watched) -> None:
    watched.run(RISE_STEPS + 6)
    (limit,) = watched.gateway.sent
    outlook = limit["outlook"]
    assert (outlook["answer"], outlook["channel"]) == ("doubtful", "bearing_temperature")
    assert outlook["made_at"] < outlook["earliest_at"] < outlook["until_at"] < outlook["shift_at"]
    assert limit["operating"]["covered"] is None
    assert_documented(limit)


# ---- names, help and the first sentence, on a stream without a bundle

SETTINGS = {
    "title": "Pumpe 3",
    "titles": {"flow": "Durchfluss"},
    "operating_point": ["pressure"],
    "help": [
        {"text": "of all"},
        {"kind": "anomaly", "text": "of the kind"},
        {"channel": "flow", "link": "https://example.org/flow"},
        {"kind": "anomaly", "channel": "pressure", "text": "of another channel"},
    ],
}


def alarmed(settings: dict[str, Any], limits: list[dict[str, Any]] | None = None) -> Fleeting:
    fleet = Fleeting("pump", limits=limits or [])
    table = StreamTable.model_validate(fleet.tables[0].model_dump() | settings)
    fleet.stream.reconfigure(table, 10.0, fleet.batch)
    fleet.take(rows(60))
    fleet.take(rows(10, about=(40.0, 2.0)), 60)
    return fleet


def only(fleet: Fleeting) -> dict[str, Any]:
    messages = fleet.flush().messages
    (alarm,) = [message.data for message in messages if message.kind == "alarm"]
    assert_documented(alarm)
    return dict(alarm)


def test_an_alarm_has_the_names_the_operating_point_and_the_help_of_the_configuration() -> None:
    alarm = only(alarmed(SETTINGS))
    assert alarm["text"] == {
        "key": "anomaly.lower_for",
        "parameters": {"machine": "Pumpe 3", "channel": "Durchfluss", "point": "pressure"},
    }
    assert alarm["title"] == "Pumpe 3"
    (point,) = alarm["operating"]["channels"]
    assert (point["channel"], point["unit"], alarm["operating"]["named"]) == ("pressure", "m", True)
    assert 1.9 < point["value"] < 2.1
    assert alarm["help"] == {"text": None, "link": "https://example.org/flow"}
    assert alarm["found_by"]["bundle"].endswith("version 1")
    assert len(alarm["found_by"]["digest"]) == 64
    assert alarm["outlook"] == alarm["outlook"] | {"answer": "unknown", "channel": None}


@pytest.mark.parametrize(
    ("helps", "text"),
    [
        ([0], "of all"),
        ([0, 1], "of the kind"),
        ([0, 1, 3], "of the kind"),
        ([0, 1, 2, 3], None),
        ([3], "none"),
    ],
)
def test_the_help_that_fits_best_is_taken(helps: list[int], text: str | None) -> None:
    given: list[Any] = SETTINGS["help"]  # type: ignore[assignment]
    alarm = only(alarmed({"help": [given[number] for number in helps]}))
    assert (alarm["help"] or {"text": "none"})["text"] == text


def test_without_settings_names_are_made_and_other_channels_are_the_operating_point() -> None:
    alarm = only(alarmed({}))
    assert alarm["text"]["key"] == "anomaly.lower"
    assert alarm["help"] is None
    operating = alarm["operating"]
    assert (operating["named"], operating["covered"]) == (False, None)
    assert [one["channel"] for one in operating["channels"]] == [CHANNELS[1]]


def test_a_limit_without_a_forecast_is_named_in_the_outlook() -> None:
    limit = {"channel": "pressure", "unit": "m", "high_critical": 9.0}
    outlook = only(alarmed({}, [limit]))["outlook"]
    assert (outlook["answer"], outlook["channel"], outlook["made_at"]) == (
        "unknown",
        "pressure",
        None,
    )


def test_the_operating_point_stays_that_of_the_opening() -> None:
    fleet = alarmed(SETTINGS)
    before = only(fleet)["operating"]
    fleet.take(rows(5, about=(40.0, 2.5)), 70)
    fleet.flush()
    fleet.stream.save(fleet.batch, 75)
    (alarm,) = fleet.stream.document()["open_alarms"]
    assert alarm["operating"] == before
    assert alarm["title"] == "Pumpe 3"
    assert unix_s(alarm["onset"]) < unix_s(alarm["newest_at"]) == unix_s(iso_time(START_S + 74))
