"""The tables of Modbus inputs: what is refused, in which words, and what inputs may share."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import load as configuration
from models.errors import ConfigError

HEAD = """
[gateway]
site = "plant"
name = "gw-1"
[[streams]]
name = "pump"
bundle = "pump.fieldwatch"
"""
TCP = """
[[inputs]]
name = "NAME"
type = "modbus-tcp"
stream = "pump"
host = "10.0.0.1"
registers = [{ channel = "NAME", address = 0 }]
"""
RTU = """
[[inputs]]
name = "NAME"
type = "modbus-rtu"
stream = "pump"
port = "/dev/ttyUSB0"
registers = [{ channel = "NAME", address = 0 }]
"""


def loaded(directory: Path, text: str) -> configuration.AgentConfig:
    path = directory / "agent.toml"
    path.write_text(HEAD + text)
    return configuration.load(path)


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        loaded(directory, text)
    return str(raised.value)


@pytest.mark.parametrize(
    ("table", "settings", "said"),
    [
        (
            RTU,
            "unit = 0",
            "unit = 0 is the address of all devices, and none answers; give 1 to 247",
        ),
        (RTU, "unit = 248", "unit = 248 is reserved; give 1 to 247"),
        (RTU, "unit = 255", "unit = 255 is reserved; give 1 to 247"),
        (TCP, "unit = 248", "unit = 248 is reserved; give 1 to 247, 0 or 255"),
        (TCP, 'unit = 0\nframing = "rtu"', "unit = 0 is the address of all devices"),
        (TCP, "unit = 256", "unit = 256: must be at most 255"),
        (TCP, "registers_max = 126", "registers_max = 126: must be at most 125"),
        (TCP, "bits_max = 0", "bits_max = 0: must be at least 1"),
        (TCP, "refused_retry_max_s = 0", "refused_retry_max_s = 0: must be above 0"),
        (TCP, 'framing = "ascii"', "framing = 'ascii': must be 'tcp' or 'rtu'"),
        (TCP, "handle_local_echo = true", "handle_local_echo"),
        (RTU, 'framing = "rtu"', "framing"),
    ],
)
def test_a_device_that_cannot_be_asked_is_refused(
    tmp_path: Path, table: str, settings: str, said: str
) -> None:
    assert said in refusal(tmp_path, table.replace("NAME", "a") + settings)


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        (RTU, "unit = 247\nhandle_local_echo = true"),
        (TCP, "unit = 0"),
        (TCP, "unit = 255\nsunspec = true"),
        (TCP, 'unit = 1\nframing = "rtu"\nregisters_max = 1\nbits_max = 1'),
    ],
)
def test_a_device_that_can_be_asked_is_taken(tmp_path: Path, table: str, settings: str) -> None:
    loaded(tmp_path, table.replace("NAME", "a") + settings)


@pytest.mark.parametrize(
    ("register", "said"),
    [
        (
            'type = "uint16", bits = [16]',
            "bits = [16]: uint16 has the bits 0 to 15; give one, or the lowest and the highest",
        ),
        ("bits = [4, 3]", "bits = [4, 3]: int16 has the bits 0 to 15"),
        ("bits = [-1]", "bits = [-1]: int16 has"),
        ("bits = []", "bits = []: must not be empty"),
        ("bits = [1, 2, 3]", "must have at most 2 values; it has 3"),
        ('type = "float32", bits = [1]', "bits is for integers; float32 has no bits to pick"),
        ('type = "bcd16", bits = [1]', "bits is for integers; bcd16 has no bits to pick"),
        (
            "bits = [1], scale_factor_address = 4",
            "bits and scale_factor_address: only one of them can be used",
        ),
        (
            'type = "uint32", scale_factor_address = 1',
            "scale_factor_address = 1 is a register of the value itself",
        ),
        ('function = "coil", bits = [1]', "bits is for registers; coil is a bit"),
        (
            'function = "discrete", scale_factor_address = 9',
            "scale_factor_address is for registers; discrete is a bit",
        ),
        ('function = "coil", invalid = [1]', "invalid is for registers; coil is a bit"),
    ],
)
def test_a_register_that_cannot_be_read_is_refused(
    tmp_path: Path, register: str, said: str
) -> None:
    text = TCP.replace("NAME", "a").replace("address = 0", f"address = 0, {register}")
    assert said in refusal(tmp_path, text)


def test_a_value_ends_within_the_addresses(tmp_path: Path) -> None:
    text = TCP.replace("NAME", "a").replace("address = 0", 'address = 65533, type = "float64"')
    said = "address = 65533: float64 takes 4 registers, and the last one is 65535"
    assert said in refusal(tmp_path, text)
    loaded(tmp_path, text.replace("65533", "65532"))


def test_a_value_comes_in_one_answer(tmp_path: Path) -> None:
    text = TCP.replace("NAME", "a").replace("address = 0", 'address = 0, type = "int32"')
    said = "registers_max = 1: channel 'a' has 2 registers, which must come in one answer"
    assert said in refusal(tmp_path, text + "registers_max = 1")


# ---- inputs that share a line


def test_inputs_share_a_line(tmp_path: Path) -> None:
    for table in (TCP, RTU):
        both = f"{table.replace('NAME', 'a')}unit = 1\n{table.replace('NAME', 'b')}unit = 2\n"
        assert [source.name for source in loaded(tmp_path, both).inputs] == ["a", "b"]


@pytest.mark.parametrize(
    ("table", "setting", "said"),
    [
        (
            RTU,
            "baud = 9600",
            "inputs: baud = 9600, and input 'a' at the same port '/dev/ttyUSB0' has 19200; they"
            " share one connection, so give both the same",
        ),
        (RTU, 'parity = "none"', "inputs: parity = 'none', and input 'a' at the same port"),
        (RTU, "stopbits = 2", "inputs: stopbits = 2, and input 'a'"),
        (RTU, "handle_local_echo = true", "inputs: handle_local_echo = True, and input 'a'"),
        (RTU, "timeout_s = 2", "inputs: timeout_s = 2, and input 'a' at the same port"),
        (TCP, "timeout_s = 2", "inputs: timeout_s = 2, and input 'a' at the same host '10.0.0.1'"),
        (TCP, 'framing = "rtu"', "inputs: framing = 'rtu', and input 'a' at the same host"),
    ],
)
def test_inputs_that_share_a_line_agree_on_it(
    tmp_path: Path, table: str, setting: str, said: str
) -> None:
    both = f"{table.replace('NAME', 'a')}unit = 1\n{table.replace('NAME', 'b')}{setting}\n"
    assert said in refusal(tmp_path, both)


def test_other_lines_have_their_own_settings(tmp_path: Path) -> None:
    other = TCP.replace("NAME", "b").replace("10.0.0.1", "10.0.0.2")
    port = TCP.replace("NAME", "c") + "port = 503\n"
    loaded(tmp_path, f"{TCP.replace('NAME', 'a')}{other}timeout_s = 2\n{port}timeout_s = 3\n")
    other = RTU.replace("NAME", "b").replace("USB0", "USB1")
    loaded(tmp_path, f"{RTU.replace('NAME', 'a')}{other}baud = 9600\n")


def test_a_port_of_modbus_is_for_modbus_alone(tmp_path: Path) -> None:
    serial = '[[inputs]]\nname = "b"\nstream = "pump"\nport = "/dev/ttyUSB0"\ncolumns = ["b"]\n'
    said = "inputs: port = '/dev/ttyUSB0' occurs twice; it must be unique"
    assert said in refusal(tmp_path, RTU.replace("NAME", "a") + serial)


def test_whatever_the_tables_contain_there_is_a_refusal(tmp_path: Path) -> None:
    for wrong in ("port = [1]", "type = 7", "host = {}", "baud = []"):
        both = f"{RTU.replace('NAME', 'a')}\n[[inputs]]\nname = 'b'\ntype = 'modbus-rtu'\n{wrong}\n"
        refusal(tmp_path, both.replace("type = 'modbus-rtu'\ntype", "type"))
