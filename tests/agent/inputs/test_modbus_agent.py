"""An agent that polls Modbus devices, as a process: what it stores, and what a person reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from agent.cli import commands
from tests.conftest import RealAgent, wait_until
from tests.modbus_device import Cable, TkDevice, Unit

CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[[streams]]
name = "pump"
[streams.baseline]
period_s = 0.2
channels = [
  {{ name = "flow" }}, {{ name = "pressure" }}, {{ name = "current" }}, {{ name = "heat" }}
]
[[inputs]]
name = "pump"
type = "modbus-rtu"
stream = "pump"
port = "{port}"
parity = "none"
timeout_s = 0.5
unit = 1
poll_interval_s = 0.05
registers = [
  {{ channel = "flow", address = 100 }},
  {{ channel = "pressure", address = 101 }},
]
[[inputs]]
name = "inverter"
type = "modbus-rtu"
stream = "pump"
port = "{port}"
parity = "none"
timeout_s = 0.5
unit = 2
poll_interval_s = 0.05
sunspec = true
registers = [
  {{ channel = "current", address = 10, type = "uint16", scale_factor_address = 11 }},
]
[[inputs]]
name = "heater"
type = "modbus-rtu"
stream = "pump"
port = "{port}"
parity = "none"
timeout_s = 0.5
unit = 3
registers = [{{ channel = "heat", address = 0 }}]
"""


def told(command: str, config: Path) -> str:
    return CliRunner().invoke(commands, [command, "--config", str(config)]).output


def test_what_a_device_refuses_is_in_the_status_and_the_log(
    start_agent: Callable[[Path], RealAgent], tmp_path: Path
) -> None:
    cable = Cable()
    units = {1: Unit(holding={100: 7}), 2: Unit(holding={10: 235, 11: 0xFFFF})}
    device = TkDevice(line=cable.ends[1], units=units)
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG.format(port=cable.ends[0]))
    (tmp_path / "data").mkdir()
    text = told("check", config)
    why = "refuses holding register 101 (pressure): exception 2, illegal data address"
    assert f"unit 1 at {cable.ends[0]} {why}; the rest is read" in text
    assert f"unit 2 at {cable.ends[0]} returns 1 of 1 values" in text

    off = f"unit 3 at {cable.ends[0]} does not answer in 0.5 s"
    assert off in text

    agent = start_agent(config)
    refused = "REFUSED by the device: holding register 101 (pressure): exception 2"
    wait_until(lambda: refused in told("status", config), "the status")
    wait_until(lambda: "bad_quality (pressure)" in told("status", config), "the reject")
    wait_until(lambda: "inverter: connected; " in told("status", config), "the other device")
    wait_until(lambda: off in told("status", config), "the device that is off")
    text = told("status", config)
    assert "pump: connected; " in text
    assert "pressure=bad (exception 2, illegal data address)" in text
    assert agent.stop() == 0
    device.stop()
    cable.close()
    assert agent.log().count(why) == agent.log().count(off) == 1
    assert "pymodbus" not in agent.log()
