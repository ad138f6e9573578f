"""What a shelving covers: the fault that a person saw, and not another one of the same point.

A point of an ``anomaly`` is that of the whole stream, but ISA-18.2 shelves one alarm. So an alarm
that is of another fault ends the shelving.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.handling.states import Covered, Standing


def covered(alarm: Mapping[str, Any]) -> Covered:
    """Return what a shelving of this alarm covers."""
    names = tuple(one["channel"] for one in alarm.get("channels", ()))
    return Covered(alarm["number"], names, alarm.get("course"))


def is_another(alarm: Mapping[str, Any], now: Standing) -> bool:
    """Return whether an alarm that opens is of another fault than the one that is shelved.

    It is, if the shelved one is still open and the detector has told them apart, if its channel is
    none of the shelved alarm's, or if the shelved one was a spike and it is persistent. Of several
    channels of an anomaly the worst counts, as the others vary; of other alarms each one counts.
    """
    if now.shelving is None or (of := now.shelving.of) is None:
        return False
    if alarm.get("during") and of.number in now.open:
        return True
    names = [one["channel"] for one in alarm.get("channels", ())]
    told = names[:1] if alarm["kind"] == "anomaly" else names
    persists = of.course == "spike" and alarm.get("course") == "persistent"
    return persists or any(name not in of.channels for name in told)
