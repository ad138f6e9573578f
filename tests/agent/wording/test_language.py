"""The texts of a language: complete, checked, and with its own way to write numbers."""

from __future__ import annotations

import pytest

from agent.wording import english, german
from agent.wording.catalogue import parameters_of, problems
from agent.wording.language import ENGLISH, GERMAN, Language
from agent.wording.message import Message, message_of

LOWER = Message("anomaly.lower", {"machine": "Pump 3", "channel": "flow"})


def test_each_built_in_language_has_each_text_with_its_parameters() -> None:
    assert german.TEXTS.keys() == english.TEXTS.keys()
    assert list(problems(german.TEXTS)) == []
    for key, text in english.TEXTS.items():
        assert parameters_of(german.TEXTS[key]) == parameters_of(text), key


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("anomaly.lowr", "{machine}", "no such text; did you mean 'anomaly.lower'?"),
        ("anomaly.lower", "{machin}", "unknown parameter {machin}; did you mean 'machine'?"),
        ("anomaly.lower", "{x}", "unknown parameter {x}; there are channel, machine"),
        ("level.warning", "{x}", "unknown parameter {x}; there are none"),
        ("anomaly.lower", "{machine", "expected '}' before end of string"),
        ("anomaly.lower", "}", "Single '}' encountered"),
        ("anomaly.lower", "{}", "placeholder {}: must be a name in braces"),
        ("anomaly.lower", "{0}", "placeholder {0}"),
        ("anomaly.lower", "{machine.x}", "placeholder {machine.x}"),
        ("anomaly.lower", "{machine[0]}", "placeholder {machine[0]}"),
        ("anomaly.lower", "{machine!r}", "placeholder {machine!r}"),
        ("anomaly.lower", "{machine:>999999999}", "placeholder {machine:>999999999}"),
        ("anomaly.lower", "", "must be a text"),
        ("anomaly.lower", 3, "must be a text"),
        ("anomaly.lower", "a\x1b[2J", "printable characters"),
        ("anomaly.lower", "a" * 401, "at most 400"),
    ],
)
def test_a_text_that_cannot_be_used_is_named_and_left_out(
    key: str, text: object, says: str
) -> None:
    ((named, why),) = problems({key: text})
    assert named == key
    assert says in why
    own = Language("de", {key: text})
    assert own.text(LOWER) == GERMAN.text(LOWER)


def test_a_plants_own_text_comes_first_and_a_language_of_its_own_lacks_nothing() -> None:
    own = Language("nl", {"anomaly.lower": "{channel} van {machine} te laag"})
    assert own.text(LOWER) == "flow van Pump 3 te laag"
    assert own.text(Message("level.warning")) == "warning limit"


def test_a_message_of_another_version_is_written_as_far_as_possible() -> None:
    assert ENGLISH.text(Message("of.later")) == "of.later"
    assert ENGLISH.text(Message("anomaly.lower", {"machine": "P"})).startswith("P: no value lower")


def test_values_are_written_by_the_end_of_their_name() -> None:
    moment = Language("en", time=lambda text: f"<{text}>")
    said = {
        ("a_s", 150): "2 min",
        ("a_at", "2026"): "<2026>",
        ("a_share", 0.9999): "over 99 %",
        ("b_share", 0.0001): "under 1 %",
        ("c_share", 0.254): "25 %",
        ("limit", 3.14159): "3.142",
        ("unit", "m_s"): "m_s",
        ("none", None): "no value",
    }
    assert {pair: moment.written(*pair) for pair in said} == said


@pytest.mark.parametrize(
    ("seconds", "english", "german"),
    [
        (-3, "0 s", "0 s"),
        (59.4, "59 s", "59 s"),
        (119, "119 s", "119 s"),
        (7199, "120 min", "120 min"),
        (7200, "2 h", "2 h"),
        (12_600, "3.5 h", "3,5 h"),
        (2.5 * 86400, "2.5 days", "2,5 Tagen"),
        (40 * 86400, "40 days", "40 Tagen"),
        (1e9, "32 years", "32 Jahren"),
    ],
)
def test_a_duration_is_in_words(seconds: float, english: str, german: str) -> None:
    assert (ENGLISH.duration(seconds), GERMAN.duration(seconds)) == (english, german)


def test_german_has_a_decimal_comma() -> None:
    assert GERMAN.measure(7.25, "bar") == "7,25 bar"
    assert GERMAN.measure(None, "bar") == "kein Wert"
    assert ENGLISH.measure(7.25, "") == "7.25"


def test_names_are_joined_in_words() -> None:
    assert [GERMAN.joined(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a und b",
        "a, b und c",
    ]


def test_a_message_is_the_same_after_its_way_through_json() -> None:
    assert message_of(LOWER.document()) == LOWER
