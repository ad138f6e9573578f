"""A Modbus device on TCP, for the tests of what polls one."""

from __future__ import annotations

import asyncio
import socket
import threading

from pymodbus.datastore import (
    ModbusDeviceContext,
    ModbusSequentialDataBlock,
    ModbusServerContext,
)
from pymodbus.server import ModbusTcpServer

REGISTERS = 200


class Device:
    """A server: registers of either kind are 10 x their address, every third bit of either is 1."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
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
        self._server = ModbusTcpServer(context, address=("127.0.0.1", self.port))
        await self._server.listen()
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()
        await self._server.shutdown()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
