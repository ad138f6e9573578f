"""People's findings on alarms: the newest label of each, and a file of labels for the trainer."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agent.alarms.names import NO_ALARM
from agent.commands.alarms.moments import Moments
from agent.commands.alarms.table import wrapped
from agent.handling.transition import NOTHING_FOUND
from agent.store.reader import Reader
from agent.wording.language import ENGLISH, Language
from agent.wording.message import Message
from models.printable import printable
from models.times import iso_time

COLUMNS: Final = ("start", "end", "kind", "label", "by", "at", "stream", "number")
_ROW: Final = "{:<22} {:<20} {:<12} {:<12} {}"
_HEAD: Final = "ALARM LABEL FROM TO BY"


def period(from_text: str | None, to_text: str | None) -> dict[str, float]:
    """Return the arguments ``from`` and ``to`` of a request, Unix seconds; {}: none is given.

    Raises:
        ValueError: one is not a time, or ``to`` is given alone or is before ``from``.

    """
    from agent.commands.history import time_range

    if from_text is None and to_text is None:
        return {}
    if from_text is None:
        raise ValueError("--to needs --from")
    begin, end = time_range(from_text, to_text, hours=0)
    return {"from": begin, "to": end}


def labels(reader: Reader, stream: str | None, only: str | None = None) -> list[dict[str, Any]]:
    """Return the newest label and the time of each alarm, of one stream or of all.

    A later label of an alarm replaces the earlier ones. ``end`` is None while the alarm is active.
    A label without an alarm has the number 0; one of the same time replaces it.

    Args:
        reader: Reads the store.
        stream: Only of this stream; None: of all.
        only: Only this label; None: any.

    """
    newest = {_about(row): row for row in reader.labels() if stream in (None, row["stream"])}
    found = (_labelled(row, reader) for row in newest.values() if only in (None, row["label"]))
    return [one for one in found if one["start"] is not None]


def _about(row: Mapping[str, Any]) -> tuple[Any, ...]:
    if row["number"] == NO_ALARM:
        return row["stream"], row["begin"], row["end"]
    return row["stream"], row["number"]


def _labelled(row: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    begin, end = row.get("begin"), row.get("end")  # absent in rows of older versions
    if begin is None and (alarm := reader.alarm(row["stream"], row["number"])) is not None:
        begin, end = alarm["onset"], alarm["closed"]
    return {
        "stream": row["stream"],
        "number": row["number"],
        "label": row["label"],
        "why": row["why"],
        "by": row["by"],
        "at": row["at"],
        "start": begin,
        "end": end,
        "ask_again": row["until"] if row["label"] == NOTHING_FOUND else None,
    }


def lines(found: Sequence[dict[str, Any]], moments: Moments) -> Iterator[str]:
    """Yield the labels for a person."""
    told = moments.language
    if not found:
        yield from wrapped(told.phrase("labels.none", "none"), "")
        return
    yield told.text(Message("labels.times", {"zone": moments.zone()}))
    head = told.phrase("labels.head", _HEAD).split()
    yield _ROW.format(*(head if len(head) == len(_HEAD.split()) else _HEAD.split()))
    for one in found:
        none = f" {told.phrase('labels.no_alarm', '-')}"
        name = one["stream"] + (f"#{one['number']}" if one["number"] else none)
        begin, end = moments.brief(one["start"]), moments.brief(one["end"])
        label = told.phrase(f"labelled.{one['label']}", one["label"])
        yield printable(_ROW.format(name, label, begin, end, one["by"]))
        if one["why"]:
            yield from wrapped(one["why"])
        if one["ask_again"]:
            again = {"time": moments.full(one["ask_again"])}
            yield from wrapped(told.text(Message("labels.again", again)))


def due_again(reader: Reader, now_s: float) -> list[dict[str, Any]]:
    """Return the labels "nothing-found" that staff should look at again by now."""
    now = iso_time(now_s)
    return [one for one in labels(reader, None, NOTHING_FOUND) if (one["ask_again"] or now) <= now]


def reminder(due: Sequence[Mapping[str, Any]], told: Language = ENGLISH) -> Iterator[str]:
    """Yield lines that ask for another look at what was not explained; none if there is none."""
    if due:
        names = ", ".join(f"{one['stream']}#{one['number']}" for one in due)
        yield ""
        yield from wrapped(told.text(Message("labels.due", {"alarms": names})), "", "    ")


def as_csv(found: Sequence[dict[str, Any]], now_s: float | None = None) -> str:
    """Return the labels as a file for ``fieldwatch-trainer``, in order of time.

    The kind is the text of the person, or else the label. The label of an alarm that is still
    active ends at ``now_s``, Unix seconds. The last line has no line end.
    """
    now = iso_time(time.time() if now_s is None else now_s)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in sorted(found, key=lambda one: str(one["start"])):
        kind = printable(one["why"] or one["label"])
        more = [one[key] for key in ("label", "by", "at", "stream", "number")]
        writer.writerow([one["start"], max(one["end"] or now, one["start"]), kind, *more])
    return text.getvalue().rstrip("\n")
