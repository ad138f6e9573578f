"""Suppression by design: alarms that mean nothing while a configured condition applies.

    values of a channel ────┐
    an alarm of a stream ───┼─> condition: fulfilled, not fulfilled, unknown ─> suppression on, off
    time ───────────────────┘

A condition that is unknown starts no suppression. It ends one, after ``unknown_s``: nobody knows
any more whether the machine is stopped, so that its alarms count again. The terms are those of
ISA-18.2: on-delay, off-delay, deadband.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agent.wording.message import Message, Value


class When(NamedTuple):
    """The condition of a suppression: a channel is beyond a value, or an alarm is active."""

    stream: str
    channel: str | None = None
    above: float | None = None
    below: float | None = None
    deadband: float = 0.0
    alarm: str | None = None  # a kind of alarm that is active, in place of a channel
    on_delay_s: float = 0.0
    off_delay_s: float = 0.0
    unknown_s: float = 60.0  # without a value for this long, the condition is unknown

    def fulfilled(self, value: float, applies: bool) -> bool:
        """Return whether a value fulfils it; ``applies``: the deadband is to be left first."""
        slack = self.deadband if applies else 0.0
        high = self.above is None or value > self.above - slack
        return high and (self.below is None or value < self.below + slack)


class Suppression(NamedTuple):
    """A configured suppression of alarms of one stream."""

    stream: str
    when: When
    reason: str | Message  # the plant's words, or made from the condition
    kinds: frozenset[str] | None = None  # None: all
    channels: frozenset[str] | None = None  # None: all, and alarms of no single channel, too

    @property
    def key(self) -> str:
        """Identify it over restarts and reloads, whatever the reason says."""
        kinds, channels = self.kinds, self.channels
        own = (kinds and sorted(kinds), channels and sorted(channels))
        return repr((self.stream, tuple(self.when), *own))

    def concerns(self, stream: str, kind: str, channel: str | None) -> bool:
        """Return whether it suppresses alarms of this kind and channel."""
        if stream != self.stream or (self.kinds is not None and kind not in self.kinds):
            return False
        return self.channels is None or channel in self.channels


@dataclass(slots=True)
class _Watch:
    """The state of one suppression."""

    applies: bool = False
    since: float | None = None  # begin of the running delay, Unix seconds of the values
    last: float | None = None  # time of the last value, Unix seconds of the values
    known_at: float = -math.inf  # when the last value came, Unix seconds of the gateway

    def take(self, fulfilled: bool, when: When, time: float) -> bool:
        """Take one known result of the condition; return whether the suppression turned."""
        last, self.last = self.last, time
        if fulfilled == self.applies:
            self.since = None
            return False
        if self.since is None or time < self.since:  # the clock may be set back
            self.since = time
        elif last is not None:  # time in which nothing was known does not count
            self.since += max(0.0, time - last - when.unknown_s)
        if time - self.since < (when.off_delay_s if self.applies else when.on_delay_s):
            return False
        self.applies, self.since = not self.applies, None
        return True


class Suppressions:
    """All suppressions of a gateway, with the state of their conditions."""

    def __init__(self, configured: Sequence[Suppression] = ()) -> None:
        self._all = {one.key: one for one in configured}
        self._watches = {key: _Watch() for key in self._all}
        self._ended: dict[str, Message] = {}  # why those ended that no longer apply, by key
        self.changed = bool(configured)  # whether the state differs from what was saved

    @property
    def watched(self) -> Mapping[str, frozenset[str]]:
        """The channels whose values are needed, by stream."""
        pairs = {(one.when.stream, one.when.channel) for one in self._all.values()}
        return {
            stream: frozenset(channel for of, channel in pairs if of == stream and channel)
            for stream, channel in pairs
            if channel is not None
        }

    @property
    def alarms(self) -> frozenset[tuple[str, str]]:
        """The alarms whose conditions are needed: stream and kind."""
        return frozenset(
            (one.when.stream, one.when.alarm) for one in self._all.values() if one.when.alarm
        )

    def configure(self, configured: Sequence[Suppression]) -> None:
        """Continue with other suppressions; those that are as before keep their state."""
        before, self._all = self._watches, {one.key: one for one in configured}
        self._watches = {key: before.get(key) or _Watch() for key in self._all}
        self.changed = True

    def see(
        self, stream: str, channel: str, times: Iterable[float], values: Iterable[float], at: float
    ) -> bool:
        """Take measured values of a channel, in order; return whether a suppression turned.

        Args:
            stream: Name of the stream.
            channel: Name of the channel.
            times: Unix seconds of the values.
            values: In the unit of the channel; NaN is no value.
            at: The present time, Unix seconds.

        """
        rows = [(time, value) for time, value in zip(times, values, strict=True) if value == value]
        turned = False
        for key, one in self._all.items():
            if (one.when.stream, one.when.channel) != (stream, channel):
                continue
            watch = self._watches[key]
            for time, value in rows:
                fulfilled = one.when.fulfilled(value, watch.applies)
                turned |= self._take(key, fulfilled, time, at)
        return turned

    def see_alarm(self, stream: str, kind: str, active: bool | None, at: float) -> bool:
        """Take the condition of an alarm, None if it is unknown; return as ``see`` does."""
        turned = False
        for key, one in self._all.items():
            if (one.when.stream, one.when.alarm) == (stream, kind) and active is not None:
                turned |= self._take(key, active, at, at)
        return turned

    def _take(self, key: str, fulfilled: bool, time: float, at: float) -> bool:
        watch, before = self._watches[key], self._watches[key].since
        watch.known_at = at
        turned = watch.take(fulfilled, self._all[key].when, time)
        self.changed |= turned or (before is None) != (watch.since is None)
        if turned:
            self._ended[key] = Message("reason.over", {"reason": _value(self._all[key].reason)})
        return turned

    def look(self, at: float) -> bool:
        """End those whose condition has become unknown; return whether there are any."""
        found = False
        for key, watch in self._watches.items():
            when = self._all[key].when
            if at - watch.known_at <= when.unknown_s:
                continue
            self.changed |= watch.applies or watch.since is not None
            found |= watch.applies
            if watch.applies:
                known = {
                    "stream": when.stream,
                    "source": when.alarm or when.channel,
                    "unknown_s": when.unknown_s,
                    "reason": _value(self._all[key].reason),
                }
                self._ended[key] = Message("reason.unknown", known)
            watch.applies, watch.since = False, None
        return found

    def reason(self, stream: str, kind: str, channel: str | None) -> str | Message | None:
        """Return why alarms of this kind and channel are suppressed now; None: they are not."""
        for key, one in self._all.items():
            if self._watches[key].applies and one.concerns(stream, kind, channel):
                return one.reason
        return None

    def ended(self, stream: str, kind: str, channel: str | None) -> Message:
        """Return why alarms of this kind and channel are no longer suppressed."""
        for key, one in self._all.items():
            if key in self._ended and one.concerns(stream, kind, channel):
                return self._ended[key]
        return Message("reason.not_configured")

    def move(self, by_s: float) -> None:
        """Move the gateway's times, because its clock was set by this much."""
        for watch in self._watches.values():
            watch.known_at += by_s
            watch.since = watch.last = None  # a running delay begins anew

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        self.changed = False
        return {key: [one.applies, one.since, one.last] for key, one in self._watches.items()}

    def restore(self, data: Mapping[str, Any], at: float) -> None:
        """Continue with what ``to_json`` returned; what applied is unknown only later."""
        for key, saved in data.items():
            if key in self._watches:
                applies, since, last = saved
                self._watches[key] = _Watch(applies, since, last, at)


def _value(reason: str | Message) -> Value:
    return reason if isinstance(reason, str) else reason.document()
