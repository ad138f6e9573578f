"""The parts of an uplink that outlive a connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config.broker import MqttTable
    from agent.dialects.dialect import Dialect
    from agent.guard import Guard
    from agent.mqtt.payload import Payload
    from agent.uplink.acknowledgements import Central
    from agent.uplink.denials import Denials
    from agent.uplink.link import Ledger, Link
    from agent.uplink.samples import SampleLane
    from agent.uplink.twin import Twin


@dataclass(frozen=True, slots=True)
class Lasting:
    """The parts of an uplink that outlive a connection."""

    settings: MqttTable
    link: Link
    ledger: Ledger
    last_seq: Callable[[], int]
    central: Central | None
    dialect: Dialect
    payload: Payload
    denials: Denials
    twin: Twin
    guard: Guard
    samples: SampleLane | None  # None: samples are not sent
