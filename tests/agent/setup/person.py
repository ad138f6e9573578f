"""A person at a terminal, who reads questions and types answers."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import AGENT, ROOT, WAIT_S_MAX


class Person:
    """Runs a command of the agent at a terminal of its own."""

    def __init__(self, *words: object, directory: Path) -> None:
        self.said = ""  # by the command, with what the terminal echoed
        self._read = 0  # so far, by the person
        self._terminal, other = pty.openpty()
        self._process = subprocess.Popen(
            [*AGENT, *map(str, words)],
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        )
        os.close(other)

    def answer(self, question: str, text: str) -> None:
        """Wait for a question, and type an answer."""
        deadline = time.monotonic() + WAIT_S_MAX
        while (at := self.said.find(question, self._read)) < 0:
            assert time.monotonic() < deadline, f"no question {question!r}: {self.said}"
            assert self._hear(), f"it ended before {question!r}: {self.said}"
        self._read = at + len(question)
        self._wait_for_the_prompt(deadline)
        os.write(self._terminal, f"{text}\n".encode())

    def _wait_for_the_prompt(self, deadline: float) -> None:
        while not self.said.endswith(": "):
            assert time.monotonic() < deadline, self.said
            self._hear()

    def ended(self) -> int:
        while self._hear():
            pass
        return self._process.wait(WAIT_S_MAX)

    def _hear(self) -> bool:
        """Take what was said; false at the end."""
        if not select.select([self._terminal], [], [], 1.0)[0]:
            return True
        try:
            heard = os.read(self._terminal, 65_536)
        except OSError:  # the other side is closed
            return False
        self.said += heard.decode().replace("\r\n", "\n")
        return bool(heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._terminal)
