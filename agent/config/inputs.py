"""Tables of the configuration for inputs, one for each kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from agent.config.broker import BrokerTable
from agent.config.fault_kinds import FaultKind
from agent.config.kinds import FilePath, PortPath, TopicFilter, TopicName
from agent.config.line_patterns import REGEX_BYTES_MAX, channels_in
from agent.config.registers import BITS_MAX, REGISTERS_MAX, RegisterTable
from agent.config.streams import repeated
from models.formats.cells import CLOCK, IGNORED, MISSING_WORDS, TIME
from models.manifest import Positive
from models.names import CLIENT_ID
from models.settings import Table
from models.validation import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

BY_ID: Final = Path("/dev/serial/by-id")  # where udev puts lasting names of serial devices
ENTRY_POINTS: Final = "fieldwatch.inputs"  # where other packages name their inputs
_UNIT_MAX: Final = 247  # of Modbus on a serial line
_UNIT_ITSELF: Final = 255  # of Modbus TCP: the device that has this network address
_KEPT_S: Final = 86_400  # by a broker, for an agent that is away


class SourceTable(Table):
    """The settings of all kinds of input."""

    name: TopicName = Field(description="Unique; names the input in logs and status")
    stream: TopicName = Field(description="The stream that the readings belong to")
    rejects_kept: int = Field(
        5, ge=0, le=100, description="Rejected lines kept for status, per cause"
    )


class InputTable(SourceTable):
    """An input of lines, and how to read a line."""

    format: Literal["csv", "json", "keyvalue", "regex", "readings"] = Field(
        "csv",
        description="csv: values with separators; json: one object per line; keyvalue: pairs such"
        " as T=21.4 P=1.2; regex: the groups of a regular expression; readings: for an input of"
        " another package that delivers numbers, not lines",
    )
    columns: list[str] | None = Field(
        None,
        min_length=1,
        description="csv: the meaning of each column: 'time', a channel of the bundle, or '-' to"
        " ignore it; '+time' is the time of day, if 'time' is only the date; readings: the"
        " delivered channels, and 'time' if the readings have one",
    )
    header: bool = Field(
        False, description="csv: a line of the file or message names the columns; see keys"
    )
    separator: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="csv: separates two values; default: a comma; a blank stands for any number of"
        " blanks; keyvalue: separates two pairs; default: blanks, commas and semicolons",
    )
    decimal: Literal[".", ","] = Field(
        ".", description="The decimal point, or a comma; json: in numbers that are strings"
    )
    missing_words: list[str] = Field(
        list(MISSING_WORDS),
        max_length=100,
        description="Words in place of a value that mean it is missing, in upper or lower case;"
        " counted as no_value; anything else that is not a number is counted as not_a_number",
    )
    pattern: str | None = Field(
        None,
        max_length=500,
        description="regex: must match a whole line; a named group (?P<flow>...) is a channel"
        " of the bundle, or 'time'",
    )
    time_key: str | None = Field(
        None,
        min_length=1,
        description="json, keyvalue, header: the key of the time; absent: the time of arrival",
    )
    time_format: str = Field(
        "auto",
        max_length=100,
        description="auto: Unix time in s, ms, µs or ns, or RFC 3339 such as"
        " 2025-11-28T18:40:00+01:00 (without an offset: see time_zone); excel: days of a"
        " spreadsheet; or a pattern of strptime such as %d.%m.%Y %H:%M:%S",
    )
    time_zone: str | None = Field(
        None,
        description="Time zone of times without an offset, such as Europe/Berlin or UTC; absent:"
        " such times are rejected as bad_time (days of a spreadsheet are UTC)",
    )
    keys: dict[str, str] = Field(
        default_factory=dict,
        description="channel = key (of json, keyvalue, header, or a group of regex), or a JSON"
        " pointer such as /data/flow; absent: the channel's name is the key",
    )
    ignore_keys: list[str] = Field(
        default_factory=list,
        description="json, keyvalue: keys that are not counted as unknown channels",
    )
    quality_keys: dict[str, str] = Field(
        default_factory=dict,
        description="json: channel = key, or JSON pointer, of the value's quality; a value whose"
        " quality is not in quality_good is missing, and counted as bad_quality",
    )
    quality_good: list[str] = Field(
        ["good"],
        min_length=1,
        description="json: the values that mean good quality, in upper or lower case; write a"
        " number as text: '192'",
    )
    units: list[str] = Field(
        default_factory=list,
        description="keyvalue: units allowed after a number, such as 'C' in T=21.4C; ignored",
    )
    checksum: Literal["xor", "crc16-modbus", "crc32"] | None = Field(
        None,
        description="Each line ends in * and this checksum in hex, computed over everything before"
        " the *; xor is that of NMEA 0183, without the $ or ! at the beginning",
    )
    line_bytes_max: int = Field(
        4096,
        ge=16,
        le=65536,
        description=f"A longer line is rejected as too_long; regex: at most {REGEX_BYTES_MAX}",
    )
    encoding: Literal["utf-8", "latin-1", "cp1252"] = Field(
        "utf-8",
        description="Encoding of the text: utf-8, latin-1, or cp1252 (Western Windows); it matters"
        " for names and words that are not ASCII",
    )
    line_end: Literal["auto", "lf", "cr"] = Field(
        "auto",
        description="The end of a line: lf: a line feed, also after a carriage return; cr: a"
        " carriage return or a line feed; auto: the one that comes first",
    )

    channels: list[str] | None = Field(
        None,
        min_length=1,
        description="Channels that the input may deliver; values for others are rejected as"
        " not_its_channel; absent: all",
    )
    ahead_max_s: Positive | None = Field(
        86_400.0,
        description="A line whose time is farther ahead of the gateway's clock is rejected as"
        " in_future; while no time server has set that clock, see leap_agreed_s",
    )

    @property
    def lines(self) -> InputTable:
        """How the input's lines are read."""
        return self

    @property
    def has_time(self) -> bool:
        """Whether a line says when it was measured; else the time of its arrival counts."""
        if self.format == "regex":
            return TIME in channels_in(self.pattern or "")
        if self.format == "csv" and not self.header:
            return TIME in (self.columns or ())
        return self.time_key is not None

    @property
    def may_be_damaged(self) -> bool:
        """Whether bytes of a line may be wrong or missing unnoticed."""
        return self.checksum is None

    @model_validator(mode="after")
    def _times_can_be_read(self) -> InputTable:
        from models.formats.times import Times  # loads numpy

        Times(self.time_format, self.time_zone)
        return self

    @model_validator(mode="after")
    def _of_one_format(self) -> InputTable:
        kind = "header" if self.header else self.format
        if self.header and self.format != "csv":
            raise ValueError("header is for format = 'csv'")
        for name, kinds in _ONLY_FOR.items():
            if (
                getattr(self, name)
                != type(self).model_fields[name].get_default(call_default_factory=True)
                and kind not in kinds
            ):
                raise ValueError(f"{name} is for {_told(kinds)}, not with {_told([kind])}")
        if kind in ("csv", "readings"):
            self._check_columns()
        elif kind == "regex":
            self._check_pattern()
        self._check_separator()
        return self

    def _check_columns(self) -> None:
        if self.columns is None:
            raise ValueError(f"columns is needed with format = {self.format!r}")
        twice = repeated(column for column in self.columns if column != IGNORED)
        if twice:
            raise ValueError(f"columns: {twice[0]!r} occurs twice")
        if not set(self.columns) - {TIME, CLOCK, IGNORED}:
            raise ValueError("columns: no channel among them")
        if CLOCK in self.columns and (TIME not in self.columns or self.format != "csv"):
            raise ValueError(f"columns: {CLOCK!r} is for format = 'csv', beside {TIME!r}, the date")

    def _check_separator(self) -> None:
        separator = self.separator or ","
        if separator.isalnum() or not separator.isascii() or separator in "+-._*=:\r\n":
            raise ValueError(f"separator = {separator!r}: must not be a part of numbers or text")
        if separator == self.decimal == "," and self.format == "csv":
            raise ValueError("decimal = ',' needs another separator, such as ';'")

    def _check_pattern(self) -> None:
        if self.pattern is None:
            raise ValueError("pattern is needed with format = 'regex'")
        if not set(channels_in(self.pattern)) - {TIME}:
            raise ValueError("pattern: no named group such as (?P<flow>...), which is a channel")
        if "line_bytes_max" in self.model_fields_set and self.line_bytes_max > REGEX_BYTES_MAX:
            raise ValueError(f"line_bytes_max: at most {REGEX_BYTES_MAX} with format = 'regex'")


_TEXT: Final = ("csv", "header", "json", "keyvalue", "regex")
# settings that apply to some formats only; "header" is csv with header = true
_ONLY_FOR: Final[dict[str, tuple[str, ...]]] = {
    "columns": ("csv", "readings"),
    "checksum": _TEXT,
    "separator": ("csv", "header", "keyvalue"),
    "decimal": _TEXT,
    "encoding": _TEXT,
    "missing_words": _TEXT,
    "time_format": _TEXT,
    "time_zone": _TEXT,
    "pattern": ("regex",),
    "time_key": ("json", "keyvalue", "header"),
    "keys": ("json", "keyvalue", "header", "regex"),
    "ignore_keys": ("json", "keyvalue"),
    "quality_keys": ("json",),
    "quality_good": ("json",),
    "units": ("keyvalue",),
}


def _told(kinds: Iterable[str]) -> str:
    return " or ".join(
        "header = true" if kind == "header" else f"format = {kind!r}" for kind in kinds
    )


class TextTable(InputTable):
    """An input of lines of text."""

    @model_validator(mode="after")
    def _brings_lines(self) -> TextTable:
        if self.format == "readings":
            raise ValueError(
                "format = 'readings' is for inputs that deliver numbers; this one delivers lines"
            )
        if self.time_format == "elapsed" and not isinstance(self, ReplayTable):
            raise ValueError(
                "time_format = 'elapsed' is for type = 'replay': nobody knows when the seconds"
                " began; leave the time out, and the time of arrival counts"
            )
        return self


class WholeTable(TextTable):
    """An input that delivers lines exactly as they were written, without loss or damage."""

    @property
    def may_be_damaged(self) -> bool:
        """Whether bytes of a line may be wrong or missing unnoticed."""
        return False


class SerialTable(TextTable):
    """A serial port."""

    type: Literal["serial"] = Field("serial", description="The kind of input")
    port: PortPath = Field(
        description="The device, preferably its stable name below /dev/serial/by-id; a pattern"
        " (*, ?) that matches one device; or 'auto', the only device"
    )
    by_id: FilePath = Field(BY_ID, description="Where 'auto' looks")
    baud: int = Field(115200, ge=50, description="Bits per second, as the device is set")
    bytesize: Literal[5, 6, 7, 8] = Field(8, description="Bits per character")
    parity: Literal["none", "even", "odd", "mark", "space"] = Field(
        "none", description="Parity bit"
    )
    stopbits: Literal[1, 2] = Field(1, description="Stop bits")
    flow_control: Literal["none", "rtscts", "xonxoff"] = Field(
        "none", description="Flow control: none, the lines RTS and CTS, or XON and XOFF"
    )
    reconnect_delay_max_s: Positive = Field(
        10.0, description="Longest wait before a lost port is tried again"
    )

    @model_validator(mode="after")
    def _no_header(self) -> SerialTable:
        if self.header:
            raise ValueError("header is for files and messages; a serial line has columns")
        return self


class MqttInputTable(WholeTable):
    """Messages from a broker, each with one or more lines; acknowledged after their commit."""

    type: Literal["mqtt"] = Field(description="The kind of input")
    broker: BrokerTable = Field(
        BrokerTable(host="127.0.0.1"), description="Where the messages come from"
    )
    topics: list[TopicFilter] = Field(
        min_length=1, description="Topic filters; + and # are allowed"
    )
    client_id: str | None = Field(
        None,
        pattern=CLIENT_ID,
        description="The MQTT client id, unique at the broker: printable ASCII without spaces."
        " Default: fieldwatch:SITE:GATEWAY:INPUT. If you change it, the broker keeps the session of"
        " the old id",
    )
    session_expiry_s: int | None = Field(
        None,
        ge=0,
        le=2**32 - 2,
        description="How long the broker keeps messages while the agent is away; 0: not at all;"
        " with MQTT 3.1.1 the broker decides for any other value. Default: 86400 if messages have"
        " their own time, otherwise 0, because an old message would become a reading of now",
    )
    use_retained: bool = Field(
        False,
        description="Use a retained message without its own time as a reading of now; otherwise it"
        " is rejected as retained",
    )

    @property
    def kept_s(self) -> int:
        """How long the broker is to keep messages for an agent that is away, seconds."""
        if self.session_expiry_s is not None:
            return self.session_expiry_s
        return _KEPT_S if self.has_time else 0


class FileTable(WholeTable):
    """A file that another program writes lines to; it may be rotated."""

    type: Literal["file"] = Field(description="The kind of input")
    path: FilePath = Field(description="The file; it may be created later")
    begin: Literal["start", "end"] = Field(
        "end", description="Where to begin in a file that exists when the agent starts"
    )
    poll_interval_s: Positive = Field(0.5, description="Look for new lines this often")


class ReplayTable(WholeTable):
    """A recording (CSV) that is played back as live readings, to test an installation."""

    type: Literal["replay"] = Field(description="The kind of input")
    path: FilePath = Field(description="The recording; its rows have times, in order")
    header: bool = Field(True, description="A header names the columns; if false, set columns")
    time_key: str | None = Field("time", min_length=1, description="header: the column of the time")
    time_format: str = Field(
        "elapsed",
        max_length=100,
        description="elapsed: Unix time, RFC 3339, or seconds since a start; excel, or a pattern"
        " of strptime, as for other inputs",
    )
    times: Literal["now", "recorded"] = Field(
        "now", description="now: rows get new times, beginning now; recorded: they keep their own"
    )
    speed: float = Field(
        1.0,
        gt=0,
        le=10_000,
        description="Factor of the recorded speed; above 1 the times run ahead of the clock",
    )
    loop: bool = Field(False, description="Begin again at the end; the times continue")
    ahead_max_s: Positive | None = Field(
        None, description="A recording may run ahead of the clock; see the other inputs"
    )

    @model_validator(mode="after")
    def _has_times(self) -> ReplayTable:
        if self.format != "csv":
            raise ValueError("a replay has format = 'csv'")
        if self.time_key is None if self.header else TIME not in (self.columns or ()):
            raise ValueError("a replay needs times: a time_key, or 'time' among columns")
        return self


class SimulatorTable(SourceTable):
    """The simulated pump of the demo, in real time: an input without any device."""

    type: Literal["simulator"] = Field(description="The kind of input")
    seed: int = Field(1, ge=0, description="Each seed simulates a different pump")
    channels: list[str] | None = Field(
        None, min_length=1, description="The channels to use, of the pump's eight; absent: all"
    )
    fault: FaultKind | None = Field(None, description="The fault, if any")
    fault_at_s: float = Field(
        120.0,
        ge=0,
        allow_inf_nan=False,
        description="Time from the agent's start to the fault",
    )
    fault_duration_s: Positive | None = Field(
        None, description="How long the fault lasts; absent: until the agent stops"
    )

    @property
    def lines(self) -> InputTable:
        """How the input's readings are read."""
        return InputTable(
            name=self.name,
            stream=self.stream,
            format="readings",
            columns=[
                TIME,
                *(name for name in PUMP_CHANNELS if name in (self.channels or PUMP_CHANNELS)),
            ],
            rejects_kept=self.rejects_kept,
            ahead_max_s=None,  # its times begin now, and continue whatever the clock does
        )

    @model_validator(mode="after")
    def _of_the_pump(self) -> SimulatorTable:
        for name in self.channels or ():
            if name not in PUMP_CHANNELS:
                raise ValueError(
                    f"channels: {name!r} is not a channel of the pump: {', '.join(PUMP_CHANNELS)}"
                )
        return self


# the same as in agent.inputs.plant, which would load numpy; a test compares them
PUMP_CHANNELS: Final = (
    "vibration_x",
    "vibration_y",
    "motor_current",
    "discharge_pressure",
    "flow",
    "bearing_temperature",
    "fluid_temperature",
    "voltage",
)


class ModbusTable(SourceTable):
    """A Modbus device, polled; needs the extra ``modbus``."""

    unit: int = Field(
        1,
        ge=0,
        le=255,
        description="The device's unit identifier, 1 to 247; with framing = 'tcp' also 0 or 255,"
        " for a device with its own network address",
    )
    poll_interval_s: Positive = Field(1.0, description="Time from one poll to the next")
    timeout_s: Positive = Field(
        1.0, description="How long to wait for an answer; the same in all inputs of a line"
    )
    registers: list[RegisterTable] = Field(min_length=1, description="What is read")
    registers_max: int = Field(
        REGISTERS_MAX,
        ge=1,
        le=REGISTERS_MAX,
        description="Largest number of registers in a request. If the device refuses a long request"
        " with exception 3, but answers its parts, the input lowers this limit by itself",
    )
    bits_max: int = Field(
        BITS_MAX, ge=1, le=BITS_MAX, description="The same for coils and discrete inputs"
    )
    sunspec: bool = Field(
        False,
        description="The device follows SunSpec: a value that it marks as not implemented is"
        " missing, such as -32768 of int16 and NaN of float32",
    )
    refused_retry_max_s: Positive = Field(
        600.0,
        description="If the device refuses registers (exception 1, 2 or 3), the input requests them"
        " again after 10 s, then after ever longer intervals, up to this one",
    )
    reconnect_delay_max_s: Positive = Field(
        10.0, description="Longest wait before a lost device is tried again"
    )

    @property
    def broadcasts(self) -> bool:
        """Whether unit 0 stands for all devices of the line, none of which answers."""
        return True

    @model_validator(mode="after")
    def _unit_can_answer(self) -> ModbusTable:
        if self.unit == 0 and self.broadcasts:
            raise ValueError(
                "unit = 0 is the address of all devices, and none answers; give 1 to 247"
            )
        if self.unit > _UNIT_MAX and (self.broadcasts or self.unit != _UNIT_ITSELF):
            also = "" if self.broadcasts else f", 0 or {_UNIT_ITSELF}"
            raise ValueError(f"unit = {self.unit} is reserved; give 1 to {_UNIT_MAX}{also}")
        return self

    @model_validator(mode="after")
    def _each_channel_once(self) -> ModbusTable:
        for name in repeated(register.channel for register in self.registers):
            raise ValueError(f"registers: channel {name!r} occurs twice")
        return self

    @model_validator(mode="after")
    def _each_value_in_one_request(self) -> ModbusTable:
        for register in self.registers:
            if not register.is_bit and register.words > self.registers_max:
                raise ValueError(
                    f"registers_max = {self.registers_max}: channel {register.channel!r} has"
                    f" {register.words} registers, which must come in one answer"
                )
        return self

    @property
    def lines(self) -> InputTable:
        """How the input's readings are read: a value for each register."""
        return InputTable(
            name=self.name,
            stream=self.stream,
            format="readings",
            columns=[register.channel for register in self.registers],
            rejects_kept=self.rejects_kept,
        )


class ModbusTcpTable(ModbusTable):
    """A Modbus device on the network."""

    type: Literal["modbus-tcp"] = Field(description="The kind of input")
    host: str = Field(min_length=1, description="Name or address of the device")
    port: int = Field(502, ge=1, le=65535, description="Port of the device")
    framing: Literal["tcp", "rtu"] = Field(
        "tcp",
        description="tcp: Modbus TCP; rtu: serial frames with their checksum (RTU over TCP), which"
        " a plain serial-to-network converter passes on",
    )

    @property
    def broadcasts(self) -> bool:
        """Whether unit 0 stands for all devices of the line, none of which answers."""
        return self.framing == "rtu"


class ModbusRtuTable(ModbusTable):
    """A Modbus device on a serial line."""

    type: Literal["modbus-rtu"] = Field(description="The kind of input")
    port: PortPath = Field(
        description="The device, preferably its stable name below /dev/serial/by-id; a pattern, or"
        " 'auto', as for serial"
    )
    by_id: FilePath = Field(BY_ID, description="Where 'auto' looks")
    baud: int = Field(19200, ge=50, description="Bits per second, as the device is set")
    parity: Literal["none", "even", "odd"] = Field("even", description="Parity bit")
    stopbits: Literal[1, 2] = Field(1, description="Stop bits")
    handle_local_echo: bool = Field(
        False, description="Discard the bytes that the adapter (RS-485) receives from itself"
    )


class SharedLine(NamedTuple):
    """The settings that inputs on one Modbus line have in common; they share its connection."""

    table: type[ModbusTcpTable | ModbusRtuTable]
    named_by: tuple[str, ...]  # settings; inputs that agree in them are at the same line
    common: tuple[str, ...]  # settings that must then be the same


LINES: Final = {
    "modbus-tcp": SharedLine(ModbusTcpTable, ("host", "port"), ("framing", "timeout_s")),
    "modbus-rtu": SharedLine(
        ModbusRtuTable,
        ("port", "by_id"),
        ("baud", "parity", "stopbits", "handle_local_echo", "timeout_s"),
    ),
}


class ForeignTable(InputTable):
    """An input of another package, named by its entry point; it adds its own settings."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    type: str = Field(description="Name of an entry point of the group fieldwatch.inputs")


def _kind(value: Any) -> str:
    """Return the kind of table that reads a value."""
    if not isinstance(value, dict | BaseModel):
        return "serial"  # whose table refuses it
    named = value.get("type", "serial") if isinstance(value, dict) else getattr(value, "type", "")
    if named in _BUILT_IN:
        return str(named)
    from importlib.metadata import entry_points  # takes 1 MB, and few need it

    return "other" if entry_points(group=ENTRY_POINTS, name=str(named)) else str(named)


_BUILT_IN = ("serial", "mqtt", "file", "replay", "simulator", "modbus-tcp", "modbus-rtu")

AnyInput = Annotated[
    Annotated[SerialTable, Tag("serial")]
    | Annotated[MqttInputTable, Tag("mqtt")]
    | Annotated[FileTable, Tag("file")]
    | Annotated[ReplayTable, Tag("replay")]
    | Annotated[SimulatorTable, Tag("simulator")]
    | Annotated[ModbusTcpTable, Tag("modbus-tcp")]
    | Annotated[ModbusRtuTable, Tag("modbus-rtu")]
    | Annotated[ForeignTable, Tag("other")],
    Discriminator(_kind),
]
