"""Texts as nobody should send them, and what may be seen of them."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn
from unittest import mock

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


# what Python writes for no number, and for a zero that was rounded
_NO_FIGURE = re.compile(r"(?<![\w.+-])(nan|-?inf|-0(\.0+)?(e[-+]?\d+)?)(?![\w.])")


class Printed(NamedTuple):
    """What a command printed, and how it ended."""

    code: object
    out: str
    err: str


def printed(
    main: Callable[[], NoReturn], name: str, words: Sequence[str], encoding: str
) -> Printed:
    """Run a command as from a shell, on a terminal of this encoding which takes nothing else."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2))
    code: object = None
    with (
        mock.patch("sys.argv", [name, *words]),
        mock.patch("sys.stdout", out),
        mock.patch("sys.stderr", err),
        mock.patch("sys.excepthook"),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    told = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]  # type: ignore[attr-defined]
    return Printed(code, *told)


def assert_harmless(told: Printed, as_json: bool = False) -> None:
    """Nothing but letters, blanks and line ends; and what is for programs is for programs."""
    for line in (told.out + told.err).split("\n"):
        assert line.isprintable(), ascii(line)
        assert not line.startswith("<0>root"), "a forged line"
    assert "Traceback" not in told.err
    if not as_json:
        assert (odd := _NO_FIGURE.search(told.out)) is None, odd
    if as_json and told.out:
        documents(told.out)


def documents(text: str) -> list[object]:
    """Read one JSON document, or one a line; all texts in it are texts."""
    json.dumps(text, ensure_ascii=False).encode()
    try:
        found = [json.loads(text)]
    except json.JSONDecodeError:
        found = [json.loads(line) for line in text.splitlines()]
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    return found
