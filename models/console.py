"""What the commands print: the only door to the terminal, of the agent's and of the trainer's.

What they print quotes bundles, devices, brokers and files. Here it becomes printable, whatever it
holds, so that it can neither move the cursor, nor forge a line, nor end the command because the
terminal's encoding lacks a letter.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from types import TracebackType
from typing import Final, Literal, NamedTuple

from models.printable import indented, json_text, printable, printable_lines

LINE_CHARACTERS_MAX: Final = 20_000
_COLORS: Final = {"red": "\x1b[31m", "green": "\x1b[32m"}
_OFF: Final = "\x1b[0m"


class Colored(NamedTuple):
    """A part of a line; without its color where that is no terminal, or nobody wants it."""

    text: str
    color: Literal["red", "green"]


def begin() -> None:
    """Show what the terminal's encoding lacks as escapes, whoever prints; once, at the start.

    The trace of a defect becomes printable, too: its text may quote what led to it.
    """
    sys.excepthook = _trace
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _trace(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    say_lines(indented("".join(traceback.format_exception(error)).rstrip("\n")), error=True)


def has_blocks() -> bool:
    """Whether the encoding of stdout has the blocks that a chart is drawn with."""
    try:
        "▁█".encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def say(*parts: str | Colored, error: bool = False) -> None:
    """Print one line, made of these parts; to stderr where it is an ``error``."""
    stream = sys.stderr if error else sys.stdout
    color = stream.isatty() and "NO_COLOR" not in os.environ
    print("".join(_shown(part, color) for part in parts), file=stream, flush=True)


def _shown(part: str | Colored, color: bool) -> str:
    if isinstance(part, str):
        return printable(part, LINE_CHARACTERS_MAX)
    text = printable(part.text, LINE_CHARACTERS_MAX)
    return f"{_COLORS[part.color]}{text}{_OFF}" if color else text


def say_lines(text: str, *, error: bool = False) -> None:
    """Print lines that we have made, of any length."""
    print(printable_lines(text), file=sys.stderr if error else sys.stdout, flush=True)


def say_error(command: str, text: str) -> None:
    """Say in the name of a command what is wrong; further lines are set apart from other output."""
    first, *more = text.split("\n")
    say(f"{command}: {first}", error=True)
    for line in more:
        say(f"  {line}", error=True)


def say_json(document: object, indent: int | None = 2) -> None:
    """Print a document for programs: over several lines, or in one without an ``indent``."""
    say_lines(json_text(document, indent, _encoding()))


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"  # what takes text as it is has none
