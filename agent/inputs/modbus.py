"""The Modbus input: one thread that polls registers and bits (Modbus application protocol 1.1b3).

Each poll makes one measurement, a value for each register in the channel's unit. What the device
refuses, or marks as invalid, is of bad quality; all else is checked like lines.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from agent.backoff import Backoff
from agent.config.inputs import (
    BIT_FUNCTIONS,
    BITS_MAX,
    REGISTERS_MAX,
    ModbusRtuTable,
    ModbusTcpTable,
    RegisterTable,
)
from agent.inputs.ports import find
from agent.inputs.source import Chunk
from agent.inputs.threaded import ThreadedInput
from agent.parsing.measurement import Bad, Measurement
from models.errors import ConfigError

_RECONNECT_DELAY_S = 0.5  # bound of the first wait; doubles up to reconnect_delay_max_s
_FORMS = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
_ASK = {
    "holding": "read_holding_registers",
    "input": "read_input_registers",
    "coil": "read_coils",
    "discrete": "read_discrete_inputs",
}


_EXCEPTIONS = {  # of the application protocol, section 7
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}


class Block(NamedTuple):
    """Registers that are read in one request."""

    function: str
    address: int
    words: int


class RegisterPlace(NamedTuple):
    """Where the words of a register are in a block."""

    register: RegisterTable
    block: Block
    begin: int
    end: int


class ModbusInput(ThreadedInput):
    """Polls a device; see ``agent.inputs.Input``."""

    def __init__(self, settings: ModbusTcpTable | ModbusRtuTable) -> None:
        """Raise ConfigError if pymodbus is not installed."""
        try:
            import pymodbus.client as client  # only if a device is polled
            from pymodbus.exceptions import ModbusException
        except ImportError as error:
            raise ConfigError(
                f"input {settings.name}: Modbus needs pymodbus: pip install 'fieldwatch[modbus]'"
            ) from error
        super().__init__(settings)
        self._settings = settings
        self._module, self._failure = client, ModbusException
        self._blocks = list(blocks(settings.registers))
        self._places = [place_of(register, self._blocks) for register in settings.registers]

    def _run(self, put: Callable[[Chunk], None]) -> None:
        backoff = Backoff(_RECONNECT_DELAY_S, self._settings.reconnect_delay_max_s)
        while not self._stopping.is_set():
            lines_before = self._lines
            try:
                self._connect_and_poll(self._client(), put)
            except (OSError, self._failure) as error:
                self._lost(str(error))
            if self._lines > lines_before:
                backoff.succeeded()
            backoff.failed()
            self._stopping.wait(backoff.wait_s())

    def _connect_and_poll(self, device: Any, put: Callable[[Chunk], None]) -> None:
        try:
            if not device.connect():
                raise ConnectionError(f"{self._where()} does not answer")
            self._poll(device, put)
        finally:
            device.close()

    def _client(self) -> Any:
        settings = self._settings
        if isinstance(settings, ModbusTcpTable):
            return self._module.ModbusTcpClient(
                settings.host, port=settings.port, timeout=settings.timeout_s, retries=0
            )
        return self._module.ModbusSerialClient(
            str(find(settings.port, settings.by_id)),
            baudrate=settings.baud,
            parity=settings.parity[0].upper(),
            stopbits=settings.stopbits,
            timeout=settings.timeout_s,
            retries=0,
        )

    def _where(self) -> str:
        settings = self._settings
        if isinstance(settings, ModbusTcpTable):
            return f"{settings.host}:{settings.port}"
        return str(settings.port)

    def _poll(self, device: Any, put: Callable[[Chunk], None]) -> None:
        """Poll until the stop, or until the device fails; at a steady pace."""
        due = time.monotonic()
        while not self._stopping.is_set():
            read = {block: self._read(device, block) for block in self._blocks}
            if all(isinstance(words, Bad) for words in read.values()):
                raise ConnectionError(self._last_error or f"{self._where()} gives nothing")
            if not self._connected:
                self._found(f"polling {self._where()}")
            row = Measurement(
                {one.register.channel: value_of(one, read[one.block]) for one in self._places}
            )
            self._lines += 1
            put(Chunk(self.name, time.time(), time.monotonic(), measurements=[row]))
            due = max(due + self._settings.poll_interval_s, time.monotonic())
            self._stopping.wait(due - time.monotonic())

    def _read(self, device: Any, block: Block) -> list[int] | Bad:
        """Return the words or bits of a block, or why the device does not give them."""
        ask = getattr(device, _ASK[block.function])
        answer = ask(block.address, count=block.words, device_id=self._settings.unit)
        bits = block.function in BIT_FUNCTIONS
        if answer.isError():
            what = f"{block.function} {'bits' if bits else 'registers'}"
            self._last_error = (
                f"unit {self._settings.unit}, {what} {block.address} to"
                f" {block.address + block.words - 1}: {answer}"
            )
            return _refused(answer)
        if bits:  # in whole bytes; more than asked for
            self._bytes += len(answer.bits) // 8
            return [int(bit) for bit in answer.bits[: block.words]]
        words: list[int] = answer.registers
        self._bytes += 2 * len(words)
        return words


def blocks(registers: Sequence[RegisterTable]) -> Iterator[Block]:
    """Yield the requests: adjacent registers, or bits, go together."""
    begin, end, function = 0, 0, ""
    for register in sorted(registers, key=lambda one: (one.function, one.address)):
        last = register.address + register.words
        beside = register.function == function and register.address <= end
        if beside and last - begin <= (BITS_MAX if register.is_bit else REGISTERS_MAX):
            end = max(end, last)
            continue
        if function:
            yield Block(function, begin, end - begin)
        begin, end, function = register.address, last, register.function
    yield Block(function, begin, end - begin)


def place_of(register: RegisterTable, among: Sequence[Block]) -> RegisterPlace:
    """Return where a register is in the blocks."""
    for block in among:
        begin = register.address - block.address
        end = begin + register.words
        if block.function == register.function and 0 <= begin and end <= block.words:
            return RegisterPlace(register, block, begin, end)
    raise AssertionError(register)


def _refused(answer: Any) -> Bad:
    code = int(answer.exception_code)
    return Bad(f"exception {code}, {_EXCEPTIONS.get(code, 'unknown')}")


def value_of(place: RegisterPlace, words: list[int] | Bad) -> float | Bad:
    """Return a register's value in the channel's unit, from the words of its block."""
    if isinstance(words, Bad):
        return words
    register = place.register
    if len(words) < place.end:
        return Bad(f"the answer has only {len(words)} of {place.block.words} words")
    raw = raw_of(register, words[place.begin : place.end])
    if raw is None:
        return Bad("no decimal digits")
    if raw in register.invalid:
        return Bad("marked as invalid", raw)
    return float(raw) * register.scale + register.offset


def decoded(register: RegisterTable, words: Sequence[int]) -> float:
    """Return a register's value in the channel's unit; NaN if it is not a number."""
    raw = raw_of(register, words)
    return math.nan if raw is None else float(raw) * register.scale + register.offset


def raw_of(register: RegisterTable, words: Sequence[int]) -> float | None:
    """Return the number in the words, before scale and offset; None if there is none."""
    if register.is_bit:
        return words[0]
    ordered = words if register.word_order == "big" else words[::-1]
    high_byte_first = register.byte_order == "big"
    packed = struct.pack(f"{'>' if high_byte_first else '<'}{len(ordered)}H", *ordered)
    if register.type.startswith("bcd"):
        digits = packed.hex()
        return int(digits) if digits.isdecimal() else None
    raw: float = struct.unpack(_FORMS[register.type], packed)[0]
    return raw
