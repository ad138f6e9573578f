"""Measures the loop's CPU time by stage: a stopwatch around the public methods of its parts.

While ``watch`` is on, every public method of the classes in ``_STAGES`` stops the clock of its
caller's stage and starts its own. So the network's time does not count as the detector's. All calls
in a commit count as the commit. Time outside these methods (the queue, the marks of the benchmark,
the loop itself) counts as ``loop``. Watching costs some microseconds per sample, so only the shares
of a watched run are used, not their sum.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent.bench.devices import Rounds
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.scoring.intake import Intake
from agent.scoring.stream import Stream
from agent.store.writer import Store
from models.align import Aligners
from models.interpreter import StepNetwork
from models.pipeline import Pipeline

LOOP: Final = "loop"
_DEVICES: Final = "devices"  # not a stage: the simulated devices in the loop's thread
COMMIT: Final = "commit"
_STAGES: dict[type, str] = {
    Intake: "parse",
    LineParser: "parse",
    Aligners: "align",
    StepNetwork: "score",  # with the copies into and out of its tensors
    Pipeline: "detect",  # scaling, smoothing, threshold, sensor checks, events
    Fleet: "alarms",  # the results of the scores: alarms, summaries, counters
    Stream: "alarms",
    Store: COMMIT,
}
_SAVING = {(Stream, "save"), (Stream, "document")}  # part of a commit
STAGES: Final = tuple(dict.fromkeys([*_STAGES.values(), LOOP]))


class Stopwatch:
    """CPU time of the thread that uses it, by stage."""

    def __init__(self) -> None:
        self._spent_ns = dict.fromkeys((*STAGES, _DEVICES), 0)
        self._stage = LOOP
        self._since_ns = time.thread_time_ns()

    def enter(self, stage: str) -> str:
        """Switch to this stage, unless a commit is running; return the stage before."""
        before = self._stage
        if before != COMMIT:
            self._turn(stage)
        return before

    def leave(self, before: str) -> None:
        """Go back to the stage before."""
        self._turn(before)

    def _turn(self, stage: str) -> None:
        now = time.thread_time_ns()
        self._spent_ns[self._stage] += now - self._since_ns
        self._stage, self._since_ns = stage, now

    def spent_s(self) -> dict[str, float]:
        """Return the time in each stage so far."""
        self._turn(self._stage)
        return {stage: self._spent_ns[stage] / 1e9 for stage in STAGES}


@contextlib.contextmanager
def watch() -> Iterator[Stopwatch]:
    """Time the stages of this thread; restore the methods afterwards."""
    stopwatch = Stopwatch()
    with contextlib.ExitStack() as restoring:
        for owner, stage in (_STAGES | {Rounds: _DEVICES}).items():
            for name, method in _public_methods(owner):
                timed = COMMIT if (owner, name) in _SAVING else stage
                setattr(owner, name, _timed(method, timed, stopwatch))
                restoring.callback(setattr, owner, name, method)
        yield stopwatch


def _public_methods(owner: type) -> list[tuple[str, Callable[..., Any]]]:
    return [
        (name, member)
        for name, member in vars(owner).items()
        if inspect.isfunction(member) and not name.startswith("_")
    ]


def _timed(method: Callable[..., Any], stage: str, stopwatch: Stopwatch) -> Callable[..., Any]:
    @functools.wraps(method)
    def timed(*arguments: Any, **named: Any) -> Any:
        before = stopwatch.enter(stage)
        try:
            return method(*arguments, **named)
        finally:
            stopwatch.leave(before)

    return timed
