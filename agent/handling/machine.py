"""The transitions: each function takes a standing and returns the next one.

The caller writes one row for each transition (``agent.handling.transition``), so each one increases
the revision by 1. A function for a person's request raises ``Impossible`` if the state does not
allow it.

Rules beyond the standard's diagram, each with its reason:

- A rise in severity makes an acknowledged alarm unacknowledged: the person saw a lower severity.
- Only the condition clears an alarm. If the condition is no longer watched, it is unknown, not
  normal. The alarm stays until a person acknowledges it.
- At the end of any suppression, an alarm that is still active becomes unacknowledged, so that it is
  announced. If an unacknowledged alarm came and went while it was shelved or out of service, it
  still waits for its acknowledgement. While a designed suppression applies, nothing that comes and
  goes needs an acknowledgement: by design it is no alarm then.
- A shelving is of one fault. Another fault of the same point ends it: a person has not seen it.
- An advisory never demands an acknowledgement.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, NamedTuple

from agent.handling.priority import graver
from agent.handling.states import (
    UNACKNOWLEDGED,
    Covered,
    Look,
    Severity,
    Shelving,
    Standing,
    told,
)
from agent.wording.message import Message, Value
from agent.wording.worded import Worded

_HOUR_S: Final = 3600.0
_LOOKS_MAX: Final = 20  # of a point; the newest


class Impossible(Worded, ValueError):
    """The state of the alarm, or a rule, forbids the request; the message gives the reason."""


def _impossible(why: str, now: Standing | None = None, **facts: Value) -> Impossible:
    state: dict[str, Value] = {} if now is None else {"state": told(now)}
    return Impossible(Message(f"impossible.{why}", {**state, **facts}))


class Rules(NamedTuple):
    """The configured rules of a point."""

    latching: bool = False  # whether a cleared alarm waits for a reset
    shelvable: bool = True
    shelve_s_max: float = 8 * _HOUR_S  # limit of one shelving
    shelved_s_max: float = 24 * _HOUR_S  # limit of all shelvings until it is normal again
    remind_s: float = 8 * _HOUR_S  # an acknowledged alarm that is active reminds; 0: never
    chatter_raises: int = 5  # a point raised this often within ``chatter_s`` chatters; 0: never
    chatter_s: float = 600.0


# ---- the condition


def raised(
    now: Standing,
    number: int,
    severity: Severity,
    rules: Rules,
    at: float,
    *,
    advisory: bool = False,
    suppressed: bool = False,
    another: bool = False,
) -> Standing:
    """Return the standing after alarm ``number`` of the point has opened.

    ``advisory``: it needs no action now; ``suppressed``: a designed suppression applies;
    ``another``: it is not of the fault that was shelved, so that the shelving ends.
    """
    if another:
        now = _unshelved(now, at)
    before = None if now.below == "NORM" and not now.open else now.severity
    advisory = advisory and (now.advisory or not now.open)
    suppressed = suppressed or now.suppressed
    calls = not (advisory or suppressed)
    return _next(
        _counted(now, rules, at),
        condition="active",
        acknowledged=now.acknowledged and not calls,
        number=max(number, now.number),
        open=(*now.open, number),
        severity=severity if graver(severity, before) else before,
        raised=now.raised + 1,
        advisory=advisory,
        suppressed=suppressed,
    )


def worsened(now: Standing, severity: Severity) -> Standing:
    """Return the standing after the severity of an active alarm has risen."""
    demands = not (now.advisory or now.suppressed)
    return _next(now, severity=severity, acknowledged=now.acknowledged and not demands)


def due(now: Standing, severity: Severity) -> Standing:
    """Return the standing after an advisory has become an alarm, because it needs action now."""
    grave = severity if graver(severity, now.severity) else now.severity
    acknowledged = now.acknowledged and now.suppressed
    return _next(now, advisory=False, severity=grave, acknowledged=acknowledged)


def cleared(
    now: Standing, number: int, rules: Rules, at: float, *, advisory: bool = False
) -> Standing:
    """Return the standing after the condition of its last open alarm has cleared.

    ``advisory``: once it is over nothing needs to be done, so that it needs no acknowledgement.
    """
    left = _without(now, number)
    shelved = now.shelving
    if shelved is not None and shelved.until_clear:
        left = _unshelved(left, at)
    latched = now.latched or (rules.latching and not now.advisory)
    advisory = advisory and not latched and left.number == number
    settled = now.acknowledged or (advisory and not now.suppressed)
    return _next(left, condition="normal", latched=latched, advisory=advisory, acknowledged=settled)


def unwatched(now: Standing, number: int) -> Standing:
    """Return the standing after its last open alarm is no longer watched."""
    return _next(_without(now, number), condition="unknown", advisory=False)


def superseded(now: Standing, number: int) -> Standing:
    """Return the standing after an alarm of another point has replaced its alarm.

    An alarm for a predicted limit is superseded once the limit has been passed, so that staff
    is not called twice.
    """
    return _next(_without(now, number), condition="normal", acknowledged=True, advisory=False)


def one_of_several_over(now: Standing, number: int) -> Standing:
    """Return the standing after one of several open alarms has ended; this is no transition."""
    return _without(now, number)


# ---- people


def acknowledge(now: Standing, at: float) -> Standing:
    """Return the standing after a person has seen the alarm."""
    if now.state not in UNACKNOWLEDGED:
        raise _impossible("acknowledge", now)
    return _next(now, acknowledged=True, seen_at=at)


def unacknowledge(now: Standing) -> Standing:
    """Return the standing after an acknowledgement was taken back."""
    if now.state not in ("ACKED", "LATAK", "NORM") or not now.number or now.advisory:
        raise _impossible("unacknowledge", now)
    return _next(now, acknowledged=False)


def reset(now: Standing) -> Standing:
    """Return the standing after a person has released the latch."""
    if now.state != "LATAK":
        raise _impossible("reset", now)
    return _next(now, latched=False)


def shelve(
    now: Standing,
    rules: Rules,
    at: float,
    seconds: float,
    until_clear: bool,
    of: Covered | None = None,
) -> Standing:
    """Return the standing after a person has shelved the alarm ``of`` for a time.

    ``until_clear``: the shelving ends earlier, once the condition clears. There is also a limit for
    all shelvings together.
    """
    if not rules.shelvable:
        raise _impossible("not_shelvable")
    if now.state in ("OOSRV", "SHLVD"):
        raise _impossible("already", now)
    if until_clear and now.condition != "active":
        raise _impossible("not_active")
    if not 0 < seconds <= rules.shelve_s_max:
        raise _impossible("shelve_max", hours=rules.shelve_s_max / _HOUR_S)
    left_s = rules.shelved_s_max - now.shelved_s
    if seconds > left_s:
        left_h = round(max(0.0, left_s) / _HOUR_S, 1)
        raise _impossible("shelved_max", left=left_h, hours=rules.shelved_s_max / _HOUR_S)
    shelving = Shelving(at, at + seconds, until_clear, of)
    return _next(now, shelving=shelving, shelvings=now.shelvings + 1)


def unshelve(now: Standing, at: float) -> Standing:
    """Return the standing after a person has ended a shelving, or its time is over."""
    if now.state != "SHLVD":
        raise _impossible("not_shelved", now)
    return _next(_announced(_unshelved(now, at)))


def out_of_service(now: Standing, at: float) -> Standing:
    """Return the standing after a person has taken the alarm out of service, without time limit."""
    if now.out_of_service:
        raise _impossible("already", now)
    return _next(_unshelved(now, at), out_of_service=True)


def in_service(now: Standing) -> Standing:
    """Return the standing after a person has put the alarm back into service."""
    if not now.out_of_service:
        raise _impossible("not_out", now)
    return _next(_announced(now), out_of_service=False)


def noted(now: Standing) -> Standing:
    """Return the standing after a person has written a note on the alarm."""
    return _next(now)


def labelled(now: Standing, number: int, ask_again: float | None) -> Standing:
    """Return the standing after a person has said what was behind the alarm ``number``.

    ``ask_again``: when to ask once more, Unix seconds, because nothing was found; None: never.
    """
    again = () if ask_again is None else (Look(number, ask_again),)
    return _next(now, looks=(*_without_look(now, number), *again)[-_LOOKS_MAX:])


# ---- by design


def suppress(now: Standing) -> Standing:
    """Return the standing once a designed suppression, such as for a stopped machine, applies."""
    return _next(now, suppressed=True)


def unsuppress(now: Standing) -> Standing:
    """Return the standing once the designed suppression no longer applies."""
    return _next(_announced(now), suppressed=False)


# ---- time


def reminded(now: Standing, at: float) -> Standing:
    """Return the standing after the reminder of an alarm that is acknowledged and still active."""
    return _next(now, seen_at=at)


def look_again(now: Standing, number: int) -> Standing:
    """Return the standing after staff was asked to look again at the alarm ``number``."""
    return _next(now, looks=_without_look(now, number))


def settled(now: Standing) -> Standing:
    """Return the standing after it has stopped to chatter; an acknowledgement stays."""
    return _next(now, chattered=0, called=None)


def ungrouped(now: Standing) -> Standing:
    """Return the standing after the flood is over in which it was raised."""
    return _next(now, grouped=False)


def apart(now: Standing) -> Standing:
    """Return the standing without its group, which is over; this is no transition."""
    return replace(now, grouped=False)


def reminds_at(now: Standing, rules: Rules) -> float:
    """Return when the acknowledged alarm reminds, Unix seconds; infinity: never."""
    if now.state != "ACKED" or now.seen_at is None or not rules.remind_s:
        return math.inf
    return now.seen_at + rules.remind_s


def settles_at(now: Standing, rules: Rules) -> float:
    """Return when it stops to chatter if it is not raised again; infinity: it does not chatter."""
    return now.raises[-1] + rules.chatter_s if now.chattered else math.inf


def next_time(now: Standing, rules: Rules) -> float:
    """Return when time alone will change the standing, Unix seconds; infinity: never."""
    shelved = math.inf if now.shelving is None else now.shelving.until
    looks = min((one.at for one in now.looks), default=math.inf)
    return min(shelved, reminds_at(now, rules), settles_at(now, rules), looks)


def moved(now: Standing, by_s: float) -> Standing:
    """Return the standing with its times moved, because the clock was set; no transition."""
    shelving = now.shelving
    if shelving is not None:
        shelving = shelving._replace(since=shelving.since + by_s, until=shelving.until + by_s)
    return replace(
        now,
        shelving=shelving,
        seen_at=None if now.seen_at is None else now.seen_at + by_s,
        raises=tuple(one + by_s for one in now.raises),
        looks=tuple(one._replace(at=one.at + by_s) for one in now.looks),
    )


def _counted(now: Standing, rules: Rules, at: float) -> Standing:
    """Return the standing with the time of one more raise; say whether it chatters now."""
    if not rules.chatter_raises:
        return now
    raises = (*now.raises, at)[-rules.chatter_raises :]
    quick = len(raises) == rules.chatter_raises and at - raises[0] < rules.chatter_s
    if now.chattered:
        return replace(now, raises=raises, chattered=now.chattered + 1)
    return replace(now, raises=raises, chattered=len(raises) if quick else 0)


def _without_look(now: Standing, number: int) -> tuple[Look, ...]:
    return tuple(one for one in now.looks if one.number != number)


def _without(now: Standing, number: int) -> Standing:
    return replace(now, open=tuple(one for one in now.open if one != number))


def _unshelved(now: Standing, at: float) -> Standing:
    if now.shelving is None:
        return now
    lasted_s = min(max(0.0, at - now.shelving.since), now.shelving.until - now.shelving.since)
    return replace(now, shelving=None, shelved_s=now.shelved_s + lasted_s)


def _announced(now: Standing) -> Standing:
    """Return the standing as unacknowledged if its condition is active or unknown."""
    calls = now.condition != "normal" and not now.advisory
    return replace(now, acknowledged=False) if calls else now


def _next(now: Standing, **changes: object) -> Standing:
    """Return the standing with changes; once it is normal, reset the counts."""
    then = replace(now, **changes, revision=now.revision + 1)  # type: ignore[arg-type]
    if then.state != "NORM":
        return then
    return replace(then, raised=0, shelvings=0, shelved_s=0.0, grouped=False, seen_at=None)
