"""A new configuration for a running agent: which settings take effect, and which need a restart.

The settings of ``RELOADED`` take effect at a reload. All others stay as they are until a restart.
``agent.reloading`` carries a reload out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from agent.config.load import AgentConfig
from models.settings import Table

# "*" stands for each table of a list; a table stands for all its settings
RELOADED: Final = (
    ("mqtt",),
    ("log",),
    ("health", "interval_s"),
    ("summary", "interval_s"),
    ("store", "flush_interval_s"),
    ("store", "ring_rows_max"),
    ("store", "outbox_rows_max"),
    ("store", "alarm_rows_max"),
    ("store", "logbook_rows_max"),
    ("store", "bytes_max"),
    ("store", "windows_bytes_max"),
    ("store", "samples_days_max"),
    ("store", "alarms_days_max"),
    ("store", "history_days_max"),
    ("store", "history_bytes_max"),
    ("streams", "*", "bundle"),  # where the channels and the sampling allow it, as for these
    ("streams", "*", "baseline"),
    ("streams", "*", "silent_after_s"),
    ("streams", "*", "limits"),
    ("streams", "*", "prediction"),
    ("streams", "*", "alarms"),
    ("streams", "*", "title"),
    ("streams", "*", "titles"),
    ("streams", "*", "operating_point"),
    ("streams", "*", "shift"),
    ("streams", "*", "help"),
    ("language",),
    ("shift",),
    ("alarms",),
    ("control", "operators"),
    ("on_site",),
    ("control", "maintainers"),
    ("page",),  # the agent does not use it; the page reads it when it starts
)

KeyPath = tuple[str, ...]


def takes_effect(place: KeyPath) -> bool:
    """Whether a change of the setting takes effect without a restart; ``*`` for each of a list."""
    return any(place[: len(live)] == live for live in RELOADED)


def take_over(now: AgentConfig, new: AgentConfig) -> AgentConfig:
    """Return ``now`` with the settings of ``new`` that take effect at once."""
    wanted = _taken_over(now, new, ())
    assert isinstance(wanted, AgentConfig)
    return wanted


def kept(now: AgentConfig, wanted: AgentConfig, streams: Collection[str]) -> AgentConfig:
    """Return ``wanted`` with the tables of these streams as they are in ``now``."""
    before = {table.name: table for table in now.streams}
    tables = [before[t.name] if t.name in streams else t for t in wanted.streams]
    return wanted.model_copy(update={"streams": tables})


def _taken_over(now: Table, new: Table, at: KeyPath) -> Table:
    changes: dict[str, Any] = {}
    for key, value in now:
        place = (*at, key)
        other: Any = getattr(new, key)
        if takes_effect(place):
            changes[key] = other
        elif isinstance(value, Table) and isinstance(other, type(value)):
            changes[key] = _taken_over(value, other, place)
        elif isinstance(value, list) and isinstance(other, list):
            changes[key] = [_row(row, other, (*place, "*")) for row in value]
    return now.model_copy(update=changes)


def _row(row: Any, others: list[Any], at: KeyPath) -> Any:
    """Return a table of a list with what takes effect of the one with the same name."""
    for other in others:
        if isinstance(row, Table) and type(other) is type(row) and _name(other) == _name(row):
            return _taken_over(row, other, at)
    return row


def _name(row: object) -> object:
    return getattr(row, "name", row)  # a table without a name matches only itself


def differences(old: Table, new: Table) -> Iterator[str]:
    """Yield the keys whose values differ; tables of a list go by their names."""
    yield from _differences(old.model_dump(), new.model_dump(), "")


def _differences(old: Any, new: Any, at: str) -> Iterator[str]:
    if isinstance(old, list) and isinstance(new, list):
        old, new = _by_name(old), _by_name(new)
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        if old != new:
            yield at
        return
    for key in [*old, *(key for key in new if key not in old)]:
        yield from _differences(old.get(key), new.get(key), f"{at}.{key}".removeprefix("."))


def _by_name(rows: list[Any]) -> Any:
    """Return named tables by their names, and any other list as it is."""
    if all(isinstance(row, Mapping) and ("name" in row or "channel" in row) for row in rows):
        return {row.get("name", row.get("channel")): row for row in rows}
    return rows
