"""An agent with a mistake planted into it: ``python -m tests.planted MISTAKE run --config …``.

MISTAKE is what a line with ``MARK`` in it does to the agent (``ENDS``), or, for a method that fails
from when FILE is there, ``MODULE:CLASS:METHOD:FILE``; where FILE has a text, for what has that
text in it.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent import cli, memory

if TYPE_CHECKING:
    from agent.inputs.lines import LineParser

MARK = b"424242"  # a number, so that a line with it is a good one


class Planted(Exception):
    """What nobody foresaw."""


def kill() -> NoReturn:
    """As a mistake in C, or the system where memory is short: nothing more can be done."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fail() -> NoReturn:
    raise Planted


def leave() -> NoReturn:
    sys.exit(0)


ENDS: dict[str, Callable[[], NoReturn]] = {"kill": kill, "fail": fail, "leave": leave}


def plant(end: Callable[[], NoReturn]) -> None:
    """Have lines with the mark end the loop; it says how many it has met."""
    from agent.parsing.lines import LineParser

    met = itertools.count(1)

    def meet(lines: Sequence[bytes]) -> None:
        for line in lines:
            if MARK in line:
                end()
            print("met", next(met), file=sys.stderr, flush=True)

    def planted(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: LineParser, lines: Sequence[bytes], *given: Any, **named: Any) -> Any:
            meet(lines)
            return right(self, lines, *given, **named)

        return wrong

    LineParser.parse = planted(LineParser.parse)  # type: ignore[method-assign]
    LineParser.parse_clean = planted(LineParser.parse_clean)  # type: ignore[method-assign]


def plant_in_method(module: str, of: str, method: str, trigger: Path) -> None:
    """Have a method fail from when a file is there."""
    kind = getattr(importlib.import_module(module), of)
    right = getattr(kind, method)

    def wrong(*given: Any, **named: Any) -> Any:
        if trigger.exists() and trigger.read_text() in str(given):
            raise Planted
        return right(*given, **named)

    setattr(kind, method, wrong)


def plant_by(mistake: str) -> None:
    plant(ENDS.get(mistake, fail))
    if mistake not in ENDS:
        module, of, method, trigger = mistake.split(":")
        plant_in_method(module, of, method, Path(trigger))


def main() -> None:
    mistake = sys.argv.pop(1)
    if sys.argv[1] == "run":
        begin = memory.begin

        def begin_planted() -> None:
            begin()  # before anything else is loaded
            plant_by(mistake)

        memory.begin = begin_planted
    else:
        plant_by(mistake)
    cli.main()


if __name__ == "__main__":
    main()
