"""Converts the words of registers to values in a channel's unit."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from agent.config.registers import SUNSPEC_MISSING, RegisterTable
from agent.inputs.modbus_terms import Block, Refusal, Words
from agent.parsing.measurement import Bad

_FORMS: Final = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
_POWER_MAX: Final = 10  # of a scale factor, by SunSpec
_NOT_IMPLEMENTED: Final = "not implemented (SunSpec)"

Reader = Callable[[Sequence[int]], float | None]


def block_of(register: RegisterTable) -> Block:
    """Return the block to read for a register."""
    return Block(register.function, register.address, register.words)


def factor_block(register: RegisterTable) -> Block | None:
    """Return the block of its scale factor, if it has one."""
    factor = register.scale_factor_address
    return None if factor is None else Block(register.function, factor, 1)


class Value:
    """Converts the words read to a channel's value.

    Args:
        register: Describes the conversion.
        sunspec: Whether SunSpec's values for "not implemented" count as missing.
        places: Index of each block in the results.

    """

    def __init__(self, register: RegisterTable, sunspec: bool, places: Mapping[Block, int]) -> None:
        self.channel = register.channel
        self._at = places[block_of(register)]
        factor = factor_block(register)
        self._factor_at = None if factor is None else places[factor]
        self._raw = reader(register)
        self._invalid = _invalid(register, sunspec)
        self._nan_is_missing = sunspec and register.type.startswith("float")
        lowest, highest = (register.bits[0], register.bits[-1]) if register.bits else (0, -1)
        self._shift, self._mask = lowest, 2 ** (highest - lowest + 1) - 1  # 0: all bits
        self._scale, self._offset = register.scale, register.offset

    def of(self, found: Sequence[Words | Refusal]) -> float | Bad:
        """Return the value in the channel's unit, or why there is none."""
        words = found[self._at]
        if isinstance(words, Refusal):
            return Bad(str(words))
        raw = self._raw(words)
        if raw is None:
            return Bad("no decimal digits")
        if raw in self._invalid:
            return Bad(self._invalid[raw], raw)
        if self._mask:
            raw = int(raw) >> self._shift & self._mask
        elif self._nan_is_missing and raw != raw:
            return Bad(_NOT_IMPLEMENTED)
        if self._factor_at is None:
            return float(raw) * self._scale + self._offset
        return self._scaled(raw, found[self._factor_at])

    def _scaled(self, raw: float, factor: Words | Refusal) -> float | Bad:
        if isinstance(factor, Refusal):
            return Bad(f"scale factor: {factor}", raw)
        power = factor[0] - 0x10000 if factor[0] & 0x8000 else factor[0]
        if power == SUNSPEC_MISSING["int16"]:
            return Bad(f"scale factor: {_NOT_IMPLEMENTED}", raw)
        if not -_POWER_MAX <= power <= _POWER_MAX:
            return Bad(f"scale factor {power} is not from {-_POWER_MAX} to {_POWER_MAX}", raw)
        # division is exact, whereas a factor such as 0.01 is not
        scaled = raw / 10.0**-power if power < 0 else raw * 10.0**power
        return scaled * self._scale + self._offset


def _invalid(register: RegisterTable, sunspec: bool) -> dict[float, str]:
    """Return the numbers that mean a missing value, and why."""
    if register.invalid is not None:
        return dict.fromkeys(register.invalid, "marked as invalid")
    if sunspec and not register.is_bit and register.type in SUNSPEC_MISSING:
        return {SUNSPEC_MISSING[register.type]: _NOT_IMPLEMENTED}
    return {}


def decoded(register: RegisterTable, words: Sequence[int]) -> float:
    """Return a register's value in the channel's unit; NaN if it is not a number."""
    raw = reader(register)(words)
    return math.nan if raw is None else float(raw) * register.scale + register.offset


def reader(register: RegisterTable) -> Reader:
    """Return a function that decodes words, before bits and scale; None if not a number."""
    if register.is_bit:
        return itemgetter(0)
    order = ">" if register.byte_order == "big" else "<"
    pack = struct.Struct(f"{order}{register.words}H").pack
    step = -1 if register.word_order == "little" else 1
    if register.type.startswith("bcd"):
        return lambda words: _decimal(pack(*words[::step]))
    unpack = struct.Struct(f">{_FORMS[register.type]}").unpack
    return lambda words: unpack(pack(*words[::step]))[0]


def _decimal(packed: bytes) -> int | None:
    digits = packed.hex()
    return int(digits) if digits.isdecimal() else None
