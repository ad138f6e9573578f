"""Corrects timestamps that the agent assigned while the gateway's clock was wrong.

If a gateway boots in 1970, all times that it stores and queues are off by the same amount. Once the
clock is set, that amount is known. The agent then corrects all rows that are still stored, newest
first and some rows per commit. It marks these messages as ``corrected``. Messages sent earlier are
marked as ``unsynced``. The agent does not correct timestamps that come from devices.
"""

from __future__ import annotations

import copy
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent.store.record import COLUMNS, Record, packed
from agent.store.window import Window, packed_times, unpacked_times
from models.times import iso_time, unix_s

if TYPE_CHECKING:
    from agent.store.sqlite import Connection

_ROWS = 500  # per table and commit, so that the loop is not blocked for long
_WINDOWS = 20  # the same of windows, which are larger
_SLACK_S = 1.0  # tolerance on either side of the window: about one commit

# which keys in the data of each kind are times of the gateway's clock
_TIMES: Final = {
    "summary": ("from", "to", "last_sample"),
    "alarm": ("onset", "opened", "closed", "worst_at", "newest_at"),
    "transition": ("at", "until"),
    "health": ("started", "updated"),
}
_LABEL_TIMES: Final = ("begin", "end")  # the same of a label; a person may know them better
_LIMIT_TIMES: Final = ("made", "worst_at", "newest_at")  # the same of an alarm's limit


@dataclass(slots=True)
class Correction:
    """Describes how to correct the times of one period, and how far the correction has come.

    Rows whose numbers are below ``samples``, ``messages``, ``alarms`` and ``windows`` are still
    wrong.

    Args:
        by_s: Offset in seconds to add to get the true time.
        since_s: Start of the period, Unix seconds of the wrong clock.
        until_s: Its end, when the clock was set.
        streams: The streams whose devices send no time.
        samples: Number of the first sample after it.
        messages: Number of the first message after it.
        alarms: Number of the first row of the alarms after it.
        windows: Number of the first row of the windows after it.
        cut: The first value of ``samples``.
        labels: Whether labels are still to be corrected; there are few.
        history: Whether minutes and hours are still to be corrected.
        rewritten: Stream and number of each alarm whose row was written after it, with the true
            times; a row keeps its number.

    """

    by_s: float
    since_s: float
    until_s: float
    streams: frozenset[str]
    samples: int
    messages: int
    alarms: int
    windows: int
    cut: int
    labels: bool = True
    history: bool = True
    rewritten: set[tuple[str, int]] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Whether everything is corrected."""
        numbers = self.samples or self.messages or self.alarms or self.windows
        return not (numbers or self.labels or self.history)

    def moved(self, time: str) -> str:
        """Return the corrected time."""
        return iso_time(unix_s(time) + self.by_s)

    def covers(self, time: float) -> bool:
        """Whether a time lies in the period."""
        return self.since_s - _SLACK_S <= time <= self.until_s + _SLACK_S

    def corrected(self, times: bytes) -> bytes:
        """Return times, float64, of which those in the period are corrected."""
        return array("d", map(self.corrected_time, array("d", times))).tobytes()

    def corrected_time(self, time_s: float) -> float:
        """Return a time, Unix seconds, corrected if it is in the period."""
        return time_s + self.by_s if self.covers(time_s) else time_s

    def corrected_alarm(self, alarm: dict[str, Any]) -> dict[str, Any]:
        """Return an alarm that waits in memory, corrected if the gateway's clock gave its times."""
        if alarm["stream"] not in self.streams or not self.covers(unix_s(alarm["opened"])):
            return alarm
        moved = copy.deepcopy(alarm)
        _move_data(moved, "alarm", self)
        return moved

    def corrected_window(self, window: Window) -> Window:
        """Return a window that waits in memory, corrected if the gateway's clock gave its times."""
        if window.stream not in self.streams:
            return window
        return window._replace(times=self.corrected(window.times))


def correct_messages(connection: Connection, by: Correction) -> None:
    """Correct the times of some waiting messages, within the caller's transaction."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM outbox WHERE seq < ? ORDER BY seq DESC LIMIT ?",  # noqa: S608
        [by.messages, _ROWS],
    ).fetchall()
    moved: list[tuple[str, bytes, int]] = []
    by.messages = rows[-1][0] if len(rows) == _ROWS else 0
    for message in map(Record._make, rows):
        given = by.covers(unix_s(message.time))
        if message.clock == "synced" and not given:  # and so are all earlier ones
            by.messages = 0
            break
        # transitions always use the gateway's clock, even if the stream's readings do not
        if message.stream is None or message.stream in by.streams or message.kind == "transition":
            data = message.read()
            _move_data(data, message.kind, by)
            moved.append((by.moved(message.time), packed(data), message.seq))
    connection.executemany(
        "UPDATE outbox SET time = ?, data = ?, clock = 'corrected' WHERE seq = ?", moved
    )


def correct_alarms(connection: Connection, by: Correction) -> None:
    """Correct the times of some alarms in the alarm list, within the caller's transaction."""
    rows = connection.execute(
        "SELECT id, stream, number, document FROM alarms WHERE id < ? ORDER BY id DESC LIMIT ?",
        [by.alarms, _ROWS],
    ).fetchall()
    moved: list[tuple[str, int]] = []
    by.alarms = rows[-1][0] if len(rows) == _ROWS else 0
    for row, stream, number, document in rows:
        if stream not in by.streams or (stream, number) in by.rewritten:
            continue
        alarm = json.loads(document)
        if not by.covers(unix_s(alarm["opened"])):
            by.alarms = 0
            break
        _move_data(alarm, "alarm", by)
        moved.append((json.dumps(alarm), row))
    connection.executemany("UPDATE alarms SET document = ? WHERE id = ?", moved)


def correct_labels(connection: Connection, by: Correction) -> None:
    """Correct what some labels are about, within the caller's transaction.

    A row of the logbook keeps the time at which it was written, but the readings that a label is
    about are moved, so that the label must follow them.
    """
    if not by.labels:
        return
    rows = connection.execute("SELECT id, document FROM logbook WHERE what = 'labelled'").fetchall()
    moved: list[tuple[str, int]] = []
    for number, document in rows:
        label = json.loads(document)
        if label["clock"] != "synced" and by.covers(unix_s(label["at"])):
            _move(label, ("until",), by)
            _move_label(label, by)
            moved.append((json.dumps(label), number))
    connection.executemany("UPDATE logbook SET document = ? WHERE id = ?", moved)
    by.labels = False


def correct_windows(connection: Connection, by: Correction) -> None:
    """Correct the times of some windows of alarms, within the caller's transaction.

    A window that has been written again since then has another number, and correct times.
    """
    rows = connection.execute(
        "SELECT id, stream, times FROM windows WHERE id < ? ORDER BY id DESC LIMIT ?",
        [by.windows, _WINDOWS],
    ).fetchall()
    moved: list[tuple[bytes, int]] = []
    by.windows = rows[-1][0] if len(rows) == _WINDOWS else 0
    for number, stream, data in rows:
        if stream not in by.streams:
            continue
        try:
            times = unpacked_times(data)
        except ValueError:  # damaged: nobody can read it
            continue
        # one of a silent stream has old times only, but earlier rows may have wrong ones
        if (corrected := by.corrected(times)) != times:
            moved.append((packed_times(corrected), number))
    connection.executemany("UPDATE windows SET times = ? WHERE id = ?", moved)


def correct_samples(connection: Connection, by: Correction) -> None:
    """Correct the times of some stored samples, within the caller's transaction."""
    import numpy as np  # imported here because most users of this module do not need it

    rows = connection.execute(
        "SELECT number, stream, times FROM samples WHERE number < ? ORDER BY number DESC LIMIT ?",
        [by.samples, _ROWS],
    ).fetchall()
    moved: list[tuple[bytes, int]] = []
    by.samples = rows[-1][0] if len(rows) == _ROWS else 0
    for number, stream, data in rows:
        if stream not in by.streams:
            continue
        times = np.frombuffer(data, np.float64)
        if not by.covers(float(times[-1])):
            by.samples = 0
            break
        moved.append(((times + by.by_s).tobytes(), number))
    connection.executemany("UPDATE samples SET times = ? WHERE number = ?", moved)


def is_corrected(before: bytes, after: bytes, kind: str) -> bool:
    """Whether two messages of a kind are equal except for corrected times.

    Raises:
        ValueError: one of them is not JSON.

    """
    first, second = json.loads(before), json.loads(after)
    same = _timeless(first, kind) == _timeless(second, kind)
    return bool(same and second.get("clock") == "corrected")


def _timeless(message: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a message without the parts that a correction changes."""
    data = dict(message["data"])
    for key in (*_TIMES.get(kind, ()), *(_LABEL_TIMES if kind == "transition" else ())):
        data.pop(key, None)
    if isinstance(limit := data.get("limit"), dict):
        data["limit"] = {key: value for key, value in limit.items() if key not in _LIMIT_TIMES}
    return message | {"time": None, "clock": None, "data": data}


def _move_data(data: dict[str, Any], kind: str, by: Correction) -> None:
    _move(data, _TIMES[kind], by)
    if kind == "transition":
        _move_label(data, by)
    if limit := data.get("limit"):
        _move(limit, _LIMIT_TIMES, by)


def _move_label(data: dict[str, Any], by: Correction) -> None:
    """Correct the times that a label is about, unless a person gave them by another clock."""
    times = [key for key in _LABEL_TIMES if data.get(key) and by.covers(unix_s(data[key]))]
    _move(data, times, by)


def _move(document: dict[str, Any], keys: Sequence[str], by: Correction) -> None:
    for key in keys:
        if (given := document.get(key)) is not None:
            document[key] = by.moved(given)
