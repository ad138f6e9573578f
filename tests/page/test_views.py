"""What the views of the page show of a store, without a browser."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from agent.commands import rivals_text
from agent.commands.alarms.moments import Moments
from agent.commands.rivals import Why
from agent.control.client import NoAgent, NoAnswer, NotAllowed
from agent.control.protocol import Refused
from agent.handling.states import WORDS, State
from agent.page import actions, alarms, chart_protocol, overview, streams
from agent.page.data import sparkline
from agent.page.overview import STATES, SYMBOLS, state_of
from agent.page.rivals import in_words
from agent.page.watch import Look, counted
from agent.page.words import LANGUAGE_COOKIE, Languages, Words
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.wording import english, english_page, german, german_page
from agent.wording.catalogue import parameters_of
from agent.wording.language import ENGLISH, GERMAN
from agent.wording.message import Message
from models.errors import ConfigError, FieldwatchError, StoreError
from models.messages import Float32, Samples
from tests.kept_rig import ONSET, ONSET_S, Kept, alarm

LATER = datetime.fromtimestamp(ONSET_S + 3600, UTC)
ENGLISH_WORDS = Words(Moments(LATER, True, ENGLISH), "auto", ())
WATCHED: dict[str, Any] = {"watched": True, "last_sample": ONSET, "last_score": 0.2}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.store.close()


def reader_of(kept: Kept) -> Reader:
    return Reader(kept.config.parent / "data")


def test_a_stream_has_the_state_of_its_most_urgent_alarm(kept: Kept) -> None:
    low, high = alarm(1, severity="low"), alarm(2, kind="stuck", severity="high")
    kept.take(low, high)
    with reader_of(kept) as reader:
        assert state_of(WATCHED, alarms.read_list(reader)) == "high"
    kept.ask("acknowledged", high)
    with reader_of(kept) as reader:
        assert state_of(WATCHED, alarms.read_list(reader)) == "low"
    kept.ask("acknowledged", low)
    with reader_of(kept) as reader:
        assert state_of(WATCHED, alarms.read_list(reader)) == "acknowledged"
    kept.ask("shelved", low, why="noon", seconds=3600.0, until_clear=True)
    kept.ask("shelved", high, why="noon", seconds=3600.0, until_clear=True)
    with reader_of(kept) as reader:
        assert state_of(WATCHED, alarms.read_list(reader)) == "aside"
        assert counted(reader)._asdict() == {
            "active": 0,
            "unacknowledged": 0,
            "shelved": 2,
            "suppressed": 0,
            "out_of_service": 0,
        }


def test_an_alarm_that_returns_shows_who_had_shelved_it_and_why(kept: Kept) -> None:
    one = alarm(1, severity="high")
    kept.take(one)
    kept.ask("shelved", one, why="a part is ordered", seconds=3600.0, until_clear=True)
    kept.ask("unshelved", one)
    with reader_of(kept) as reader:
        (found,) = alarms.read_list(reader)
    told = alarms.row(found, ENGLISH_WORDS)
    assert told["state"] == "unacknowledged"
    assert "shelved by maria" in told["put_aside"]
    assert "a part is ordered" in told["put_aside"]
    assert told["put_aside"].startswith("Before: ")


def test_an_alarm_that_is_over_does_not_look_active(kept: Kept) -> None:
    kept.take(alarm(1, severity="high"), alarm(1, state="closed", severity="high"))
    with reader_of(kept) as reader:
        found = alarms.read_list(reader)
    assert state_of(WATCHED, found) == "returned"
    assert alarms.row(found[0], ENGLISH_WORDS)["symbol"] == SYMBOLS["returned"]


def test_a_section_is_never_longer_than_a_browser_can_bear(kept: Kept) -> None:
    """A refresh takes as long as there are rows, just when everybody looks."""
    count = alarms.SHOWN_MAX + 50
    kept.take(*(alarm(1, f"pump-{number}") for number in range(count)))
    with reader_of(kept) as reader:
        (section,) = alarms.sections(alarms.read_list(reader), "open", ENGLISH_WORDS)
    assert section["count"] == count
    assert (len(section["rows"]), section["more"]) == (alarms.SHOWN_MAX, 50)


@pytest.mark.parametrize(
    ("stream", "state"),
    [
        (WATCHED, "normal"),
        (WATCHED | {"last_score": None}, "warming"),
        (WATCHED | {"last_sample": None}, "nothing"),
        (WATCHED | {"refused": {"why": "a wrong digest"}}, "refused"),
        (WATCHED | {"watched": False}, "unwatched"),
        ({}, "unwatched"),  # of a stream that the status does not know, nothing is normal
    ],
)
def test_a_stream_without_alarms_says_how_far_it_is_watched(
    stream: dict[str, Any], state: str
) -> None:
    assert state_of(stream, []) == state


def test_each_state_has_a_symbol_of_its_own_and_words_in_both_languages() -> None:
    urgent = [SYMBOLS[state] for state in STATES if state not in ("unwatched", "nothing")]
    assert len(set(urgent)) == len(urgent)
    for state in STATES:
        assert f"page.state.{state}" in english_page.TEXTS
    assert english_page.TEXTS.keys() == german_page.TEXTS.keys()


@pytest.mark.parametrize("key", english_page.TEXTS)
def test_a_german_text_of_the_page_uses_the_parameters_of_the_english_one(key: str) -> None:
    assert parameters_of(german_page.TEXTS[key]) == parameters_of(english_page.TEXTS[key])


@pytest.mark.parametrize("state", WORDS)
def test_each_state_offers_what_the_agent_would_do(state: State) -> None:
    offered = alarms.choice({"state": state})
    assert (offered.first is None) == (state in ("NORM", "ACKED", "DSUPR"))
    assert ("acknowledge" in offered.verbs) == (state in ("UNACK", "RTNUN", "LATUN"))
    assert ("shelve" in offered.verbs) == (state not in ("NORM", "SHLVD", "DSUPR", "OOSRV"))
    assert set(offered.verbs) <= set(actions.VERBS)


def test_the_newest_values_are_read_without_numpy(kept: Kept) -> None:
    values = np.array([[1.5, np.nan], [2.5, 7.0], [3.5, np.nan]], np.float32)
    samples = Samples(ONSET_S + np.arange(3.0), values)
    kept.store.readings.history.describe({"pump": ["flow", "head"]})
    kept.store.commit(Batch(samples=[("pump", samples, np.zeros(3, np.float32))]), "synced")
    with reader_of(kept) as reader:
        assert overview.newest(reader, "pump") == {"flow": 3.5, "head": None}
        assert overview.newest(reader, "fan") == {}


def test_a_stream_that_nobody_knows_is_named(kept: Kept) -> None:
    with reader_of(kept) as reader, pytest.raises(streams.NoSuchStream, match="'fan'"):
        streams.read(reader, "fan", overview.Look())


def measured(stream: str, since_s: float, *values: float) -> tuple[str, Samples, Float32]:
    rows = np.array(values, np.float32)[:, None]
    samples = Samples(ONSET_S + since_s + np.arange(float(len(rows))), rows)
    return stream, samples, np.zeros(len(rows), np.float32)


def test_alarms_are_shown_before_the_agent_has_stored_a_status(kept: Kept) -> None:
    kept.take(alarm(1, severity="high"))
    with reader_of(kept) as reader:
        (card,) = overview.cards(overview.Look()(reader), ENGLISH_WORDS, {}, True)
    assert (card["name"], card["state"]) == ("pump", "high")


def test_nothing_is_normal_while_no_agent_watches(kept: Kept) -> None:
    """An agent that was killed leaves a status that says that it watches."""
    status = {"streams": {"pump": WATCHED}}
    kept.store.commit(Batch(status=lambda: json.dumps(status)), "synced")
    with reader_of(kept) as reader:
        found = overview.Look()(reader)
    for watching, state in ((True, "normal"), (False, "unwatched")):
        (card,) = overview.cards(found, ENGLISH_WORDS, {}, watching)
        assert card["state"] == state


@pytest.mark.parametrize("damaged", [b"{}", zlib.compress(b"{")])
def test_alarms_are_shown_though_the_status_cannot_be_read(kept: Kept, damaged: bytes) -> None:
    kept.take(alarm(1, severity="high"))
    kept.store.commit(Batch(status=lambda: "{}"), "synced")
    with contextlib.closing(sqlite3.connect(kept.config.parent / "data" / "readings.db")) as file:
        file.execute("UPDATE status SET document = ?", [damaged])
        file.commit()
    with reader_of(kept) as reader:
        (card,) = overview.cards(overview.Look()(reader), ENGLISH_WORDS, {}, True)
        assert not Look()(reader).life.watching
    assert card["state"] == "high"


@pytest.mark.parametrize("key", ["ended", "limit", "quality", "probability"])
def test_an_alarm_of_an_older_version_is_shown(kept: Kept, key: str) -> None:
    kept.take({name: value for name, value in alarm(1, state="closed").items() if name != key})
    with reader_of(kept) as reader:
        told = alarms.detail(alarms.read_one(reader, "pump", 1), ENGLISH_WORDS)
    assert told["number"] == 1


def test_values_of_a_silent_stream_are_not_looked_for_again(kept: Kept) -> None:
    """The database is searched from its end, so that takes the longer the longer it is silent."""
    kept.store.readings.history.describe({"pump": ["flow"]})
    look = overview.Look()

    def newest(streams: dict[str, Any], *values: float) -> Mapping[str, Any]:
        samples = [measured("pump", one, one) for one in values]
        status = json.dumps({"streams": streams})
        kept.store.commit(Batch(samples=samples, status=lambda: status), "synced")
        with reader_of(kept) as reader:
            return look(reader).newest

    assert newest({"pump": {"last_sample": "now"}}, 1.0) == {"pump": {"flow": 1.0}}
    # the status names no newer sample
    assert newest({"pump": {"last_sample": "now"}}, 2.0) == {"pump": {"flow": 1.0}}
    assert newest({"pump": {"last_sample": "then"}}, 3.0) == {"pump": {"flow": 3.0}}
    assert newest({}) == {}


def test_a_form_becomes_the_request_of_a_terminal() -> None:
    form = {"revision": "7", "reason": "  in the\n noon ", "hours": "4"}
    shelved = actions.asked("pump", 3, "shelve", form)
    assert shelved == actions.Asked(
        "alarm.shelve",
        {
            "stream": "pump",
            "number": 3,
            "revision": 7,
            "reason": "in the noon",
            "hours": 4.0,
            "until_clear": True,
        },
    )
    fixed = actions.asked("pump", 3, "shelve", form | {"fixed": "on"})
    assert fixed.arguments["until_clear"] is False
    group = actions.asked_of_group("pump", {"members": "3.7,4.2"})
    assert group.arguments == {"stream": "pump", "members": [[3, 7], [4, 2]]}


@pytest.mark.parametrize(
    ("verb", "form"),
    [
        ("delete", {}),
        ("shelve", {}),
        ("shelve", {"hours": "-1"}),
        ("shelve", {"hours": "nan"}),
        ("shelve", {"hours": "9" * 400}),
        ("acknowledge", {"revision": "١"}),
        ("label", {}),
        ("label", {"label": "fine"}),
    ],
)
def test_a_form_that_no_button_sends_is_refused(verb: str, form: dict[str, str]) -> None:
    with pytest.raises(actions.Wrong):
        actions.asked("pump", 3, verb, form)


@pytest.mark.parametrize("members", ["", "3", "3.7,", "3.7.1", "a.b"])
def test_members_of_a_group_must_be_numbers_with_revisions(members: str) -> None:
    with pytest.raises(actions.Wrong):
        actions.asked_of_group("pump", {"members": members})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("stale", "it has changed"), 409),
        (Refused("not_allowed", "no"), 403),
        (Refused("busy", "later"), 503),
        (Refused("arguments", "what?"), 400),
        (NoAgent("none"), 503),
        (actions.Wrong(Message("page.wrong.label")), 400),
    ],
)
def test_what_was_not_done_has_the_status_of_its_cause(error: Any, status: int) -> None:
    assert actions.status_of(error) == status


@pytest.mark.parametrize(
    "error",
    [
        Refused.of("stale", Message("stale.over", {"now": Message("standing.none").document()})),
        NoAgent("none"),
        NotAllowed("none"),
        NoAnswer("none"),
        StoreError("disk"),
        ConfigError("key"),
        Refused("arguments", "of an older agent"),
        actions.Wrong(Message("page.wrong.label")),
        streams.NoSuchStream(Message("page.no_stream", {"stream": "pump"})),
    ],
)
def test_what_was_not_done_is_told_in_the_language_of_the_reader(error: FieldwatchError) -> None:
    said = [Words(Moments(LATER, True, one), "auto", ()).error(error) for one in (ENGLISH, GERMAN)]
    assert said[0] != said[1]
    assert all(said)


@pytest.mark.parametrize("code", get_args(chart_protocol.Code))
def test_why_a_chart_is_absent_is_told_in_the_language_of_the_reader(code: str) -> None:
    key = f"page.undrawn.{code}"
    assert english.TEXTS[key] != german.TEXTS[key]


def test_a_sparkline_breaks_where_there_is_no_score_and_stays_in_its_picture() -> None:
    times = [ONSET_S - 3600 + 60 * minute for minute in range(60)]
    scores: list[float | None] = [0.5] * 20 + [None] * 20 + [50.0] * 20
    picture = sparkline(times, scores, ONSET_S)
    assert picture.count("<polyline") == 2
    points = [
        tuple(map(float, point.split(",")))
        for part in picture.split('points="')[1:]
        for point in part.partition('"')[0].split()
    ]
    assert all(0 <= left <= 240 and 0 <= top <= 40 for left, top in points)
    assert "<polyline" not in sparkline([], [], ONSET_S)


def test_german_words_of_the_page_are_german() -> None:
    words = Words(Moments(LATER, True, GERMAN), "auto", ())
    assert words.text("act.acknowledge") == "Quittieren"
    assert words.language == "de"


@pytest.mark.parametrize(
    ("cookies", "accepted", "language"),
    [
        ({}, "", "en"),
        ({}, "de-AT,de;q=0.9,en;q=0.8", "de"),
        ({}, "fr, de;q=0.5", "de"),
        ({LANGUAGE_COOKIE: "en"}, "de", "en"),
        ({LANGUAGE_COOKIE: "<script>"}, "xx", "en"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_browsers(
    cookies: dict[str, str], accepted: str, language: str, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    assert Languages(config).words(cookies, accepted).language == language


def compared(absent: dict[str, Any], **figures: Any) -> dict[str, Any]:
    """A comparison of one channel, as the worker makes it; the season is absent."""
    one = {"unit": "bar", "mae": 0.5, "to_last": 0.25, "coverage_80": 0.8, "compared": 24}
    last = one | {"mae": 2.0, "to_last": 1.0, "coverage_80": None}
    lines = [
        {"line": "forecast", "model": "pump version 2", "channels": {"head": one}},
        {"line": "previous", "model": "pump version 1", "channels": {"head": one | figures}},
        {"line": "last", "model": None, "channels": {"head": last}},
    ]
    missing = {"line": "season", "model": None, "absent": absent, "channels": {}}
    return {
        "lines": [*({"absent": None} | one for one in lines), missing],
        "titles": {"head": "Head"},
        "now": {"forecast": {"head": [1.0]}, "last": {"head": [2.0]}},
        "times": [9.0],
        "compared_s": 7200.0,
        "origins": 12,
        "first_s": ONSET_S,
        "last_s": ONSET_S + 600,
    }


def test_rivals_are_told_in_words() -> None:
    told = in_words(compared({"why": "no_season"}, mae=0.49999), ENGLISH_WORDS)
    assert told["channels"] == [
        {
            "title": "Head",
            "rows": [
                ["this forecast", "0.5 bar ✓", "25 %", "80 %"],  # as it is read
                ["previous model (pump version 1)", "0.5 bar ✓", "25 %", "80 %"],
                ["last value", "2 bar", "100 %", "–"],
            ],
        }
    ]
    assert told["lines"] == [{"line": "last", "title": "last value", "values": {"head": [2.0]}}]
    assert "at 12 past times from 14 Nov" in told["caption"]
    assert "2 h ahead" in told["caption"]
    assert len(told["head"]) == len(told["channels"][0]["rows"][0])


def test_a_channel_that_a_rival_does_not_have_has_no_figures() -> None:
    nothing = {"mae": None, "to_last": None, "coverage_80": None, "compared": 0}
    told = in_words(compared({"why": "no_season"}, **nothing), ENGLISH_WORDS)
    assert told["channels"][0]["rows"][1][1:] == ["–", "–", "–"]


REASONS: dict[str, dict[str, Any]] = {
    "none_kept": {},
    "refused": {"text": "truncated"},
    "no_forecaster": {},
    "other_steps": {"step_s": 60.0},
    "other_channels": {"channel": "head"},
    "no_season": {},
    "other_season": {"season_s": 86400.0},
    "same": {},
    "short_history": {"needed_s": 7200.0, "stored_s": 3600.0},
    "gaps": {"made": 2, "tried": 12},
}


@pytest.mark.parametrize("why", get_args(Why))
def test_each_reason_has_words(why: str) -> None:
    facts = REASONS[why]
    for language in (ENGLISH, GERMAN):
        words = Words(Moments(LATER, True, language), "auto", ())
        told, _ = in_words(compared({"why": why, **facts}), words)["notes"]
        assert "page." not in told
        assert language.text(Message("number.absent")) not in told
    line = rivals_text.absence({"why": why, **facts})
    assert "{" not in line
    for fact in facts.values():
        assert (fact if isinstance(fact, str) else f"{fact:g}") in line
