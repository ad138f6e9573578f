"""The groups of a flood in the list: one entry for each stream, with the command that acknowledges.

The command names exactly the alarms that are shown, each at the revision that is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agent.wording.language import ENGLISH, Language
from models.printable import printable

SHOWN_MAX: Final = 100  # members of a group that the list names
_WIDTH: Final = 78  # leaves room for " \"

Alarm = Mapping[str, Any]


def apart(alarms: Sequence[Alarm]) -> tuple[list[Alarm], list[list[Alarm]]]:
    """Return the alarms to show singly, and the groups, each with its most urgent alarm first."""
    members: dict[str, list[Alarm]] = {}
    for one in alarms:
        if one["handling"] and one["handling"]["grouped"]:
            members.setdefault(one["stream"], []).append(one)
    groups = [group for group in members.values() if len(group) > 1]
    inside = {id(one) for group in groups for one in group}
    return [one for one in alarms if id(one) not in inside], groups


def kinds(members: Sequence[Alarm], told: Language = ENGLISH) -> str:
    """Return how many alarms there are of each kind, the most frequent first.

    >>> kinds([{"kind": "stuck"}, {"kind": "limit_passed"}, {"kind": "stuck"}])
    '2 stuck, 1 limit passed'
    """
    counted = Counter(str(one["kind"]) for one in members)
    return ", ".join(
        f"{count} {told.phrase(f'kind.{kind}', kind.replace('_', ' '))}"
        for kind, count in counted.most_common()
    )


def command(members: Sequence[Alarm]) -> Iterator[str]:
    """Yield the lines of a shell command that acknowledges these alarms of one stream."""
    stream = printable(members[0]["stream"])
    lines = ["fieldwatch-agent alarms ack"]
    for one in members:
        seen = f"{one['number']}.{one['handling']['revision']}"
        begun = lines[-1].startswith("  ") and "," not in stream  # a comma divides references
        if begun and len(lines[-1]) + len(seen) < _WIDTH:
            lines[-1] += f",{seen}"
        else:
            lines.append(f"  {stream}#{seen}")
    yield from (f"{line} \\" for line in lines[:-1])
    yield lines[-1]
