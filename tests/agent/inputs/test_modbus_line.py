"""The connection that Modbus inputs share: turns, its end, and answers that are none."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from agent.config.inputs import ModbusRtuTable, ModbusTcpTable
from agent.inputs.modbus_line import Line, NoAnswer, Stopped, line_of
from agent.inputs.modbus_terms import Block, Refusal
from agent.inputs.turns import Turns
from agent.parsing.checksum import crc16_modbus
from tests.conftest import wait_until
from tests.modbus_device import Cable, Converter, Device, Unit

ONE = Block("holding", 0, 1)
RUNNING = threading.Event()  # never set


def tcp(port: int, **more: Any) -> ModbusTcpTable:
    given = {"name": "plc", "stream": "pump", "type": "modbus-tcp", "host": "127.0.0.1"}
    given |= {"port": port, "registers": [{"channel": "a", "address": 0}]}
    return ModbusTcpTable.model_validate(given | more)


def rtu(port: str, **more: Any) -> ModbusRtuTable:
    given = {"name": "plc", "stream": "pump", "type": "modbus-rtu", "port": port}
    given |= {"parity": "none", "registers": [{"channel": "a", "address": 0}]}
    return ModbusRtuTable.model_validate(given | more)


def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    turns, served, threads = Turns(), list[int](), list[threading.Thread]()

    def serve(number: int) -> None:
        with turns.next():
            served.append(number)

    with turns.next():
        for number in range(20):
            threads.append(threading.Thread(target=serve, args=(number,)))
            threads[-1].start()
            wait_until(lambda n=number: turns.asked == n + 2, "the thread to wait")  # type: ignore[misc]
        assert served == []
    for thread in threads:
        thread.join()
    assert served == list(range(20))


def test_inputs_with_the_same_settings_share_one_line_and_others_do_not() -> None:
    one = line_of(tcp(502))
    assert line_of(tcp(502, name="other", unit=2, poll_interval_s=9.0)) is one
    assert line_of(tcp(503)) is not one
    assert line_of(tcp(502, framing="rtu")) is not one
    serial = line_of(rtu("a"))
    assert line_of(rtu("a", name="other", unit=2)) is serial
    assert line_of(rtu("a", baud=9600)) is not serial


def test_who_is_to_stop_is_not_served_any_more() -> None:
    unit = Unit(holding={0: 7})
    device = Device(units={1: unit})
    line, stopping = Line(tcp(device.port)), threading.Event()
    with line.used():
        assert line.ask(1, ONE, stopping) == [7]
        stopping.set()
        with pytest.raises(Stopped):
            line.ask(1, ONE, stopping)
    device.stop()
    assert len(unit.requests) == 1


def test_the_last_who_uses_it_closes_it() -> None:
    device = Device(units={1: Unit(holding={0: 7})})
    line = Line(tcp(device.port))
    with line.used():
        with line.used():
            line.ask(1, ONE, RUNNING)
        line.ask(1, ONE, RUNNING)
        assert device.connections == 1
    with line.used():
        line.ask(1, ONE, RUNNING)
        assert device.connections == 2
    device.stop()


def test_units_of_a_device_at_the_network() -> None:
    """0 and 255 are the device itself."""
    device = Device(units={at: Unit(holding={0: at}) for at in (0, 247, 255)})
    line = Line(tcp(device.port))
    with line.used():
        assert [line.ask(at, ONE, RUNNING) for at in (0, 247, 255)] == [[0], [247], [255]]
    device.stop()


@pytest.mark.parametrize("way", ["rtu", "rtu-over-tcp"])
def test_a_device_that_may_still_answer_is_left_alone(way: str) -> None:
    """Its late answer would be taken for that of the next request."""
    units = {1: Unit(holding={0: 111, 1: 222}), 2: Unit(holding={0: 9})}
    cable = Cable()
    device = Device(line=cable.ends[1], units=units)
    converter = Converter(cable.ends[0]) if way == "rtu-over-tcp" else None
    settings = (
        tcp(converter.port, framing="rtu", timeout_s=0.3)
        if converter
        else rtu(str(cable.ends[0]), timeout_s=0.3)
    )
    line = Line(settings)
    with line.used():
        assert line.ask(1, ONE, RUNNING) == [111]
        units[1].wait_s = 0.45
        with pytest.raises(NoAnswer, match=r"unit 1 at .* does not answer in 0\.3 s"):
            line.ask(1, ONE, RUNNING)
        asked = len(units[1].requests)
        with pytest.raises(NoAnswer):
            line.ask(1, Block("holding", 1, 1), RUNNING)
        assert len(units[1].requests) == asked
        units[1].wait_s = 0.0
        wait_until(lambda: units[1].answered == asked, "the late answer")
        answers: list[Any] = []

        def answered() -> bool:
            try:
                answers.append(line.ask(1, Block("holding", 1, 1), RUNNING))
            except NoAnswer:
                return False
            return True

        wait_until(answered, "the device")
        assert answers == [[222]]
        assert line.ask(2, ONE, RUNNING) == [9]
    device.stop()
    if converter:
        converter.stop()
    cable.close()


class Babbler:
    """Answers each request with something that resembles an answer."""

    def __init__(self, framing: str, seed: int) -> None:
        self._random, self._framing = random.Random(seed), framing
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        try:
            while request := connection.recv(400):
                connection.sendall(self._babble(request))
                if self._random.random() < 0.02:
                    return
        except OSError:
            return

    def _babble(self, request: bytes) -> bytes:
        is_tcp = self._framing == "tcp"
        unit, pdu = (request[6], request[7:]) if is_tcp else (request[0], request[1:-2])
        chance = self._random.random
        if chance() < 0.1:
            unit = self._random.randrange(256)
        body = self._body(pdu[0], *struct.unpack(">H", pdu[3:5]))
        if is_tcp:
            length = len(body) + 1 if chance() < 0.8 else self._random.randrange(65536)
            frame = request[:2] + struct.pack(">HHB", 0, length, unit) + body
        else:
            frame = bytes([unit]) + body
            checksum = crc16_modbus(frame) if chance() < 0.9 else self._random.randrange(65536)
            frame += struct.pack("<H", checksum)
        if chance() < 0.1:
            frame = frame[: self._random.randrange(len(frame) + 1)]
        return frame

    def _body(self, function: int, count: int) -> bytes:
        some = self._random.randbytes
        choice = self._random.randrange(6)
        if choice == 5:
            count = self._random.randrange(1, 20)
        if choice in (0, 1, 5):
            return bytes([function, 2 * count]) + some(2 * count)
        if choice == 2:
            return bytes([function | 0x80]) + some(self._random.randrange(3))
        if choice == 3:
            return bytes([function]) + some(self._random.randrange(20))
        return some(self._random.randrange(40))

    def stop(self) -> None:
        self._listening.close()


@pytest.fixture(params=["tcp", "rtu"])
def babbling(request: pytest.FixtureRequest) -> Iterator[Line]:
    device = Babbler(request.param, seed=5)
    line = Line(tcp(device.port, framing=request.param, timeout_s=0.02))
    with line.used():
        yield line
    device.stop()


def test_whatever_a_device_answers_the_input_goes_on(babbling: Line) -> None:
    chosen = random.Random(6)
    came: Counter[str] = Counter()
    for _ in range(200):
        block = Block(chosen.choice(["coil", "holding"]), 0, chosen.randrange(1, 20))
        unit = chosen.randrange(1, 240)  # so that none is left alone for long
        try:
            answer = babbling.ask(unit, block, RUNNING)
        except OSError as error:
            came[type(error).__name__] += 1
            continue
        came["refusal" if isinstance(answer, Refusal) else "words"] += 1
        assert isinstance(answer, Refusal) or len(answer) == block.words
    assert {"refusal", "words", "NoAnswer"} <= came.keys()
