"""A Modbus device, on TCP or at a serial line, for the tests of what polls one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import socket
import threading
import tty
from pathlib import Path

from pymodbus.datastore import (
    ModbusDeviceContext,
    ModbusSequentialDataBlock,
    ModbusServerContext,
)
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

REGISTERS = 200


class Device:
    """A server: registers of either kind are 10 x their address, every third bit of either is 1."""

    def __init__(self, port: int = 0, line: Path | None = None) -> None:
        self.port = port or free_port()
        self._line = line
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        block = ModbusSequentialDataBlock(1, [10 * at for at in range(REGISTERS)])
        bits = ModbusSequentialDataBlock(1, [at % 3 == 0 for at in range(REGISTERS)])
        blocks = ModbusDeviceContext(hr=block, ir=block, co=bits, di=bits)
        context = ModbusServerContext(devices=blocks, single=True)
        self._server: ModbusSerialServer | ModbusTcpServer
        if self._line is None:
            self._server = ModbusTcpServer(
                context, address=("127.0.0.1", self.port), trace_connect=self._count
            )
        else:
            self._server = ModbusSerialServer(context, port=str(self._line), baudrate=19200)
        await self._server.listen()
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()
        await self._server.shutdown()

    def _count(self, connected: bool) -> None:
        self.connections += connected

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


class Cable:
    """Two pseudo-terminals, each of which gets what is written to the other."""

    def __init__(self) -> None:
        pairs = [pty.openpty() for _ in range(2)]
        for _, terminal in pairs:
            tty.setraw(terminal)
        self.ends = [Path(os.ttyname(terminal)) for _, terminal in pairs]
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
                    os.write(second if controller == first else first, os.read(controller, 4096))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for descriptor in self._open:
            os.close(descriptor)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
