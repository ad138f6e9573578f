"""Reads the messages of a gateway: numbered messages, reports of gone numbers, and its status.

The topic names the sender and the kind of message. The broker checks who may publish there, so the
collector trusts the topic. The body must agree with it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn

from agent.config.kinds import NAME
from agent.dialects.topics import ROOT, gateway_topic
from agent.mqtt.payload import DEPTH_MAX
from agent.store.ranges import Range, is_number, parse
from agent.uplink.acknowledgements import GONE_MAX
from models.errors import Unproven
from models.printable import printable
from models.times import iso_time

if TYPE_CHECKING:
    from agent.dialects.samples import Samples

Cause = Literal[
    "unreadable",
    "too_large",
    "disagrees",
    "implausible",
    "in_future",
    "no_room",
    "unsigned",
    "wrong_gateway",
    Unproven,
]

SAMPLES: Final = "samples"
AHEAD_S_MAX: Final = 86_400.0  # of samples, as by default of an input's lines (``ahead_max_s``)
_EPOCH_CHARACTERS_MAX: Final = 64
_RING: Final = re.compile("[0-9a-f]{4,32}", re.ASCII)
_MERGED_MAX: Final = 10_000  # numbers in one message; a gateway merges 60 at most
_OF_A_STREAM: Final = ("alarm", "transition", "summary", SAMPLES)
_KINDS: Final = (*_OF_A_STREAM, "health", "gone", "status")


class Refused(ValueError):
    """A message is not accepted; it is counted under ``cause``."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


class Source(NamedTuple):
    """A gateway in one life of its database."""

    gateway: str
    epoch: str


class Message(NamedTuple):
    """A numbered message as it was received."""

    source: Source
    seq: int
    topic: str
    body: bytes
    merged: list[Range]  # numbers of the messages that it replaces


class Gone(NamedTuple):
    """Numbers that their gateway reported as gone."""

    source: Source
    ranges: list[Range]


class Chunk(NamedTuple):
    """A chunk of samples of a stream."""

    source: Source
    stream: str
    about: dict[str, Any]  # see ``agent.dialects.samples``
    data: bytes
    samples: Samples
    ring: Source  # whose numbers the samples have: the epoch is that of its ring
    missed: int  # samples of all streams that its gateway dropped before it sent them


class Status(NamedTuple):
    """The highest number that a gateway has assigned, from its status."""

    source: Source
    seq: int


class _Place(NamedTuple):
    """The parts of a topic."""

    gateway: str
    kind: str
    stream: str | None


def subscriptions(site: str, with_samples: bool = False) -> list[str]:
    """Return the topic filters for all messages of a site's gateways except their status."""
    kinds = [kind for kind in _KINDS if kind != "status" and (with_samples or kind != SAMPLES)]
    levels = [f"{kind}/+" if kind in _OF_A_STREAM else kind for kind in kinds]
    return [gateway_topic(site, "+", level) for level in levels]


def is_of_samples(topic: str) -> bool:
    """Whether a topic is one of chunks of samples."""
    return topic.split("/")[4:5] == [SAMPLES]


def gateway_of(topic: str) -> str | None:
    """Return the gateway that a topic belongs to; None if its name is invalid."""
    levels = topic.split("/")
    return levels[3] if len(levels) > 3 and NAME.fullmatch(levels[3]) else None


def read_message(topic: str, body: bytes, site: str) -> Message | Gone | Status:
    """Return the content of a gateway's message.

    Raises:
        Refused: no gateway writes such a message.

    """
    place = _place(topic, site)
    try:
        document = document_of(body)
        epoch, seq, data = _numbered(document)
    except (ValueError, RecursionError) as error:  # a JSONDecodeError is a ValueError
        raise Refused("unreadable", str(error)) from error
    source = Source(place.gateway, epoch)
    _agree(document, topic, place, site, f"{place.gateway}/{epoch}/{seq}")
    try:
        if place.kind == "status":
            return Status(source, seq)
        if place.kind == "gone":
            return Gone(source, _ranges(data.get("ranges"), seq))
        if seq == 0:
            raise ValueError("seq counts from 1")
        merged = data.get("merged") if place.kind == "summary" else None
        return Message(source, seq, topic, body, [] if merged is None else _merged(merged, seq))
    except ValueError as error:
        raise Refused("implausible", str(error)) from error


def read_chunk(topic: str, head: bytes, data: bytes, site: str) -> Chunk:
    """Return a chunk of samples from what its message says, and its bytes.

    Raises:
        Refused: no gateway writes such a message.

    """
    from agent.dialects.samples import unpacked  # loads numpy

    place = _place(topic, site)
    try:
        document = document_of(head)
        epoch, seq, about = _numbered(document)
    except (ValueError, RecursionError) as error:
        raise Refused("unreadable", str(error)) from error
    _agree(document, topic, place, site, f"{place.gateway}/{epoch}/{seq}")
    if place.stream is None or not NAME.fullmatch(place.stream):  # it becomes part of a path
        raise Refused("disagrees", f"{printable(str(place.stream))} is not a valid name")
    missed: Any = about.get("missed")
    try:
        if not is_number(missed) or not 0 <= missed < 2**63:
            raise ValueError("missed is missing or wrong")
        ring = about.get("ring", epoch)
        if not _is_ring(ring):  # it becomes part of a path
            raise ValueError("ring, or epoch in place of it, is not the epoch of a ring")
        samples = unpacked(about, data)
    except ValueError as error:
        raise Refused("implausible", str(error)) from error
    source, of_ring = Source(place.gateway, epoch), Source(place.gateway, ring)
    return Chunk(source, place.stream, about, data, samples, of_ring, missed)


def check_times(samples: Samples, now_s: float) -> None:
    """Refuse samples from after tomorrow, which would make a file for each of their days.

    Raises:
        Refused: one is more than ``AHEAD_S_MAX`` ahead of this machine's clock, or that is wrong.

    """
    newest_s = float(samples.times.max())
    if newest_s > now_s + AHEAD_S_MAX:
        raise Refused(
            "in_future",
            f"it has a sample of {iso_time(newest_s)}, which is more than a day ahead of this"
            " machine's clock: put the gateway's clock right, or this one's",
        )


def _is_ring(epoch: Any) -> bool:
    return isinstance(epoch, str) and _RING.fullmatch(epoch) is not None


def _place(topic: str, site: str) -> _Place:
    levels = topic.split("/")
    beginning = f"{ROOT}/{site}".split("/")
    kind = levels[4] if len(levels) > 4 else ""
    count = len(beginning) + (3 if kind in _OF_A_STREAM else 2)
    if levels[:3] != beginning or kind not in _KINDS or len(levels) != count:
        raise Refused("disagrees", f"not a topic of a gateway of {site}")
    gateway = levels[3]
    if not NAME.fullmatch(gateway):  # it becomes part of the topic of the acknowledgement
        raise Refused("disagrees", f"{printable(gateway)} is not a valid name of a gateway")
    return _Place(gateway, kind, levels[5] if kind in _OF_A_STREAM else None)


def document_of(body: bytes) -> dict[str, Any]:
    """Return a JSON object that is not nested too deep.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested far too deep.

    """
    document = json.loads(body, parse_constant=_refuse_constant)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    if _deeper_than(DEPTH_MAX, document):
        raise ValueError(f"lists and objects are nested more than {DEPTH_MAX} deep")
    return document


def _numbered(document: dict[str, Any]) -> tuple[str, int, dict[str, Any]]:
    epoch, data = document.get("epoch"), document.get("data")
    seq: Any = document.get("seq")
    if not isinstance(epoch, str) or not is_number(seq) or not isinstance(data, dict):
        raise ValueError("epoch, seq and data are needed")
    if not epoch.isascii() or not epoch.isprintable() or len(epoch) > _EPOCH_CHARACTERS_MAX:
        raise ValueError("epoch is not a word")
    if not 0 <= seq < 2**63:
        raise ValueError("seq is out of range")
    return epoch, seq, data


def _agree(document: dict[str, Any], topic: str, place: _Place, site: str, name: str) -> None:
    """Raise Refused if a body contradicts its topic."""
    expected = {
        "source": f"/{site}/{place.gateway}",
        "type": f"fieldwatch.{place.kind}.v1",
        "stream": place.stream,
        "topic": topic,
        "subject": place.stream,
    }
    for key, value in expected.items():
        optional = key in ("topic", "subject") and key not in document
        if not optional and document.get(key, "") != value:
            said = printable(str(document.get(key)), 80)
            raise Refused("disagrees", f"{key} is {said}, but the topic says {value}")
    identity = str(document.get("id"))
    numbered = place.kind not in ("gone", "status", SAMPLES)
    if not (identity == name if numbered else identity.startswith(f"{name}/")):
        raise Refused("disagrees", f"id is {printable(identity, 80)}, not {name}")


def _deeper_than(depth_max: int, value: Any) -> bool:
    level = [value]
    for _ in range(depth_max):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(value, dict | list) for value in level)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _merged(value: Any, seq: int) -> list[Range]:
    ranges = _ranges(value, seq - 1)
    if (count := sum(last - first + 1 for first, last in ranges)) > _MERGED_MAX:
        raise ValueError(f"{count} merged messages are too many")
    return ranges


def _ranges(value: Any, highest: int) -> list[Range]:
    ranges = parse(value, 0, GONE_MAX)
    if ranges and ranges[-1][1] > highest:
        raise ValueError(f"numbers above {highest} were not assigned yet")
    return ranges
