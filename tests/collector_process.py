"""The reference collector as a process of its own, for the tests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT


class CollectorProcess:
    """``fieldwatch-agent collect``, which can be stopped and go on."""

    def __init__(
        self,
        port: int,
        directory: Path,
        mistake: str | None = None,
        key: Path | None = None,
        more: Sequence[str] = (),
    ) -> None:
        """``mistake`` is planted; see ``tests.planted``. With ``key`` it signs."""
        directory.mkdir(exist_ok=True)
        self._output = directory / "messages"
        program = ["agent"] if mistake is None else ["tests.planted", mistake]
        command = [sys.executable, "-m", *program, "collect", str(directory), "--json"]
        command += ["--site", "plant", "--host", "127.0.0.1", "--port", str(port)]
        command += [] if key is None else ["--key", str(key)]
        command += more
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.DEVNULL, cwd=ROOT
            )

    def messages(self) -> list[dict[str, Any]]:
        lines = self._output.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def seqs(self) -> list[int]:
        return [message["seq"] for message in self.messages()]

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Wait for its end; return the exit code."""
        return self._process.wait(seconds)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
