"""People's findings on alarms: the newest label of each, and a file of labels for the trainer."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from agent.commands.alarms.moments import Moments
from agent.commands.alarms.table import wrapped
from agent.store.reader import Reader
from models.printable import printable

_FAULTS: Final = ("confirmed", "maintenance")  # not normal operation, in an evaluation
_ROW: Final = "{:<22} {:<14} {:<12} {:<12} {}"


def labels(reader: Reader, stream: str | None) -> list[dict[str, Any]]:
    """Return the newest label and the time of each alarm, of one stream or of all.

    A later label of an alarm replaces the earlier ones. ``end`` is None while the alarm is active.
    """
    newest = {(row["stream"], row["number"]): row for row in reader.labels()}
    return [
        {
            "stream": name,
            "number": number,
            "label": row["label"],
            "why": row["why"],
            "by": row["by"],
            "at": row["at"],
            "start": alarm["onset"],
            "end": alarm["closed"],
        }
        for (name, number), row in newest.items()
        if stream in (None, name) and (alarm := reader.alarm(name, number)) is not None
    ]


def lines(found: Sequence[dict[str, Any]], moments: Moments) -> Iterator[str]:
    """Yield the labels for a person."""
    if not found:
        yield "no alarm has a label yet: fieldwatch-agent alarms label ALARM confirmed"
        return
    yield f"Times are {moments.zone()}."
    yield _ROW.format("ALARM", "LABEL", "FROM", "TO", "BY")
    for one in found:
        name, end = f"{one['stream']}#{one['number']}", moments.brief(one["end"])
        row = _ROW.format(name, one["label"], moments.brief(one["start"]), end, one["by"])
        yield printable(row)
        if one["why"]:
            yield from wrapped(one["why"])


def as_csv(found: Sequence[dict[str, Any]]) -> str:
    """Return the faults as a file of labels for ``fieldwatch-trainer evaluate``.

    Faults are ended alarms with the label ``confirmed`` or ``maintenance``. The kind is the text of
    the person, or else the label. The last line has no line end.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["start", "end", "kind"])
    for one in sorted(found, key=lambda one: str(one["start"])):
        if one["label"] in _FAULTS and one["end"] is not None:
            kind = printable(one["why"] or one["label"])
            writer.writerow([one["start"], one["end"], kind])
    return text.getvalue().rstrip("\n")
