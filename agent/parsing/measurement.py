"""Readings that an input delivers as numbers with their quality, not as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Bad(NamedTuple):
    """Replaces a value that the device or the input marks as bad."""

    reason: str  # for people
    value: float | None = None  # the value that the device sent

    def __str__(self) -> str:
        sent = "" if self.value is None else f"{self.value!r}, "
        return f"{sent}bad ({self.reason})"


class Measurement(NamedTuple):
    """One row of readings; its creator must not change it afterwards.

    ``values`` has, for each channel, a number of good quality in the channel's unit, or ``Bad``. A
    channel that is absent, or None, was not measured.
    """

    values: Mapping[str, float | Bad | None]  # by channel
    time: float | None = None  # Unix seconds, if the input's ``columns`` have the time


Raw = bytes | Measurement  # one row of an input


def as_bytes(raw: Raw, channel: str | None = None) -> bytes:
    """Return a readable row: a line unchanged, a measurement as ``channel=value``.

    It has only the value of ``channel`` if the row has it, otherwise all values.
    """
    if isinstance(raw, bytes):
        return raw
    values = raw.values
    if channel is not None and channel in values:
        return _said(channel, values[channel])
    time = [] if raw.time is None else [_said("time", raw.time)]
    return b" ".join([*time, *(_said(name, value) for name, value in values.items())])


def _said(name: object, value: object) -> bytes:
    return f"{name}={value}".encode(errors="backslashreplace")
