"""Text from outside made printable: whatever comes in, one harmless line comes out."""

from __future__ import annotations

import doctest
import json
import unicodedata
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import printable as module
from models.printable import CHARACTERS_MAX, json_text, printable, printable_lines

# text() alone leaves surrogates out
ANY_TEXT = st.text(st.characters(categories=[*"LMNPSZ", "Cc", "Cf", "Cs", "Co", "Cn"]))


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Vorlauf 21 °C, m³/h, 温度", "Vorlauf 21 °C, m³/h, 温度"),
        ("\ud800", "\\ud800"),
        ("a\ndone: 1", "a\\ndone: 1"),
        ("a\rb\tc\vd\fe", "a\\rb\\tc\\x0bd\\x0ce"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x7f\x85\x9b2J", "\\x7f\\x85\\x9b2J"),  # DEL, NEL, and the escape sequence of one byte
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\u202eexe.txt\u2066", "\\u202eexe.txt\\u2066"),
        ("\ufeff\u200b\U000e0041", "\\ufeff\\u200b\\U000e0041"),
        ("\ue000\U0010ffff", "\\ue000\\U0010ffff"),  # private, and never assigned
        ("1\u00a0000\u2009m", "1 000 m"),
        ("C:\\temp \\x1b", "C:\\temp \\x1b"),
    ],
)
def test_what_is_not_printable_becomes_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable_lines(text) == shown.replace("\\n", "\n")


def test_bytes_are_read_as_utf_8_and_the_others_shown() -> None:
    assert printable("°C".encode() + b"\xb0\x00") == "°C\\xb0\\x00"


@pytest.mark.parametrize("letter", ["a", "\x1b", "\U000e0001", "°"])
def test_no_text_is_longer_than_its_bound(letter: str) -> None:
    for text in (letter * 1_000_000, (letter * 1000).encode()):
        shown = printable(text)
        assert len(shown) == CHARACTERS_MAX
        assert shown.endswith("…")
    assert printable(letter * 2, characters_max=1) == "…"


@given(ANY_TEXT | st.binary(), st.integers(1, 300))
def test_whatever_comes_in_one_bounded_line_comes_out(text: str | bytes, most: int) -> None:
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    shown.encode()
    assert printable(shown, most) == shown


@given(ANY_TEXT)
def test_lines_stay_lines_and_nothing_else_gets_through(text: str) -> None:
    shown = printable_lines(text)
    assert shown.count("\n") == text.count("\n")
    assert {unicodedata.category(c) for c in shown.replace("\n", "")}.isdisjoint(
        {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    )
    assert printable_lines(shown) == shown


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner)))
def test_json_means_the_same_and_has_nothing_but_printables(value: object) -> None:
    for indent, encoding in product((None, 2), ("utf-8", "latin-1", "ascii")):
        text = json_text(value, indent, encoding)
        assert text.replace("\n", "").isprintable()
        text.encode(encoding)
        assert json.loads(text) == without_surrogates(value)


def without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return "".join(c if c < "\ud800" or c > "\udfff" else f"\\u{ord(c):04x}" for c in value)
        case list():
            return [without_surrogates(inner) for inner in value]
        case dict():
            return {without_surrogates(key): without_surrogates(value[key]) for key in value}
