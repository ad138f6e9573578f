"""Requests to the running agent: only the agent writes, so a command waits for its commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.commands.alarms.listed import NoSuchAlarm, Reference, one
from agent.commands.running import ask_running
from agent.config.location import store_directory
from agent.store.reader import Reader


def asked(
    config_file: Path, verb: str, wanted: Reference, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Send a request on an alarm to the agent; return the transition, once it is on the disk.

    The request names the revision that the person saw: the one of the reference, or otherwise the
    present one.

    Raises:
        NoSuchAlarm: the alarm does not exist, or several streams have one of this number.
        NoAgent: no agent runs; nothing has changed.
        Refused: the agent refused the request; the text gives the reason.

    """
    with Reader(store_directory(config_file)) as reader:
        alarm = one(reader, wanted)
    handling = alarm["handling"]
    if handling is None and verb not in ("alarm.note", "alarm.label"):
        raise NoSuchAlarm(_not_the_newest(alarm))
    revision = wanted.revision if wanted.revision is not None else handling and handling["revision"]
    named = {"stream": alarm["stream"], "number": alarm["number"], "revision": revision}
    return request(config_file, verb, named | dict(arguments))


def request(config_file: Path, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to the agent, without the arguments that are None; return its result.

    Raises:
        NoAgent: no agent runs; nothing has changed.
        Refused: the agent refused the request; the text gives the reason.

    """
    given = {key: value for key, value in arguments.items() if value is not None}
    return ask_running(config_file, verb, given)


def _not_the_newest(alarm: Mapping[str, Any]) -> str:
    name = f"{alarm['stream']}#{alarm['number']}"
    if not alarm["logbook"]:
        return f"{name} is of before the agent had a logbook; it can get a note or a label"
    newest = alarm["logbook"][-1]
    return f"{name} is over; the newest alarm of its kind is {newest['stream']}#{newest['number']}"
