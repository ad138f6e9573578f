"""Probes a Modbus device: shows its registers, decoded as each of the usual types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent.commands.probe.listen import Show, listen
from agent.commands.probe.propose import input_table, stream_table
from agent.config.inputs import ModbusRtuTable, ModbusTcpTable
from agent.config.registers import RegisterTable
from agent.inputs.modbus_values import decoded
from agent.parsing.measurement import Measurement, Raw
from models.errors import ConfigError
from models.settings import explain
from models.shown import short
from models.validation import ValidationError

_PAIRS: Final = (  # usual types of two registers
    ("float32", {"type": "float32"}),
    ("float32, low word first", {"type": "float32", "word_order": "little"}),
    ("int32", {"type": "int32"}),
    ("int32, low word first", {"type": "int32", "word_order": "little"}),
)


def probe_registers(
    device: dict[str, Any],
    addresses: range,
    kind: dict[str, Any],
    stream: str,
    seconds: float,
    show: Show,
) -> dict[str, Any]:
    """Poll registers for some seconds.

    Args:
        device: settings of the input's table: type, host or port, unit ...
        addresses: those of the registers or bits.
        kind: function and type of the proposed registers.
        stream: name of the stream in the proposal.
        seconds: how long to poll.
        show: called with each poll.

    Raises:
        ConfigError: the settings do not fit together.

    """
    function = kind.get("function", "holding")
    plain = {"function": function}
    if function not in ("coil", "discrete"):
        plain["type"] = "uint16"
    kind_of_table = ModbusTcpTable if device["type"] == "modbus-tcp" else ModbusRtuTable
    try:
        words_table = kind_of_table.model_validate(
            {
                "name": "probe",
                "stream": stream,
                **device,
                "registers": [{"channel": f"r{at}", "address": at} | plain for at in addresses],
            }
        )
    except ValidationError as error:
        raise ConfigError("\n".join(explain(kind_of_table, error))) from error
    heard = listen(words_table, seconds, show)
    polls = [_words(arrival.line, addresses) for arrival in heard.arrivals]
    rows = _proposed(addresses, kind, polls)
    registers = [RegisterTable.model_validate(row) for row in rows]
    if heard.problem is None and not polls:
        heard.problem = f"no answer in {seconds:g} s"
    seen = addresses if polls else range(0)
    channels = [register.channel for register in registers]
    head = {"name": _name(device), "type": device["type"], "stream": stream}
    interval_s = words_table.poll_interval_s
    return {
        "seconds": seconds,
        "polls": len(polls),
        "problem": heard.problem,
        "note": heard.note,
        "registers": [_seen(at, polls, addresses, "type" in plain) for at in seen],
        "channels": {
            register.channel: _range(register, polls, addresses)
            for register in (registers if polls else ())
        },
        "proposal": input_table(head | dict(device) | {"registers": rows}) if polls else None,
        "stream": stream_table(stream, channels, interval_s) if polls else None,
    }


def _name(device: dict[str, Any]) -> str:
    return f"{device['type']}-unit-{device.get('unit', 1)}"


def _proposed(
    addresses: range, kind: dict[str, Any], polls: Sequence[Sequence[int | None]]
) -> list[dict[str, Any]]:
    """Return the tables of adjacent registers, without those that no poll could read."""
    function = kind.get("function", "holding")
    words = RegisterTable.model_validate({"channel": "a", "address": 0} | kind).words
    return [
        {"channel": f"{function}_{at}", "address": at} | kind
        for at in addresses[::words]
        if at + words <= addresses.stop
        and not any(_is_missing(one, addresses, polls) for one in range(at, at + words))
    ]


def _is_missing(at: int, addresses: range, polls: Sequence[Sequence[int | None]]) -> bool:
    return bool(polls) and all(words[at - addresses.start] is None for words in polls)


def _words(poll: Raw, addresses: range) -> list[int | None]:
    assert isinstance(poll, Measurement)  # Modbus delivers no other
    values = [poll.values[f"r{at}"] for at in addresses]
    return [int(value) if isinstance(value, float) else None for value in values]


def _seen(
    at: int, polls: Sequence[Sequence[int | None]], addresses: range, registers: bool
) -> dict[str, Any]:
    """Return the content of a register or bit, and the values of a register with the next one."""
    index = at - addresses.start
    known = [words[index] for words in polls if words[index] is not None]
    seen: dict[str, Any] = {"address": at, "last": known[-1] if known else None}
    seen["changes"] = len(set(known)) > 1
    pair = polls[-1][index : index + 2]
    if len(pair) == 2 and None not in pair and registers:
        for label, settings in _PAIRS:
            register = RegisterTable.model_validate({"channel": "a", "address": at} | settings)
            value = decoded(register, [word for word in pair if word is not None])
            seen[label] = short(value, 7)
    return seen


def _range(
    register: RegisterTable, polls: Sequence[Sequence[int | None]], addresses: range
) -> dict[str, float | None]:
    begin = register.address - addresses.start
    values = []
    for poll in polls:
        words = [word for word in poll[begin : begin + register.words] if word is not None]
        if len(words) == register.words:
            values.append(decoded(register, words))
    known = [value for one in values if (value := short(one, 7)) is not None]
    return {
        "low": min(known, default=None),
        "high": max(known, default=None),
        "last": known[-1] if known else None,
    }
