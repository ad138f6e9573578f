"""Suppression by design: what the configured conditions make of the points."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence

from agent.alarms.names import Key, kind_and_channel
from agent.alarms.register import Register
from agent.handling import machine
from agent.handling.states import Standing
from agent.handling.suppression import Suppression, Suppressions
from agent.wording.message import Message

_LOG = logging.getLogger(__name__)


class Suppressing:
    """Suppresses points while a condition applies; the loop's thread uses it."""

    def __init__(self, register: Register, configured: Sequence[Suppression]) -> None:
        self._register = register
        self._suppressions = Suppressions(configured)
        self._active: dict[tuple[str, str], bool | None] = {}  # by stream and kind of alarm
        self._looked = -1  # number of changes of the register that ``_active`` includes
        self._turned = True  # whether the points must be compared with the conditions

    def configure(self, configured: Sequence[Suppression]) -> None:
        """Continue with other suppressions."""
        self._suppressions.configure(configured)
        self._looked, self._turned = -1, True

    def restore(self, state: bytes | None, at: float) -> None:
        """Continue with what ``changed`` returned."""
        if state is not None:
            try:
                self._suppressions.restore(json.loads(state), at)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _LOG.warning("the state of the suppressions is damaged, it begins anew: %s", error)

    def changed(self) -> bytes | None:
        """Return the state of the conditions, for the store; None if that has not changed."""
        if not self._suppressions.changed:
            return None
        return json.dumps(self._suppressions.to_json()).encode()

    def clock_set(self, by_s: float) -> None:
        """Move the gateway's times, because its clock was set by this much."""
        self._suppressions.move(by_s)

    @property
    def watched(self) -> Mapping[str, frozenset[str]]:
        """The channels whose values ``see`` needs, by stream."""
        return self._suppressions.watched

    def see(
        self, stream: str, channel: str, times: Iterable[float], values: Iterable[float], at: float
    ) -> None:
        """Take measured values of a channel; see ``Suppressions.see``."""
        self._turned |= self._suppressions.see(stream, channel, times, values, at)

    def reason(self, key: Key) -> str | Message | None:
        """Return why alarms of a point are suppressed now; None: they are not."""
        return self._suppressions.reason(key[0], *kind_and_channel(key[1]))

    def tick(self, at: float) -> None:
        """Follow the conditions that alarms and time decide, and change the points."""
        if self._looked != self._register.changes:
            self._looked = self._register.changes
            self._active = {one: self._is_active(*one) for one in self._suppressions.alarms}
        for (stream, kind), active in self._active.items():
            self._turned |= self._suppressions.see_alarm(stream, kind, active, at)
        self._turned |= self._suppressions.look(at)
        if self._turned:
            self._turned = False
            for key, _ in self._register.items():
                self._compare(key, at)

    def _is_active(self, stream: str, kind: str) -> bool | None:
        """Return whether an alarm of this kind is active; None: that is unknown."""
        found = {
            standing.condition
            for (of, point), standing in self._register.items()
            if of == stream and kind_and_channel(point)[0] == kind
        }
        return True if "active" in found else None if "unknown" in found else False

    def _compare(self, key: Key, at: float) -> None:
        now, reason = self._register.standing(key), self.reason(key)
        if now.suppressed and reason is None:
            why = self._suppressions.ended(key[0], *kind_and_channel(key[1]))
            self._register.go(key, "unsuppressed", machine.unsuppress(now), at, why=why)
        elif reason is not None and not now.suppressed and not _is_idle(now):
            self._register.go(key, "suppressed", machine.suppress(now), at, why=reason)


def _is_idle(now: Standing) -> bool:
    """Return whether there is nothing to suppress; an active advisory may become an alarm."""
    return now.below == "NORM" and now.condition != "active"
