"""The engineering limits of a stream, as its configuration sets them.

A limit has a side and a level. ``agent.alarms.predicted`` watches the forecasts of its channel,
and ``agent.alarms.measured`` the measured values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from agent.alarms.document import Reason
from agent.config.streams import LimitTable
from models.errors import ConfigError
from models.limits import Side
from models.manifest import Channel, Severity, StreamRules, TelemanomManifest, unscaled
from models.messages import Event
from models.names import REMAINING_LIFE
from models.settings import nearest

Level = Literal["warning", "critical"]


class Limit(NamedTuple):
    """One limit of one channel."""

    channel: str
    position: int  # index of the channel in the given channels
    side: Side
    level: Level
    value: float  # in unit
    unit: str  # the channel's

    @property
    def key(self) -> str:
        """The identifier of the limit within its stream."""
        return f"{self.channel} {self.side} {self.level} {self.value!r}"

    @property
    def severity(self) -> Severity:
        """The severity of the limit's alarms."""
        return "high" if self.level == "critical" else "medium"


def reason_of(tables: Sequence[LimitTable], event: Event) -> Reason | None:
    """Return the configuration's advice about an event of a limit; None: there is none."""
    assert event.limit is not None
    (table,) = (one for one in tables if one.channel == event.channels[0].channel)
    action = table.action_of(event.limit.side)
    return None if action is None else Reason(None, action)


def limitable(rules: StreamRules) -> list[Channel]:
    """Return the channels that a stream's limits may name: its own, then the remaining life."""
    part = rules.remaining if isinstance(rules, TelemanomManifest) else None
    own = [] if part is None else [unscaled(REMAINING_LIFE, part.unit, None, None)]
    return [*rules.channels, *own]


def check_limits(stream: str, tables: Sequence[LimitTable], channels: Sequence[Channel]) -> None:
    """Raise ConfigError if a limit does not fit the channels of the stream."""
    known = {channel.name: channel for channel in channels}
    for table in tables:
        if table.channel not in known:
            advice = nearest(table.channel, known) or f"; allowed are {', '.join(known)}"
            if table.channel == REMAINING_LIFE:
                advice = ", because its bundle does not predict it: train it with [remaining]"
            raise ConfigError(
                f"stream {stream}: limits: channel = {table.channel!r}: no channel of the"
                f" stream{advice}"
            )
        unit = known[table.channel].unit
        if table.unit is not None and table.unit != unit:
            raise ConfigError(
                f"stream {stream}: limits: {table.channel}: unit = {table.unit!r}: must be that of"
                f" the channel, {unit!r}"
            )


def unreachable(tables: Sequence[LimitTable], channels: Sequence[Channel]) -> Iterator[str]:
    """Yield the limits that no measured value can pass, because the channel's range rejects it."""
    for limit in limits_of(tables, channels):
        channel = channels[limit.position]
        end = channel.high if limit.side == "high" else channel.low
        if end is None or (limit.value < end if limit.side == "high" else limit.value > end):
            continue
        yield (
            f"limits: {limit.channel}: no measured value can pass {limit.side}_{limit.level} ="
            f" {limit.value:g}: readings {'above' if limit.side == 'high' else 'below'} {end:g} are"
            " rejected"
        )


def never_back(tables: Sequence[LimitTable], channels: Sequence[Channel]) -> Iterator[str]:
    """Yield the limits whose alarm no measured value can close: the deadband is too large."""
    deadbands = {table.channel: table.deadband for table in tables}
    for limit in limits_of(tables, channels):
        channel, deadband = channels[limit.position], deadbands[limit.channel]
        end = channel.low if limit.side == "high" else channel.high
        back = limit.value - deadband if limit.side == "high" else limit.value + deadband
        if end is None or (back >= end if limit.side == "high" else back <= end):
            continue
        yield (
            f"limits: {limit.channel}: an alarm of {limit.side}_{limit.level} = {limit.value:g} can"
            f" never close: with deadband = {deadband:g}, 'back' means"
            f" {'at most' if limit.side == 'high' else 'at least'} {back:g}, and readings"
            f" {'below' if limit.side == 'high' else 'above'} {end:g} are rejected"
        )


def limits_of(tables: Sequence[LimitTable], channels: Sequence[Channel]) -> Iterator[Limit]:
    """Yield the limits of these channels, the critical one of each side first.

    It skips limits of other channels.
    """
    names = [channel.name for channel in channels]
    sides: tuple[Side, ...] = ("high", "low")
    levels: tuple[Level, ...] = ("critical", "warning")
    for table in tables:
        if table.channel not in names:
            continue
        position = names.index(table.channel)
        for side in sides:
            for level in levels:
                value = getattr(table, f"{side}_{level}")
                if value is not None:
                    unit = channels[position].unit
                    yield Limit(table.channel, position, side, level, value, unit)
