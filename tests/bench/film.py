"""Types the commands of ``docs/five-minutes.film`` in a fresh system, and times them.

    python -m tests.bench.film [--docs SYSTEM] -- nsenter ...

The words after ``--`` are put before each command. ``--docs`` writes film and times into docs/.
``scripts/test-deb`` calls it in the system that it has booted. Each command must succeed, or show
what the film says. A film has its commands' real times; only the typing is added to them.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / "docs" / "five-minutes.film"
CAST: Final = ROOT / "docs" / "images" / "five-minutes.cast"
PICTURE: Final = ROOT / "docs" / "images" / "five-minutes.svg"
PAGE: Final = ROOT / "docs" / "first-hour.md"

COLUMNS: Final = 110
ROWS: Final = 30
_KEY_S: Final = 0.03  # between two keys
_PAUSE_S: Final = 1.0  # after a command
_IDLE_S_MAX: Final = 2.5  # longer waits are shortened in the picture
_END_S: Final = 8.0  # that the last screen of the picture stays
_AGAIN_S: Final = 2.0  # until a command is typed again
_WAIT_S_MAX: Final = 120.0
_TABLE: Final = re.compile(r"(?s)(<!-- film -->\n).*?(<!-- end of film -->)")


class WrongFilm(Exception):
    """The film is wrong, or did not go as it says."""


class Step(NamedTuple):
    """A line of the film, with what must be seen after a command."""

    kind: str  # ":", "$", "+" or "-"
    text: str
    seen: str = ""


class Line(NamedTuple):
    """A line on the screen."""

    after_s: float  # from the command
    text: str


class Take(NamedTuple):
    """A step as it went."""

    step: Step
    seconds: float
    lines: tuple[Line, ...] = ()


def read(text: str) -> list[Step]:
    """Return the steps of a film.

    Raises:
        WrongFilm: a line is of no kind, or belongs to no command.

    """
    steps: list[Step] = []
    for line in text.splitlines():
        kind, rest = line[:1], line[2:]
        if kind in ("", "#"):
            continue
        if kind == "=" and steps and steps[-1].kind == "$":
            steps[-1] = steps[-1]._replace(seen=rest)
        elif kind in (":", "$", "+", "-"):
            steps.append(Step(kind, rest))
        else:
            raise WrongFilm(f"not a line of a film: {line}")
    return steps


def play(steps: Sequence[Step], before: Sequence[str]) -> Iterator[Take]:
    """Type each command in a shell after the words ``before``; yield how it went.

    Raises:
        WrongFilm: a command failed, or did not show what it should.

    """
    for step in steps:
        began = time.monotonic()
        lines: tuple[Line, ...] = ()
        if step.kind == "$":
            lines = _typed(step, before)
        elif step.kind in "+-":
            verb = "start" if step.kind == "+" else "stop"
            subprocess.run([*before, f"systemctl {verb} {step.text}"], check=True)
        yield Take(step, time.monotonic() - began, lines)


def _typed(step: Step, before: Sequence[str]) -> tuple[Line, ...]:
    """Return what was on the screen at last; times count from the first try."""
    began = time.monotonic()
    while True:
        code, lines = _run([*before, step.text], began)
        shown = "\n".join(line.text for line in lines)
        if re.search(step.seen, shown) if step.seen else code == 0:
            return tuple(lines)
        if not step.seen or time.monotonic() - began > _WAIT_S_MAX:
            raise WrongFilm(f"{step.text}: ended with {code}, without {step.seen!r}:\n{shown}")
        time.sleep(_AGAIN_S)


def _run(words: Sequence[str], began: float) -> tuple[int, list[Line]]:
    lines = []
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for text in running.stdout:
            lines.append(Line(time.monotonic() - began, text.rstrip("\n")))
    return running.returncode, lines


class Shown(NamedTuple):
    """A line of the film."""

    at_s: float  # from the beginning
    kind: str  # that of its step; "" for what a command prints
    text: str


def screen(takes: Sequence[Take], idle_s_max: float = float("inf")) -> Iterator[Shown]:
    """Yield the lines of the screen; waits are no longer than ``idle_s_max``."""
    now = 0.0
    for take in takes:
        if take.step.kind == ":":
            yield Shown(now, "", "")
            yield Shown(now, ":", f"# {take.step.text}")
            now += _PAUSE_S
        elif take.step.kind == "$":
            yield Shown(now, "$", f"$ {take.step.text}")
            now += _KEY_S * len(take.step.text)
            last_s = 0.0
            for line in take.lines:
                now += min(line.after_s - last_s, idle_s_max)
                last_s = line.after_s
                yield Shown(now, "", line.text)
            now += min(take.seconds - last_s, idle_s_max) + _PAUSE_S


def cast(takes: Sequence[Take]) -> str:
    """Return the film in the format of asciinema, version 2."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "Fieldwatch in five minutes"}
    rows: list[object] = [header]
    for at_s, kind, text in screen(takes):
        if kind == "$":
            rows.append([round(at_s, 3), "o", "\x1b[1;32m$\x1b[0m "])
            keys = enumerate(text[2:])
            rows += [[round(at_s + _KEY_S * number, 3), "o", key] for number, key in keys]
            rows.append([round(at_s + _KEY_S * len(text[2:]), 3), "o", "\r\n"])
        else:
            coloured = f"\x1b[36m{text}\x1b[0m" if kind == ":" else text
            rows.append([round(at_s, 3), "o", f"{coloured}\r\n"])
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def svg(takes: Sequence[Take]) -> str:
    """Return the film as a picture that moves by itself, and loads nothing."""
    lines = [
        Shown(at_s, kind, text[start : start + COLUMNS])
        for at_s, kind, text in screen(takes, _IDLE_S_MAX)
        for start in range(0, max(len(text), 1), COLUMNS)
    ]
    whole_s = lines[-1].at_s + _END_S
    rows = []
    for number, (at_s, kind, text) in enumerate(lines):
        how = {"$": ' class="c"', ":": ' class="t"'}.get(kind, "")
        how += f' style="animation-delay:{at_s:.2f}s"'
        shown = html.escape(text, quote=False)
        rows.append(f'<text y="{18 * number + 14}"{how}>{shown}</text>')
    moves = {
        round(100 * at_s / whole_s, 2): -18 * max(0, number + 1 - ROWS)
        for number, (at_s, _, _) in enumerate(lines)
    }
    scroll = "\n".join(f"{at}% {{ transform: translateY({y}px) }}" for at, y in moves.items())
    return _SVG.format(
        width=int(8.43 * COLUMNS) + 24,
        height=18 * ROWS + 24,
        whole=f"{whole_s:.2f}",
        scroll=scroll,
        last=min(moves.values()),
        rows="\n".join(rows),
    )


_SVG: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<title>Fieldwatch from a fresh system to an alarm</title>
<style>
text {{
  font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  fill: #d7dce2; white-space: pre; visibility: hidden; animation: show .01s forwards;
}}
.c {{ fill: #7ee787; font-weight: bold }}
.t {{ fill: #79c0ff }}
#s {{ animation: scroll {whole}s step-end forwards }}
@keyframes show {{ to {{ visibility: visible }} }}
@keyframes scroll {{
{scroll}
100% {{ transform: translateY({last}px) }}
}}
@media (prefers-reduced-motion) {{
  text {{ visibility: visible; animation: none }}
  #s {{ animation: none; transform: translateY({last}px) }}
}}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<svg x="12" y="12" width="{width}" height="{height}"><g id="s">
{rows}
</g></svg>
</svg>
"""


def table(takes: Sequence[Take], system: str) -> str:
    """Return the commands and their times as a table of Markdown."""
    commands = [take for take in takes if take.step.kind == "$"]
    rows = [
        f"| `{take.step.text.replace('|', chr(92) + '|')}` | {take.seconds:.1f} |"
        for take in commands
    ]
    whole = sum(take.seconds for take in takes)
    return "\n".join(
        [
            f"{system}; typed by `make film`:\n",
            "| command | seconds |",
            "|---|--:|",
            *rows,
            f"| **all** | **{whole:.0f}** |",
            "",
        ]
    )


def write_docs(takes: Sequence[Take], system: str) -> None:
    """Write the film, its picture, and the table of its times."""
    CAST.write_text(cast(takes))
    PICTURE.write_text(svg(takes))
    page = PAGE.read_text()
    shown = table(takes, system)
    PAGE.write_text(_TABLE.sub(lambda found: found[1] + shown + found[2], page))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", metavar="SYSTEM", help="write the film in docs/: of this system")
    parser.add_argument("--seconds-max", type=float, default=300.0)
    parser.add_argument("before", nargs="+", help="words before each command, after --")
    arguments = parser.parse_args()
    takes = []
    try:
        for take in play(read(SCRIPT.read_text()), arguments.before):
            takes.append(take)
            if take.step.kind == "$":
                print(f"    {take.seconds:6.1f} s  $ {take.step.text}", flush=True)
    except (WrongFilm, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    whole_s = sum(take.seconds for take in takes)
    if whole_s > arguments.seconds_max:
        print(f"error: it took {whole_s:.0f} s", file=sys.stderr)
        return 1
    if arguments.docs:
        write_docs(takes, arguments.docs)
    print(f"ok  from a fresh system to an alarm of a service that scores: {whole_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
