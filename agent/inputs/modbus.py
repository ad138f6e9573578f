"""The Modbus input: one thread that polls registers and bits (Modbus application protocol 1.1b3).

Each poll makes one measurement: a value for each register, in the channel's unit. A value that the
device refuses, or marks as invalid, has bad quality. All other values are checked like lines.

    Line (shared by the inputs of a line) ─words─> Plan ─words of each value─> Value ─> Measurement
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from agent.backoff import Backoff
from agent.config.inputs import ModbusRtuTable, ModbusTcpTable
from agent.config.registers import BIT_FUNCTIONS
from agent.inputs.modbus_line import Stopped, line_of
from agent.inputs.modbus_plan import Found, Plan
from agent.inputs.modbus_terms import FUNCTION_CODES, Block, Refusal, Words
from agent.inputs.modbus_values import Value, block_of, factor_block
from agent.inputs.source import Chunk
from agent.inputs.threaded import ThreadedInput
from agent.journal import INPUT
from agent.parsing.measurement import Bad, Measurement

_LOG = logging.getLogger(__name__)

_RECONNECT_DELAY_S = 0.5  # bound of the first wait; doubles up to reconnect_delay_max_s
_NAMED_MAX: Final = 10  # refused registers per log line


class Device:
    """A polled device: a unit on a line, its requests, and the conversion to values.

    Raises:
        ConfigError: pymodbus is not installed.

    """

    def __init__(self, settings: ModbusTcpTable | ModbusRtuTable) -> None:
        self.line = line_of(settings)
        self.unit = settings.unit
        self.bytes = 0
        self.last_refusal: str | None = None
        blocks: dict[Block, list[str]] = {}  # with the channels that need it
        for register in settings.registers:
            for block in (block_of(register), factor_block(register)):
                if block is not None:
                    blocks.setdefault(block, []).append(register.channel)
        self._channels = blocks
        places = {block: at for at, block in enumerate(blocks)}
        self.values = [Value(one, settings.sunspec, places) for one in settings.registers]
        longest = {
            function: settings.bits_max if function in BIT_FUNCTIONS else settings.registers_max
            for function in FUNCTION_CODES
        }
        self._plan = Plan(list(blocks), longest, settings.refused_retry_max_s)

    @property
    def where(self) -> str:
        """Return the device's name for messages."""
        return f"unit {self.unit} at {self.line.where}"

    @property
    def changes(self) -> int:
        """Number of changes of ``refused`` and ``longest``."""
        return self._plan.changes

    @property
    def refused(self) -> dict[str, str]:
        """The registers that it refuses, with the channels that need them, and why."""
        return {
            f"{block} ({', '.join(self._channels[block])})": str(refusal)
            for block, refusal in self._plan.refused.items()
        }

    @property
    def longest(self) -> dict[str, int]:
        """Maximum number of registers or bits per request, by function; the device may lower it."""
        return self._plan.longest.copy()

    def poll(self, stopping: threading.Event) -> Found:
        """Read all blocks; return the answers, for ``values``.

        Raises:
            OSError: the line or the device is absent, or returned no value at all.
            Stopped: ``stopping`` is set.

        """

        def ask(block: Block) -> Words | Refusal:
            answer = self.line.ask(self.unit, block, stopping)
            if isinstance(answer, Refusal):
                code = FUNCTION_CODES[block.function]
                self.last_refusal = f"unit {self.unit}, {block} (function code {code}): {answer}"
            elif block.function in BIT_FUNCTIONS:
                self.bytes += -(-len(answer) // 8)
            else:
                self.bytes += 2 * len(answer)
            return answer

        found = self._plan.read(ask, time.monotonic())
        if all(isinstance(words, Refusal) for words in found):
            raise ConnectionError(self.last_refusal)
        return found


class Probed(NamedTuple):
    """The result of one poll."""

    complete: bool  # everything was read
    text: str


def probe_device(settings: ModbusTcpTable | ModbusRtuTable) -> Probed:
    """Poll a device once, as the agent would; report what it returns, or what is wrong.

    Raises:
        ConfigError: pymodbus is not installed.

    """
    device = Device(settings)
    with device.line.used():
        try:
            found = device.poll(threading.Event())
        except OSError as error:
            return Probed(False, str(error))
    if device.refused:
        refused = _listed([f"{what}: {why}" for what, why in device.refused.items()])
        return Probed(False, f"{device.where} refuses {refused}; the rest is read")
    missing = [
        f"{value.channel}: {bad.reason}"
        for value in device.values
        if isinstance(bad := value.of(found), Bad)
    ]
    wanted = len(device.values)
    text = f"{device.where} returns {wanted - len(missing)} of {wanted} values"
    return Probed(True, f"{text}; {_listed(missing)}" if missing else text)


class ModbusInput(ThreadedInput):
    """Polls a device; see ``agent.inputs.Input``."""

    def __init__(self, settings: ModbusTcpTable | ModbusRtuTable) -> None:
        """Raise ConfigError if pymodbus is not installed."""
        super().__init__(settings)
        self._settings = settings
        self._device = Device(settings)
        self._changes_told = self._device.changes
        self._refused: dict[str, str] = {}
        self._longest = self._device.longest

    def _run(self, put: Callable[[Chunk], None]) -> None:
        backoff = Backoff(_RECONNECT_DELAY_S, self._settings.reconnect_delay_max_s)
        with self._device.line.used():
            while not self._stopping.is_set():
                lines_before = self._lines
                try:
                    self._poll(put)
                except Stopped:
                    return
                except OSError as error:
                    self._lost(str(error))
                if self._lines > lines_before:
                    backoff.succeeded()
                backoff.failed()
                self._stopping.wait(backoff.wait_s())

    def _poll(self, put: Callable[[Chunk], None]) -> None:
        """Poll at a steady rate until the stop, or until the device fails."""
        device = self._device
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                found = device.poll(self._stopping)
            finally:
                self._bytes = device.bytes
                if device.last_refusal is not None:
                    self._last_error = device.last_refusal
            if not self._connected:
                self._found(f"polling {device.where}")
            if device.changes != self._changes_told:
                self._tell_what_it_refuses()
            row = Measurement({value.channel: value.of(found) for value in device.values})
            self._lines += 1
            put(Chunk(self.name, time.time(), time.monotonic(), measurements=[row]))
            due = max(due + self._settings.poll_interval_s, time.monotonic())
            self._stopping.wait(due - time.monotonic())

    def _tell_what_it_refuses(self) -> None:
        """Log each change once."""
        device = self._device
        before, self._refused = self._refused, device.refused
        new = [f"{what}: {why}" for what, why in self._refused.items() if what not in before]
        back = [what for what in before if what not in self._refused]
        if new:
            self._log(logging.WARNING, f"{device.where} refuses {_listed(new)}; the rest is read")
        if back:
            self._log(logging.INFO, f"{device.where} returns {_listed(back)} again")
        for function, longest in device.longest.items():
            if longest < self._longest[function]:
                setting = "bits_max" if function in BIT_FUNCTIONS else "registers_max"
                self._log(
                    logging.INFO,
                    f"{device.where} refuses long requests of {function} but answers their parts;"
                    f" from now on a request reads at most {longest}, as with {setting} ="
                    f" {longest}",
                )
        self._longest = device.longest
        self._registers_refused = tuple(f"{what}: {why}" for what, why in self._refused.items())
        self._changes_told = device.changes

    def _log(self, level: int, text: str) -> None:
        _LOG.log(level, "input %s: %s", self.name, text, extra={INPUT: self.name})


def _listed(names: Sequence[str]) -> str:
    """Join a limited number of names in one line."""
    more = len(names) - _NAMED_MAX
    return "; ".join(names[:_NAMED_MAX]) + (f"; and {more} more" if more > 0 else "")
