"""The faults of the simulated pump; separate from ``plant``, which loads numpy."""

from __future__ import annotations

from typing import Literal, get_args

SuddenKind = Literal[
    "bearing_wear",
    "cavitation",
    "seal_leak",
    "blocked_valve",
    "stuck_sensor",
    "spike",
    "loss_of_signal",
]
SlowKind = Literal["cooling_loss"]  # a drift, over an hour or so
FaultKind = SuddenKind | SlowKind
FAULT_KINDS: tuple[SuddenKind, ...] = get_args(SuddenKind)
SLOW_KINDS: tuple[SlowKind, ...] = get_args(SlowKind)
