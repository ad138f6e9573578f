"""The table of the configuration for a register, or a bit, of a Modbus device."""

from __future__ import annotations

from math import inf
from typing import Final, Literal

from models.manifest import Finite
from models.settings import Table
from models.validation import Field, model_validator

REGISTERS_MAX: Final = 125  # in one request, by the protocol
BITS_MAX: Final = 2000
ADDRESSES: Final = 65536  # of each function
BIT_FUNCTIONS: Final = ("coil", "discrete")


# by SunSpec's information model: what a register contains that the device does not implement
SUNSPEC_MISSING: Final = {
    "int16": -(2**15),
    "uint16": 2**16 - 1,
    "int32": -(2**31),
    "uint32": 2**32 - 1,
    "int64": -(2**63),
    "uint64": 2**64 - 1,
}


class RegisterTable(Table):
    """The registers, or the bit, of one channel."""

    channel: str = Field(description="A channel of the bundle")
    address: int = Field(
        ge=0,
        le=65535,
        description="Address as in the request, counted from 0: a manual's 40001 is the holding"
        " register 0, and its 30001 the input register 0",
    )
    function: Literal["holding", "input", "coil", "discrete"] = Field(
        "holding",
        description="holding: registers, function code 3; input: registers, function code 4; coil:"
        " bits, function code 1; discrete: bits, function code 2",
    )
    type: Literal[
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float32",
        "float64",
        "bcd16",
        "bcd32",
    ] = Field(
        "int16", description="Type of the registers' value; bcd has a decimal digit per half byte"
    )
    word_order: Literal["big", "little"] = Field(
        "big", description="In values of several registers, the high word is first (big) or last"
    )
    byte_order: Literal["big", "little"] = Field(
        "big",
        description="In each register, the high byte is first (big, as in the standard) or last",
    )
    bits: list[int] | None = Field(
        None,
        min_length=1,
        max_length=2,
        description="Use only these bits of an integer; bit 0 is the lowest. [4] is one bit;"
        " [4, 7] are the bits 4 to 7 as a number from 0 to 15",
    )
    invalid: list[int | float] | None = Field(
        None,
        description="Raw numbers, before bits, scale and offset, that the device sends instead of a"
        " value, such as -32768; the value is then missing, and counted as bad_quality. Absent:"
        " none, or with sunspec the one of the type; []: none",
    )
    scale_factor_address: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Address of a register (int16, same function) with an exponent, -10 to 10, as"
        " SunSpec's scale factors. Each poll reads it; the number is multiplied by 10 to its power",
    )
    scale: Finite = Field(
        1.0, description="The value, in the channel's unit, is the number times scale plus offset"
    )
    offset: Finite = Field(0.0, description="Added after scale, in the channel's unit")

    @property
    def is_bit(self) -> bool:
        """Whether it is one bit of a coil or discrete input rather than registers."""
        return self.function in BIT_FUNCTIONS

    @property
    def words(self) -> int:
        """How many registers it takes; a bit takes one place among bits."""
        return 1 if self.is_bit else int(self.type.lstrip("uintfloabcd")) // 16

    @model_validator(mode="after")
    def _bits_have_no_type(self) -> RegisterTable:
        of_registers = {"type", "word_order", "byte_order", "bits", "invalid"}
        given = self.model_fields_set & (of_registers | {"scale_factor_address"})
        if self.is_bit and given:
            raise ValueError(f"{min(given)} is for registers; {self.function} is a bit")
        return self

    @model_validator(mode="after")
    def _ends_within_the_addresses(self) -> RegisterTable:
        if self.address + self.words > ADDRESSES:
            raise ValueError(
                f"address = {self.address}: {self.type} takes {self.words} registers, and the last"
                f" one is {ADDRESSES - 1}"
            )
        return self

    @model_validator(mode="after")
    def _invalid_can_come(self) -> RegisterTable:
        low, high = self._bounds()
        for value in self.invalid or ():
            if not low <= value <= high or (self._is_whole and value != int(value)):
                raise ValueError(
                    f"invalid: {value!r} is not of type {self.type}: {low:.0f} to {high:.0f}"
                )
        return self

    @model_validator(mode="after")
    def _bits_are_in_it(self) -> RegisterTable:
        if self.bits is None:
            return self
        if "int" not in self.type:
            raise ValueError(f"bits is for integers; {self.type} has no bits to pick")
        if self.scale_factor_address is not None:
            raise ValueError("bits and scale_factor_address: only one of them can be used")
        last = 16 * self.words - 1
        if not 0 <= self.bits[0] <= self.bits[-1] <= last:
            raise ValueError(
                f"bits = {self.bits}: {self.type} has the bits 0 to {last}; give one, or the lowest"
                " and the highest"
            )
        return self

    @model_validator(mode="after")
    def _scale_factor_is_beside_it(self) -> RegisterTable:
        factor = self.scale_factor_address
        if factor is not None and self.address <= factor < self.address + self.words:
            raise ValueError(f"scale_factor_address = {factor} is a register of the value itself")
        return self

    @property
    def _is_whole(self) -> bool:
        return not self.type.startswith("float")

    def _bounds(self) -> tuple[float, float]:
        """Return the smallest and largest number that it can hold, before the scale."""
        bits = 16 * self.words
        if self.type.startswith("bcd"):
            return 0, 10 ** (bits // 4) - 1
        if self.type.startswith("uint"):
            return 0, 2**bits - 1
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if self._is_whole else (-inf, inf)
