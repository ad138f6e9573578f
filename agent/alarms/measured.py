"""Alarms of limits that measured values have passed: absolute alarms (IEC 62682).

They need neither forecast nor score, so they work from the first sample on and with any detector.
The terms are those of ISA-18.2 and IEC 62682: a limit is passed once the value has been beyond it
for the **on-delay**. The alarm ends once the value has been inside by at least the **deadband** for
the **off-delay**. Only measured values count: missing, held or interpolated values neither open nor
close an alarm, and do not interrupt a delay. Delays are counted in sample time. Between two
measured values, a delay counts at most the time after which a value is missing. The machine's state
beyond that time is unknown. This also ignores the time by which a device's clock was set forward.

A value beyond the critical limit is also beyond the warning limit. To call staff only once, the
warning opens no alarm while the critical alarm on the same side is open. It opens one when the
critical alarm has closed and the value is still beyond the warning limit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from agent.alarms.limit import Limit, limits_of
from agent.config.streams import LimitTable
from models.manifest import Channel
from models.messages import GOOD, Contribution, Event, LimitPassed, Samples

DETECTOR: Final = "limit"
# an open event is updated this often, in sample time: each update is a write to the disk
REFRESH_S: Final = 10.0


class Seen(NamedTuple):
    """A measured value."""

    value: float  # in the channel's unit
    at: float  # Unix seconds


@dataclass(slots=True)
class _Watch:
    """The state of one limit."""

    passed: bool = False
    # begin of the running delay, Unix seconds; None: none runs. Time that does not count shifts it
    since: float | None = None
    last: float | None = None  # time of the last measured value, while a delay runs
    onset: float = 0.0  # time of the first value beyond it, while it is passed
    worst: Seen | None = None  # of the values beyond it
    event: Event | None = None  # open, as last updated
    newest: Seen | None = None  # of the values of an open event; not saved

    def lasts(self, at: float, delay_s: float, known_s: float) -> bool:
        """Start or continue a delay with a value; return whether the delay is over."""
        if self.since is None or at < self.since:  # the clock may be set back
            self.since = at
        elif self.last is not None:
            self.since += max(0.0, at - self.last - known_s)
        self.last = at
        return at - self.since >= delay_s


class _Guard(NamedTuple):
    """A limit, its settings and its state."""

    limit: Limit
    table: LimitTable
    watch: _Watch
    graver: _Watch | None  # for a warning: the critical limit on the same side, if there is one
    known_s: float  # most time that a delay counts between two measured values, seconds

    @property
    def bound(self) -> float:
        """The limit as float32, like the samples, so that a reading of 0.1 is not beyond 0.1."""
        return float(np.float32(self.limit.value))

    def beyond(self, value: float) -> float:
        """Return how far a value is beyond the limit; negative within it."""
        return value - self.bound if self.limit.side == "high" else self.bound - value


class MeasuredLimits:
    """Watches the measured values of one stream; does no I/O.

    Args:
        tables: The limits. Limits of channels that the stream lacks are skipped.
        channels: The stream's channels, in the order of its samples.
        known_s: Most time that a delay counts between two measured values, seconds.

    """

    def __init__(
        self,
        tables: Sequence[LimitTable],
        channels: Sequence[Channel],
        known_s: float = math.inf,
    ) -> None:
        by_channel = {table.channel: table for table in tables}
        critical: dict[tuple[str, str], _Watch] = {}
        self._guards: dict[str, _Guard] = {}
        for limit in limits_of(tables, channels):  # the critical one of each side first
            watch, side = _Watch(), (limit.channel, limit.side)
            table = by_channel[limit.channel]
            self._guards[limit.key] = _Guard(limit, table, watch, critical.get(side), known_s)
            if limit.level == "critical":
                critical[side] = watch
        guards = self._guards.values()
        self._positions = np.array([guard.limit.position for guard in guards], np.int64)
        bounds = np.array([guard.bound for guard in guards], np.float32)
        high = np.array([guard.limit.side == "high" for guard in guards], np.bool_)
        # a value outside these is beyond its limit; each limit bounds one side
        self._most = np.where(high, bounds, np.float32(np.inf))
        self._least = np.where(high, np.float32(-np.inf), bounds)

    @property
    def passed(self) -> frozenset[str]:
        """The keys of the limits that are passed, with or without an alarm."""
        return frozenset(key for key, guard in self._guards.items() if guard.watch.passed)

    @property
    def active(self) -> bool:
        """Whether any limit is passed, or any delay runs."""
        watches = (guard.watch for guard in self._guards.values())
        return any(watch.passed or watch.since is not None for watch in watches)

    def take(self, samples: Samples, take_number: Callable[[], int]) -> list[Event]:
        """Return the events that samples, (n, C) in chronological order, open and close."""
        values = samples.values[:, self._positions]
        if not self.active and not ((values > self._most) | (values < self._least)).any():
            return []
        if samples.quality is not None:
            values[samples.quality[:, self._positions] != GOOD] = np.nan
        events = []
        for at, row in zip(samples.times.tolist(), values.tolist(), strict=True):
            for guard, value in zip(self._guards.values(), row, strict=True):
                if math.isfinite(value):
                    events += _step(guard, Seen(value, at), take_number)
        return events

    def settle(self) -> None:
        """Update the open events, because the agent stops and stores them."""
        for guard in self._guards.values():
            if (watch := guard.watch).event is not None and watch.newest is not None:
                watch.event = _shown(guard, watch.event, watch.newest)

    def open_events(self) -> list[Event]:
        """Return the open events, as last updated."""
        watches = (guard.watch for guard in self._guards.values())
        return [watch.event for watch in watches if watch.event is not None]

    def to_bytes(self) -> bytes:
        """Return the delays and the open events, for the store."""
        watches = {key: asdict(guard.watch) for key, guard in self._guards.items()}
        return json.dumps(watches).encode()

    def restore(self, data: bytes) -> list[int]:
        """Continue where ``to_bytes`` stopped.

        Returns the numbers of open events whose limits are no longer configured, so nothing watches
        them.
        """
        left = []
        for key, saved in json.loads(data).items():
            event = saved["event"] and _event(saved["event"])
            if key in self._guards:
                watch = self._guards[key].watch
                watch.passed, watch.since = saved["passed"], saved["since"]
                watch.onset, watch.event = saved["onset"], event
                watch.last = saved.get("last")  # absent in states of older versions
                watch.worst = saved["worst"] and Seen(*saved["worst"])
            elif event is not None:
                left.append(event.number)
        return left


def _step(guard: _Guard, seen: Seen, take_number: Callable[[], int]) -> list[Event]:
    """Return the event that one measured value opens or closes for a limit."""
    watch, settings = guard.watch, guard.table
    beyond = guard.beyond(seen.value)
    if beyond > 0 and (watch.worst is None or beyond > guard.beyond(watch.worst.value)):
        watch.worst = seen
    if watch.passed:
        if beyond > -settings.deadband:
            watch.since = None
        elif watch.lasts(seen.at, settings.off_delay_s, guard.known_s):
            return _closed(guard, seen)
    elif beyond <= 0:
        watch.since = watch.worst = None
        return []
    elif watch.lasts(seen.at, settings.on_delay_s, guard.known_s):
        watch.passed, watch.onset, watch.since = True, watch.since or seen.at, None
    else:
        return []
    return _told(guard, seen, take_number)


def _told(guard: _Guard, seen: Seen, take_number: Callable[[], int]) -> list[Event]:
    """Update the event of a passed limit; return the event if it opens."""
    watch = guard.watch
    if watch.event is not None:
        shown = watch.event.limit
        assert isinstance(shown, LimitPassed)
        watch.newest = seen
        turned = shown.back_since != watch.since  # the off-delay began, or was interrupted
        if turned or not 0 <= seen.at - shown.newest_at < REFRESH_S:
            watch.event = _shown(guard, watch.event, seen)
        return []
    graver_is_told = guard.graver is not None and guard.graver.event is not None
    if graver_is_told or guard.beyond(seen.value) <= 0:  # within the limit: the off-delay runs
        return []
    opened = Event(
        number=take_number(),
        kind="limit_passed",
        detector=DETECTOR,
        onset=watch.onset,
        opened=seen.at,
        score=1.0,
        probability=None,
        severity=guard.limit.severity,
    )
    watch.event = _shown(guard, opened, seen)
    return [watch.event]


def _closed(guard: _Guard, seen: Seen) -> list[Event]:
    """Reset a limit that is no longer passed; return the closing of its event, if any."""
    watch = guard.watch
    closed = (
        [] if watch.event is None else [replace(_shown(guard, watch.event, seen), closed=seen.at)]
    )
    watch.passed, watch.since, watch.worst = False, None, None
    watch.event = watch.newest = None
    return closed


def _shown(guard: _Guard, event: Event, seen: Seen) -> Event:
    """Return the event with its worst value, and with ``seen`` as its newest value."""
    limit, worst = guard.limit, guard.watch.worst or seen
    return replace(
        event,
        worst=worst.at,
        channels=(Contribution(limit.channel, score=1.0, observed=worst.value, expected=None),),
        limit=LimitPassed(
            side=limit.side,
            level=limit.level,
            value=limit.value,
            unit=limit.unit,
            worst=worst.value,
            worst_at=worst.at,
            newest=seen.value,
            newest_at=seen.at,
            back_since=guard.watch.since,
            off_delay_s=None if guard.watch.since is None else guard.table.off_delay_s,
        ),
    )


def _event(saved: Mapping[str, Any]) -> Event:
    channels = tuple(Contribution(**channel) for channel in saved["channels"])
    return Event(**(dict(saved) | {"channels": channels, "limit": LimitPassed(**saved["limit"])}))
