"""Reads the samples in the answers of gateways to commands of central ops.

Whoever asked gets the same answer. Each part of it has whole samples, and is taken by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.collector.reading import Refused, document_of, gateway_of
from agent.config.kinds import NAME
from agent.dialects.topics import answer_topic
from models.printable import printable

if TYPE_CHECKING:
    from agent.dialects.samples import Samples

_LEVELS: Final = answer_topic("+", "+").split("/")[4:]


class Answered(NamedTuple):
    """Samples of a stream in a part of an answer."""

    gateway: str
    stream: str
    samples: Samples  # their numbers are their times in µs


def is_answer(topic: str) -> bool:
    """Whether a topic is one of answers to commands."""
    return topic.split("/")[4:] == _LEVELS


def read_answer(topic: str, body: bytes, site: str) -> Answered | None:
    """Return the samples in a part of an answer; None: it has none.

    Raises:
        Refused: no gateway writes such an answer.

    """
    from agent.dialects.answered import read  # loads numpy

    gateway = gateway_of(topic)
    if gateway is None or topic != answer_topic(site, gateway):
        raise Refused("disagrees", f"not a topic of a gateway of {site}")
    try:
        document = document_of(body)
    except (ValueError, RecursionError) as error:  # a JSONDecodeError is a ValueError
        raise Refused("unreadable", str(error)) from error
    result = document.get("result")
    if document.get("ok") is not True or not isinstance(result, dict):
        return None
    try:
        samples = read(result)
    except ValueError as error:
        raise Refused("implausible", str(error)) from error
    stream = result.get("stream")
    if samples is None:
        return None
    if not isinstance(stream, str) or not NAME.fullmatch(stream):  # it becomes part of a path
        raise Refused("implausible", f"{printable(str(stream))} is not a valid name of a stream")
    return Answered(gateway, stream, samples)
