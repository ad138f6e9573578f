"""Requests to the running agent: only the agent writes, so a command waits for its commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.commands.alarms.listed import NoSuchAlarm, Reference, one
from agent.commands.running import ask_running
from agent.config.location import store_directory
from agent.control.protocol import Refused
from agent.operating import GROUP, MEMBERS_MAX
from agent.store.reader import Reader
from models.errors import FieldwatchError


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
        seen = _seen(reader, verb, wanted)
    return request(config_file, verb, seen._asdict() | dict(arguments))


def asked_each(
    config_file: Path,
    verb: str,
    wanted: Sequence[Reference],
    arguments: Mapping[str, Any],
) -> Iterator[tuple[Reference, dict[str, Any] | FieldwatchError]]:
    """Send requests on several alarms; yield each one's transition, or why it was not done.

    Acknowledgements of one stream are one request, which names each alarm with its revision.

    Raises:
        NoAgent: no agent runs; nothing more has changed.

    """
    known: list[tuple[Reference, _Seen]] = []
    with Reader(store_directory(config_file)) as reader:
        for one in wanted:
            try:
                known.append((one, _seen(reader, verb, one)))
            except NoSuchAlarm as error:
                yield one, error
    if verb == "alarm.acknowledge":
        streams = dict.fromkeys(seen.stream for _, seen in known)
        for stream in streams:
            yield from _acknowledged(
                config_file, [pair for pair in known if pair[1].stream == stream], arguments
            )
        return
    for reference, seen in known:
        try:
            yield reference, request(config_file, verb, seen._asdict() | dict(arguments))
        except Refused as refusal:
            yield reference, refusal


def _acknowledged(
    config_file: Path, known: Sequence[tuple[Reference, _Seen]], arguments: Mapping[str, Any]
) -> Iterator[tuple[Reference, dict[str, Any] | FieldwatchError]]:
    """Acknowledge alarms of one stream, as many in a request as it can carry."""
    for begin in range(0, len(known), MEMBERS_MAX):
        part = known[begin : begin + MEMBERS_MAX]
        members = [[seen.number, seen.revision] for _, seen in part]
        named = {"stream": part[0][1].stream, "members": members}
        try:
            answer = request(config_file, GROUP, named | dict(arguments))
        except Refused as refusal:
            yield from ((reference, refusal) for reference, _ in part)
            continue
        done = {one["number"]: one for one in answer["transitions"]}
        refused = {one["number"]: one for one in answer["refused"]}
        for reference, seen in part:
            if seen.number in done:
                yield reference, done[seen.number]
            else:
                why = refused[seen.number]
                yield reference, Refused(why["code"], why["message"])


class _Seen(NamedTuple):
    """An alarm as a person saw it."""

    stream: str
    number: int
    revision: int | None


def _seen(reader: Reader, verb: str, wanted: Reference) -> _Seen:
    alarm = one(reader, wanted)
    handling = alarm["handling"]
    if handling is None and verb not in ("alarm.note", "alarm.label"):
        raise NoSuchAlarm(_not_the_newest(alarm))
    revision = wanted.revision if wanted.revision is not None else handling and handling["revision"]
    return _Seen(alarm["stream"], alarm["number"], revision)


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
    newest = max(row["number"] for row in alarm["logbook"])
    return f"{name} is over; the newest alarm of its kind is {alarm['stream']}#{newest}"
