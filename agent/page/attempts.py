"""Slows down those who try passwords: a delay that grows with each failure, and no lock-out.

After some failures the next attempt of an address, or for a name, is only looked at after a delay.
An attempt before that is refused without looking at the password: else the answer would tell
whether it is right. The longest delay for a name is short, so that nobody can keep a user out for
long; an address from which the user has logged in before does not wait for what others do.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

_FREE: Final = 3  # failures without a delay
_OF_ADDRESS_S_MAX: Final = 60.0
_OF_NAME_S_MAX: Final = 10.0
_FORGOTTEN_S: Final = 900.0  # after the last failure
_ENTRIES_MAX: Final = 1000
_SUBNET: Final = 64  # bits of an IPv6 address that a network gives to one customer


class _Failures(NamedTuple):
    number: int
    last_s: float


class _Delays:
    """The failures by some key; what failed last is last, and the oldest is forgotten first."""

    def __init__(self, now_s: Callable[[], float], seconds_max: float) -> None:
        self._now_s, self._seconds_max = now_s, seconds_max
        self._failures: dict[Hashable, _Failures] = {}

    def left_s(self, key: Hashable) -> float:
        """Return the seconds until the next attempt is looked at."""
        found = self._failures.get(key)
        if found is None or found.number < _FREE:
            return 0.0
        delay_s = min(2.0 ** (found.number - _FREE), self._seconds_max)
        return max(0.0, found.last_s + delay_s - self._now_s())

    def failed(self, key: Hashable) -> None:
        now_s, before = self._now_s(), self._failures.pop(key, None)
        recent = before is not None and now_s - before.last_s < _FORGOTTEN_S
        count = min(before.number, 30) if before is not None and recent else 0
        self._failures[key] = _Failures(count + 1, now_s)
        if len(self._failures) > _ENTRIES_MAX:
            del self._failures[next(iter(self._failures))]

    def forget(self, key: Hashable) -> None:
        self._failures.pop(key, None)


class Attempts:
    """The attempts to log in; all calls come from one thread. ``now_s`` is steady time."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._addresses = _Delays(now_s, _OF_ADDRESS_S_MAX)
        self._names = _Delays(now_s, _OF_NAME_S_MAX)
        self._known: dict[tuple[str, str], None] = {}  # name, address; the newest last

    def left_s(self, name: str, address: str) -> float:
        """Return the seconds until an attempt is looked at; 0: it is now."""
        at = _network(address)
        of_name = 0.0 if (name, at) in self._known else self._names.left_s(name)
        return max(of_name, self._addresses.left_s(at))

    def failed(self, name: str, address: str) -> None:
        """Note a wrong name or password."""
        self._names.failed(name)
        self._addresses.failed(_network(address))

    def succeeded(self, name: str, address: str) -> None:
        """Note a log-in; the failures of others for this name stay noted."""
        at = _network(address)
        self._addresses.forget(at)
        self._known.pop((name, at), None)
        self._known[name, at] = None
        if len(self._known) > _ENTRIES_MAX:
            del self._known[next(iter(self._known))]


def _network(address: str) -> str:
    """Return what stands for an address: who has one of IPv6 has billions of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, _SUBNET if found.version == 6 else 32), strict=False))
