"""Tables of the configuration for what happens on site: hooks that tell people of alarms."""

from __future__ import annotations

import math
from typing import Literal
from urllib.parse import urlsplit

from agent.config.broker import BrokerTable
from agent.config.kinds import FilePath, TopicName
from agent.config.streams import AlarmKind, repeated
from agent.handling.states import Priority
from agent.handling.transition import What
from models.manifest import Positive
from models.settings import Table
from models.validation import Field, field_validator, model_validator

TransitionName = Literal["announcing", "returning", "all", What]


def web_address(url: str) -> str:
    """Return a valid address for a webhook.

    Raises:
        ValueError: it is not an HTTP address, or contains a user and password.

    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("it must have only printable ASCII characters, and no blanks")
    parts = urlsplit(url)  # raises ValueError for a wrong port or address
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("it must begin with https:// or http:// and a host")
    if "@" in parts.netloc:
        raise ValueError("it must not contain a user or password; put a header into headers_file")
    return url


class HookTable(Table):
    """Tells a program on the gateway, or a web server, of changes of alarms."""

    name: TopicName = Field(description="Unique; in the log, in status and in metrics")
    command: list[str] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Program, by its absolute path, and its arguments; no shell reads them. It gets"
        " the change as JSON on its standard input",
    )
    url: str | None = Field(
        None, max_length=2000, description="Address that gets the change as JSON by POST"
    )
    url_file: FilePath | None = Field(
        None, description="File that contains only the address, if a part of it is secret"
    )
    headers_file: FilePath | None = Field(
        None,
        description="url: file with more headers of the request, one per line, such as"
        " Authorization: Bearer …",
    )
    tls_ca_file: FilePath | None = Field(
        None,
        description="url: CA certificates (PEM) that verify the server's; absent: the system's",
    )
    timeout_s: float = Field(
        10.0,
        ge=0.1,
        le=300,
        allow_inf_nan=False,
        description="A program is ended after this, and a request given up; both are tried again",
    )
    transitions: list[TransitionName] = Field(
        ["announcing", "returning"],
        min_length=1,
        description="Which changes: announcing (they call a person), returning (the condition is"
        " over), all, or names of changes, such as acknowledged",
    )
    priority_min: Priority = Field("low", description="Only alarms of at least this priority")
    kinds: list[AlarmKind] = Field(
        default_factory=list, description="Only alarms of these kinds; empty: all"
    )
    advisories: bool = Field(False, description="Also what needs no action now")
    streams: list[TopicName] = Field(
        default_factory=list, description="Only alarms of these streams; empty: all"
    )
    waiting_max: int = Field(
        1000, ge=1, le=100_000, description="Changes that wait; the oldest are dropped first"
    )
    waiting_h_max: Positive = Field(
        24.0, le=8760, description="Drop a change that has waited longer than this, hours"
    )
    backoff_min_s: Positive = Field(1.0, description="Longest wait before the first retry")
    backoff_max_s: Positive = Field(300.0, description="Longest wait before any retry")

    @property
    def is_web(self) -> bool:
        """Whether it is a webhook."""
        return self.command is None

    @field_validator("command")
    @classmethod
    def _executable(cls, command: list[str] | None) -> list[str] | None:
        if command is not None:
            if not command[0].startswith("/"):
                raise ValueError("the program must be named by its absolute path")
            if any("\0" in word for word in command):
                raise ValueError("an argument must not contain a NUL character")
        return command

    @field_validator("url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        return None if url is None else web_address(url)

    @model_validator(mode="after")
    def _consistent(self) -> HookTable:
        if sum(way is not None for way in (self.command, self.url, self.url_file)) != 1:
            raise ValueError("set one of command, url and url_file")
        for key in ("headers_file", "tls_ca_file"):
            if self.command is not None and getattr(self, key) is not None:
                raise ValueError(f"{key} is for a webhook, and needs url")
        if self.backoff_min_s > self.backoff_max_s:
            raise ValueError(
                f"backoff_min_s {self.backoff_min_s:g} is above backoff_max_s"
                f" {self.backoff_max_s:g}"
            )
        return self


class PanelTable(BrokerTable):
    """A broker on site that gets the state of the alarms, for panels and stack lights."""

    interval_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="The state is sent when it changes, and at least this often",
    )
    discovery: bool = Field(True, description="Describe the entities to Home Assistant")
    discovery_prefix: TopicName = Field(
        "homeassistant", description="Topic prefix of Home Assistant's discovery and status"
    )
    discovery_delay_s_max: float = Field(
        10.0,
        ge=0,
        le=300,
        allow_inf_nan=False,
        description="After a start of Home Assistant, answer within this, at a random time",
    )

    @property
    def expire_after_s(self) -> int:
        """After this an entity without news is unavailable: two messages may be lost."""
        return math.ceil(3 * self.interval_s)


class OnSiteTable(Table):
    """What tells people on site of alarms; nothing by default."""

    hooks: list[HookTable] = Field(
        default_factory=list,
        max_length=16,
        description="Programs and web servers that are told of changes of alarms",
    )

    mqtt: PanelTable | None = Field(None, description="A broker on site for panels; absent: none")

    @model_validator(mode="after")
    def _unique(self) -> OnSiteTable:
        for name in repeated(hook.name for hook in self.hooks):
            raise ValueError(f"hooks: name = {name!r} occurs twice; it must be unique")
        return self
