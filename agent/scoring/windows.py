"""The windows of a stream's alarms: what the detector saw, expected and scored around the onset.

    samples, expected, scores ──┬─> buffer: the newest samples
                                └─> windows that grow: an alarm opened, and later samples follow
                                        └─> batch, with the stream's memory

A window has ``window_samples`` from before the onset and as many from after the opening. An alarm
that opens while the newest window of its stream still lacks at least half of these shares it: a
fault that many channels show is stored once. An alarm and its window are in one commit. A window
that grows is written with each save of the memory, so that after a kill it continues with the
samples that are scored again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from agent.config.load import StreamTable
from agent.scoring.part import Changes, Moment, Part
from agent.store.batch import Batch
from agent.store.window import Window, unpacked
from models.messages import GOOD, Float32, Float64, Samples, Uint8
from models.times import unix_s

if TYPE_CHECKING:
    from agent.store.correction import Correction

_SLACK_S: Final = 0.001  # the times of alarms are in milliseconds
_DELAY: Final = 1.5  # the buffer is longer than a window before its onset: alarms open later


class _Rows(NamedTuple):
    """``n`` samples with their results, of one stream."""

    times: Float64  # (n,) Unix seconds
    values: Float32  # (n, C) in the channels' units
    expected: Float32  # (n, C)
    score: Float32  # (n,)
    quality: Uint8  # (n, C)

    def part(self, begin: int, end: int | None = None) -> _Rows:
        """Return samples ``begin`` to ``end``, ``end`` not included; the arrays are views."""
        return _mapped(self, lambda one: one[begin:end])

    def copied(self) -> _Rows:
        """Return them in memory of their own."""
        return _mapped(self, np.copy)

    def samples(self) -> Samples:
        """Return them without their results."""
        return Samples(self.times, self.values, self.quality if self.quality.any() else None)

    def corrected(self, by: Correction) -> _Rows:
        """Return them with times that the gateway's clock gave while it was wrong corrected."""
        return self._replace(times=np.frombuffer(by.corrected(self.times.tobytes())))


def _mapped(rows: _Rows, each: Callable[[Any], Any]) -> _Rows:
    return _Rows(*map(each, rows))


def _joined(parts: Sequence[_Rows]) -> _Rows:
    return _Rows(*map(np.concatenate, zip(*parts, strict=True)))


def _rows(samples: Samples, expected: Float32, score: Float32) -> _Rows:
    quality = samples.quality
    if quality is None:
        quality = np.full(samples.values.shape, GOOD, np.uint8)
    return _Rows(samples.times, samples.values, expected, score, quality)


def _empty(rows: int, channels: int) -> _Rows:
    shape = (rows, channels)
    return _Rows(
        np.empty(rows),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(rows, np.float32),
        np.full(shape, GOOD, np.uint8),
    )


class _Buffer:
    """The newest ``rows`` samples in a circle of memory."""

    def __init__(self, rows: int, channels: int) -> None:
        self._rows, self._at, self._full = rows, 0, False
        self._block = _empty(rows, channels)
        self._measured = True  # whether all values are: then their quality is not written

    def add(self, new: Samples, expected: Float32, score: Float32) -> None:
        """Add samples, n ≥ 0, with what was expected, (n, C), and the scores, (n,)."""
        if new.quality is not None:
            self._measured = False
        begin = max(0, len(score) - self._rows)  # more do not fit
        while begin < len(score):
            end = min(begin + self._rows - self._at, len(score))
            at, own = slice(self._at, self._at + end - begin), slice(begin, end)
            block = self._block
            block.times[at], block.score[at] = new.times[own], score[own]
            block.values[at], block.expected[at] = new.values[own], expected[own]
            if not self._measured:
                block.quality[at] = GOOD if new.quality is None else new.quality[own]
            self._at, begin = at.stop, end
            if self._at == self._rows:
                self._at, self._full = 0, True

    def newest(self) -> _Rows:
        """Return a copy of the samples, the oldest first."""
        if not self._full:
            return self._block.part(0, self._at).copied()
        return _joined([self._block.part(self._at), self._block.part(0, self._at)])


@dataclass(eq=False, slots=True)
class _Growing:
    """A window that is not complete, or not written since it is."""

    number: int  # of its first alarm
    last: int  # of its last alarm
    to_come: int  # samples
    rows: list[_Rows]  # in order
    unsaved: bool = True  # whether it differs from what was put into a batch

    def take(self, new: _Rows) -> None:
        """Add what it lacks of these samples."""
        if self.to_come:
            own = new.part(0, self.to_come).copied()
            self.to_come -= len(own.times)
            self.rows.append(own)
            self.unsaved = True

    def lacked(self, at_s: float) -> int:
        """Return how many samples it lacked at a time, even if all have come since then."""
        later = (np.count_nonzero(each.times > at_s + _SLACK_S) for each in self.rows)
        return self.to_come + int(sum(later))


class Windows(Part):
    """The windows of one stream's alarms.

    Args:
        stream: Name of the stream.
        channels: Names of its ``C`` channels.
        samples: Number of samples before the onset, and after the opening; 0: no windows.

    """

    name = "windows"
    lasting = True

    def __init__(self, stream: str, channels: tuple[str, ...], samples: int) -> None:
        self._stream, self._channels = stream, channels
        self._opened: list[tuple[int, float, float]] = []  # number, onset and opening, Unix s
        self._growing: list[_Growing] = []  # the oldest first
        self._changes = Changes()
        self._resize(samples)

    def _resize(self, samples: int) -> None:
        self._samples, self._kept = samples, int(samples * _DELAY)
        self._buffer = _Buffer(self._kept, len(self._channels)) if samples else None

    def _fill(self, rows: _Rows) -> None:
        if self._buffer is not None:
            self._buffer.add(rows.samples(), rows.expected, rows.score)

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue with another number of samples."""
        if (samples := settings.alarms.window_samples) == self._samples:
            return
        before = self._buffer
        self._resize(samples)
        if self._buffer is None:
            self.close(batch)
        elif before is not None:
            self._fill(before.newest())

    def opened(self, alarm: Mapping[str, Any]) -> None:
        """Note an alarm that opened; its window begins with the samples of the commit."""
        if self._buffer is not None:
            opening = unix_s(alarm["onset"]), unix_s(alarm["opened"])
            self._opened.append((alarm["number"], *opening))

    def see(self, samples: Samples, expected: Float32, score: Float32) -> None:
        """See samples, n ≥ 1, with what was expected, (n, C), and their scores, (n,)."""
        if self._buffer is None:
            return
        if self._growing or self._opened:
            new = _rows(samples, expected, score)
            for one in self._growing:
                one.take(new)
            if self._opened:
                self._begin(_joined([self._buffer.newest(), new]))
        self._buffer.add(samples, expected, score)

    def _begin(self, known: _Rows) -> None:
        """Begin the windows of the alarms that opened, from the samples that are known."""
        for number, onset_s, opened_s in self._opened:
            newest = self._growing[-1] if self._growing else None
            if newest is not None and newest.lacked(opened_s) * 2 >= self._samples:
                newest.last, newest.unsaved = max(newest.last, number), True
            else:
                self._growing.append(self._window(known, number, onset_s, opened_s))
        self._opened.clear()

    def _window(self, known: _Rows, number: int, onset_s: float, opened_s: float) -> _Growing:
        times = known.times
        opening = int(np.count_nonzero(times <= opened_s + _SLACK_S))
        onset = min(int(np.count_nonzero(times < onset_s - _SLACK_S)), opening)
        end = min(opening + self._samples, len(times))
        # not more than the buffer has, so that a window does not depend on the size of a commit
        begin = max(onset - self._samples, opening - self._kept, 0)
        to_come = self._samples - (end - opening)
        return _Growing(number, number, to_come, [known.part(begin, end).copied()])

    def put(self, batch: Batch) -> None:
        """Put the windows that have changed into the batch, which contains the stream's memory."""
        if self._opened and self._buffer is not None:  # found without samples, as a silence is
            self._begin(self._buffer.newest())
        self._opened.clear()
        for one in self._growing:
            one.rows = [_joined(one.rows)]
            if one.unsaved and len(one.rows[0].times):
                batch.windows[self._stream, one.number] = self._packed(one)
            one.unsaved = False  # a stream that is silent writes nothing
        self._growing = [one for one in self._growing if one.to_come]

    def _packed(self, one: _Growing) -> Window:
        rows = one.rows[0]
        return Window(
            self._stream,
            one.number,
            one.last,
            one.to_come,
            self._channels,
            *(each.T.tobytes() for each in rows),
        )

    def resume(self, unfinished: Iterable[Window], watched: bool, batch: Batch) -> None:
        """Continue with the windows of the store that are not complete.

        ``watched``: whether the detector continues where it was; if not, they end as they are.
        """
        for window in unfinished:
            if watched and self._buffer is not None and window.channels == self._channels:
                rows = [_unpacked(window)]
                known = _Growing(window.number, window.last, window.to_come, rows, unsaved=False)
                self._growing.append(known)
            else:
                batch.windows[self._stream, window.number] = window._replace(to_come=0)

    def correct(self, by: Correction) -> None:
        """Correct times that the gateway's clock gave while it was wrong."""
        if self._buffer is None:
            return
        known = self._buffer.newest().corrected(by)
        self._resize(self._samples)
        self._fill(known)
        for one in self._growing:
            one.rows = [each.corrected(by) for each in one.rows]
            one.unsaved = True
        self._opened = [
            (number, by.corrected_time(onset_s), by.corrected_time(opened_s))
            for number, onset_s, opened_s in self._opened
        ]

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save the newest samples at a stop, and delete them after the next start.

        They are large and soon out of date: after a crash the next windows begin with the start.
        """
        if moment < Moment.STOP or self._buffer is None:
            return self._changes.of(b"")
        times, data = self._packed(_Growing(0, 0, 0, [self._buffer.newest()])).packed()
        head = json.dumps([self._channels, len(times)]).encode()
        return self._changes.of(head + b"\n" + times + data)

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with the samples that a stop saved, if they have the same channels."""
        self._changes.restore(data)
        head, _, content = data.partition(b"\n")
        if self._buffer is None or not head:
            return
        try:
            channels, size = json.loads(head)
            saved = unpacked(channels, content[:size], content[size:])
        except (ValueError, TypeError):  # damaged
            return
        if tuple(channels) == self._channels:
            self._fill(_unpacked(saved))

    def close(self, batch: Batch) -> None:
        """Complete the windows as they are, because the stream leaves or gets another detector."""
        for one in self._growing:
            one.to_come, one.unsaved = 0, True
        self.put(batch)


def _unpacked(window: Window) -> _Rows:
    shape = (len(window.channels), window.rows)
    return _Rows(
        np.frombuffer(window.times),
        np.frombuffer(window.observed, np.float32).reshape(shape).T,
        np.frombuffer(window.expected, np.float32).reshape(shape).T,
        np.frombuffer(window.score, np.float32),
        np.frombuffer(window.quality, np.uint8).reshape(shape).T,
    )
