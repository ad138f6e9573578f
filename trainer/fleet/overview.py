"""Shows how far a run is: on a terminal a block that is drawn again, elsewhere a line per end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

from models.printable import printable
from models.shown import shown
from trainer.fleet.outcome import Outcome
from trainer.workers import Finished, Happening, Started

IDLE_S: Final = 1.0  # seconds until a terminal is drawn again
_RUNNING_SHOWN_MAX: Final = 8
_BAR: Final = 24
_UP_AND_CLEAR: Final = "\x1b[{}F\x1b[J"  # to the start of the line so many above; clear from there


class Overview:
    """What runs, what is done, what failed, and when it will end."""

    def __init__(
        self,
        total: int,
        terminal: TextIO | None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing done.

        Args:
            total: number of tasks.
            terminal: where the block is drawn; None: ``say`` gets a line for each end.
            say: prints a line.
            clock: seconds, steady.

        """
        self._total = total
        self._terminal = terminal
        self._say = say
        self._clock = clock
        self._began_s = clock()
        self._running: dict[str, float] = {}  # since when
        self._done = self._bad = 0
        self._spent_s: list[float] = []  # by those that are done
        self._widest = 1  # the most that ran at a time
        self._drawn = 0  # lines

    def take(self, happening: Happening) -> None:
        """Take what happened, and show it."""
        line = ""
        if isinstance(happening, Started):
            self._running[happening.name] = self._clock()
            self._widest = max(self._widest, len(self._running))
        elif isinstance(happening, Finished):
            line = self._end(happening)
        if self._terminal is not None:
            self._draw(self._terminal, line if self._is_bad(happening) else "")
        elif line:
            self._say(f"{line}; {self._counts()}")

    def close(self) -> None:
        """Remove the block from the terminal."""
        if self._terminal is not None:
            self._clear(self._terminal)
            self._terminal.flush()

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end, from the mean of those that are done; None before the first."""
        if not self._spent_s:
            return None
        left = self._total - self._done
        mean = sum(self._spent_s) / len(self._spent_s)
        now = self._clock()
        spent = sum(min(now - since, mean) for since in self._running.values())
        return max(left * mean - spent, 0.0) / min(self._widest, max(left, 1))

    def _end(self, finished: Finished) -> str:
        spent_s = self._clock() - self._running.pop(finished.name, self._clock())
        self._spent_s.append(spent_s)
        self._done += 1
        bad = self._is_bad(finished)
        self._bad += bad
        return f"{self._done}/{self._total} {finished.name}: {_said(finished)}, {spent_s:.1f} s"

    @staticmethod
    def _is_bad(happening: Happening) -> bool:
        if not isinstance(happening, Finished):
            return False
        result = happening.result
        return happening.error is not None or (isinstance(result, Outcome) and result.is_bad)

    def _counts(self) -> str:
        left_s = self.eta_s if self._done < self._total else None
        eta = "" if left_s is None else f", about {duration(left_s)} left"
        return f"{len(self._running)} running, {self._bad} bad{eta}"

    def _draw(self, terminal: TextIO, above: str) -> None:
        """Draw the block again; ``above`` stays on the terminal."""
        self._clear(terminal)
        if above:
            terminal.write(f"{printable(above)}\n")
        filled = _BAR * self._done // max(self._total, 1)
        since = duration(self._clock() - self._began_s)
        lines = [
            f"[{'#' * filled}{'.' * (_BAR - filled)}] {self._done}/{self._total} done,"
            f" {self._counts()}, {since} so far"
        ]
        now = self._clock()
        running = list(self._running.items())
        for name, began_s in running[:_RUNNING_SHOWN_MAX]:
            lines.append(f"  {name}  {duration(now - began_s)}")
        if len(running) > _RUNNING_SHOWN_MAX:
            lines.append(f"  … and {len(running) - _RUNNING_SHOWN_MAX} more")
        terminal.write("".join(f"{printable(line)}\n" for line in lines))
        terminal.flush()
        self._drawn = len(lines)

    def _clear(self, terminal: TextIO) -> None:
        if self._drawn:
            terminal.write(_UP_AND_CLEAR.format(self._drawn))
        self._drawn = 0


def _said(finished: Finished) -> str:
    if finished.error is not None:
        return f"failed: {finished.error}".split("\n")[0]
    result = finished.result
    if not isinstance(result, Outcome):
        return "done"
    return f"{result.state}: {result.message}" if result.is_bad else result.state


def duration(seconds: float) -> str:
    """Return a duration for people.

    >>> duration(8.4), duration(95), duration(7300)
    ('8 s', '1.6 min', '2 h')

    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{shown(seconds / size, '.2g')} {unit}"
    return f"{seconds:.0f} s"
