"""What ``alarms`` and ``alarms show`` say, in each language, of all that an alarm can have."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.alarms.points import Labelled
from agent.commands.alarms.shown import why_of
from agent.handling.states import WORDS
from agent.handling.transition import LABELS, SAID
from agent.wording.english import TEXTS
from agent.wording.language import GERMAN
from agent.wording.message import Message
from tests.agent.commands.test_alarms import ONSET, ONSET_S, WIDTH, Kept, alarm, assert_in_order

ESCAPES = "\x1b[2J\x9b\x07\u202e"
CHANNEL = {"score": 3.0, "observed": 71.0, "expected": 84.2, "newest": 70.0, "unit": "m3/h"}
FULL = {
    "title": "Pumpe 3",
    "worst_at": ONSET,
    "newest_at": ONSET,
    "advice": {"key": "advice.anomaly", "parameters": {}},
    "rarity": {"every_s": 40 * 86400.0, "seen_s": 86400.0, "at_least": False},
    "channels": [{"channel": "flow", "title": "Durchfluss"} | CHANNEL],
    "operating": {
        "named": True,
        "covered": False,
        "channels": [
            {
                "channel": "speed",
                "title": "Drehzahl",
                "unit": "1/min",
                "value": 1450.5,
                "low": 1000.0,
                "high": 1400.0,
            }
        ],
    },
    "suspect": {
        "what": "sensor",
        "channel": "flow",
        "title": "Durchfluss",
        "unit": "m3/h",
        "expected": 81.24,
        "spread": 1.9,
        "neighbours": [
            {"channel": "head", "title": "Druck"},
            {"channel": "current", "title": "Strom"},
        ],
    },
    "outlook": {
        "answer": "does_not_wait",
        "shift_at": "2023-11-15T05:00:00.000Z",
        "made_at": ONSET,
        "channel": "flow",
        "title": "Durchfluss",
        "side": "low",
        "level": "critical",
        "limit": 60.5,
        "unit": "m3/h",
        "earliest_at": "2023-11-15T01:30:00.000Z",
        "median_at": "2023-11-15T03:00:00.000Z",
        "until_at": "2023-11-15T06:00:00.000Z",
        "probability": 0.8,
    },
    "help": {"text": "Der Filter sitzt links.", "link": "https://wiki.example.org/p3"},
    "found_by": {"detector": "telemanom", "bundle": "pump version 3", "digest": "4ce4c9a5" * 8},
}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    made = Kept(tmp_path)
    yield made
    made.store.close()
    monkeypatch.undo()
    time.tzset()


RUNNING = {"stream": "pump", "channel": "speed", "below": 1.5}


def said(kept: Kept, *words: str) -> str:
    """Return what a command prints, in one line; no line of it is too wide."""
    output = kept.call(*words).output
    lines = [
        line
        for line in output.splitlines()
        if not line.startswith(("NOT WATCHING", "NICHT ÜBERWACHT", "fieldwatch-agent: "))
    ]
    assert max(map(len, lines)) <= WIDTH
    return " ".join(" ".join(lines).split())


def test_all_that_is_known_is_shown_in_german(kept: Kept) -> None:
    kept.take(alarm(1, **FULL))
    order = [
        "pump#1.1: Pumpe 3: Durchfluss niedriger als erwartet, gemessen an Drehzahl, seit",
        "Zu tun: Maschine ansehen",
        "Hilfe: Der Filter sitzt links. https://wiki.example.org/p3",
        "Zustand nicht quittiert (UNACK)",
        "Priorität mittel: Schwere mittel, Folgen groß",
        "wie sicher Abweichung 2,0 (1 ist die Schwelle); im Normalbetrieb sieht es etwa einmal in"
        " 40 Tagen so aus, geschätzt aus 24 h Normalbetrieb",
        "kann warten bis 15.11. 06:00, nein: Durchfluss erreicht 60,5 m3/h frühestens 15.11. 02:30,"
        " wahrscheinlich 15.11. 04:00",
        "prüfen nur Durchfluss weicht ab, die Nachbarn passen zusammen (Druck und Strom): zuerst"
        " den Sensor prüfen; ein Handmessgerät sollte 81,2 ± 2 m3/h zeigen",
        "Betrieb Drehzahl 1450 1/min (Training: 1000 bis 1400); im Training kam das nicht vor",
        "Beginn 14.11.2023 23:13:20 CET",
        "gefunden von telemanom; Paket pump version 3, Prüfsumme 4ce4c9a5",
        "Kanal Spitze erwartet zuletzt Anteil",
        "Durchfluss m3/h 71 84,2 70 100 %",
        "Logbuch",
        "#1 ausgelöst: jetzt nicht quittiert",
        "Weiter: fieldwatch-agent alarms ack pump#1.1",
    ]
    assert_in_order(said(kept, "show", "1", "--language", "de"), order)
    assert_in_order(
        said(kept, "--language", "de"),
        [
            "Zeiten in CET (UTC+01:00).",
            "NICHT QUITTIERT: 1",
            "ALARM PRIO SEIT VOR ZUSTAND",
            "pump#1.1 mittel 14.11.2023",
            "aktiv",
            "Pumpe 3: Durchfluss niedriger als erwartet, gemessen an Drehzahl, seit",
            "Zu tun: Maschine",
            "Durchfluss 71 m3/h, erwartet 84,2",
        ],
    )


def test_and_in_english(kept: Kept) -> None:
    kept.take(alarm(1, **FULL))
    order = [
        "Pumpe 3: Durchfluss lower than expected for its Drehzahl, for",
        "Help: Der Filter",
        "how sure score 2.0 (1 is the threshold); normal operation looks like this about once in 40"
        " days, estimated from 24 h of it",
        "can wait until 15 Nov 06:00, no: Durchfluss passes 60.5 m3/h at 15 Nov 02:30 at the"
        " earliest, and probably at 15 Nov 04:00",
        "check Durchfluss alone is off, its neighbours fit (Druck and Strom): check the sensor"
        " first; a hand gauge should show 81.2 ± 2 m3/h",
        "operation Drehzahl 1450 1/min (training: 1000 to 1400); training did not cover this",
        "found by telemanom; bundle pump version 3, digest 4ce4c9a5",
    ]
    assert_in_order(said(kept, "show", "1"), order)


def test_two_open_alarms_of_a_machine_are_told_apart(kept: Kept) -> None:
    kept.take(alarm(1, **FULL | {"course": "persistent"}))
    kept.take(alarm(2, **FULL | {"course": "spike", "during": 1}))
    beside = "(a further fault beside alarm #1)"
    found = said(kept, "--open")
    assert (found.count("Pumpe 3: Durchfluss"), found.count(beside)) == (2, 1)
    assert "course a persistent deviation" in said(kept, "show", "1")
    further = "further a fault of its own, which began while alarm #1 was open"
    assert_in_order(said(kept, "show", "2"), [beside, "course a short peak so far", further])
    german = "weitere eine eigene Störung; sie begann, als Alarm #1 offen war"
    order = ["Verlauf bisher eine kurze Spitze", german]
    assert_in_order(said(kept, "show", "2", "--language", "de"), order)


OUTLOOK: dict[str, Any] = dict(FULL["outlook"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("outlook", "says"),
    [
        ({"answer": "waits"}, "yes: the chance is under 10 % that Durchfluss passes 60.5 m3/h"),
        ({"answer": "doubtful"}, "perhaps not: Durchfluss passes"),
        ({"answer": "doubtful", "median_at": None}, "perhaps not: Durchfluss passes"),
        ({"answer": "passed"}, "no: Durchfluss is beyond 60.5 m3/h"),
        ({"answer": "unknown"}, "cannot say: the forecast ends at"),
        ({"answer": "unknown", "made_at": None}, "cannot say: there is no forecast"),
        (
            {"answer": "unknown", "made_at": None, "channel": None},
            "cannot say: no limit is set",
        ),
    ],
)
def test_each_answer_to_whether_it_can_wait_has_its_words(
    kept: Kept, outlook: dict[str, Any], says: str
) -> None:
    kept.take(alarm(1, **FULL | {"outlook": OUTLOOK | outlook}))
    assert says in said(kept, "show", "1")
    kept.take(alarm(1, state="closed", **FULL | {"outlook": OUTLOOK | outlook}))
    assert "can wait" not in said(kept, "show", "1")


@pytest.mark.parametrize(
    ("rarity", "says"),
    [
        ({"every_s": 7200.0, "seen_s": 86400.0, "at_least": False}, "this about once in 2 h"),
        ({"every_s": 7200.0, "seen_s": None, "at_least": False}, "this about once in 2 h"),
        (
            {"every_s": 99 * 86400.0, "seen_s": 86400.0, "at_least": True},
            "less than once in 99 days; 24 h of it cannot tell more",
        ),
        (None, "normal operation reaches it in 1 of 1,000,000 samples"),
    ],
)
def test_how_sure_it_is_says_what_it_rests_on(
    kept: Kept, rarity: dict[str, Any] | None, says: str
) -> None:
    kept.take(alarm(1, rarity=rarity))
    assert says in said(kept, "show", "1")


def test_similar_alarms_come_with_what_staff_said_of_them(kept: Kept) -> None:
    flow = [{"channel": "flow", "title": "flow"} | CHANNEL]
    other = [{"channel": "voltage", "title": "voltage"} | CHANNEL]
    for number in range(1, 9):
        one = alarm(number, channels=other if number == 6 else flow)
        kept.take(one, one | {"state": "closed", "closed": ONSET, "ended": "normal"})
    kept.take(alarm(1, "fan", channels=flow), alarm(9, kind="stuck", channels=flow))
    kept.ask("labelled", alarm(7), labelled=Labelled("false"), why="was wrong")
    kept.ask("labelled", alarm(7), labelled=Labelled("confirmed"), why="strainer blocked")
    kept.ask("noted", alarm(7), why="cleaned it")
    document = json.loads(kept.call("show", "pump#8", "--json").output)["alarm"]["similar"]
    assert [one["number"] for one in document] == [7, 5, 4, 3, 2]
    assert [row["why"] for row in document[0]["said"]] == ["strainer blocked", "cleaned it"]
    order = [
        "similar alarms pump#7 14 Nov 2023 confirmed by maria: strainer blocked; note by maria:"
        " cleaned it pump#5 14 Nov 2023 nobody wrote what it was",
    ]
    assert_in_order(said(kept, "show", "pump#8"), order)
    assert "similar alarms" not in said(kept, "show", "pump#1")


def test_an_escape_sequence_reaches_the_terminal_nowhere(kept: Kept) -> None:
    hostile = json.loads(
        re.sub(r'"(Pumpe 3|Durchfluss|Drehzahl|Druck|m3/h|1/min)"', '"@"', json.dumps(FULL))
    )
    text = json.dumps(hostile).replace("@", json.dumps(ESCAPES)[1:-1])
    text = text.replace("links.", json.dumps(f"links.{ESCAPES}")[1:-1])
    kept.take(alarm(1, **json.loads(text)))
    (kept.config.parent / "texts.toml").write_text('[de]\n"label.state" = "a\\u001b[2J"\n')
    kept.config.write_text(kept.config.read_text() + '[language]\ncatalogue = "texts.toml"\n')
    for words in (["show", "1"], ["show", "1", "--language", "de"], [], ["--language", "de"]):
        output = kept.call(*words).output
        assert output.replace("\n", "").isprintable()
        assert "\\x1b[2J" in output


def test_the_configuration_sets_the_language_and_the_plants_own_texts(kept: Kept) -> None:
    kept.take(alarm(1, title="Pump 3"))
    (kept.config.parent / "texts.toml").write_text(
        '[nl]\n"anomaly.lower" = "{machine}: {channel} te laag"\nlabel.state = "toestand"\n'
        '[de]\n"anomaly.lower" = "{machin}"\nx = "y"\n'
    )
    plain = kept.config.read_text()
    kept.config.write_text(plain + '[language]\ndefault = "nl"\ncatalogue = "texts.toml"\n')
    shown = kept.call("show", "1").output
    assert "pump#1.1: Pump 3: flow te laag, for" in shown
    assert "toestand   unacknowledged (UNACK)" in shown
    assert "texts.toml: de: 'anomaly.lower': unknown parameter {machin}; did you" in shown
    assert "texts.toml: de: 'x': there is no such text" in shown
    german = said(kept, "show", "1", "--language", "de")
    assert "Pump 3: flow niedriger als erwartet" in german
    refused = kept.call("--language", "xx")
    assert str(refused.exception) == "there is no language 'xx'; there are en, de, nl"
    for lines in ('default = "xx"', 'catalogue = "absent.toml"'):
        kept.config.write_text(f"{plain}[language]\n{lines}\n")
        output = kept.call().output
        assert "Pump 3: flow lower than expected" in output
        assert "used" in output


def test_each_word_of_the_logbook_has_a_text() -> None:
    assert {f"state.{state}": word for state, word in WORDS.items()}.items() <= TEXTS.items()
    assert {f"row.{what}": word for what, word in SAID.items()}.items() <= TEXTS.items()
    assert {f"labelled.{label}" for label in LABELS} <= TEXTS.keys()


def test_a_forecast_has_its_time_in_the_first_line(kept: Kept) -> None:
    limit = {"side": "low", "level": "critical", "value": 60.5, "unit": "m3/h", "made": ONSET}
    limit |= {"probability": 0.93, "median_s": 7200.0, "earliest_s": 3600.0, "latest_s": None}
    kept.take(alarm(1, kind="limit", limit=limit | {"horizon_s": 9000.0}))
    assert ONSET_S
    shown = said(kept, "show", "1", "--language", "de")
    assert "pump: flow fällt jeden Moment unter 60,5 m3/h (kritische Grenze), seit" in shown
    assert "wie sicher eine Vorhersage; Wahrscheinlichkeit 93 %" in shown


def test_a_flood_is_grouped_in_german(kept: Kept) -> None:
    members = [
        alarm(n, kind="stuck", channels=[{"channel": f"c{n}"} | CHANNEL]) for n in range(1, 25)
    ]
    kept.take(*members)
    document = json.loads(kept.call("--json").output)["alarms"]
    grouped = [one for one in document if one["handling"]["grouped"]]
    assert grouped, "24 alarms at once are no flood"
    order = [
        f"pump: {len(grouped)} Alarme",
        f"{len(grouped)} aktiv, in einer Flut",
        f"{len(grouped)} Stillstand eines Werts. Am dringendsten ist pump#",
        "pump: Wert von c",
        "Zu tun:",
        "fieldwatch-agent alarms ack",
    ]
    assert_in_order(said(kept, "--language", "de"), order)


def test_a_reason_of_the_agent_is_in_the_readers_language_and_one_of_an_old_version_as_it_was() -> (
    None
):
    over = Message("reason.over", {"reason": Message("when.below", RUNNING).document()})
    assert why_of({"why": "x", "reason": over.document()}, GERMAN) == "vorbei: pump speed unter 1,5"
    assert why_of({"why": "its time is over"}, GERMAN) == "its time is over"
    assert why_of({"why": "von Anna", "reason": None}, GERMAN) == "von Anna"
