"""The gateway's configuration: TOML and environment, checked as a whole before anything starts.

What changes the scores of a stream with a bundle is in the bundle, not here, and no secret is
either (those have files of their own). Only ``load`` reads; what a path or port points at is tried
by ``check``.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from agent import environment
from agent.layers import Layers, Location, read
from agent.location import STORE_DIRECTORY
from agent.stream_tables import BaselineTable, Count, LimitTable, PredictionTable, repeated
from models.bundle import Positive
from models.errors import ConfigError
from models.settings import Table, dotted, explain, nearest

TIME: Final = "time"  # the column of a line that holds its time
IGNORED: Final = "-"  # a column that is not used

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_IN_ITS_OWN_FILE = (
    ": secrets do not belong in this file; put it into a file of its own and set mqtt.password_file"
)
_HINTS = dict.fromkeys(("password", "secret", "token"), _IN_ITS_OWN_FILE)


def _topic_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "allowed are 1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit"
            " (it is part of MQTT topics)"
        )
    return value


def _from_file(value: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the configuration file, wherever the agent is started."""
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / value


TopicName = Annotated[str, AfterValidator(_topic_name)]
FilePath = Annotated[Path, AfterValidator(_from_file)]


class GatewayTable(Table):
    """Who this gateway is."""

    site: TopicName = Field(description="The plant or site; part of every topic")
    name: TopicName = Field(description="This gateway, unique within its site; part of every topic")


class StoreTable(Table):
    """The local database."""

    directory: FilePath = Field(STORE_DIRECTORY, description="Directory of the database files")
    flush_interval_s: Positive = Field(
        1.0, description="Commit this often; what is not committed is lost with the power"
    )
    state_interval_s: Positive = Field(
        10.0,
        description="Save the streams' memory this often, and with each message of the stream;"
        " a restart scores the samples since then again",
    )
    ring_rows_max: Count = Field(
        1_000_000, description="Samples kept with their scores, over all streams; oldest go first"
    )
    outbox_rows_max: Count = Field(
        100_000, description="Messages kept while central ops cannot be reached; oldest go first"
    )
    alarm_rows_max: Count = Field(
        100_000, description="Alarms kept for the alarms command; the oldest closed ones go first"
    )


class MqttTable(Table):
    """The broker; without this table the gateway works alone."""

    host: str = Field(min_length=1, description="Name or address of the broker")
    port: int = Field(1883, ge=1, le=65535, description="1883, or usually 8883 with TLS")
    username: str | None = Field(None, description="User at the broker")
    password_file: FilePath | None = Field(
        None, description="File that holds the password and nothing else"
    )
    tls_ca_file: FilePath | None = Field(
        None, description="Certificates (PEM) that the broker's is checked against; turns TLS on"
    )
    tls_cert_file: FilePath | None = Field(
        None, description="This gateway's certificate (PEM), where the broker asks for one"
    )
    tls_key_file: FilePath | None = Field(
        None, description="The key (PEM) to tls_cert_file, unless it is in that file too"
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="MQTT version; auto is 5, and 3.1.1 where the broker refuses that"
    )
    keepalive_s: int = Field(
        60, ge=5, le=65535, description="A lost link is noticed after one and a half times this"
    )
    inflight_max: Count = Field(
        20, description="Messages sent and not yet acknowledged; a broker may ask for fewer"
    )
    acknowledgement: Literal["broker", "central"] = Field(
        "broker",
        description="Whose word frees a message: the broker's, or that of a collector which has it",
    )
    central_timeout_s: Positive = Field(
        60.0, description="central: send again what the collector has not acknowledged after this"
    )
    replay_rate_max: Positive = Field(
        200.0, description="Summaries and health of the backlog sent per second, at most"
    )
    health_expiry_s: Positive = Field(
        600.0, description="A health message older than this is dropped, here and by the broker"
    )
    ack_timeout_s: Positive = Field(
        60.0, description="Connect again if messages wait this long without any acknowledgement"
    )
    backoff_min_s: Positive = Field(1.0, description="First wait before connecting again, at most")
    backoff_max_s: Positive = Field(60.0, description="Longest wait before connecting again")
    stop_timeout_s: Positive = Field(
        3.0, description="At a stop, wait this long for acknowledgements"
    )
    unsubscribed_retry_s: Positive = Field(
        30.0, description="Send again after this where the broker says that nobody is subscribed"
    )

    @model_validator(mode="after")
    def _consistent(self) -> MqttTable:
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


class SummaryTable(Table):
    """What central ops hears of normal life."""

    interval_s: Positive = Field(60.0, description="One summary per stream and this interval")


class HealthTable(Table):
    """What central ops hears of the gateway itself."""

    interval_s: Positive = Field(60.0, description="One health message per this interval")


class BundlesTable(Table):
    """Which bundles are trusted."""

    trusted_keys_dir: FilePath | None = Field(
        None, description="Directory of public keys (*.pub); a signature must be by one of them"
    )
    require_signature: bool = Field(False, description="Refuse a bundle that is not signed")

    @model_validator(mode="after")
    def _consistent(self) -> BundlesTable:
        if self.require_signature and self.trusted_keys_dir is None:
            raise ValueError("require_signature needs trusted_keys_dir")
        return self


class RuntimeTable(Table):
    """How the agent runs on this machine."""

    interpreter: Literal["auto", "litert", "tflite"] = Field(
        "auto", description="What runs the networks; auto takes LiteRT, else tflite-runtime"
    )
    queue_chunks_max: Count = Field(
        1000, description="Reads that wait for the loop; the oldest are dropped and counted"
    )
    gather_s: float = Field(
        0.05,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Wait this long for readings of other inputs, to score them together",
    )


class StreamTable(Table):
    """One machine or sensor that is scored as a whole, by one bundle or without one."""

    name: TopicName = Field(description="Unique; part of every topic and of every alarm")
    bundle: FilePath | None = Field(
        None, description="The bundle (*.fieldwatch) that scores this stream"
    )
    baseline: BaselineTable | None = Field(None, description="Instead of a bundle")
    silent_after_s: Positive = Field(
        30.0, description="Raise the alarm 'silent' after this long without any reading"
    )
    lateness_samples: int = Field(
        0,
        ge=0,
        le=1000,
        description="Wait this many samples for readings that come out of order",
    )
    limits: list[LimitTable] = Field(
        default_factory=list, description="Needs a bundle with a forecaster"
    )
    prediction: PredictionTable = Field(
        PredictionTable(), description="When a forecast raises an alarm"
    )

    @model_validator(mode="after")
    def _scored_by_one(self) -> StreamTable:
        if (self.bundle is None) == (self.baseline is None):
            raise ValueError("a stream needs a bundle or a table baseline, and not both")
        if self.limits and self.bundle is None:
            raise ValueError(
                "limits need a bundle with a forecaster; the baseline forecasts nothing"
            )
        for name in repeated(limit.channel for limit in self.limits):
            raise ValueError(f"limits: channel {name!r} is there twice")
        return self


class InputTable(Table):
    """Where lines come from, and how a line is read; common to all kinds of input."""

    name: TopicName = Field(description="Unique; names the input in logs and status")
    stream: TopicName = Field(description="The stream that the readings belong to")
    format: Literal["csv", "json"] = Field(
        "csv", description="csv: values with commas between; json: one object per line"
    )
    columns: list[str] | None = Field(
        None,
        min_length=1,
        description="csv: what each column is: 'time', a channel of the bundle, or '-' to ignore",
    )
    time_key: str | None = Field(
        None, min_length=1, description="json: the key of the time; without it arrival counts"
    )
    keys: dict[str, str] = Field(
        default_factory=dict, description="json: channel = key, where the key is not the channel"
    )
    ignore_keys: list[str] = Field(
        default_factory=list, description="json: keys that are not counted as unknown channels"
    )
    line_bytes_max: int = Field(
        4096, ge=16, le=65536, description="A longer line is rejected as too_long"
    )
    rejects_kept: int = Field(
        5, ge=0, le=100, description="Rejected lines kept for status, of each cause"
    )

    @model_validator(mode="after")
    def _of_one_format(self) -> InputTable:
        if self.format == "json":
            if self.columns is not None:
                raise ValueError("columns is for format = 'csv'; for json see keys")
            return self
        odd = [name for name in ("time_key", "keys", "ignore_keys") if getattr(self, name)]
        if odd:
            raise ValueError(f"{odd[0]} is for format = 'json'")
        if self.columns is None:
            raise ValueError("columns is needed with format = 'csv'")
        twice = repeated(column for column in self.columns if column != IGNORED)
        if twice:
            raise ValueError(f"columns: {twice[0]!r} is there twice")
        if not set(self.columns) - {TIME, IGNORED}:
            raise ValueError("columns: no channel among them")
        return self


class SerialTable(InputTable):
    """A serial port."""

    type: Literal["serial"] = Field("serial", description="The kind of input")
    port: FilePath = Field(
        description="The device, best by its lasting name below /dev/serial/by-id"
    )
    baud: int = Field(115200, ge=50, description="Bits per second, as the device is set")
    bytesize: Literal[5, 6, 7, 8] = Field(8, description="Bits per character")
    parity: Literal["none", "even", "odd", "mark", "space"] = Field(
        "none", description="Parity bit"
    )
    stopbits: Literal[1, 2] = Field(1, description="Stop bits")
    reconnect_delay_max_s: Positive = Field(
        10.0, description="Longest wait before a lost port is tried again"
    )


class AgentConfig(Table):
    """The whole configuration; paths in it are resolved."""

    gateway: GatewayTable = Field(description="Who this gateway is")
    store: StoreTable = Field(StoreTable(), description="The local database")
    mqtt: MqttTable | None = Field(None, description="The broker; absent: no central ops")
    summary: SummaryTable = Field(SummaryTable(), description="Summaries to central ops")
    health: HealthTable = Field(HealthTable(), description="Health messages to central ops")
    bundles: BundlesTable = Field(BundlesTable(), description="Which bundles are trusted")
    runtime: RuntimeTable = Field(RuntimeTable(), description="How the agent runs here")
    streams: list[StreamTable] = Field(min_length=1, description="What is scored")
    inputs: list[SerialTable] = Field(min_length=1, description="Where readings come from")


def load(path: Path) -> AgentConfig:
    """Read and check a configuration: its file, the drop-ins beside it, and the environment.

    Raises:
        ConfigError: not readable, not TOML, or settings are wrong: one line for each, with
            file, key, value and what is allowed.

    """
    return load_layers(path)[0]


def load_layers(path: Path) -> tuple[AgentConfig, Layers]:
    """Do what ``load`` does; return also where each setting came from."""
    layers = read(path)
    problems = environment.lay(layers, os.environ, AgentConfig)
    config = None
    try:
        config = AgentConfig.model_validate(
            layers.document, context={"directory": path.parent.absolute()}
        )
    except ValidationError as error:
        problems += explain(AgentConfig, error, _HINTS, functools.partial(_place, layers))
    problems += [
        f"{layers.origins(location)[0].source}: {problem}"
        for location, problem in _crossed(layers.document)
    ]
    if config is None or problems:
        raise ConfigError("\n".join(problems))
    return config, layers


def _place(layers: Layers, location: Location) -> str:
    """Name the place of a setting as the person who wrote it knows it."""
    origins = layers.origins(location)
    sources = ", ".join(origin.source for origin in origins)
    inside = origins[0].location  # None of a variable, whose name says all
    return f"{sources}: {dotted(inside)}" if inside else sources


def _crossed(document: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Say what does not fit together between tables; of a document that may be wrong besides."""
    streams = _strings(document, "streams", "name")
    fed = _strings(document, "inputs", "stream")
    for table, key in (("streams", "name"), ("inputs", "name"), ("inputs", "port")):
        values = _strings(document, table, key)
        for name in repeated(values.values()):
            place = max(index for index, value in values.items() if value == name)
            yield (table, place), f"{table}: {key} = {name!r} is there twice; it must be unique"
    for index, name in fed.items():
        if name not in streams.values():
            near = nearest(name, streams.values())
            yield ("inputs", index), f"inputs: stream = {name!r}: there is no such stream{near}"
    for index, name in streams.items():
        if name not in fed.values():
            yield (
                ("streams", index),
                f"streams: {name!r} has no input; name it as stream in a table [[inputs]]",
            )


def _strings(document: Mapping[str, Any], table: str, key: str) -> dict[int, str]:
    """Return a text of each table of a list, by its position."""
    rows = document.get(table)
    rows = rows if isinstance(rows, list) else []
    values = {index: row.get(key) for index, row in enumerate(rows) if isinstance(row, dict)}
    return {index: value for index, value in values.items() if isinstance(value, str)}
