"""The Modbus input, against a real server on TCP."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config.inputs import ModbusRtuTable, ModbusTcpTable
from agent.config.registers import RegisterTable
from agent.inputs.kinds import open_input
from agent.inputs.modbus_plan import Plan
from agent.inputs.modbus_terms import Block
from agent.inputs.modbus_values import Value, block_of, decoded
from agent.inputs.source import Chunk, Input
from agent.parsing.lines import LineParser
from agent.parsing.measurement import Bad, Measurement
from models.manifest import Channel
from tests.conftest import wait_until
from tests.modbus_device import REGISTERS, Cable, Device


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


def test_registers_become_readings_and_a_refused_one_is_bad(
    opened: list[Input],
) -> None:
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
    refused = Bad("exception 2, illegal data address")
    (row,) = chunks[0].measurements
    assert row.values == {"flow": 4.0, "level": 40 << 16 | 50, "absent": refused}
    channels = [Channel(name=name, unit="", center=0, scale=1) for name in ("flow", "level")]
    channels.append(Channel(name="absent", unit="", center=0, scale=1))
    parser = LineParser(settings.lines, channels)
    readings = parser.parse(chunks[0].measurements, 5.0)
    assert readings.times.tolist() == [5.0]
    assert readings.values[0, :2].tolist() == [4.0, 40 << 16 | 50]
    assert np.isnan(readings.values[0, 2])
    assert parser.counters == {"bad_quality": 1}
    (reject,) = parser.rejects()
    assert (reject.channel, reject.excerpt) == (
        "absent",
        "absent=bad (exception 2, illegal data address)",
    )
    place = f"holding register {REGISTERS + 50} (function code 3)"
    why = "exception 2, illegal data address"
    assert source.status().last_error == f"unit 1, {place}: {why}"


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
    assert chunks[1].measurements == [Measurement({"flow": 3.0, "on": 1.0})]
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
    absent = Bad("exception 2, illegal data address")
    values = {"on": 1.0, "open": 0.0, "closed": 0.0, "absent": absent}
    assert chunks[0].measurements == [Measurement(values)]
    assert f"coil {REGISTERS + 50} (function code 1)" in str(source.status().last_error)


@pytest.mark.parametrize(
    ("kind", "words", "invalid", "bad"),
    [
        ("int16", [0x8000], -32768, Bad("marked as invalid", -32768)),
        ("uint16", [0xFFFF], 65535, Bad("marked as invalid", 65535)),
        ("uint64", [0xFFFF] * 4, 2**64 - 1, Bad("marked as invalid", 2**64 - 1)),
        ("float32", [0x4479, 0xC000], 999, Bad("marked as invalid", 999.0)),
        ("bcd16", [0x9999], 9999, Bad("marked as invalid", 9999)),
        ("bcd16", [0x12A4], 0, Bad("no decimal digits")),
    ],
)
def test_what_stands_for_no_value_is_of_bad_quality(
    kind: str, words: list[int], invalid: float, bad: Bad
) -> None:
    given = {"channel": "a", "address": 7, "type": kind, "invalid": [invalid], "scale": 0.1}
    register = RegisterTable.model_validate(given)
    value = Value(register, False, {block_of(register): 0})
    assert value.of([words]) == bad
    assert value.of([[1] * register.words]) != bad


@pytest.mark.parametrize(
    ("kind", "invalid", "said"),
    [
        ("int16", 32768, "invalid: 32768 is not of type int16: -32768 to 32767"),
        ("uint16", -1, "invalid: -1 is not of type uint16: 0 to 65535"),
        ("int32", 0.5, "invalid: 0.5 is not of type int32"),
        ("bcd16", 0x9999, "invalid: 39321 is not of type bcd16: 0 to 9999"),
    ],
)
def test_a_mark_that_can_never_come_is_refused(kind: str, invalid: float, said: str) -> None:
    given = {"channel": "a", "address": 0, "type": kind, "invalid": [invalid]}
    with pytest.raises(ValueError, match=said):
        RegisterTable.model_validate(given)


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
    assert f"no device matches {tmp_path}/*" in str(source.status().last_error)


def test_a_device_that_was_away_is_found_again(opened: list[Input]) -> None:
    device = Device()
    device.stop()
    chunks: list[Chunk] = []
    settings = table(device.port, {"channel": "flow", "address": 3}, reconnect_delay_max_s=0.1)
    opened.append(source := open_input(settings))
    source.start(chunks.append)
    wait_until(lambda: source.status().last_error is not None, "the device to be missed")
    assert not source.status().connected
    device.start()
    wait_until(lambda: source.status().connected, "the device")
    device.stop()
    wait_until(lambda: not source.status().connected, "its loss")
    device.start()
    wait_until(lambda: source.status().reconnects == 1, "the device again")
    device.stop()


def test_a_device_that_refuses_everything_is_told_of_once(
    opened: list[Input], caplog: pytest.LogCaptureFixture
) -> None:
    device = Device()
    registers = {"channel": "absent", "address": REGISTERS + 50}
    settings = table(device.port, registers, reconnect_delay_max_s=0.001)
    opened.append(source := open_input(settings))
    source.start(lambda _: None)
    wait_until(lambda: source.status().since is not None, "the refusal")
    since = source.status().since
    wait_until(lambda: len(device.units[1].requests) > 5, "some attempts")
    source.stop()
    device.stop()
    (record,) = (one for one in caplog.records if one.name.startswith("agent"))
    assert device.connections == 1
    assert "input plc: unit 1, holding register 250 (function code 3)" in record.getMessage()
    assert source.status().since == since


def test_registers_side_by_side_are_read_together() -> None:
    registers = [
        RegisterTable(channel="a", address=10, type="float32"),
        RegisterTable(channel="b", address=0),
        RegisterTable(channel="c", address=12),
        RegisterTable(channel="d", address=1, function="input"),
        RegisterTable(channel="e", address=200, type="float64"),
    ]
    assert requests(registers) == [
        Block("holding", 0, 1),
        Block("holding", 10, 3),
        Block("holding", 200, 4),
        Block("input", 1, 1),
    ]
    many = [RegisterTable(channel=f"c{at}", address=at) for at in range(300)]
    assert [block.words for block in requests(many)] == [125, 125, 50]


def requests(registers: list[RegisterTable]) -> list[Block]:
    longest = dict.fromkeys(("coil", "discrete", "holding", "input"), 125)
    plan = Plan([block_of(register) for register in registers], longest, 600.0)
    return [request.block for request in plan.requests]


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
