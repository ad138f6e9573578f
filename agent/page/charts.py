"""The charts of the page: asks a worker, a process of its own, for their numbers.

The page's process holds neither numpy nor an interpreter. The worker starts with the first request
and ends when nobody has asked for a while; see ``chart_protocol`` and ``worker``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.config.layers import DROP_INS
from agent.page.chart_protocol import OK, Answered, ChartError, head, request_line

_MODULE: Final = "agent.page.worker"
_GONE: Final = (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError)

_Stamp = list[tuple[str, int, int]]  # file, time of its last change, size


class Limits(NamedTuple):
    """How long the worker may take and stay, and how many requests may wait."""

    answer_s_max: float = 30.0  # of one answer, with the start of the worker
    idle_s_max: float = 120.0  # after that it ends: it holds 100 MB
    waiting_max: int = 64  # requests, including the one that is answered


class Charts:
    """The worker as the page sees it; all calls come from one event loop."""

    def __init__(self, config_file: Path, limits: Limits = Limits()) -> None:  # noqa: B008
        """``config_file`` is the agent's; nothing is started before the first request."""
        self._config_file = config_file
        self._limits = limits
        self._worker: _Worker | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._leaving: asyncio.Task[None] | None = None
        self._closed = False
        self._described: tuple[_Stamp, dict[str, Any]] | None = None

    @property
    def worker_pid(self) -> int | None:
        """The number of the worker's process; None if there is none."""
        return None if self._worker is None else self._worker.pid

    async def history(
        self,
        stream: str,
        from_s: float,
        to_s: float,
        points_max: int = 1000,
        channels: Sequence[str] = (),
    ) -> bytes:
        """Return the past of a stream as JSON; ``drawn.history`` makes it.

        Args:
            stream: its name.
            from_s: begin in Unix seconds.
            to_s: end.
            points_max: largest number of points, without those that mark a gap.
            channels: only these; () for all.

        Raises:
            ChartError: there is no answer; its code says why.

        """
        request: dict[str, Any] = {
            "from_s": float(from_s),
            "to_s": float(to_s),
            "points_max": points_max,
        }
        request |= {"stream": stream, "channels": list(channels)}
        return await self._ask("history", request)

    async def forecast(
        self,
        stream: str,
        settings: Sequence[str] = (),
        plans: Sequence[str] = (),
        horizon_steps: int | None = None,
    ) -> bytes:
        """Return the forecast of a stream as JSON; ``drawn.forecast`` makes it.

        Args:
            stream: its name.
            settings: what the last steps are supposed to have been: ``flow=80``, ``flow+=5``.
            plans: what channels are supposed to be from now on, in the same form.
            horizon_steps: number of steps; None for the trained horizon.

        Raises:
            ChartError: there is no answer; its code says why.

        """
        request = {"stream": stream, "settings": list(settings), "plans": list(plans)}
        return await self._ask("forecast", {**request, "horizon_steps": horizon_steps})

    async def rivals(self, stream: str) -> bytes:
        """Return the forecast of a stream beside its rivals as JSON; ``drawn.rivals`` makes it.

        Raises:
            ChartError: there is no answer; its code says why.

        """
        return await self._ask("rivals", {"stream": stream})

    async def spark(self, stream: str) -> bytes:
        """Return the largest scores of the last hour as JSON; ``drawn.spark`` makes it.

        Raises:
            ChartError: there is no answer; its code says why.

        """
        return await self._ask("spark", {"stream": stream})

    async def describe(self) -> dict[str, Any]:
        """Return what the configuration says of each stream; ``drawn.describe`` makes it.

        The worker is asked again when a file of the configuration has changed.

        Raises:
            ChartError: there is no answer; its code says why.

        """
        stamp = _stamp(self._config_file)
        if self._described is None or self._described[0] != stamp:
            self._described = stamp, json.loads(await self._ask("describe", {}))
        return self._described[1]

    async def close(self) -> None:
        """End the worker; a request that waits for it fails, and each later one."""
        self._closed = True
        if self._leaving is not None:
            self._leaving.cancel()
        await self._end()

    async def _ask(self, what: str, request: Mapping[str, Any]) -> bytes:
        line = request_line({"what": what, **request})
        if self._waiting >= self._limits.waiting_max:
            raise ChartError("busy", "too many charts are asked for at once; try again")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._in_time(line)
        finally:
            self._waiting -= 1

    async def _in_time(self, line: bytes) -> bytes:
        """Return the answer; a worker that owes one is ended, as its next answer would be it."""
        if self._leaving is not None:
            self._leaving.cancel()
        whole = False
        try:
            async with asyncio.timeout(self._limits.answer_s_max):
                code, body = await self._exchanged(line)
            whole = True
        except TimeoutError as error:
            raise ChartError(
                "too_long",
                f"the chart was not ready after {self._limits.answer_s_max:g} s: ask for a shorter"
                " time or fewer points",
            ) from error
        finally:
            if not whole:
                await self._end()
        self._leaving = asyncio.create_task(self._leave())
        if code != OK:
            raise ChartError.read(code, body)
        return body

    async def _exchanged(self, line: bytes) -> tuple[Answered, bytes]:
        """Ask; a worker that was killed since its last answer is replaced by another."""
        if self._worker is not None:
            with contextlib.suppress(*_GONE):
                return await self._worker.exchange(line)
            await self._end()
        if self._closed:
            raise ChartError("ended", "the page is stopping")
        try:
            self._worker = await _Worker.start(self._config_file)
            return await self._worker.exchange(line)
        except _GONE as error:
            assert self._worker is not None
            code = await self._worker.end()
            raise ChartError(
                "ended",
                f"the chart worker ended without an answer (code {code}); its message is in the"
                " log, if it had one. Try again",
            ) from error
        except OSError as error:  # no memory, too many processes
            raise ChartError("ended", f"the chart worker cannot be started: {error}") from error

    async def _leave(self) -> None:
        await asyncio.sleep(self._limits.idle_s_max)
        await self._end()

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()


def _stamp(config_file: Path) -> _Stamp:
    """Return what differs when the configuration has changed."""
    stamp = []
    for file in (config_file, *sorted((config_file.parent / DROP_INS).glob("*.toml"))):
        with contextlib.suppress(OSError):  # it is gone: that differs, too
            found = file.stat()
            stamp.append((str(file), found.st_mtime_ns, found.st_size))
    return stamp


class _Worker:
    """One process, from its start to its end."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._questions, self._answers = process, process.stdin, process.stdout
        self.pid = process.pid
        # asyncio's own kill() would take the exit code away from who waits for it
        self._handle: int | None = None
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            self._handle = os.pidfd_open(process.pid)

    @classmethod
    async def start(cls, config_file: Path) -> _Worker:
        """Start one.

        Raises:
            OSError: there is no memory, or there are too many processes.

        """
        command = [sys.executable, "-P", "-m", _MODULE, str(config_file)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        return cls(
            await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True
            )
        )

    async def exchange(self, line: bytes) -> tuple[Answered, bytes]:
        """Return code and body of the answer to a request.

        Raises:
            BrokenPipeError, ConnectionResetError, IncompleteReadError: it has ended.

        """
        self._questions.write(line)
        await self._questions.drain()
        code, size = head(await self._answers.readuntil(b"\n"))
        return code, await self._answers.readexactly(size)

    async def end(self) -> int:
        """Kill it; return with what it ended."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        self._questions.close()
        return await self._process.wait()
