"""Tables of the configuration for what alarms say: language, shifts, help texts."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.config.kinds import FilePath
from models.names import CHANNEL, LANGUAGE
from models.settings import Table
from models.validation import AfterValidator, Field, model_validator

TITLE_CHARS_MAX: Final = 60
HELP_CHARS_MAX: Final = 1000
LINK_CHARS_MAX: Final = 500
HELPS_MAX: Final = 100  # of a stream
SHIFTS_MAX: Final = 24  # of a day
_LINK: Final = re.compile(r"https?://[!-~]+")
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
AlarmKind = Literal["anomaly", "stuck", "missing", "silent", "limit", "limit_passed"]
KINDS: Final[tuple[AlarmKind, ...]] = get_args(AlarmKind)


def _one_line(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("must be one line of printable characters")
    return value.strip()


def _link(value: str) -> str:
    if not _LINK.fullmatch(value):
        raise ValueError("must begin with https:// or http://, and have no blanks")
    return value


def _time_of_day(value: str) -> str:
    if not _TIME.fullmatch(value):
        raise ValueError('must be a time of day such as "06:00"')
    return value


Line = Annotated[str, AfterValidator(_one_line)]
Title = Annotated[str, Field(min_length=1, max_length=TITLE_CHARS_MAX), AfterValidator(_one_line)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]


class LanguageTable(Table):
    """The language of alarms for people at this gateway."""

    default: str = Field(
        "en",
        min_length=2,
        max_length=16,
        pattern=LANGUAGE,
        description='Language of the alarms: "en", "de", or one of the catalogue',
    )
    catalogue: FilePath | None = Field(
        None,
        description="TOML file with the plant's own texts, in a table for each language; they come"
        " before the built-in ones",
    )


class ShiftTable(Table):
    """When the shifts begin: an alarm says whether it can wait until the next one."""

    starts: list[TimeOfDay] = Field(
        ["06:00"], min_length=1, max_length=SHIFTS_MAX, description="Times of day, local time"
    )
    zone: str | None = Field(
        None,
        max_length=64,
        description='Time zone of these times, such as "Europe/Berlin"; absent: the gateway\'s',
    )
    update_s: float = Field(
        900.0,
        ge=60,
        le=86_400,
        allow_inf_nan=False,
        description="An open alarm whose outlook or findings changed is sent again, at most once"
        " in this time",
    )

    @model_validator(mode="after")
    def _known(self) -> ShiftTable:
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(f"zone {self.zone!r}: this machine has no such zone") from None
        return self

    @property
    def times(self) -> tuple[time, ...]:
        """The starts, rising."""
        return tuple(sorted(time.fromisoformat(start) for start in self.starts))


class HelpTable(Table):
    """The plant's own help for alarms: what to know, and where to read more."""

    kind: AlarmKind | None = Field(None, description="Only for alarms of this kind; absent: any")
    channel: str | None = Field(
        None,
        max_length=64,
        pattern=CHANNEL,
        description="Only for alarms whose first channel is this; absent: any",
    )
    text: Annotated[str, AfterValidator(_one_line)] | None = Field(
        None, max_length=HELP_CHARS_MAX, description="What the staff should know, in one line"
    )
    link: Annotated[str, AfterValidator(_link)] | None = Field(
        None, max_length=LINK_CHARS_MAX, description="Address of the runbook"
    )

    @model_validator(mode="after")
    def _helps(self) -> HelpTable:
        if self.text is None and self.link is None:
            raise ValueError("neither text nor link is set")
        return self


def fitting(helps: list[HelpTable], kind: str, channel: str | None) -> HelpTable | None:
    """Return the help for an alarm: of kind and channel before channel, kind, and any."""
    found = [one for one in helps if one.kind in (None, kind) and one.channel in (None, channel)]
    ranked = sorted(found, key=lambda one: (one.channel is None, one.kind is None))
    return ranked[0] if ranked else None
