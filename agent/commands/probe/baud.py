"""Finds the baud rate of a serial device: the rate at which its bytes are readable text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.commands.probe.guess import guess

RATES: Final = (115200, 9600, 57600, 38400, 19200, 4800, 230400, 2400, 1200)  # likely ones first


def choose(samples: Mapping[int, bytes]) -> int | None:
    """Return the rate with the most readable sample; None if no rate received anything.

    At a wrong rate, the port receives other bytes than the device sent: control characters and
    invalid UTF-8.
    """
    heard = {rate: sample for rate, sample in samples.items() if sample}
    return min(heard, key=lambda rate: unreadable(heard[rate])) if heard else None


def unreadable(sample: bytes) -> tuple[float, float, int]:
    """Return a sort key; the best sample has the lowest.

    Its parts are the share of odd characters, 1 if no format matches, and minus the byte count.
    """
    text = sample.decode(errors="replace")
    odd = sum(not (c.isprintable() or c in "\r\n\t") or c == "\ufffd" for c in text)
    lines = sample.replace(b"\r", b"").split(b"\n")[1:-1]  # the first and the last may be cut
    return odd / len(text), float(guess(lines) is None), -len(sample)


def is_clear(sample: bytes) -> bool:
    """Whether a sample is readable enough to skip the other rates."""
    odd, no_format, _ = unreadable(sample)
    return odd == 0.0 and not no_format and sample.count(b"\n") > 2
