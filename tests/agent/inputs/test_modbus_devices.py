"""The Modbus input against two independent implementations of a device, on each way to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from agent.config.inputs import ModbusRtuTable, ModbusTcpTable
from agent.inputs.kinds import open_input
from agent.inputs.source import Chunk, Input
from agent.parsing.measurement import Bad
from tests.conftest import wait_until
from tests.modbus_device import Cable, Device, TkDevice, Unit

NO_ADDRESS = Bad("exception 2, illegal data address")
EVERY_DEVICE = [
    pytest.param(kind, way, id=f"{kind.__name__}-{way}")
    for kind in (Device, TkDevice)
    for way in ("tcp", "rtu", "rtu-over-tcp")
]


class Polled(NamedTuple):
    """An input that polls, and what it put."""

    source: Input
    chunks: list[Chunk]

    def latest(self) -> Mapping[str, float | Bad | None]:
        return self.chunks[-1].measurements[0].values


class Plant:
    """Devices at one line, and inputs that poll them."""

    def __init__(self, kind: type[Device | TkDevice], way: str, units: dict[int, Unit]) -> None:
        self._cable = Cable() if way == "rtu" else None
        self._inputs: list[Input] = []
        given: dict[str, Any] = {"name": "plc", "stream": "pump", "poll_interval_s": 0.02}
        if self._cable:
            self.device = kind(line=self._cable.ends[1], units=units)
            given |= {"type": "modbus-rtu", "port": str(self._cable.ends[0]), "parity": "none"}
        else:
            framing = "rtu" if way == "rtu-over-tcp" else "tcp"
            self.device = kind(units=units, framing=framing)
            given |= {"type": "modbus-tcp", "host": "127.0.0.1", "port": self.device.port}
            given |= {"framing": framing}
        self._given = given

    def poll(self, *registers: dict[str, Any], **more: Any) -> Polled:
        settings = self._given | {"registers": registers} | more
        table = ModbusTcpTable if settings["type"] == "modbus-tcp" else ModbusRtuTable
        chunks: list[Chunk] = []
        source = open_input(table.model_validate(settings))
        self._inputs.append(source)
        source.start(chunks.append)
        return Polled(source, chunks)

    def close(self) -> None:
        for source in self._inputs:
            source.ask_to_stop()
        for source in self._inputs:
            source.stop()
        self.device.stop()
        if self._cable:
            self._cable.close()


Build = Callable[..., Plant]


@pytest.fixture
def build() -> Iterator[Build]:
    made: list[Plant] = []

    def make(kind: type[Device | TkDevice], way: str, units: dict[int, Unit]) -> Plant:
        made.append(Plant(kind, way, units))
        return made[-1]

    yield make
    for plant in made:
        plant.close()


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    records = [one for one in caplog.records if one.name.startswith("agent")]
    return [one.getMessage() for one in records if one.levelno == level]


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of refused registers; a busy device may be late with its first answer."""
    return [text for text in messages(caplog, logging.WARNING) if " refuses " in text]


@pytest.mark.parametrize(("kind", "way"), EVERY_DEVICE)
def test_a_register_that_does_not_exist_costs_no_other(
    build: Build, caplog: pytest.LogCaptureFixture, kind: type[Device | TkDevice], way: str
) -> None:
    """As shared/cases/08: five registers, of which the device lacks one in the middle."""
    unit = Unit(holding={100: 1, 101: 2, 103: 4, 120: 5}, input={7: 70})
    plant = build(kind, way, {1: unit})
    addresses = {"a": 100, "b": 101, "c": 102, "d": 103, "e": 120}
    registers = [{"channel": name, "address": at} for name, at in addresses.items()]
    registers += [{"channel": "f", "address": 7, "function": "input"}]
    polled = plant.poll(*registers)
    wait_until(lambda: len(polled.chunks) >= 5, "five polls")
    for chunk in polled.chunks:
        values = {"a": 1.0, "b": 2.0, "c": NO_ADDRESS, "d": 4.0, "e": 5.0, "f": 70.0}
        assert chunk.measurements[0].values == values
    assert unit.requests.count(("holding", 102, 1)) == 1
    steady = {("holding", 100, 2), ("holding", 103, 1), ("holding", 120, 1), ("input", 7, 1)}
    assert set(unit.requests[-4:]) == steady
    status = polled.source.status()
    assert (status.connected, status.reconnects) == (True, 0)
    why = "exception 2, illegal data address"
    assert status.registers_refused == (f"holding register 102 (c): {why}",)
    (warning,) = refusals(caplog)
    assert f"refuses holding register 102 (c): {why}; the rest is read" in warning


@pytest.mark.parametrize(("kind", "way"), EVERY_DEVICE)
def test_the_longest_request_is_learnt(
    build: Build, caplog: pytest.LogCaptureFixture, kind: type[Device | TkDevice], way: str
) -> None:
    caplog.set_level(logging.INFO)
    unit = Unit(holding={at: at for at in range(100)}, coil={at: at % 2 for at in range(50)})
    unit.longest = 30
    plant = build(kind, way, {1: unit})
    registers = [{"channel": f"h{at}", "address": at} for at in range(100)]
    registers += [{"channel": f"c{at}", "address": at, "function": "coil"} for at in range(50)]
    polled = plant.poll(*registers)
    wait_until(lambda: len(polled.chunks) >= 3, "three polls")
    for chunk in polled.chunks:
        values = chunk.measurements[0].values
        assert [values[f"h{at}"] for at in range(100)] == list(range(100))
        assert [values[f"c{at}"] for at in range(50)] == [at % 2 for at in range(50)]
    first_long = sum(count > 30 for _, _, count in unit.requests)
    assert first_long == 4  # 100 and both halves of holding, 50 coils
    assert {count for _, _, count in unit.requests[-6:]} == {25}
    assert polled.source.status().registers_refused == ()
    told = [text for text in messages(caplog, logging.INFO) if "at most 25, as with" in text]
    assert [text.rsplit(" ", 3)[1:] for text in told] == [
        ["bits_max", "=", "25"],
        ["registers_max", "=", "25"],
    ]


def test_a_configured_limit_is_kept_from_the_start(build: Build) -> None:
    unit = Unit(holding={at: at for at in range(100)}, coil={at: 1 for at in range(50)})
    plant = build(Device, "tcp", {1: unit})
    registers = [{"channel": f"h{at}", "address": at} for at in range(100)]
    registers += [{"channel": f"c{at}", "address": at, "function": "coil"} for at in range(50)]
    polled = plant.poll(*registers, registers_max=30, bits_max=40)
    wait_until(lambda: len(polled.chunks) >= 1, "a poll")
    counts = [count for _, _, count in unit.requests]
    assert counts[:6] == [40, 10, 30, 30, 30, 10]


def test_a_register_that_is_refused_is_asked_for_again(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    unit = Unit(holding={at: at for at in range(8)})
    unit.refused = {3: 2, 5: 3}
    plant = build(TkDevice, "tcp", {1: unit})
    registers = [{"channel": f"h{at}", "address": at} for at in range(8)]
    polled = plant.poll(*registers, refused_retry_max_s=0.05)
    wait_until(lambda: len(polled.chunks) >= 5, "five polls")
    assert polled.latest()["h5"] == Bad("exception 3, illegal data value")
    unit.refused = {5: 3}
    wait_until(lambda: polled.latest()["h3"] == 3.0, "the register")
    assert polled.latest()["h5"] == Bad("exception 3, illegal data value")
    wait_until(lambda: len(polled.source.status().registers_refused) == 1, "the status")
    unit.refused = {}
    wait_until(lambda: polled.latest()["h5"] == 5.0, "the other")
    wait_until(lambda: polled.source.status().registers_refused == (), "the status")
    wait_until(lambda: unit.requests[-1] == ("holding", 0, 8), "one request for all")
    assert len(refusals(caplog)) == 1  # both at once, and neither twice
    again = [text for text in messages(caplog, logging.INFO) if text.endswith("again")]
    assert ["h3" in again[0], "h5" in again[1], len(again)] == [True, True, 2]


def test_a_device_that_is_busy_is_asked_as_before(build: Build) -> None:
    unit = Unit(holding={at: at for at in range(4)}, input={9: 9})
    unit.refused = {2: 6}
    plant = build(TkDevice, "tcp", {1: unit})
    registers = [{"channel": f"h{at}", "address": at} for at in range(4)]
    polled = plant.poll(*registers, {"channel": "i", "address": 9, "function": "input"})
    wait_until(lambda: len(polled.chunks) >= 2, "two polls")
    busy = Bad("exception 6, server device busy")
    assert polled.latest() == {"h0": busy, "h1": busy, "h2": busy, "h3": busy, "i": 9.0}
    assert polled.source.status().registers_refused == ()
    unit.refused = {}
    wait_until(lambda: polled.latest()["h2"] == 2.0, "the end of it")
    assert {one for one in unit.requests if one[0] == "holding"} == {("holding", 0, 4)}


def test_a_function_that_the_device_lacks_is_asked_for_once(build: Build) -> None:
    unit = Unit(holding={at: at for at in range(4)}, coil={at: 1 for at in range(4)})
    plant = build(TkDevice, "tcp", {1: unit})
    registers = [{"channel": f"h{at}", "address": at} for at in range(4)]
    registers += [{"channel": f"c{at}", "address": at, "function": "coil"} for at in range(4)]
    unit.refused = {}
    lacking = unit.code
    unit.code = lambda function, *rest: lacking(function, *rest) or (1 if function == 1 else None)  # type: ignore[method-assign]
    polled = plant.poll(*registers)
    wait_until(lambda: len(polled.chunks) >= 4, "four polls")
    assert polled.latest()["c1"] == Bad("exception 1, illegal function")
    assert [one for one in unit.requests if one[0] == "coil"] == [("coil", 0, 4)]


# ---- several units


@pytest.mark.parametrize(("kind", "way"), EVERY_DEVICE)
def test_units_at_one_line_take_turns_and_one_that_is_off_stops_no_other(
    build: Build, kind: type[Device | TkDevice], way: str
) -> None:
    units = {at: Unit(holding={0: 10 * at}) for at in (1, 2)}
    plant = build(kind, way, units)
    register = {"channel": "a", "address": 0}
    quick = {"timeout_s": 0.3, "reconnect_delay_max_s": 0.1}
    inputs = {at: plant.poll(register, unit=at, name=f"unit-{at}", **quick) for at in (1, 2, 3)}
    wait_until(lambda: inputs[3].source.status().last_error is not None, "the one that is off")
    polls = {at: len(inputs[at].chunks) for at in (1, 2)}
    wait_until(lambda: all(len(inputs[at].chunks) > polls[at] + 3 for at in (1, 2)), "the others")
    for at in (1, 2):
        assert {chunk.measurements[0].values["a"] for chunk in inputs[at].chunks} == {10.0 * at}
        assert inputs[at].source.status().connected
    off = inputs[3].source.status()
    assert not off.connected
    assert str(off.last_error).startswith("unit 3 at ")
    assert str(off.last_error).endswith(" does not answer in 0.3 s")
    if isinstance(plant.device, Device) and way == "tcp":
        assert plant.device.connections == 1


def test_a_line_that_is_lost_is_found_again_by_all_its_inputs(build: Build) -> None:
    units = {at: Unit(holding={0: 10 * at}) for at in (1, 2)}
    plant = build(Device, "tcp", units)
    assert isinstance(plant.device, Device)
    quick = {"timeout_s": 1.0, "reconnect_delay_max_s": 0.1}
    register = {"channel": "a", "address": 0}
    inputs = [plant.poll(register, unit=at, name=f"unit-{at}", **quick) for at in (1, 2)]
    wait_until(lambda: all(one.chunks for one in inputs), "both")
    plant.device.stop()
    wait_until(lambda: not any(one.source.status().connected for one in inputs), "their loss")
    plant.device.start()
    wait_until(lambda: all(one.source.status().reconnects for one in inputs), "both again")
    assert plant.device.connections == 2


def test_an_adapter_that_echoes() -> None:
    """The echo of a request for the register 0x305 is by itself a valid answer: 0x500."""
    cable = Cable(echo=True)
    device = TkDevice(line=cable.ends[1], units={1: Unit(holding={0x305: 2})})
    given = {"name": "plc", "stream": "pump", "type": "modbus-rtu", "parity": "none"}
    given |= {"port": str(cable.ends[0]), "registers": [{"channel": "a", "address": 0x305}]}
    table = ModbusRtuTable.model_validate(
        given | {"poll_interval_s": 0.02, "handle_local_echo": True}
    )
    chunks: list[Chunk] = []
    source = open_input(table)
    source.start(chunks.append)
    wait_until(lambda: len(chunks) >= 3, "three polls")
    source.stop()
    device.stop()
    cable.close()
    assert {chunk.measurements[0].values["a"] for chunk in chunks} == {2.0}
    assert cable.echoed >= 3 * 8


# ---- SunSpec


@pytest.mark.parametrize(("kind", "way"), EVERY_DEVICE)
def test_values_of_sunspec(build: Build, kind: type[Device | TkDevice], way: str) -> None:
    """Scale factors are read again with each poll; what is not implemented is no number."""
    holding = {0: 2345, 1: 0xFFFE, 2: 77, 3: 0x8000, 4: 0x8000, 5: 0x7FC0, 6: 0, 7: 11, 8: 0b1011}
    unit = Unit(holding=holding)
    plant = build(kind, way, {1: unit})
    polled = plant.poll(
        {"channel": "current", "address": 0, "type": "uint16", "scale_factor_address": 1},
        {"channel": "power", "address": 2, "scale_factor_address": 3},
        {"channel": "heat", "address": 4},
        {"channel": "flow", "address": 5, "type": "float32"},
        {"channel": "level", "address": 7, "scale_factor_address": 77},
        {"channel": "running", "address": 8, "type": "uint16", "bits": [3]},
        {"channel": "state", "address": 8, "type": "uint16", "bits": [0, 1]},
        sunspec=True,
    )
    wait_until(lambda: len(polled.chunks) >= 2, "two polls")
    assert polled.latest() == {
        "current": 23.45,
        "power": Bad("scale factor: not implemented (SunSpec)", 77),
        "heat": Bad("not implemented (SunSpec)", -32768),
        "flow": Bad("not implemented (SunSpec)"),
        "level": Bad("scale factor: exception 2, illegal data address", 11),
        "running": 1.0,
        "state": 3.0,
    }
    refused = "holding register 77 (level): exception 2, illegal data address"
    assert polled.source.status().registers_refused == (refused,)
