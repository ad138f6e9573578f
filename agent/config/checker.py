"""Checks configurations and manifests in a separate process, for an agent without pydantic.

    agent ─ function, arguments ─> checking ─> what it returns, or the error it raises

Checking takes 25 MB and half a second, and the agent needs it only at its start and at a reload.
Both processes are this software, and talk by pickle through a pipe that nobody else has.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from models import console
from models.errors import FieldwatchError

_SECONDS_MAX = 30  # for one answer

P = ParamSpec("P")
T = TypeVar("T")


class NotChecked(FieldwatchError):
    """The checking process has ended; the text says how.

    ``code``: with what, negative for a signal; None: it could not be started.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class Checker:
    """The checking process, as the agent sees it; started once, and ended by ``close``."""

    def __init__(self, seconds_max: int = _SECONDS_MAX) -> None:
        """``seconds_max`` is for one answer; after that SIGALRM ends the process."""
        self._seconds_max = seconds_max
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it loads its modules while the agent does other things.

        Raises:
            NotChecked: it cannot be started.

        """
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-P", "-m", __spec__.name, str(self._seconds_max)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:  # no memory, too many processes
            raise NotChecked(f"the checking process cannot be started: {error}") from error

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def kill(self) -> None:
        """End it at once; a call that waits for its answer raises NotChecked. For any thread."""
        if (process := self._process) is not None:
            process.kill()

    def __enter__(self) -> Checker:
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Return what a function of a module returns there, or raise what it raises.

        Raises:
            FieldwatchError: the function has raised it.
            NotChecked: there is no answer.

        """
        process = self._process
        assert process is not None and process.stdin and process.stdout
        try:
            pickle.dump((function, arguments, named), process.stdin)
            process.stdin.flush()
            answer = pickle.load(process.stdout)  # noqa: S301 - our own process
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            code = _end(process)
            raise NotChecked(
                f"the checking process has ended without an answer (code {code});"
                " its message is in the log, if it had one",
                code,
            ) from None
        if isinstance(answer, FieldwatchError):
            raise answer
        result: T = answer
        return result


def _end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def main() -> NoReturn:
    """Answer until the other side closes the pipe."""
    console.begin()
    gc.disable()  # it ends before there is garbage worth the time
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the agent
    seconds_max = int(sys.argv[1])
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # for whatever is printed

    while True:
        try:
            function, arguments, named = pickle.load(questions)  # noqa: S301 - our own process
        except EOFError:
            os._exit(0)  # the agent waits for the end, and to clean up takes 60 ms
        signal.alarm(seconds_max)
        try:
            answer = function(*arguments, **named)
        except FieldwatchError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()
        signal.alarm(0)


if __name__ == "__main__":
    main()
