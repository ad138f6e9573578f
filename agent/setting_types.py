"""Kinds of settings that several tables of the configuration have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

from models.fields import AfterValidator, Field, ValidationInfo

AUTO: Final = Path("auto")  # in place of a port: the only one there is

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


def _topic_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            "allowed are 1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit"
            " (it is part of MQTT topics)"
        )
    return value


def _from_file(value: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the configuration file, wherever the agent is started."""
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / value


def _port(value: Path, info: ValidationInfo) -> Path:
    return value if value == AUTO else _from_file(value, info)


TopicName = Annotated[str, AfterValidator(_topic_name)]
FilePath = Annotated[Path, AfterValidator(_from_file)]
PortPath = Annotated[Path, AfterValidator(_port)]
Count = Annotated[int, Field(ge=1)]
