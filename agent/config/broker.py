"""Tables of the configuration that name an MQTT broker."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Literal

from agent.config.commands import CommandsTable
from agent.config.kinds import Count, FilePath, TopicName
from models.manifest import Positive
from models.settings import Table
from models.validation import Field, field_validator, model_validator

DialectName = Literal["json", "cbor"]
Compression = Literal["none", "zstd"]


def missing(form: str) -> str | None:
    """Return what must be installed for a form of message; None if nothing is missing."""
    if form == "cbor" and find_spec("cbor2") is None:
        return "CBOR needs cbor2: pip install 'fieldwatch[cbor]'"
    if form == "zstd" and sys.version_info < (3, 14) and find_spec("zstandard") is None:
        return "zstd needs zstandard: pip install 'fieldwatch[zstd]'"
    return None


class BrokerTable(Table):
    """An MQTT broker, and the access to it."""

    host: str = Field(min_length=1, description="Name or address of the broker")
    port: int = Field(1883, ge=1, le=65535, description="1883, or usually 8883 with TLS")
    username: str | None = Field(None, description="User at the broker")
    password_file: FilePath | None = Field(None, description="File that contains only the password")
    tls_ca_file: FilePath | None = Field(
        None, description="CA certificates (PEM) that verify the broker's; turns TLS on"
    )
    tls_cert_file: FilePath | None = Field(
        None, description="This gateway's certificate (PEM), if the broker asks for one"
    )
    tls_key_file: FilePath | None = Field(
        None, description="The key (PEM) of tls_cert_file, if it is not in the same file"
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="MQTT version; auto is 5, or 3.1.1 if the broker refuses that"
    )
    keepalive_s: int = Field(
        60, ge=5, le=65535, description="The agent notices a lost link after 1.5 times this"
    )
    backoff_min_s: Positive = Field(
        1.0, description="Longest wait before the first try to reconnect"
    )
    backoff_max_s: Positive = Field(60.0, description="Longest wait before any try to reconnect")

    @model_validator(mode="after")
    def _consistent(self) -> BrokerTable:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username")
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_key_file needs tls_cert_file")
        if self.tls_cert_file is not None and self.tls_ca_file is None:
            raise ValueError("tls_cert_file needs tls_ca_file: without it the link has no TLS")
        if self.backoff_min_s > self.backoff_max_s:
            raise ValueError(
                f"backoff_min_s {self.backoff_min_s:g} is above backoff_max_s"
                f" {self.backoff_max_s:g}"
            )
        return self


class SamplesTable(Table):
    """The samples that central ops receives, after everything else."""

    enabled: bool = Field(
        False,
        description="Whether this gateway sends its samples with score and quality, once nothing"
        " else waits; it begins with the samples that come after this is first set",
    )
    day_bytes_max: int = Field(
        10_000_000,
        ge=2**16,
        description="Bytes of samples sent in a day (UTC), without the headers of MQTT and below;"
        " the rest waits in the store, whose oldest samples are deleted first",
    )
    streams: list[TopicName] | None = Field(
        None, min_length=1, description="The streams whose samples are sent; absent: all"
    )
    interval_s: Positive = Field(
        300.0,
        le=86_400,
        description="Time between two transmissions; longer ones make larger chunks, which compress"
        " better",
    )
    chunk_bytes_max: int = Field(
        32_768,
        ge=2**12,
        le=2**18,
        description="Largest size of a chunk before its compression; an alarm waits for at most one"
        " chunk",
    )
    require_synced_clock: bool = Field(
        True,
        description="Keep samples back while the gateway's clock is known not to be synchronised,"
        " as their times may be corrected later; false sends them as they are",
    )

    @model_validator(mode="after")
    def _fits(self) -> SamplesTable:
        if self.chunk_bytes_max > self.day_bytes_max // 2:
            raise ValueError(
                f"chunk_bytes_max {self.chunk_bytes_max} is above half of day_bytes_max"
                f" {self.day_bytes_max}"
            )
        return self


class MqttTable(BrokerTable):
    """The broker; without this table the agent sends nothing."""

    inflight_max: Count = Field(
        20, description="Messages sent and not yet acknowledged; a broker may ask for fewer"
    )
    acknowledgement: Literal["broker", "central"] = Field(
        "broker",
        description="Who acknowledges a message before it is deleted: the broker, or a collector",
    )
    sign: FilePath | None = Field(
        None,
        description="This gateway's secret key (role gateway), which signs all messages, so that a"
        " collector can verify their origin; needs the extra signing",
    )
    unsigned_acknowledgements: bool = Field(
        False,
        description="central: accept unsigned acknowledgements; then any client of the broker can"
        " make the agent delete messages that no collector has",
    )
    central_timeout_s: Positive = Field(
        60.0, description="central: resend messages that are not acknowledged within this time"
    )
    replay_rate_max: Positive = Field(
        200.0, description="Largest number of backlog messages (summaries, health) per second"
    )
    health_expiry_s: Positive = Field(
        600.0, description="Drop a health message older than this, here and at the broker"
    )
    ack_timeout_s: Positive = Field(
        60.0, description="Reconnect if messages wait this long without any acknowledgement"
    )
    stop_timeout_s: Positive = Field(
        3.0, description="How long a stopping agent waits for acknowledgements"
    )
    unsubscribed_retry_s: Positive = Field(
        30.0, description="Resend after this if the broker reports that nobody has subscribed"
    )
    denied_retry_s: Positive = Field(
        600.0, description="Resend after this if the broker denies the topic"
    )
    dialect: DialectName = Field(
        "json", description="Encoding of summaries, alarms and health; cbor needs the extra cbor"
    )
    compression: Compression = Field(
        "none", description="Compression of each of these messages; zstd needs the extra zstd"
    )

    samples: SamplesTable = Field(SamplesTable(), description="The samples of the streams")
    commands: CommandsTable = Field(
        CommandsTable(), description="Commands that central ops sends to this gateway"
    )

    @property
    def for_commands(self) -> MqttTable:
        """The broker with the user of the connection for commands."""
        if not self.commands.has_own_user:
            return self
        names = ("username", "password_file", "tls_cert_file", "tls_key_file")
        return self.model_copy(update={name: getattr(self.commands, name) for name in names})

    @model_validator(mode="after")
    def _encrypted(self) -> MqttTable:
        if self.commands.tls_cert_file is not None and self.tls_ca_file is None:
            raise ValueError("commands.tls_cert_file needs tls_ca_file: without it is no TLS")
        return self

    @property
    def needs_key(self) -> bool:
        """Whether the collector's words count only with its signature."""
        return self.acknowledgement == "central" and not self.unsigned_acknowledgements

    @field_validator("dialect", "compression")
    @classmethod
    def _installed(cls, form: str) -> str:
        if (reason := missing(form)) is not None:
            raise ValueError(reason)
        return form
