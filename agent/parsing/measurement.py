"""Readings that an input has as numbers, with their quality, without text in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Bad(NamedTuple):
    """In place of a value of bad quality, by the device or the input."""

    reason: str  # for people
    value: float | None = None  # what the device sent nevertheless

    def __str__(self) -> str:
        sent = "" if self.value is None else f"{self.value!r}, "
        return f"{sent}bad ({self.reason})"


class Measurement(NamedTuple):
    """One row of readings; its maker must not change it afterwards.

    ``values`` has a number for each channel, in the channel's unit, of good quality; or ``Bad``.
    A channel that is not there, or is None, was not measured.
    """

    values: Mapping[str, float | Bad | None]  # by channel
    time: float | None = None  # Unix seconds, if the input's ``columns`` have the time


Raw = bytes | Measurement  # what an input delivers as one row


def as_bytes(raw: Raw, channel: str | None = None) -> bytes:
    """Return a row for people to read: a line as it is, a measurement as ``channel=value``.

    That is the value of one channel if the row has it, else all values.
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
