"""What ``check`` says of inputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.commands.check import Finding, check
from agent.config.inputs import MqttInputTable
from agent.config.load import load
from agent.parsing.lines import LineParser
from models.manifest import Channel
from tests.modbus_device import Device, Unit

CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "."
[[streams]]
name = "pump"
[streams.baseline]
period_s = 0.2
channels = [{ name = "flow" }, { name = "voltage" }]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "by-id").mkdir()
    return tmp_path


def finding(directory: Path, table: str) -> Finding:
    path = directory / "agent.toml"
    path.write_text(f'{CONFIG}[[inputs]]\nname = "in"\nstream = "pump"\n{table}')
    found = [one for one in check(path) if one.what in ("input in", "configuration")]
    return next((one for one in found if not one.ok), found[-1])


def test_an_unclear_port_is_told(directory: Path) -> None:
    table = 'port = "auto"\nby_id = "by-id"\ncolumns = ["flow"]\n'
    none = finding(directory, table)
    assert (none.ok, none.exit_code) == (False, 69)
    assert f"no device matches {directory}/by-id/*; there is no port with a stable" in none.detail
    for name in ("usb-a", "usb-b"):
        (directory / "by-id" / name).touch()
    assert "matches 2 devices; name one:" in finding(directory, table).detail
    one = finding(directory, table.replace("auto", "by-id/*a"))
    assert one.detail.startswith(f"{directory}/by-id/usb-a is a file")  # a file, which is no port


def test_a_modbus_device_is_polled(directory: Path) -> None:
    unit = Unit(holding={0: 1, 1: 0x8000}, input={0: 1})
    device = Device(units={7: unit})
    where = f"127.0.0.1:{device.port}"
    table = f'type = "modbus-tcp"\nhost = "127.0.0.1"\nport = {device.port}\nunit = 7\n'
    registers = (
        'registers = [{ channel = "flow", address = 0 }, { channel = "voltage", address = 1 }]\n'
    )
    assert finding(directory, table + registers) == Finding(
        True, "input in", f"unit 7 at {where} returns 2 of 2 values"
    )
    absent = finding(directory, f"{table}sunspec = true\n{registers}")
    said = f"unit 7 at {where} returns 1 of 2 values; voltage: not implemented (SunSpec)"
    assert absent == Finding(True, "input in", said)
    refused = finding(directory, table + registers.replace("address = 1", "address = 9"))
    assert (refused.ok, refused.exit_code) == (False, 69)
    why = "exception 2, illegal data address"
    assert refused.detail == (
        f"unit 7 at {where} refuses holding register 9 (voltage): {why}; the rest is read"
    )
    off = finding(directory, table.replace("unit = 7", "unit = 8\ntimeout_s = 0.2") + registers)
    assert off.detail == f"unit 8 at {where} does not answer in 0.2 s"
    device.stop()
    gone = finding(directory, table + registers)
    assert (gone.detail, gone.exit_code) == (f"{where} does not answer", 69)


def test_a_line_of_modbus_is_opened(directory: Path) -> None:
    registers = 'registers = [{ channel = "flow", address = 0 }]\n'
    table = f'type = "modbus-rtu"\nport = "by-id/usb-485"\n{registers}'
    gone = finding(directory, table)
    assert (gone.ok, gone.exit_code) == (False, 69)
    assert gone.detail.startswith(f"{directory}/by-id/usb-485 does not exist: is the device")
    (directory / "by-id" / "usb-485").touch()
    assert "usb-485 is a file, not a serial port: set port to" in finding(directory, table).detail


def test_a_recording_is_looked_into(directory: Path) -> None:
    table = 'type = "replay"\npath = "monday.csv"\n'
    assert "No such file" in finding(directory, table).detail
    (directory / "monday.csv").write_text("at,flow\n1700000000,1\n")
    wrong = finding(directory, table)
    assert (wrong.ok, wrong.exit_code) == (False, 69)
    assert "no column 'time' among at, flow" in wrong.detail
    assert finding(directory, table + 'time_key = "at"').ok


def test_a_file_that_is_there_is_looked_into(directory: Path) -> None:
    table = 'type = "file"\npath = "log.jsonl"\nformat = "json"\n'
    assert finding(directory, table).ok  # it may come
    (directory / "log.jsonl").write_text('{\n "flow": 1\n}\n')
    wrong = finding(directory, table)
    assert (wrong.ok, wrong.exit_code) == (False, 69)
    assert "log.jsonl: its JSON documents have several lines" in wrong.detail
    (directory / "log.jsonl").write_text('{"flow": 1}\n')
    assert finding(directory, table).ok
    (directory / "log.jsonl").unlink()
    os.mkfifo(directory / "log.jsonl")
    told = f"{directory}/log.jsonl cannot be read: it is a named pipe, not a file"
    assert finding(directory, table).detail == told


def test_the_simulator_has_to_fit_the_stream(directory: Path) -> None:
    wrong = finding(directory, 'type = "simulator"\n')
    assert "is not a channel of stream pump" in wrong.detail
    assert finding(directory, 'type = "simulator"\nchannels = ["flow", "voltage"]\n').ok


def test_a_pattern_has_to_fit_the_stream(directory: Path) -> None:
    table = 'type = "file"\npath = "x"\nformat = "regex"\n'
    assert finding(directory, table + "pattern = '(?P<flow>.*)'").ok
    wrong = finding(directory, table + "pattern = '(?P<flwo>.*)'")
    assert (wrong.exit_code, "did you mean 'flow'?" in wrong.detail) == (78, True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('columns = ["flow"]', "the broker does not keep those published while the agent is away"),
        ('columns = ["flow"]\nsession_expiry_s = 9', "get the time of their arrival"),
        ('columns = ["flow", "time"]', None),
        ('format = "json"', "the broker does not keep"),
        ('format = "json"\ntime_key = "at"', None),
        ('format = "keyvalue"', "the broker does not keep"),
        ('format = "keyvalue"\ntime_key = "at"', None),
        ("header = true", "the broker does not keep"),
        ('header = true\ntime_key = "at"', None),
        ("format = 'regex'\npattern = '(?P<flow>.*)'", "the broker does not keep"),
        ("format = 'regex'\npattern = '(?P<time>[0-9]*) (?P<flow>.*)'", None),
    ],
)
def test_messages_without_a_time_are_remarked(
    directory: Path, settings: str, said: str | None
) -> None:
    one = finding(directory, f'type = "mqtt"\ntopics = ["a"]\n{settings}\n')
    assert one.ok
    assert ("Note:" in one.detail) == (said is not None)
    assert said is None or said in one.detail
    (source,) = load(directory / "agent.toml").inputs
    assert isinstance(source, MqttInputTable)
    channels = [Channel(name="flow", unit="m3/h", center=0.0, scale=1.0)]
    assert LineParser(source.lines, channels).has_time == (said is None)
