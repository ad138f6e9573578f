"""The three fates of an attempt to deliver a notice."""

from __future__ import annotations

from typing import NamedTuple


class Done(NamedTuple):
    """The receiver has it."""


class Refused(NamedTuple):
    """The receiver will never take it: it is dropped and counted."""

    reason: str


class Failed(NamedTuple):
    """The receiver may take it later: it is tried again."""

    reason: str
    after_s: float | None = None  # the receiver asks for this wait, seconds


Outcome = Done | Refused | Failed
