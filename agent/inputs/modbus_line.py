"""The connection to Modbus devices. Only this module uses pymodbus.

A serial line, like many gateways, handles one request at a time. So the inputs whose devices are on
the same line share one ``Line``, and use it in the order of their requests.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakValueDictionary

from agent.config.inputs import LINES, ModbusRtuTable, ModbusTcpTable
from agent.config.registers import BIT_FUNCTIONS
from agent.inputs.modbus_terms import FUNCTION_CODES, Block, Refusal, Words
from agent.inputs.ports import explain, find, not_a_port
from agent.inputs.turns import Turns
from models.errors import ConfigError

_ASK: Final = {
    "coil": "read_coils",
    "discrete": "read_discrete_inputs",
    "holding": "read_holding_registers",
    "input": "read_input_registers",
}
_NO_ANSWERS_MAX: Final = 2  # in a row, from any device; then the connection is reopened


class NoAnswer(OSError):
    """The device did not answer in time, or its answer is invalid."""


class Stopped(Exception):
    """The request was not sent, because the caller must stop."""


class Line:
    """One connection, shared by threads that each poll one device; use ``line_of``.

    The first request opens the connection; after an error, the next request reopens it.
    """

    def __init__(self, settings: ModbusTcpTable | ModbusRtuTable) -> None:
        """Raise ConfigError if pymodbus is not installed."""
        try:
            import pymodbus.client as client  # only if a device is polled
            from pymodbus import FramerType
            from pymodbus.exceptions import ModbusException, ModbusIOException
        except ImportError as error:
            raise ConfigError(
                f"input {settings.name}: Modbus needs pymodbus: pip install 'fieldwatch[modbus]'"
            ) from error
        # pymodbus logs each attempt; an input logs the first and counts the rest
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self._settings = settings
        self._client, self._framers = client, FramerType
        self._failure, self._no_answer = ModbusException, ModbusIOException
        self._turns = Turns()
        self._device: Any = None
        self._users = 0
        self._no_answers = 0  # in a row
        self._late_until: dict[int, float] = {}  # monotonic, by unit; see _failed

    @property
    def where(self) -> str:
        """Return the line's name for messages."""
        settings = self._settings
        if isinstance(settings, ModbusTcpTable):
            return f"{settings.host}:{settings.port}"
        return str(settings.port)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the connection open while any thread is in this block."""
        with self._turns.next():
            self._users += 1
        try:
            yield
        finally:
            with self._turns.next():
                self._users -= 1
                if not self._users:
                    self._close()

    def ask(self, unit: int, block: Block, stopping: threading.Event) -> Words | Refusal:
        """Return the words or bits of a block, or why the device does not return them.

        Raises:
            NoAnswer: the device does not answer; others on the line may.
            OSError: the line, or its other end, is absent.
            Stopped: ``stopping`` is set.

        """
        with self._turns.next():
            if stopping.is_set():  # perhaps set while this thread waited
                raise Stopped
            if time.monotonic() < self._late_until.get(unit, 0.0):
                raise self._unanswered(unit)
            if self._device is None:
                self._device = self._opened()
            read = getattr(self._device, _ASK[block.function])
            try:
                answer = read(block.address, count=block.words, device_id=unit)
            except self._failure as error:
                raise self._failed(unit, error) from error
            except OSError:
                self._close()
                raise
            self._no_answers = 0
            return _words(answer, block)

    def _opened(self) -> Any:
        device = self._new_client()
        if device.connect():
            return device
        device.close()
        settings = self._settings
        if isinstance(settings, ModbusTcpTable):
            raise ConnectionError(f"{self.where} does not answer")
        raise ConnectionError(_why_closed(settings))

    def _new_client(self) -> Any:
        settings = self._settings
        if isinstance(settings, ModbusTcpTable):
            return self._client.ModbusTcpClient(
                settings.host,
                port=settings.port,
                framer=self._framers.RTU if settings.framing == "rtu" else self._framers.SOCKET,
                timeout=settings.timeout_s,
                retries=0,
            )
        return self._client.ModbusSerialClient(
            str(find(settings.port, settings.by_id)),
            baudrate=settings.baud,
            parity=settings.parity[0].upper(),
            stopbits=settings.stopbits,
            handle_local_echo=settings.handle_local_echo,
            timeout=settings.timeout_s,
            retries=0,
        )

    def _failed(self, unit: int, error: Exception) -> OSError:
        """Return the error to raise; close the connection if that may help.

        A device that is off must not end the connection of the others. Frames on a serial line have
        no number that matches an answer to its request. So after a missing answer, the device is
        not polled until a late answer would have arrived; otherwise it could be mistaken for the
        next answer. On a network, a late answer would also stay in the connection's buffer.
        """
        if not isinstance(error, self._no_answer):
            self._close()
            return ConnectionError(f"{self.where}: the connection is lost")
        self._no_answers += 1
        settings = self._settings
        over_tcp = isinstance(settings, ModbusTcpTable)
        numbered = isinstance(settings, ModbusTcpTable) and settings.framing == "tcp"
        if not numbered:
            self._late_until[unit] = time.monotonic() + settings.timeout_s
        if (over_tcp and not numbered) or self._no_answers >= _NO_ANSWERS_MAX:
            self._close()
        return self._unanswered(unit)

    def _unanswered(self, unit: int) -> NoAnswer:
        timeout_s = self._settings.timeout_s
        return NoAnswer(f"unit {unit} at {self.where} does not answer in {timeout_s:g} s")

    def _close(self) -> None:
        self._no_answers = 0
        if self._device is not None:
            self._device.close()
            self._device = None


_lines: WeakValueDictionary[tuple[object, ...], Line] = WeakValueDictionary()
_lines_lock = threading.Lock()


def line_of(settings: ModbusTcpTable | ModbusRtuTable) -> Line:
    """Return the line of the device; inputs with the same line settings share it.

    Raises:
        ConfigError: pymodbus is not installed.

    """
    shared = LINES[settings.type]
    key = (settings.type, *(getattr(settings, name) for name in shared.named_by + shared.common))
    with _lines_lock:
        line = _lines.get(key)
        if line is None:
            line = _lines[key] = Line(settings)
        return line


def _words(answer: Any, block: Block) -> Words | Refusal:
    if answer.isError():
        return Refusal.by_exception(int(answer.exception_code))
    if answer.function_code != FUNCTION_CODES[block.function]:
        return Refusal(None, f"the answer has function code {answer.function_code}")
    if block.function in BIT_FUNCTIONS:  # in whole bytes
        bits = [int(bit) for bit in answer.bits[: block.words]]
        return bits if len(bits) == block.words else _of_other_length(len(bits), block)
    words: Words = answer.registers
    return words if len(words) == block.words else _of_other_length(len(words), block)


def _of_other_length(length: int, block: Block) -> Refusal:
    return Refusal(None, f"the answer has {length} values instead of {block.words}")


def _why_closed(settings: ModbusRtuTable) -> str:
    """Return why a serial port cannot be opened; pymodbus does not report it."""
    port = find(settings.port, settings.by_id)
    try:
        os.close(os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError as error:
        return explain(settings.port, settings.by_id, error)
    closed = errno.EBUSY if not_a_port(port) is None else errno.ENOTTY
    return explain(settings.port, settings.by_id, OSError(closed, os.strerror(closed)))
