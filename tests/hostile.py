"""Texts as nobody should send them, and what may be seen of them."""

from __future__ import annotations

import random
from typing import Final

HOSTILE: Final = "\ud800\x1b[2J\n<0>root: forged\u202e"
SHOWN: Final = "\\ud800\\x1b[2J\\n<0>root: forged\\u202e"
PIECES: Final = (
    *("\ud800", "\udfff", "\x00", "\x1b]0;title\x07", "\x1b[2J", "\x7f", "\x9b2J", "\x85", "\r"),
    *("\n", "\t", "\u2028", "\u2029", "\u202e", "\u2066", "\u200b", "\ufeff", "\u00a0", "\ue000"),
    *("\U0010ffff", "\U000e0041", "$\\frac$", "'", '"', "\\", "<b>", "{", "}", "=", ",", ";", ":"),
    *("flow", "°C", "温度", "a" * 300, "1", "-", ".", "/", "~1", "+", "#", "", " "),
)


def hostile_text(chance: random.Random) -> str:
    """Some pieces in a row."""
    return "".join(chance.choices(PIECES, k=chance.randint(1, 4)))


def assert_harmless(output: bytes) -> None:
    """What a command printed: UTF-8, in which nothing but letters, blanks and line ends."""
    for line in output.decode().split("\n"):
        assert line.isprintable(), ascii(line)
