"""The output of all commands of agent and trainer. Nothing else prints.

The output quotes bundles, devices, brokers and files. Here it becomes printable. So it can neither
move the cursor nor forge a line, and a letter that the terminal's encoding lacks is no error.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from types import TracebackType
from typing import Final, Literal, NamedTuple, NoReturn

from models.printable import indented, json_text, printable, printable_lines

LINE_CHARACTERS_MAX: Final = 20_000
_COLORS: Final = {"red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m"}
_OFF: Final = "\x1b[0m"
_ERROR_PREFIX: Final = "<3>"  # to the journal: the priority "err", see sd-daemon(3)
_json_was_said = False


class Colored(NamedTuple):
    """A part of a line in a color. Without a terminal, or with ``NO_COLOR``, it has none."""

    text: str
    color: Literal["red", "green", "yellow"]


def begin() -> None:
    """Set up the output of the process; call it once, at the start.

    Characters that the terminal's encoding lacks are printed as escapes, whoever prints. The trace
    of a defect becomes printable too, as its text may quote input.
    """
    global _json_was_said
    _json_was_said = False
    sys.excepthook = _trace
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _trace(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    text = indented("".join(traceback.format_exception(error)).rstrip("\n"))
    mark = _error_prefix()
    say_lines("\n".join(f"{mark}{line}" for line in text.split("\n")), error=True)


def stderr_is_the_journal() -> bool:
    """Whether systemd connected stderr with the journal, and nobody has redirected it since."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _error_prefix() -> str:
    """What gives a line the priority of an error; the journal takes lines as "info" else."""
    return _ERROR_PREFIX if stderr_is_the_journal() else ""


def has_blocks() -> bool:
    """Whether the encoding of stdout has the block characters of a chart."""
    try:
        "▁█".encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def say(*parts: str | Colored, error: bool = False) -> None:
    """Print one line of these parts, to stderr if ``error``.

    A part has at most ``LINE_CHARACTERS_MAX`` characters; the rest is left out.
    """
    stream = sys.stderr if error else sys.stdout
    color = stream.isatty() and "NO_COLOR" not in os.environ
    print("".join(_shown(part, color) for part in parts), file=stream, flush=True)


def _shown(part: str | Colored, color: bool) -> str:
    if isinstance(part, str):
        return printable(part, LINE_CHARACTERS_MAX)
    text = printable(part.text, LINE_CHARACTERS_MAX)
    return f"{_COLORS[part.color]}{text}{_OFF}" if color else text


def say_lines(text: str, *, error: bool = False) -> None:
    """Print lines of this software, of any length, to stderr if ``error``."""
    print(printable_lines(text), file=sys.stderr if error else sys.stdout, flush=True)


def say_error(command: str, text: str) -> None:
    """Print the error ``text`` of a command to stderr; its further lines are indented."""
    first, *more = text.split("\n")
    mark = _error_prefix()
    say(f"{mark}{command}: {first}", error=True)
    for line in more:
        say(f"{mark}  {line}", error=True)


def say_json(document: object, indent: int | None = 2) -> None:
    """Print a document as JSON, on one line where ``indent`` is None."""
    global _json_was_said
    _json_was_said = True
    say_lines(json_text(document, indent, _encoding()))


def fail(message: str, exit_code: int, as_json: bool) -> NoReturn:
    """End a command that told its error; a program that asked for JSON gets a document of it.

    There is none if a document was printed before: another one after it would be too many.
    """
    if as_json and not _json_was_said:
        say_json({"error": {"message": message, "exit_code": exit_code}}, indent=None)
    sys.exit(exit_code)


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"  # what takes text as it is has none
