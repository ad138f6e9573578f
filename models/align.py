"""Turns readings in order of arrival into samples on the bundle's grid.

The trainer uses this module for recordings and the agent for live readings, so both get the same
samples. The first reading sets the phase of the grid. A reading belongs to the nearest slot. A slot
is emitted as soon as every channel has a value, or when a reading of a later slot arrives. A gap of
more than ``reset_gap_samples`` empty slots is not emitted: ``times`` jumps over it.

``models.gaps`` fills a slot's channels that have no value.

If the times of ``FAR_LATE_ROWS`` consecutive rows are older by more than that gap, the clock was
set back. Then a new grid starts. A single wrong time, in either direction, costs only a few rows,
and no clock can block a stream for ever.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.gaps import Gaps, nullable
from models.grid import half, slot_of, slots_of, windows_of
from models.manifest import Sampling
from models.messages import (
    ALL,
    GOOD,
    Bool,
    Float32,
    Float64,
    Index,
    Int64,
    Readings,
    Samples,
    Uint8,
    joined,
)

FAR_LATE_ROWS = 10  # this many consecutive late rows show that the clock was set

_ON_GRID_S = 1e-4  # tolerance, because times are sums of floats


class Aligner:
    """The position of one stream on its grid.

    ``counters`` counts rows:

    - ``late``: their slot was already emitted, so they are not used.
    - ``duplicate``: their slot already has a value of the same channel. While the slot is open, the
      newest value replaces it.
    - ``out_of_order``: they are used, but a row with a later time arrived before them.
    - ``clock_step``: they started a new grid.

    Args:
        sampling: the grid.
        channels: number of channels.
        lateness_samples: a slot stays open until a reading arrives that is this many slots later;
            0 is for inputs that keep the order.
        anchored: slots lie at multiples of the period in Unix time, where the windows of
            ``models.features`` end. Otherwise the first reading sets their phase.

    """

    def __init__(
        self,
        sampling: Sampling,
        channels: int,
        lateness_samples: int = 0,
        anchored: bool = False,
    ) -> None:
        self._period_s = sampling.period_s
        self._gap_max = sampling.reset_gap_samples
        self._lateness = lateness_samples
        self._anchored = anchored
        self.counters: Counter[str] = Counter()
        self._phase_s = math.nan  # slots lie at phase + k * period
        self._next = 0  # the first slot not emitted yet
        self._newest = 0  # the last slot with a reading
        self._newest_s = math.nan  # the latest time of a reading
        self._open: dict[int, Float32] = {}  # values so far of the slots that are not complete
        self._gaps = Gaps(sampling, channels)
        self._far_late_rows = 0

    def push(self, readings: Readings) -> Samples:
        """Process readings (n, C) in order of arrival; return the samples that they complete."""
        emitted = [Samples(np.empty(0), np.empty((0, readings.values.shape[1]), np.float32))]
        begin = 0
        while begin < len(readings.times):
            rest = Readings(readings.times[begin:], readings.values[begin:])
            begin += self._take_some(rest, emitted)
        return joined(emitted)

    def _take_some(self, readings: Readings, emitted: list[Samples]) -> int:
        """Take all rows, or those before a clock step; return how many."""
        if math.isnan(self._phase_s):
            self._begin(float(readings.times[0]))
        slots = slots_of(readings.times, self._phase_s, self._period_s).astype(np.int64)
        whole = np.logical_not(np.isnan(readings.values).any(axis=1))
        breaks = np.flatnonzero(~whole[1:] | (np.diff(slots) != 1)) + 1
        ends = np.append(breaks, len(slots))
        at = 0
        while at < len(slots):
            if whole[at] and slots[at] == self._next and not self._open:
                end = int(ends[np.searchsorted(ends, at, side="right")])
                emitted.append(self._pass_through(readings, slots, at, end))
                at = end
            elif self._is_clock_step(int(slots[at])):
                emitted += [self._emit(slot) for slot in sorted(self._open)]
                self._phase_s = math.nan
                return at
            else:
                self._take(readings, int(slots[at]), at, emitted)
                at += 1
        return at

    def _begin(self, time: float) -> None:
        """Start the grid at ``time``; forget all held values."""
        self._phase_s = 0.0 if self._anchored else math.fmod(time, self._period_s)
        self._next = self._newest = slot_of(time, self._phase_s, self._period_s)
        self._newest_s = time
        self._gaps.forget()
        self._far_late_rows = 0

    def _pass_through(self, readings: Readings, slots: Int64, begin: int, end: int) -> Samples:
        """Emit complete rows of the next slots all at once; this is the common case."""
        last = end - 1
        self.passed(int(slots[last]), float(readings.times[last]), readings.values[last])
        return Samples(self._times(slots[begin:end]), readings.values[begin:end])

    @property
    def next_whole_slot(self) -> float:
        """The slot whose complete row would be emitted at once; NaN if there is none."""
        return math.nan if self._open or math.isnan(self._phase_s) else float(self._next)

    @property
    def phase_s(self) -> float:
        """The phase of the grid: slot k lies at phase + k × period. NaN before any reading."""
        return self._phase_s

    @property
    def newest_s(self) -> float:
        """The latest time of a reading, Unix seconds; NaN before the first."""
        return self._newest_s

    def passed(self, slot: int, time: float, values: Float32) -> None:
        """Continue after ``slot``: the caller emitted complete rows of the next slots up to it.

        ``time`` (Unix seconds) and ``values`` (C,) are those of the last row.
        """
        self._newest, self._newest_s, self._next = slot, time, slot + 1
        self._gaps.hold(slot, values)
        self._far_late_rows = 0

    def caught_up(self, samples: Samples) -> None:
        """Continue after ``samples`` (n ≥ 1), which were emitted before or after the last save."""
        time = float(samples.times[-1])
        slot = 0.0 if math.isnan(self._phase_s) else (time - self._phase_s) / self._period_s
        if math.isnan(self._phase_s) or abs(slot - round(slot)) * self._period_s > _ON_GRID_S:
            self._begin(time)  # the clock was set after the save
            slot = self._next
        if round(slot) >= self._next:
            self._emitted(round(slot), samples)

    def replace(self, before: Aligner, order: Sequence[int]) -> None:
        """Continue at the position of another aligner with the same period and lateness.

        Channel ``order[c]`` of ``before`` is channel ``c`` here. Its counters are added.
        """
        self._phase_s, self._next = before._phase_s, before._next
        self._newest, self._newest_s = before._newest, before._newest_s
        self._open = {slot: row[order] for slot, row in before._open.items()}
        self._gaps.replace(before._gaps, order)
        self._far_late_rows = before._far_late_rows
        self.counters.update(before.counters)

    def _emitted(self, last: int, samples: Samples) -> None:
        """Continue after slot ``last``, that of the newest sample."""
        self._open = {slot: row for slot, row in self._open.items() if slot > last}
        slots = last - np.rint((samples.times[-1] - samples.times) / self._period_s).astype(
            np.int64
        )
        good: Bool = np.logical_not(np.isnan(samples.values))
        good[slots > last] = False  # these samples are from before the clock was set back
        if samples.quality is not None:
            good &= samples.quality == GOOD
        self._gaps.hold_newest(slots, samples.values, good)
        self._next = last + 1
        self._newest = max(self._newest, last)
        self._newest_s = max(self._newest_s, float(samples.times[-1]))
        self._far_late_rows = 0

    def news(self, readings: Readings, raw: bool = False) -> Readings:
        """Return the rows whose slots are not emitted yet; the others count as ``duplicate``.

        Use it for readings that an input may deliver twice. It never detects a clock step.

        Args:
            readings: (n, C).
            raw: whether the rows are raw values of windows that end at the slots.

        """
        if math.isnan(self._phase_s):
            return readings
        if raw:
            slots = windows_of(readings.times - self._phase_s, self._period_s)
        else:
            slots = slots_of(readings.times, self._phase_s, self._period_s)
        new = slots >= self._next
        self.counters["duplicate"] += int(np.count_nonzero(~new))
        return Readings(readings.times[new], readings.values[new])

    def _is_clock_step(self, slot: int) -> bool:
        """Whether this row, which is not taken yet, shows that the clock was set back."""
        far = slot < self._newest - self._gap_max
        self._far_late_rows = self._far_late_rows + 1 if far else 0
        if self._far_late_rows < FAR_LATE_ROWS:
            return False
        self.counters["clock_step"] += 1
        return True

    def _take(self, readings: Readings, slot: int, at: int, emitted: list[Samples]) -> None:
        """Put one row into its slot; emit the samples that it completes."""
        time, values = float(readings.times[at]), readings.values[at]
        if slot < self._next:
            # a row in order has an emitted slot only if that slot was complete
            self.counters["late" if time < self._newest_s else "duplicate"] += 1
            return
        if time < self._newest_s:
            self.counters["out_of_order"] += 1
        self._newest, self._newest_s = max(self._newest, slot), max(self._newest_s, time)
        self._merge(slot, values)
        while self._open and self._is_due(first := min(self._open)):
            emitted.append(self._emit(first))

    def _merge(self, slot: int, values: Float32) -> None:
        so_far = self._open.setdefault(slot, np.full(len(values), np.nan, np.float32))
        known = ~np.isnan(values)
        if (known & ~np.isnan(so_far)).any():
            self.counters["duplicate"] += 1
        so_far[known] = values[known]

    def _is_due(self, slot: int) -> bool:
        """Whether the first open slot, and the empty slots before it, can be emitted."""
        first_waiting = self._newest - self._lateness
        if slot < first_waiting:
            return True
        if slot not in (self._next, first_waiting):
            return False
        return not np.isnan(self._open[slot]).any()

    def _emit(self, slot: int) -> Samples:
        """Emit a slot and the empty slots before it; the gap policy fills missing values."""
        if slot - self._next > self._gap_max:
            self._next = slot
            self._gaps.forget()
        row = self._open.pop(slot)
        slots = np.arange(self._next, slot + 1)
        values, quality = self._gaps.fill(slots, row)
        self._next = slot + 1
        return Samples(self._times(slots), values, quality if quality.any() else None)

    def _times(self, slots: Int64) -> Float64:
        return (self._phase_s + slots * self._period_s).astype(np.float64, copy=False)

    def to_bytes(self) -> bytes:
        """Return the position on the grid as JSON, for the store."""
        if math.isnan(self._phase_s):
            return b"{}"
        document = {
            "phase_s": self._phase_s,
            "next": self._next,
            "newest": self._newest,
            "newest_s": self._newest_s,
            "open": [[slot, nullable(row)] for slot, row in self._open.items()],
            "far_late_rows": self._far_late_rows,
        }
        document |= self._gaps.document()
        return json.dumps(document).encode()

    def restore(self, data: bytes) -> None:
        """Set the position to what ``to_bytes`` returned."""
        document = json.loads(data)
        if not document:
            return
        self._phase_s, self._next = document["phase_s"], document["next"]
        self._newest, self._newest_s = document["newest"], document["newest_s"]
        self._open = {slot: np.array(row, np.float32) for slot, row in document["open"]}
        self._gaps.restore(document)
        self._far_late_rows = document["far_late_rows"]


class Aligned(NamedTuple):
    """``n`` samples of each of ``B`` streams."""

    who: Index  # the ``B`` streams, none twice
    times: Float64  # (n, B) Unix seconds, on the grids
    values: Float32  # (n, B, C) in the channels' units, NaN where missing
    quality: Uint8 | None = None  # (n, B, C), see ``Samples``

    def of(self, column: int) -> Samples:
        """Return the samples of one stream."""
        quality = None if self.quality is None else self.quality[:, column]
        return Samples(self.times[:, column], self.values[:, column], quality)


class Aligners:
    """The positions of ``N`` streams of one bundle, each on its own grid.

    Complete rows of the next slots, the common case of live streams, are aligned for all streams
    at once. All other rows go to the stream's own ``Aligner``, with the same result.
    """

    def __init__(
        self,
        sampling: Sampling,
        channels: int,
        lateness_samples: Sequence[int],
        anchored: bool = False,
    ) -> None:
        self._period_s = sampling.period_s
        self._half = half(sampling.period_s)
        self._each = [
            Aligner(sampling, channels, lateness, anchored) for lateness in lateness_samples
        ]
        streams = len(self._each)
        self._all = np.arange(streams).tobytes()
        self._phase_s = np.full(streams, np.nan)
        self._next = np.full(streams, np.nan)  # ``Aligner.next_whole_slot``
        # the last rows, and whether the aligners have still to get them (``ahead``)
        self._ahead = np.zeros(streams, np.bool_)
        self._last_s = np.full(streams, np.nan)
        self._last = np.zeros((streams, channels), np.float32)

    @property
    def newest_s(self) -> Float64:
        """The latest time of a reading of each stream, (N,) Unix seconds; NaN before the first."""
        return self._last_s

    def of(self, stream: int) -> Aligner:
        """Return a stream's own aligner, brought up to date, for reading or saving."""
        own = self._each[stream]
        if self._ahead[stream]:
            slot = int(self._next[stream]) - 1
            own.passed(slot, float(self._last_s[stream]), self._last[stream])
            self._ahead[stream] = False
        return own

    def counters(self, stream: int) -> Counter[str]:
        """Return what a stream's own aligner has counted; see ``Aligner``."""
        return self._each[stream].counters

    def is_plain(self, stream: int) -> bool:
        """Whether a stream's last rows were complete, so that its last sample is its position."""
        return bool(self._ahead[stream])

    def caught_up(self, stream: int, samples: Samples) -> None:
        """See ``Aligner.caught_up``."""
        self._each[stream].caught_up(samples)
        self._look_at(stream)

    def news(self, stream: int, readings: Readings, raw: bool = False) -> Readings:
        """See ``Aligner.news``."""
        return self.of(stream).news(readings, raw)

    def restore(self, stream: int, data: bytes) -> None:
        """Set the position of a stream to what its ``Aligner.to_bytes`` returned."""
        self._ahead[stream] = False
        self._each[stream].restore(data)
        self._look_at(stream)

    def replace(self, stream: int, before: Aligner, order: Sequence[int]) -> None:
        """See ``Aligner.replace``."""
        self._ahead[stream] = False
        self._each[stream].replace(before, order)
        self._look_at(stream)

    def push(self, streams: Int64, readings: Readings) -> list[Aligned]:
        """Process readings (n, C); row i is of stream ``streams[i]``; return complete samples."""
        if len(streams) == 1:
            return self._push_one(int(streams[0]), readings)
        if len(streams) == len(self._each) and (aligned := self._push_all(streams, readings)):
            return aligned
        order = np.argsort(streams, kind="stable")
        sorted_streams = streams[order]
        times, values = readings.times[order], readings.values[order]
        first = np.flatnonzero(np.diff(sorted_streams, prepend=-1))
        count = np.diff(first, append=len(order))
        rank = np.arange(len(order)) - np.repeat(first, count)
        slots = slots_of(times, self._phase_s[sorted_streams], self._period_s)
        plain = (slots == self._next[sorted_streams] + rank) & ~np.isnan(values).any(axis=1)
        pass_on = np.logical_and.reduceat(plain, first)
        who = sorted_streams[first]
        aligned = []
        for size in np.unique(count[pass_on]).tolist():
            chosen = pass_on & (count == size)
            rows = first[chosen] + np.arange(size)[:, None]  # (n, B)
            aligned.append(self._pass_on(who[chosen], slots[rows], times[rows], values[rows]))
        for at in np.flatnonzero(~pass_on).tolist():
            own = slice(first[at], first[at] + count[at])
            aligned += self._push(int(who[at]), Readings(times[own], values[own]))
        return aligned

    def _push_one(self, stream: int, readings: Readings) -> list[Aligned]:
        """Do as ``push`` does for a single row, in a third of the time."""
        time, phase_s = float(readings.times[0]), float(self._phase_s[stream])
        place = (time - phase_s) / self._period_s + self._half
        slot = math.nan if math.isnan(place) else float(math.floor(place))
        # for a few values, a sum of Python floats is faster than one in numpy
        if slot != self._next[stream] or math.isnan(sum(readings.values[0].tolist())):
            return self._push(stream, readings)
        self._next[stream] = slot + 1
        self._last_s[stream], self._last[stream] = time, readings.values[0]
        self._ahead[stream] = True
        on_grid = np.array([[phase_s + slot * self._period_s]])
        who = ALL if len(self._each) == 1 else np.array([stream])
        return [Aligned(who, on_grid, readings.values[None])]

    def _push_all(self, streams: Int64, readings: Readings) -> list[Aligned] | None:
        """Do as ``push`` does, if each stream has one row, complete and next; otherwise None."""
        times, values = readings
        if streams.tobytes() != self._all:
            order = np.argsort(streams)
            if streams[order].tobytes() != self._all:
                return None
            times, values = times[order], values[order]
        slots = times - self._phase_s
        slots /= self._period_s
        slots += self._half
        np.floor(slots, out=slots)
        plain = np.logical_and.reduce(slots == self._next)
        if not plain or math.isnan(np.add.reduce(values, axis=None)):
            return None
        np.add(slots, 1.0, out=self._next)
        self._last_s[:], self._last[:], self._ahead[:] = times, values, True
        slots *= self._period_s
        slots += self._phase_s
        return [Aligned(ALL, slots[None], values[None])]

    def _pass_on(self, who: Int64, slots: Float64, times: Float64, values: Float32) -> Aligned:
        self._next[who] = slots[-1] + 1
        self._last_s[who], self._last[who], self._ahead[who] = times[-1], values[-1], True
        on_grid = self._phase_s[who] + slots * self._period_s
        return Aligned(ALL if len(who) == len(self._each) else who, on_grid, values)

    def _push(self, stream: int, readings: Readings) -> list[Aligned]:
        samples = self.of(stream).push(readings)
        self._look_at(stream)
        if len(samples.times) == 0:
            return []
        who, quality = np.array([stream]), samples.quality
        return [
            Aligned(
                who,
                samples.times[:, None],
                samples.values[:, None],
                None if quality is None else quality[:, None],
            )
        ]

    def _look_at(self, stream: int) -> None:
        own = self._each[stream]
        self._phase_s[stream], self._next[stream] = own.phase_s, own.next_whole_slot
        self._last_s[stream] = own.newest_s
