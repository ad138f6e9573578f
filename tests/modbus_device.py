"""Modbus devices for the tests of what polls them: two independent implementations.

``Device`` is pymodbus' server and ``TkDevice`` is modbus-tk's. Both serve any number of units, on
TCP, at a serial line, or with the frames of a serial line over TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import socket
import struct
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import modbus_tk.hooks
import serial
from modbus_tk.modbus_rtu import RtuServer
from modbus_tk.modbus_tcp import TcpServer
from pymodbus import FramerType
from pymodbus.datastore import (
    ModbusDeviceContext,
    ModbusServerContext,
    ModbusSparseDataBlock,
)
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

from tests.conftest import WAIT_S_MAX, hold_port

REGISTERS = 200
CODES = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
NAMES = {code: function for function, code in CODES.items()}
STORES = {"coil": "co", "discrete": "di", "holding": "hr", "input": "ir"}


class Unit:
    """What a device has, and how it behaves; a test may change that at any time.

    Values by address, for each function. What is not there is refused with exception 2 by the
    implementation itself.
    """

    def __init__(self, **values: Mapping[int, int]) -> None:
        self.values = values
        self.longest = 2000  # a request of more is refused with exception 3
        self.refused: dict[int, int] = {}  # code of the exception by address, of any function
        self.wait_s = 0.0  # before it answers
        self.requests: list[tuple[str, int, int]] = []  # function, address, count
        self.answered = 0

    def code(self, function_code: int, address: int, count: int) -> int | None:
        """Note a request; return the code of the exception that it gets."""
        self.requests.append((NAMES[function_code], address, count))
        time.sleep(self.wait_s)
        self.answered += 1
        if count > self.longest:
            return 3
        codes = [self.refused[at] for at in range(address, address + count) if at in self.refused]
        return codes[0] if codes else None


def tens() -> Unit:
    """Registers of either kind are 10 x their address, every third bit of either is 1."""
    registers = {at: 10 * at for at in range(REGISTERS)}
    bits = {at: int(at % 3 == 0) for at in range(REGISTERS)}
    return Unit(holding=registers, input=registers, coil=bits, discrete=bits)


class Device:
    """pymodbus' server; the unit 1 unless others are given."""

    def __init__(
        self,
        line: Path | None = None,
        units: Mapping[int, Unit] | None = None,
        framing: str = "tcp",
    ) -> None:
        self.port = hold_port(self)
        self.units = units or {1: tens()}
        self.connections = 0
        self._line = line
        self._framing = framing
        self._asked: ModbusPDU | None = None
        self.start()

    def start(self) -> None:
        """Serve; after a stop, at the same port again."""
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve()], daemon=True)
        self._thread.start()
        assert self._started.wait(WAIT_S_MAX)
        assert self._listens

    async def _serve(self) -> None:
        """Serve until the stop; ``asyncio.run`` then cancels what pymodbus still does."""
        self._loop = asyncio.get_running_loop()
        context = ModbusServerContext({at: _context(unit) for at, unit in self.units.items()})
        behaviour: dict[str, Any] = {"ignore_missing_devices": True, "trace_pdu": self._traced}
        self._server: ModbusSerialServer | ModbusTcpServer
        if self._line is None:
            self._server = ModbusTcpServer(
                context,
                address=("127.0.0.1", self.port),
                framer=FramerType.RTU if self._framing == "rtu" else FramerType.SOCKET,
                trace_connect=self._count,
                **behaviour,
            )
        else:
            self._server = ModbusSerialServer(
                context, port=str(self._line), baudrate=19200, **behaviour
            )
        self._listens = await self._server.listen()
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()
        await self._server.shutdown()

    def _count(self, connected: bool) -> None:
        self.connections += connected

    def _traced(self, sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        """Note a request; put an exception in place of an answer."""
        if not sending:
            self._asked = pdu
            return pdu
        asked = self._asked
        assert asked is not None
        code = self.units[asked.dev_id].code(asked.function_code, asked.address, asked.count)
        if code is None:
            return pdu
        return ExceptionResponse(
            asked.function_code, code, device_id=pdu.dev_id, transaction=pdu.transaction_id
        )

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


def _context(unit: Unit) -> ModbusDeviceContext:
    blocks = {
        STORES[function]: ModbusSparseDataBlock(dict(values))
        for function, values in unit.values.items()
    }
    return ModbusDeviceContext(**blocks)


class TkDevice:
    """modbus-tk's server; like ``Device``."""

    def __init__(
        self,
        line: Path | None = None,
        units: Mapping[int, Unit] | None = None,
        framing: str = "tcp",
    ) -> None:
        self.units = units or {1: tens()}
        self._converter: Converter | None = None
        if framing == "rtu":  # it has no server for that: a converter between network and line
            self._cable = Cable()
            self._converter = Converter(self._cable.ends[0])
            line = self._cable.ends[1]
        if line is None:
            self.port = hold_port(self)
            self._server = TcpServer(port=self.port, address="127.0.0.1")
        else:
            self.port = self._converter.port if self._converter else 0
            self._server = RtuServer(serial.Serial(str(line), 19200))
        for at, unit in self.units.items():
            slave = self._server.add_slave(at)
            slave.unit = unit
            for function, values in unit.values.items():
                for begin, run in _runs(values):
                    name = f"{function} {begin}"
                    slave.add_block(name, CODES[function], begin, len(run))
                    slave.set_values(name, begin, run)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        if self._converter:
            self._converter.stop()
            self._cable.close()


def _behave(arguments: tuple[Any, bytes]) -> bytes | None:
    slave, request = arguments
    code = slave.unit.code(*struct.unpack(">BHH", request[:5]))
    return None if code is None else struct.pack(">BB", request[0] + 0x80, code)


modbus_tk.hooks.install_hook("modbus.Slave.handle_request", _behave)


def _runs(values: Mapping[int, int]) -> Iterator[tuple[int, list[int]]]:
    """Yield values at adjacent addresses, with the first address."""
    run: list[int] = []
    for at in sorted(values):
        run.append(values[at])
        if at + 1 not in values:
            yield at + 1 - len(run), run
            run = []


class Cable:
    """Two pseudo-terminals, each of which gets what is written to the other.

    With ``echo`` the first end also gets what is written to it, as from some adapters.
    """

    def __init__(self, echo: bool = False) -> None:
        pairs = [pty.openpty() for _ in range(2)]
        for _, terminal in pairs:
            tty.setraw(terminal)
        self.ends = [Path(os.ttyname(terminal)) for _, terminal in pairs]
        self.echoed = 0  # bytes
        self._echo = echo
        self._open = [descriptor for pair in pairs for descriptor in pair]
        self._controllers = [controller for controller, _ in pairs]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        first, second = self._controllers
        while not self._ended.is_set():
            ready, _, _ = select.select(self._controllers, [], [], 0.05)
            for controller in ready:
                with contextlib.suppress(OSError):  # an end that was closed
                    data = os.read(controller, 4096)
                    if self._echo and controller == first:
                        os.write(first, data)
                        self.echoed += len(data)
                    os.write(second if controller == first else first, data)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for descriptor in self._open:
            os.close(descriptor)


class Converter:
    """A serial-to-network converter: passes bytes on between a line and one connection."""

    def __init__(self, line: Path) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._line = os.open(line, os.O_RDWR | os.O_NOCTTY)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        connection: socket.socket | None = None
        while not self._ended.is_set():
            sources = [self._listening, self._line, *([connection] if connection else [])]
            ready, _, _ = select.select(sources, [], [], 0.05)
            if self._listening in ready:
                if connection:
                    connection.close()
                connection, _ = self._listening.accept()
                continue
            if connection in ready:
                assert connection is not None
                with contextlib.suppress(ConnectionError):
                    if data := connection.recv(4096):
                        os.write(self._line, data)
                        continue
                connection.close()
                connection = None
            if self._line in ready:
                data = os.read(self._line, 4096)
                with contextlib.suppress(ConnectionError):
                    if connection:
                        connection.sendall(data)
        if connection:
            connection.close()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._listening.close()
        os.close(self._line)
