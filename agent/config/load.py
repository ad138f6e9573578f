"""The gateway's configuration: TOML and environment, checked as a whole before anything starts.

What changes the scores of a stream with a bundle is in the bundle, not here. Secrets have their own
files. Only ``load`` reads; ``check`` tests what a path or port points at.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

from agent.config import environment
from agent.config.broker import MqttTable
from agent.config.inputs import LINES, AnyInput, MqttInputTable
from agent.config.kinds import OFF, Count, FilePath, SocketPath, TopicName
from agent.config.layers import Layers, read
from agent.config.location import STORE_DIRECTORY, socket_beside
from agent.config.onsite import OnSiteTable
from agent.config.page import PageTable
from agent.config.streams import (
    ALARM_KINDS,
    AlarmKind,
    BaselineTable,
    LimitTable,
    PredictionTable,
    RemainingTable,
    StreamAlarmsTable,
    repeated,
)
from agent.config.words import HELPS_MAX, HelpTable, LanguageTable, ShiftTable, Title
from agent.handling.states import Consequence
from models.errors import ConfigError
from models.keys import read_keyring
from models.manifest import Positive
from models.names import GROUP
from models.settings import Table, dotted, explain, nearest
from models.toml import Location
from models.validation import Field, ValidationError, model_validator

Alarm = tuple[str, AlarmKind]  # stream, kind
_IN_ITS_OWN_FILE = (
    ": secrets do not belong in this file; put it into another file and set mqtt.password_file"
)
_HINTS = dict.fromkeys(("password", "secret", "token"), _IN_ITS_OWN_FILE) | {
    "payload": "; mqtt.payload is called mqtt.dialect now",
    "trusted_keys_dir": "; set directory in the table [keys] instead",
}


class GatewayTable(Table):
    """Who this gateway is."""

    site: TopicName = Field(description="The plant or site; part of every topic")
    name: TopicName = Field(description="This gateway, unique within its site; part of every topic")


class StoreTable(Table):
    """The local database."""

    directory: FilePath = Field(STORE_DIRECTORY, description="Directory of the database files")
    flush_interval_s: Positive = Field(
        1.0, description="Time between commits; a power cut loses everything uncommitted"
    )
    state_interval_s: Positive = Field(
        30.0,
        description="Time between saves of the streams' state, which each message of a stream also"
        " saves; a restart scores the samples since then again",
    )
    ring_rows_max: Count = Field(
        1_000_000,
        description="Samples kept with their scores, in all streams; the oldest are deleted first",
    )
    outbox_rows_max: Count = Field(
        100_000,
        description="Messages kept while central ops is unreachable; the oldest are deleted first",
    )
    bytes_max: int = Field(
        2**30,
        ge=2**20,
        description="Size of both files without their logs (8 MB); above it, the oldest samples are"
        " deleted, then messages as from a full outbox",
    )
    alarm_rows_max: Count = Field(
        100_000, description="Alarms kept; the oldest closed ones are deleted first"
    )
    logbook_rows_max: Count = Field(
        200_000, description="Rows of the alarms' logbook; the oldest go first"
    )
    windows_bytes_max: int = Field(
        2**24,
        ge=0,
        description="Size of the samples that are kept around alarms, at most an eighth of"
        " bytes_max; above it, the oldest are deleted first, and those of labelled alarms last",
    )
    samples_days_max: Positive | None = Field(
        None, description="Drop samples older than this, by their own times; absent: no limit"
    )
    alarms_days_max: Positive | None = Field(
        None,
        description="Drop alarms closed for longer than this, and their rows of the logbook;"
        " absent: no limit",
    )
    history_days_max: Positive = Field(
        366.0, description="Drop minutes and hours of the history older than this"
    )
    history_bytes_max: int = Field(
        2**28,
        ge=2**16,
        description="Size of the history, at most a quarter of bytes_max; above it, the oldest"
        " minutes are deleted, then the oldest hours",
    )


class SummaryTable(Table):
    """What central ops receives about normal operation."""

    interval_s: Positive = Field(60.0, description="Interval of each stream's summaries")


class HealthTable(Table):
    """What central ops receives about the gateway itself."""

    interval_s: Positive = Field(60.0, description="Interval of the health messages")


FaultKind = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class AlarmsTable(Table):
    """How people handle alarms; ``[streams.alarms]`` has what differs between streams."""

    shelve_h_max: Positive = Field(
        8.0, le=168, description="Longest shelving, hours; it ends by itself"
    )
    shelved_h_max: Positive = Field(
        24.0,
        le=744,
        description="Longest time of shelvings one after the other, hours, until the alarm was"
        " normal",
    )
    not_shelvable: list[Consequence] = Field(
        default_factory=list,
        description="Alarms of streams with these consequences must not be shelved",
    )
    remind_h: float = Field(
        8.0,
        ge=0,
        le=744,
        allow_inf_nan=False,
        description="An acknowledged alarm that is still active reminds after each such time, such"
        " as a shift, hours; 0: never",
    )
    chatter_raises: int = Field(
        5,
        ge=0,
        le=100,
        description="An alarm that is raised this often within chatter_s chatters, and is not"
        " announced each time; 0: never, else at least 2",
    )
    chatter_s: Positive = Field(
        600.0, le=86_400, description="It stops to chatter if it is not raised for this long"
    )
    flood_alarms: Count = Field(
        10,
        description="More new alarms than this within flood_s are a flood; those beyond it are"
        " shown and announced by stream",
    )
    flood_over_alarms: Count = Field(
        5, description="A flood ends with fewer new alarms than this within flood_s"
    )
    flood_s: Positive = Field(600.0, le=86_400, description="See flood_alarms")
    fault_kinds: list[FaultKind] = Field(
        default_factory=list,
        max_length=100,
        description="Kinds of fault to choose from for the label 'confirmed'; another text is"
        " allowed",
    )
    ask_again_days: Positive = Field(
        7.0,
        le=366,
        description="An alarm with the label 'nothing-found' is listed again after this time, days",
    )
    advisory_h: Positive = Field(
        24.0,
        le=87_600,
        description="A predicted limit is an advisory, and calls nobody, while even the earliest"
        " time to it is longer than this, hours",
    )
    advisory_when_over: list[AlarmKind] = Field(
        ["stuck", "missing"],
        description="Alarms of these kinds become advisories once they are over, such as of a"
        " sensor that was repaired: they need no acknowledgement any more",
    )

    @model_validator(mode="after")
    def _ordered(self) -> AlarmsTable:
        if self.chatter_raises == 1:
            raise ValueError("chatter_raises must be 0 or at least 2")
        if self.flood_over_alarms > self.flood_alarms:
            raise ValueError(
                f"flood_over_alarms {self.flood_over_alarms} is above flood_alarms"
                f" {self.flood_alarms}"
            )
        if self.shelve_h_max > self.shelved_h_max:
            raise ValueError(
                f"shelve_h_max {self.shelve_h_max:g} is above shelved_h_max {self.shelved_h_max:g}"
            )
        return self


class ControlTable(Table):
    """Commands to the agent while it runs."""

    socket: SocketPath | None = Field(
        None,
        description='Unix socket for reload, flush and state, or "off"; absent:'
        " control.sock in store.directory",
    )
    operators: str = Field(
        "fieldwatch-operators",
        min_length=1,
        max_length=32,
        pattern=GROUP,
        description="Group whose members may acknowledge and shelve alarms; so may root and the"
        " agent's user",
    )
    maintainers: str = Field(
        "fieldwatch-maintainers",
        min_length=1,
        max_length=32,
        pattern=GROUP,
        description="Group whose members may take alarms out of service, and put them back; so may"
        " root and the agent's user",
    )
    page_user: str = Field(
        "fieldwatch-page",
        min_length=1,
        max_length=32,
        pattern=GROUP,
        description="User of the web page; this user alone may send commands for the people who log"
        " in there",
    )


class LogTable(Table):
    """What the agent logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="The lowest level that is logged; debug adds each attempt to connect, the first"
        " row of each connection, gaps, why a stream has no score, and the sent messages",
    )


class KeysTable(Table):
    """Whose signatures are trusted."""

    directory: FilePath | None = Field(
        None,
        description="Directory of the public keys (*.pub) that this gateway trusts, each for its"
        " role, and of the file revoked; a key of the role bundle must sign bundles",
    )

    def check(self) -> None:
        """Refuse keys that cannot be read.

        Raises:
            ConfigError: see ``read_keyring``.

        """
        if self.directory is not None:
            read_keyring(self.directory)


class BundlesTable(Table):
    """Which bundles are trusted."""

    require_signature: bool = Field(
        True,
        description="With keys.directory: refuse a bundle without a signature; false accepts it,"
        " but still refuses a bundle signed by an unknown key",
    )


class RuntimeTable(Table):
    """How the agent runs on this machine."""

    interpreter: Literal["auto", "litert", "tflite"] = Field(
        "auto", description="What runs the networks; auto is LiteRT, or tflite-runtime without it"
    )
    queue_chunks_max: Count = Field(
        1000,
        description="Reads that may wait for the loop; above it, the oldest that cannot be read"
        " again are dropped",
    )
    gather_s: float = Field(
        0.05,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How long to wait for readings of other inputs, to score them together",
    )


class StreamTable(Table):
    """One machine or sensor that is scored as a whole, by one bundle or without one."""

    name: TopicName = Field(description="Unique; part of every topic and of every alarm")
    bundle: FilePath | None = Field(
        None, description="The bundle (*.fieldwatch) that scores this stream"
    )
    baseline: BaselineTable | None = Field(
        None,
        description="Watches the stream if it has no bundle, or if its bundle is refused and no"
        " earlier one has run",
    )
    silent_after_s: Positive = Field(
        30.0, description="Raise the alarm 'silent' after this long without any reading"
    )
    leap_agreed_s: Positive = Field(
        60.0,
        description="Applies while no time server has set the gateway's clock. If an input's times"
        " leap ahead, the agent follows it after it has continued there for this long or for ten"
        " rows, unless another input of the stream continues as before; it follows at once if most"
        " inputs leap together",
    )
    lateness_samples: int = Field(
        0,
        ge=0,
        le=1000,
        description="How many samples to wait for readings that arrive out of order",
    )
    limits: list[LimitTable] = Field(
        default_factory=list, description="Engineering limits of channels"
    )
    prediction: PredictionTable = Field(
        PredictionTable(), description="When a forecast raises an alarm"
    )
    remaining: RemainingTable = Field(
        RemainingTable(), description="What is known of the machine's age"
    )
    alarms: StreamAlarmsTable = Field(
        StreamAlarmsTable(), description="How people handle the alarms of this stream"
    )
    title: Title | None = Field(
        None, description="Name of the machine in the texts of alarms; absent: the stream's name"
    )
    titles: dict[str, Title] = Field(
        default_factory=dict,
        description="Names of channels in the texts of alarms; absent: the channel's name in words",
    )
    operating_point: list[str] = Field(
        default_factory=list,
        description="Channels that set the machine's operating point, the most important first;"
        " absent: the bundle's channels that are not scored",
    )
    shift: ShiftTable | None = Field(
        None, description="Shifts of this stream's staff; absent: those of the table shift"
    )
    help: list[HelpTable] = Field(
        default_factory=list,
        max_length=HELPS_MAX,
        description="The plant's own help for the alarms of this stream",
    )

    @model_validator(mode="after")
    def _scored_by_one(self) -> StreamTable:
        if self.bundle is None and self.baseline is None:
            raise ValueError("a stream needs a bundle or a table baseline")
        for name in repeated(limit.channel for limit in self.limits):
            raise ValueError(f"limits: channel {name!r} occurs twice")
        for place in repeated(f"kind {one.kind}, channel {one.channel}" for one in self.help):
            raise ValueError(f"help: {place} occurs twice")
        return self


class AgentConfig(Table):
    """The whole configuration; paths in it are resolved."""

    gateway: GatewayTable = Field(description="Who this gateway is")
    store: StoreTable = Field(StoreTable(), description="The local database")
    mqtt: MqttTable | None = Field(None, description="The broker; absent: no central ops")
    summary: SummaryTable = Field(SummaryTable(), description="Summaries to central ops")
    health: HealthTable = Field(HealthTable(), description="Health messages to central ops")
    alarms: AlarmsTable = Field(AlarmsTable(), description="How people handle alarms")
    language: LanguageTable = Field(LanguageTable(), description="The language of alarms")
    shift: ShiftTable = Field(ShiftTable(), description="When the shifts begin")
    on_site: OnSiteTable = Field(OnSiteTable(), description="What tells people on site")
    control: ControlTable = Field(ControlTable(), description="Commands to the running agent")
    page: PageTable = Field(PageTable(), description="The local web page")
    log: LogTable = Field(LogTable(), description="What the agent logs")
    keys: KeysTable = Field(KeysTable(), description="Whose signatures are trusted")
    bundles: BundlesTable = Field(BundlesTable(), description="Which bundles are trusted")
    runtime: RuntimeTable = Field(RuntimeTable(), description="How the agent runs here")
    streams: list[StreamTable] = Field(min_length=1, description="What is scored")
    inputs: list[AnyInput] = Field(min_length=1, description="Where readings come from")

    def stream(self, name: str | None = None) -> StreamTable:
        """Return a stream; without a name the only one.

        Raises:
            ConfigError: there is none of this name, or without a name several.

        """
        tables = {table.name: table for table in self.streams}
        if name is None:
            if len(tables) > 1:
                raise ConfigError(f"there are several streams, name one: {', '.join(tables)}")
            return self.streams[0]
        if name not in tables:
            there = nearest(name, tables) or f"; there are {', '.join(tables)}"
            raise ConfigError(f"no stream {name!r}{there}")
        return tables[name]

    @model_validator(mode="after")
    def _consistent(self) -> AgentConfig:
        asked = self.bundles.require_signature and self.bundles.model_fields_set
        if asked and self.keys.directory is None:
            raise ValueError("bundles.require_signature needs keys.directory")
        if self.mqtt is not None and self.mqtt.commands.enabled and self.keys.directory is None:
            raise ValueError(
                "mqtt.commands.enabled needs the public keys of those who may operate in"
                " keys.directory"
            )
        if self.mqtt is not None and self.mqtt.needs_key and self.keys.directory is None:
            raise ValueError(
                'mqtt.acknowledgement = "central" needs the collector\'s public key in'
                " keys.directory, or mqtt.unsigned_acknowledgements = true; with the latter any"
                " client of the broker can delete messages that no collector has"
            )
        return self

    @model_validator(mode="after")
    def _suppressed_by_others(self) -> AgentConfig:
        """Refuse suppressions in a circle, of which each alarm would silence the next."""
        names = {table.name for table in self.streams}
        arrows: dict[Alarm, set[Alarm]] = {}
        for table in self.streams:
            for one in table.alarms.suppress:
                of = one.when.stream or table.name
                if of not in names:
                    near = nearest(of, names)
                    raise ValueError(
                        f"stream {table.name}: alarms.suppress: there is no stream {of!r}{near}"
                    )
                if one.when.alarm is not None:
                    silenced = {(table.name, kind) for kind in one.kinds or ALARM_KINDS}
                    arrows.setdefault((of, one.when.alarm), set()).update(silenced)
        try:
            TopologicalSorter(arrows).prepare()
        except CycleError as error:
            circle = ", ".join(f"{kind} of {name}" for name, kind in error.args[1])
            if len(set(error.args[1])) == 1:
                name, kind = error.args[1][0]
                raise ValueError(
                    f"stream {name}: alarms.suppress: the alarm {kind} would suppress itself; set"
                    f" kinds, without {kind!r}"
                ) from error
            raise ValueError(
                f"alarms.suppress: these alarms suppress each other in a circle: {circle}; name"
                " the kinds that each suppresses"
            ) from error
        return self

    @model_validator(mode="after")
    def _client_ids_differ(self) -> AgentConfig:
        ours = [one for one in self.inputs if isinstance(one, MqttInputTable) and one.client_id]
        used = (f"{one.client_id!r} at {one.broker.host}:{one.broker.port}" for one in ours)
        for client_id in repeated(used):
            raise ValueError(
                f"inputs: client_id = {client_id} occurs twice; the broker would end the connection"
                " of one input whenever the other connects"
            )
        return self

    @model_validator(mode="after")
    def _hooks_name_streams(self) -> AgentConfig:
        streams = {table.name for table in self.streams}
        for hook in self.on_site.hooks:
            for name in sorted(set(hook.streams) - streams):
                raise ValueError(
                    f"on_site.hooks: {hook.name}: streams has {name!r}, and there is no such stream"
                    f"{nearest(name, streams)}"
                )
        return self

    def named(self) -> AgentConfig:
        """Return it with what its tables take from others.

        Each MQTT input has a client id that no other gateway or uplink has. Each stream has shifts.
        """
        # no name has a colon, and no id of an uplink begins like this
        begin = f"fieldwatch:{self.gateway.site}:{self.gateway.name}"
        inputs = [
            one.model_copy(update={"client_id": f"{begin}:{one.name}"})
            if isinstance(one, MqttInputTable) and one.client_id is None
            else one
            for one in self.inputs
        ]
        streams = [
            one if one.shift is not None else one.model_copy(update={"shift": self.shift})
            for one in self.streams
        ]
        return self.model_copy(update={"inputs": inputs, "streams": streams})

    @property
    def control_socket(self) -> Path | None:
        """The socket for commands; None if there is none."""
        if self.control.socket is None:
            return socket_beside(self.store.directory)
        return None if self.control.socket == OFF else self.control.socket


def load(path: Path) -> AgentConfig:
    """Read and check a configuration: its file, the drop-ins beside it, and the environment.

    Raises:
        ConfigError: not readable, not TOML, or settings are wrong: one line for each, with
            file, key, value and what is allowed.

    """
    return load_layers(path)[0]


def load_layers(path: Path, document: dict[str, Any] | None = None) -> tuple[AgentConfig, Layers]:
    """Do what ``load`` does; return also where each setting came from.

    ``document`` is what the file is about to have; None: what it has.
    """
    layers = read(path, document)
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
    return config.named(), layers


def _place(layers: Layers, location: Location) -> str:
    """Name the place of a setting as the person who wrote it knows it."""
    origins = layers.origins(location)
    sources = ", ".join(origin.source for origin in origins)
    inside = origins[0].location  # None of a variable, whose name says all
    return f"{sources}: {dotted(inside)}" if inside else sources


def _crossed(document: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Yield the contradictions between tables; the document may have other errors."""
    streams = _strings(document, "streams", "name")
    fed = _strings(document, "inputs", "stream")
    yield from _lines(document)
    kinds = _strings(document, "inputs", "type")
    for table, key in (("streams", "name"), ("inputs", "name"), ("inputs", "port")):
        values = _strings(document, table, key)
        if key == "port":  # all inputs of a Modbus line may be at one port, and none besides
            mixed = {port for at, port in values.items() if kinds.get(at) not in LINES}
            values = {at: port for at, port in values.items() if port in mixed}
        for name in repeated(values.values()):
            place = max(index for index, value in values.items() if value == name)
            yield (table, place), f"{table}: {key} = {name!r} occurs twice; it must be unique"
    for index, name in fed.items():
        if name not in streams.values():
            near = nearest(name, streams.values())
            yield ("inputs", index), f"inputs: stream = {name!r}: there is no such stream{near}"
    for index, name in streams.items():
        if name not in fed.values():
            yield (
                ("streams", index),
                f"streams: {name!r} has no input; set stream to it in a table [[inputs]]",
            )


def _lines(document: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Say where inputs share a Modbus line and do not agree on how it is used."""
    rows = document.get("inputs")
    first: dict[str, Mapping[str, Any]] = {}
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        shared = LINES.get(str(row.get("type"))) if isinstance(row, dict) else None
        if shared is None:
            continue
        defaults = {name: field.default for name, field in shared.table.model_fields.items()}
        settings = defaults | row
        line = [settings[name] for name in shared.named_by]
        other = first.setdefault(repr(line), settings)
        for name in shared.common:
            if settings[name] != other[name]:
                yield (
                    ("inputs", index),
                    f"inputs: {name} = {settings[name]!r}, and input {other['name']!r} at the same"
                    f" {shared.named_by[0]} {line[0]!r} has {other[name]!r}; they share one"
                    " connection, so give both the same",
                )


def _strings(document: Mapping[str, Any], table: str, key: str) -> dict[int, str]:
    """Return a text of each table of a list, by its position."""
    rows = document.get(table)
    rows = rows if isinstance(rows, list) else []
    values = {index: row.get(key) for index, row in enumerate(rows) if isinstance(row, dict)}
    return {index: value for index, value in values.items() if isinstance(value, str)}
