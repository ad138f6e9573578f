"""Tables of the configuration for inputs, one for each kind."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from agent.broker_tables import BrokerTable
from agent.setting_types import FilePath, TopicName
from agent.stream_tables import repeated
from models.bundle import Finite, Positive
from models.fields import ConfigDict, Discriminator, Field, Tag, model_validator
from models.settings import Table

TIME: Final = "time"  # the column of a line that holds its time
IGNORED: Final = "-"  # a column that is not used

ENTRY_POINTS: Final = "fieldwatch.inputs"  # where other packages name inputs of theirs
REGISTERS_MAX = 125  # in one request of Modbus


class SourceTable(Table):
    """Where readings come from; common to all kinds of input."""

    name: TopicName = Field(description="Unique; names the input in logs and status")
    stream: TopicName = Field(description="The stream that the readings belong to")
    rejects_kept: int = Field(
        5, ge=0, le=100, description="Rejected lines kept for status, of each cause"
    )


class InputTable(SourceTable):
    """Where lines come from, and how a line is read."""

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
        default_factory=dict,
        description="json: channel = key, or a JSON pointer such as /data/flow; without it the"
        " channel's name is the key",
    )
    ignore_keys: list[str] = Field(
        default_factory=list, description="json: keys that are not counted as unknown channels"
    )
    line_bytes_max: int = Field(
        4096, ge=16, le=65536, description="A longer line is rejected as too_long"
    )

    @property
    def lines(self) -> InputTable:
        """How the lines that the input brings are read."""
        return self

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


class MqttInputTable(InputTable):
    """Messages of a broker, each of one or more lines; acknowledged when they are committed."""

    type: Literal["mqtt"] = Field(description="The kind of input")
    broker: BrokerTable = Field(
        BrokerTable(host="127.0.0.1"), description="Where the messages come from"
    )
    topics: list[str] = Field(min_length=1, description="Topic filters; + and # are allowed")
    session_expiry_s: int = Field(
        86_400,
        ge=0,
        le=2**32 - 2,
        description="The broker keeps messages this long (MQTT 5)",
    )


class FileTable(InputTable):
    """A file that another program writes lines to; it may be rotated."""

    type: Literal["file"] = Field(description="The kind of input")
    path: FilePath = Field(description="The file; it may be absent for now")
    begin: Literal["start", "end"] = Field(
        "end", description="Where to begin in a file that is there at the start"
    )
    poll_interval_s: Positive = Field(0.5, description="Look for new lines this often")


class RegisterTable(Table):
    """A channel's register or registers."""

    channel: str = Field(description="A channel of the bundle")
    address: int = Field(ge=0, le=65535, description="As in the request, counted from 0")
    function: Literal["holding", "input"] = Field("holding", description="Function code 3 or 4")
    type: Literal["int16", "uint16", "int32", "uint32", "float32", "float64"] = Field(
        "int16", description="What the registers hold"
    )
    word_order: Literal["big", "little"] = Field(
        "big", description="Of values of several registers: the high word first, or last"
    )
    scale: Finite = Field(1.0, description="Times this ...")
    offset: Finite = Field(0.0, description="... and plus this is the value in the channel's unit")

    @property
    def words(self) -> int:
        """How many registers it takes."""
        return int(self.type.lstrip("uintfloa")) // 16


class ModbusTable(SourceTable):
    """A Modbus device, polled; needs the extra ``modbus``."""

    unit: int = Field(1, ge=0, le=247, description="The device's address")
    poll_interval_s: Positive = Field(1.0, description="Between two polls")
    timeout_s: Positive = Field(1.0, description="Wait this long for an answer")
    registers: list[RegisterTable] = Field(min_length=1, description="What is read")
    reconnect_delay_max_s: Positive = Field(
        10.0, description="Longest wait before a lost device is tried again"
    )

    @model_validator(mode="after")
    def _each_channel_once(self) -> ModbusTable:
        for name in repeated(register.channel for register in self.registers):
            raise ValueError(f"registers: channel {name!r} is there twice")
        return self

    @property
    def lines(self) -> InputTable:
        """How the lines that the input brings are read: a value for each register."""
        channels = [register.channel for register in self.registers]
        return InputTable(
            name=self.name, stream=self.stream, columns=channels, rejects_kept=self.rejects_kept
        )


class ModbusTcpTable(ModbusTable):
    """A Modbus device on the network."""

    type: Literal["modbus-tcp"] = Field(description="The kind of input")
    host: str = Field(min_length=1, description="Name or address of the device")
    port: int = Field(502, ge=1, le=65535, description="Of the device")


class ModbusRtuTable(ModbusTable):
    """A Modbus device on a serial line."""

    type: Literal["modbus-rtu"] = Field(description="The kind of input")
    port: FilePath = Field(description="The line, best by its lasting name below /dev/serial/by-id")
    baud: int = Field(19200, ge=50, description="Bits per second, as the device is set")
    parity: Literal["none", "even", "odd"] = Field("even", description="Parity bit")
    stopbits: Literal[1, 2] = Field(1, description="Stop bits")


class ForeignTable(InputTable):
    """An input of another package, by its entry point; its own settings stand beside these."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="Name of an entry point of the group fieldwatch.inputs")


def _kind(value: Any) -> str:
    """Return which of the tables a value is for."""
    named = value.get("type", "serial") if isinstance(value, dict) else value.type
    if named in _BUILT_IN:
        return str(named)
    from importlib.metadata import entry_points  # takes 1 MB, which few need

    return "other" if entry_points(group=ENTRY_POINTS, name=str(named)) else str(named)


_BUILT_IN = ("serial", "mqtt", "file", "modbus-tcp", "modbus-rtu")

AnyInput = Annotated[
    Annotated[SerialTable, Tag("serial")]
    | Annotated[MqttInputTable, Tag("mqtt")]
    | Annotated[FileTable, Tag("file")]
    | Annotated[ModbusTcpTable, Tag("modbus-tcp")]
    | Annotated[ModbusRtuTable, Tag("modbus-rtu")]
    | Annotated[ForeignTable, Tag("other")],
    Discriminator(_kind),
]
