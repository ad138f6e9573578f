"""Requests to the running agent of a configuration, with advice if it cannot do them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.config.location import control_socket
from agent.control.client import ANSWER_S_MAX, Blocked, NoAgent, NoAnswer, NotAllowed, ask
from agent.control.protocol import Person, Refused

_START: Final = "Nothing has changed. Start the agent: sudo systemctl start fieldwatch-agent"
_STATE_S_MAX: Final = 2.0  # a list does not wait longer for an agent that is busy
_RESTART: Final = (
    "Nothing has changed. The agent that runs is older than this command. Restart it: sudo"
    " systemctl restart fieldwatch-agent"
)


def ask_running(
    config_file: Path,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    seconds_max: float = ANSWER_S_MAX,
    person: Person | None = None,
) -> dict[str, Any]:
    """Send a command to the agent of this configuration; return the result.

    ``person``: for whom the web page asks.

    Raises:
        ConfigError: the configuration does not say where the agent listens.
        NoAgent: no agent runs, or it takes no commands; nothing has changed.
        NotAllowed: the socket's permissions forbid it.
        NoAnswer: no answer came, or the agent ended.
        Refused: the agent refused the command; the code is the reason.

    """
    path = control_socket(config_file)
    if path is None:
        raise NoAgent(f'{config_file}: control.socket is "off", so its agent takes no commands')
    try:
        return ask(path, command, arguments, seconds_max, person)
    except Blocked:  # an agent may run, so to start it is no advice
        raise
    except NoAgent as error:
        raise NoAgent(f"{error}\n{_START}") from error
    except Refused as error:
        if error.code != "unknown_command":
            raise
        raise Refused(error.code, f"{error}\n{_RESTART}") from error


def unstored(config_file: Path) -> dict[str, Any] | None:
    """Return what the running agent cannot store, and so no reader of the store can see.

    None: it stores everything, or it cannot be asked; then the age of its status tells.
    """
    try:
        state = ask_running(config_file, "state", seconds_max=_STATE_S_MAX)
    except (NoAgent, NotAllowed, NoAnswer, Refused):
        return None
    found: dict[str, Any] | None = state.get("unstored")  # an older agent does not return it
    return found
