"""Terms of the Modbus application protocol 1.1b3: requested blocks, and answers."""

from __future__ import annotations

from typing import Final, NamedTuple

FUNCTION_CODES: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_NAMES: Final = {
    "coil": "coil",
    "discrete": "discrete input",
    "holding": "holding register",
    "input": "input register",
}
_EXCEPTIONS: Final = {  # section 7
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

Words = list[int]  # of registers; of bits, each 0 or 1


class Block(NamedTuple):
    """Adjacent registers, or bits."""

    function: str
    address: int
    words: int  # registers, or bits

    def __str__(self) -> str:
        name = _NAMES[self.function]
        if self.words == 1:
            return f"{name} {self.address}"
        return f"{name}s {self.address} to {self.address + self.words - 1}"


class Refusal(NamedTuple):
    """An answer without values."""

    code: int | None  # of the exception; None: the answer does not match the request
    reason: str

    @classmethod
    def by_exception(cls, code: int) -> Refusal:
        """Return the refusal for an exception code."""
        return cls(code, _EXCEPTIONS.get(code, "not of the standard"))

    def __str__(self) -> str:
        return self.reason if self.code is None else f"exception {self.code}, {self.reason}"
