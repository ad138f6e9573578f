"""Kinds of settings that several tables of the configuration have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from agent.config.location import SOCKET_OFF
from models.names import NAME as NAME
from models.validation import AfterValidator, Field, ValidationInfo

AUTO: Final = Path("auto")  # in place of a port: the only port
OFF: Final = Path(SOCKET_OFF)  # in place of a socket: none

_SOCKET_BYTES_MAX: Final = 107  # of its path, by unix(7)

CHECK_STREAM: Final = "_check"  # in the topics of messages that only test the broker; no such NAME
CHECK_BEGINS: Final = b'{"specversion": "1.0", "type": "fieldwatch.check.v1", '  # such a message
_FILTER_BYTES_MAX: Final = 65_535  # what MQTT can express


def topic_name(value: str) -> str:
    """Return a name that may be a level of a topic: of a site, gateway, stream or input.

    Raises:
        ValueError: it is empty, too long, or has a wildcard or another forbidden character.

    """
    if not NAME.fullmatch(value):
        raise ValueError(
            "allowed are 1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit"
            " (it is part of MQTT topics)"
        )
    return value


def topic_filter(value: str) -> str:
    """Return a valid topic filter.

    Raises:
        ValueError: it is not valid.

    """
    if not value or len(value.encode(errors="surrogatepass")) > _FILTER_BYTES_MAX:
        raise ValueError(f"a topic has 1 to {_FILTER_BYTES_MAX} bytes")
    if not value.isprintable():
        raise ValueError("a topic must not contain unprintable characters")
    *before, last = value.split("/")
    if any("#" in level for level in before) or ("#" in last and last != "#"):
        raise ValueError("a # must be alone, at the end: plant/#")
    if any("+" in level and level != "+" for level in [*before, last]):
        raise ValueError("a + must be alone between two slashes: plant/+/flow")
    return value


def _from_file(value: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the configuration file, wherever the agent is started."""
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / value


def _port(value: Path, info: ValidationInfo) -> Path:
    return value if value == AUTO else _from_file(value, info)


def _socket(value: Path, info: ValidationInfo) -> Path:
    if value == OFF:
        return value
    path = _from_file(value, info)
    if (size := len(os.fsencode(path))) > _SOCKET_BYTES_MAX:
        raise ValueError(
            f"the absolute path has {size} bytes; a socket path may have at most"
            f" {_SOCKET_BYTES_MAX}"
        )
    return path


TopicName = Annotated[str, AfterValidator(topic_name)]
TopicFilter = Annotated[str, AfterValidator(topic_filter)]
FilePath = Annotated[Path, AfterValidator(_from_file)]
PortPath = Annotated[Path, AfterValidator(_port)]
SocketPath = Annotated[Path, AfterValidator(_socket)]
Count = Annotated[int, Field(ge=1)]
