"""Delivers notices to a program: JSON on its standard input, no shell, bounded time and output."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from agent.onsite.outcome import Done, Failed, Outcome, Refused
from models.printable import printable

if TYPE_CHECKING:
    from agent.config.onsite import HookTable

_OUTPUT_BYTES_MAX: Final = 500  # its end is logged if the program fails
_CHARACTERS_MAX: Final = 4 * _OUTPUT_BYTES_MAX  # a byte may be written as \\xff
_READ_BYTES: Final = 4096
_READS_MAX: Final = 256  # of what the pipe holds at the end: 1 MB
_LOOK_S: Final = 0.1  # between looks whether the program has ended
_DATA_ERROR: Final = 65  # sysexits: the program will never take this notice
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Command:
    """A configured program; one thread uses it."""

    def __init__(self, settings: HookTable) -> None:
        self._settings = settings
        self._argv = list(settings.command or ())

    def deliver(
        self, id: str, document: bytes, change: Mapping[str, Any], stopping: threading.Event
    ) -> Outcome:
        """Run the program once, and return what became of it.

        At its end, at ``timeout_s``, or if the agent stops, all processes of its group are killed.
        """
        try:
            with _input(document) as given:
                process = subprocess.Popen(  # noqa: S603 - as configured, and without a shell
                    self._argv,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env=self._environment(id, change),
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            return Failed(f"{self._argv[0]} cannot be started: {error}")
        assert process.stdout is not None
        with process.stdout as output:
            return self._outcome(process, output.fileno(), stopping)

    def _environment(self, id: str, change: Mapping[str, Any]) -> dict[str, str]:
        told = {key: str(change[key]) for key in ("stream", "number", "what", "priority", "after")}
        return {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HOOK": self._settings.name,
            "ALARM_ID": id,
        } | {f"ALARM_{key.upper()}": value for key, value in told.items()}

    def _outcome(
        self, process: subprocess.Popen[bytes], output: int, stopping: threading.Event
    ) -> Outcome:
        tail = _Tail(output)
        deadline = time.monotonic() + self._settings.timeout_s
        while not (ended := _has_ended(process.pid)):
            if stopping.is_set() or time.monotonic() > deadline:
                break
            tail.read(_LOOK_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # not reaped: still its own
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        tail.drain()
        if not ended:
            why = "the agent stops" if stopping.is_set() else "it took too long (timeout_s)"
            return Failed(f"{self._argv[0]} was ended: {why}{tail}")
        if code == 0:
            return Done()
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        said = f"{self._argv[0]} ended with {how}{tail}"
        return Refused(said) if code == _DATA_ERROR else Failed(said)


class _Tail:
    """The end of what a program writes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._open, self._kept = descriptor, True, b""
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def read(self, wait_s: float) -> bool:
        """Read what there is, once, or wait; return whether there may be more."""
        if not self._open:
            time.sleep(wait_s)
        elif self._poll.poll(wait_s * 1000):
            found = os.read(self._descriptor, _READ_BYTES)
            self._open = bool(found)
            self._kept = (self._kept + found)[-_OUTPUT_BYTES_MAX:]
            return self._open
        return False

    def drain(self) -> None:
        """Read what the pipe holds; a process that has left the group may still write to it."""
        for _ in range(_READS_MAX):
            if not self.read(0.0):
                break

    def __str__(self) -> str:
        """Return it as the end of a sentence for the log."""
        said = self._kept.strip()
        return f": {printable(said, _CHARACTERS_MAX)}" if said else ", without a word"


@contextlib.contextmanager
def _input(document: bytes) -> Iterator[BinaryIO]:
    """Yield a file in memory, so that a program that does not read it blocks nobody."""
    with os.fdopen(os.memfd_create("notice"), "w+b") as file:
        file.write(document)
        file.seek(0)
        yield file


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays a zombie, so that its number is not used again.

    It is no zombie if the agent has inherited SIGCHLD as ignored; then its exit code is unknown.
    """
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
