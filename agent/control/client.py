"""The client of the control socket: sends a command to the agent and waits for the answer."""

from __future__ import annotations

import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.control.protocol import Person, Refused, parse_answer, request_line
from agent.wording.message import Message
from models.errors import FieldwatchError

ANSWER_S_MAX: Final = 60.0  # a reload's check may take half of this time
_KINDS: Final = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe"}


class NoAgent(FieldwatchError):
    """No agent listens at the socket."""

    exit_code = 69  # as EX_UNAVAILABLE of sysexits.h


class Blocked(NoAgent):
    """Something else stands where the socket belongs; an agent may run without a socket."""


class NotAllowed(FieldwatchError):
    """The user may not send commands to this agent."""

    exit_code = 77  # as EX_NOPERM


class NoAnswer(FieldwatchError):
    """The agent received the command but did not answer. The command may or may not be done."""

    exit_code = 75  # as EX_TEMPFAIL


def ask(
    path: Path,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    seconds_max: float = ANSWER_S_MAX,
    person: Person | None = None,
) -> dict[str, Any]:
    """Send a command to the agent that listens at ``path``; return the result.

    ``person``: for whom the web page asks; the agent refuses this to any other user.

    Raises:
        NoAgent: no agent listens there.
        Blocked: something else stands there.
        NotAllowed: the socket's permissions forbid it.
        NoAnswer: no answer came within ``seconds_max``, or the agent ended.
        Refused: the agent refused the command; the code is the reason.

    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection, path)
        try:
            request = request_line(command, arguments or {}, person)
            answer = _exchange(connection, request, seconds_max)
        except TimeoutError as error:
            raise NoAnswer(
                f"the agent at {path} has not answered within {seconds_max:.0f} s; whether"
                f" {command} is done is not known. See: journalctl -u fieldwatch-agent"
            ) from error
        except ConnectionError:
            answer = b""
    if not answer.endswith(b"\n"):
        raise NoAnswer(
            f"the agent at {path} ended before it answered; whether {command} is done is not"
            " known. See: systemctl status fieldwatch-agent"
        )
    try:
        return parse_answer(answer)
    except ValueError as error:
        raise NoAnswer(f"what listens at {path} gives no answer of this version: {error}") from None


def _connect(connection: socket.socket, path: Path) -> None:
    try:
        connection.setblocking(False)
        connection.connect(str(path))
    except FileNotFoundError as error:
        raise NoAgent(
            f"no agent answers at {path}: there is no such socket. Check control.socket"
            " in its configuration"
        ) from error
    except ConnectionRefusedError as error:
        if (kind := _in_its_place(path)) is not None:
            raise Blocked(
                f"no agent answers at {path}: {kind} stands where the agent's socket belongs. An"
                " agent that runs says so in its log and status, and takes no commands. Move it"
                " away, then restart the agent"
            ) from error
        raise NoAgent(f"no agent answers at {path}: it was killed") from error
    except PermissionError as error:
        raise NotAllowed(
            f"{path}: you may not send commands to this agent. Use sudo, or become a member of"
            " the socket's group"
        ) from error
    except BlockingIOError as error:
        message = Message("refused.queue", {"place": str(path)})
        raise Refused.of("busy", message) from error
    except OSError as error:  # the path is too long, or no socket
        raise NoAgent(f"no agent answers at {path}: {error.strerror or error}") from error


def _in_its_place(path: Path) -> str | None:
    """Return the kind of file in place of the socket; None if it is a socket or does not exist."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if stat.S_ISSOCK(mode):
        return None
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def _exchange(connection: socket.socket, request: bytes, seconds_max: float) -> bytes:
    """Return the answer with its line end; if the line end is missing, the agent has ended."""
    deadline = time.monotonic() + seconds_max
    connection.settimeout(seconds_max)
    try:
        connection.sendall(request)
    except BrokenPipeError:  # the agent may have answered before it closed
        pass
    answer = bytearray()
    while not answer.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(65536)
        if not data:
            break
        answer += data
    return bytes(answer)
