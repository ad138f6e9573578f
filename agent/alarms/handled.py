"""The configured handling of alarms: rules of each stream, floods, suppressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.handling.flood import FloodLimits
from agent.handling.machine import Rules
from agent.handling.states import Consequence
from agent.handling.suppression import Suppression, When
from models.errors import ConfigError

if TYPE_CHECKING:
    from agent.config.load import AgentConfig, AlarmsTable, StreamTable
    from agent.config.streams import SuppressTable

_HOUR_S: Final = 3600.0


class Handled(NamedTuple):
    """The configured handling of a stream's alarms."""

    rules: Rules = Rules()
    consequence: Consequence = "major"
    # an alarm of a predicted limit is an advisory while the limit is farther away than this
    advisory_s: float = 24 * _HOUR_S
    advisory_when_over: frozenset[str] = frozenset()  # kinds that need nothing once they are over


class Handling(NamedTuple):
    """The configured handling of all alarms, as ``Points`` takes it."""

    handled: Mapping[str, Handled]  # by stream
    flood: FloodLimits
    suppressions: Sequence[Suppression]


def handling_of(config: AgentConfig) -> Handling:
    """Return the configured handling of all alarms."""
    common = config.alarms
    return Handling(
        {table.name: _handled(common, table) for table in config.streams},
        FloodLimits(common.flood_alarms, common.flood_over_alarms, common.flood_s),
        [_suppression(table, one) for table in config.streams for one in table.alarms.suppress],
    )


def _handled(common: AlarmsTable, table: StreamTable) -> Handled:
    own = table.alarms
    rules = Rules(
        latching=own.latching,
        shelvable=own.consequence not in common.not_shelvable,
        shelve_s_max=common.shelve_h_max * _HOUR_S,
        shelved_s_max=common.shelved_h_max * _HOUR_S,
        remind_s=common.remind_h * _HOUR_S,
        chatter_raises=common.chatter_raises,
        chatter_s=common.chatter_s,
    )
    over = frozenset[str](common.advisory_when_over)
    return Handled(rules, own.consequence, common.advisory_h * _HOUR_S, over)


def _suppression(table: StreamTable, own: SuppressTable) -> Suppression:
    when = own.when
    return Suppression(
        table.name,
        When(
            stream=when.stream or table.name,
            channel=when.channel,
            above=when.above,
            below=when.below,
            deadband=when.deadband,
            alarm=when.alarm,
            on_delay_s=when.on_delay_s,
            off_delay_s=when.off_delay_s,
            unknown_s=when.unknown_s,
        ),
        own.reason or when.message(table.name),
        None if own.kinds is None else frozenset(own.kinds),
        None if own.channels is None else frozenset(own.channels),
    )


def check_suppressions(config: AgentConfig, channels: Mapping[str, Iterable[str]]) -> None:
    """Refuse suppressions by channels that do not exist; they would never apply.

    ``channels``: of each stream that is watched, by its name.

    Raises:
        ConfigError: one line for each.

    """
    problems = list(_unknown_channels(config, channels))
    if problems:
        raise ConfigError("\n".join(problems))


def _unknown_channels(config: AgentConfig, channels: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for table in config.streams:
        for one in table.alarms.suppress:
            stream = one.when.stream or table.name
            named = [(stream, one.when.channel)] if one.when.channel else []
            named += [(table.name, channel) for channel in one.channels or ()]
            for name, channel in named:
                known = channels.get(name)
                if known is not None and channel not in known:
                    yield (
                        f"stream {table.name}: alarms.suppress: {name} has no channel"
                        f" {channel!r}; it has {', '.join(known)}"
                    )
