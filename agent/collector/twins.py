"""Finds gateways whose name two agents use at the same time, from their statuses.

A status names the run of its agent, a random word of the process. A run that has ended never comes
back. So if a run is online again after another run was, two agents use the name.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from agent.uplink.twin import Voice, voice_of

_GATEWAYS_MAX: Final = 10_000
_RUNS_MAX: Final = 4  # per gateway


class Twins:
    """The last runs of each gateway of a site."""

    def __init__(self) -> None:
        # gateway -> run -> its last status; the latest at the end
        self._runs: OrderedDict[str, OrderedDict[str, Voice]] = OrderedDict()

    def heard(self, gateway: str, status: bytes) -> str | None:
        """Take in a status; if another agent was online in between, return both in words."""
        voice = voice_of(status)
        if voice is None or not voice.online:  # a last will may arrive at any time
            return None
        runs = self._runs.setdefault(gateway, OrderedDict())
        self._runs.move_to_end(gateway)
        if len(self._runs) > _GATEWAYS_MAX:
            self._runs.popitem(last=False)
        before = runs.get(voice.run)
        latest = next(reversed(runs.values()), None)
        if before is not None and voice.connection <= before.connection:
            return None  # the same status again, or an older one
        runs[voice.run] = voice
        runs.move_to_end(voice.run)
        if len(runs) > _RUNS_MAX:
            runs.popitem(last=False)
        if before is None or latest is None or latest.run == voice.run:
            return None
        return f"{gateway}: epochs {latest.epoch} and {voice.epoch}"
