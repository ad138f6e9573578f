"""The Modbus input, against a real server on TCP."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.inputs import ModbusRtuTable, ModbusTcpTable, RegisterTable
from agent.inputs.kinds import open_input
from agent.inputs.modbus import Block, blocks, decoded
from agent.inputs.source import Chunk, Input
from agent.parsing.lines import LineParser
from models.manifest import Channel
from tests.conftest import wait_until
from tests.modbus_device import REGISTERS, Cable, Device, free_port


def table(port: int, *registers: dict[str, Any], **more: Any) -> ModbusTcpTable:
    settings = {"name": "plc", "stream": "pump", "type": "modbus-tcp", "host": "127.0.0.1"}
    given = {"port": port, "poll_interval_s": 0.05, "timeout_s": 2.0, "registers": registers}
    return ModbusTcpTable.model_validate(settings | given | more)


@pytest.fixture
def opened() -> Iterator[list[Input]]:
    made: list[Input] = []
    yield made
    for source in made:
        source.stop()


def test_registers_become_a_line_that_is_read_as_any(opened: list[Input]) -> None:
    device = Device()
    settings = table(
        device.port,
        {"channel": "flow", "address": 3, "scale": 0.1, "offset": 1.0},
        {"channel": "level", "address": 4, "function": "input", "type": "uint32"},
        {"channel": "absent", "address": REGISTERS + 50},
    )
    chunks: list[Chunk] = []
    opened.append(source := open_input(settings))
    source.start(chunks.append)
    wait_until(lambda: len(chunks) >= 3, "three polls")
    device.stop()
    assert chunks[0].lines == [f"4.0,{float(40 << 16 | 50)},".encode()]
    channels = [Channel(name=name, unit="", center=0, scale=1) for name in ("flow", "level")]
    channels.append(Channel(name="absent", unit="", center=0, scale=1))
    readings = LineParser(settings.lines, channels).parse(chunks[0].lines, 5.0)
    assert readings.times.tolist() == [5.0]
    assert readings.values[0, :2].tolist() == [4.0, 40 << 16 | 50]
    status = source.status()
    assert status.last_error is not None
    assert f"holding registers {REGISTERS + 50}" in status.last_error


def test_a_device_at_a_serial_line(opened: list[Input], tmp_path: Path) -> None:
    cable = Cable()
    device = Device(line=cable.ends[1])
    (tmp_path / "usb-485").symlink_to(cable.ends[0])
    given = {"name": "plc", "stream": "pump", "type": "modbus-rtu", "port": "auto"}
    given |= {"by_id": str(tmp_path), "parity": "none", "poll_interval_s": 0.05}
    registers = [
        {"channel": "flow", "address": 3, "scale": 0.1},
        {"channel": "on", "address": 6, "function": "discrete"},
    ]
    chunks: list[Chunk] = []
    settings = ModbusRtuTable.model_validate(given | {"registers": registers})
    opened.append(source := open_input(settings))
    source.start(chunks.append)
    wait_until(lambda: len(chunks) >= 2, "two polls")
    assert chunks[1].lines == [b"3.0,1.0"]
    source.stop()
    device.stop()
    cable.close()


def test_bits_are_numbers(opened: list[Input]) -> None:
    device = Device()
    settings = table(
        device.port,
        {"channel": "on", "address": 3, "function": "coil"},
        {"channel": "open", "address": 5, "function": "discrete"},
        {"channel": "closed", "address": 6, "function": "discrete", "scale": -1.0, "offset": 1.0},
        {"channel": "absent", "address": REGISTERS + 50, "function": "coil"},
    )
    chunks: list[Chunk] = []
    opened.append(source := open_input(settings))
    source.start(chunks.append)
    wait_until(lambda: len(chunks) >= 1, "a poll")
    device.stop()
    assert chunks[0].lines == [b"1.0,0.0,0.0,"]
    assert f"coil bits {REGISTERS + 50} to" in str(source.status().last_error)


def test_a_bit_has_no_type() -> None:
    with pytest.raises(ValueError, match="type is for registers; coil is a bit"):
        RegisterTable.model_validate(
            {"channel": "a", "address": 0, "function": "coil", "type": "int16"}
        )


def test_a_line_of_none_or_several_devices_waits_and_says_so(
    opened: list[Input], tmp_path: Path
) -> None:
    given = {"name": "plc", "stream": "pump", "type": "modbus-rtu", "port": "auto"}
    given |= {"by_id": str(tmp_path), "registers": [{"channel": "a", "address": 0}]}
    opened.append(source := open_input(ModbusRtuTable.model_validate(given)))
    source.start(lambda _: None)
    wait_until(lambda: source.status().last_error is not None, "the first attempt")
    assert f"no device is there as {tmp_path}/*" in str(source.status().last_error)


def test_a_device_that_was_away_is_found_again(opened: list[Input]) -> None:
    port = free_port()
    chunks: list[Chunk] = []
    settings = table(port, {"channel": "flow", "address": 3}, reconnect_delay_max_s=0.1)
    opened.append(source := open_input(settings))
    source.start(chunks.append)
    wait_until(lambda: source.status().last_error is not None, "the device to be missed")
    assert not source.status().connected
    device = Device(port)
    wait_until(lambda: source.status().connected, "the device")
    device.stop()
    wait_until(lambda: not source.status().connected, "its loss")
    device = Device(port)
    wait_until(lambda: source.status().reconnects == 1, "the device again")
    device.stop()


def test_registers_side_by_side_are_read_together() -> None:
    registers = [
        RegisterTable(channel="a", address=10, type="float32"),
        RegisterTable(channel="b", address=0),
        RegisterTable(channel="c", address=12),
        RegisterTable(channel="d", address=1, function="input"),
        RegisterTable(channel="e", address=200, type="float64"),
    ]
    assert list(blocks(registers)) == [
        Block("holding", 0, 1),
        Block("holding", 10, 3),
        Block("holding", 200, 4),
        Block("input", 1, 1),
    ]
    many = [RegisterTable(channel=f"c{at}", address=at) for at in range(300)]
    assert [block.words for block in blocks(many)] == [125, 125, 50]


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        ("int16", ">h", -2),
        ("uint16", ">H", 65000),
        ("int32", ">i", -70000),
        ("uint32", ">I", 4_000_000_000),
        ("int64", ">q", -(2**40)),
        ("uint64", ">Q", 2**50 + 1),
        ("bcd16", ">H", 0x1234),
        ("bcd32", ">I", 0x12345678),
        ("float32", ">f", 1.5),
        ("float64", ">d", -2.25),
    ],
)
@pytest.mark.parametrize("words", ["big", "little"])
@pytest.mark.parametrize("in_word", ["big", "little"])
def test_every_type_in_every_order(
    kind: str, form: str, value: float, words: str, in_word: str
) -> None:
    packed = struct.pack(form, value)
    sent = struct.unpack(f"{'>' if in_word == 'big' else '<'}{len(packed) // 2}H", packed)
    settings = {"channel": "a", "address": 0, "type": kind}
    register = RegisterTable.model_validate(settings | {"word_order": words, "byte_order": in_word})
    assert register.words == len(sent)
    expected = int(f"{value:x}") if kind.startswith("bcd") else value
    assert decoded(register, sent if words == "big" else sent[::-1]) == expected


def test_what_is_no_decimal_digit_is_no_number() -> None:
    register = RegisterTable(channel="a", address=0, type="bcd16")
    assert math.isnan(decoded(register, [0x12A4]))
