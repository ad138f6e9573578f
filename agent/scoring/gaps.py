"""Gaps in a stream's samples: the agent reports each once, with its cause, when it is over.

    no value for long ─┬─ nothing of this was in the agent's life ──> the agent was away
                       ├─ nothing arrived for as long ─┬─ the agent stood still ──> it was away
                       │                               ├─ no link ──> the link was away
                       │                               └─ a link ───> the device was silent
                       └─ readings kept coming ─────────────────────> their times leave it out

A gap is over before anyone could act on it. So it is not an open alarm: it is stored and sent as a
closed one. A longer silence opens the alarm ``silent``, which then reports the gap. Times are those
of the detector, so a step of the gateway's clock causes no gap.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

import numpy as np

from agent.alarms.document import Reason, reason
from agent.scoring.part import Moment, Part, Teller
from agent.store.batch import Batch
from agent.wording.message import Message
from models.events import SENSOR_DETECTOR
from models.manifest import Sampling
from models.messages import GOOD, Bool, Event, Float32, Float64, Samples

AGENT_AWAY: Final = reason("agent", Message("advice.gap_agent"))
STOOD_STILL: Final = reason("agent", Message("advice.gap_still"))
DEVICE_AWAY: Final = reason("device", Message("advice.gap_device"))
TIMES: Final = reason("times", Message("advice.gap_times"))


def link_away(lost: str) -> Reason:
    """Return the reason of a gap; ``lost`` names the input without a link, and the cause."""
    return reason("link", Message("advice.gap_link", {"lost": lost}))


class Pause(NamedTuple):
    """A time without arrivals, by the monotonic clock."""

    seconds: float
    reason: Reason


class Gaps(Part):
    """The gaps of one stream.

    Args:
        teller: Teller of the stream.
        sampling: More than ``missing_samples`` periods without a value of any channel are a gap.
        lateness_samples: How many slots wait for late readings.

    """

    name = "gaps"

    def __init__(self, teller: Teller, sampling: Sampling, lateness_samples: int = 0) -> None:
        self._teller = teller
        self.least_s = (sampling.missing_samples + 0.5) * sampling.period_s  # from value to value
        self._last: float | None = None  # the detector's time of the newest value
        self._measured: float | None = None  # the same, of the newest value that was not held
        self._silent = False  # whether an alarm reports the time since that value
        self._resumed = False  # whether no value came yet since this start of the agent
        self._pause: Pause | None = None  # the longest pause since that value
        # slots that wait for late readings come before the gap, in at most one call each
        self._takes_max = lateness_samples + 2
        self._takes_left = 0  # calls until the three above are reset

    def begin(self) -> None:
        """Treat the next samples as the first since the agent's start."""
        self._resumed = self._last is not None and not self._silent
        self._takes_left = self._takes_max

    def pause(self, seconds: float, reason: Reason) -> None:
        """Record a time without arrivals, and its reason."""
        if self._pause is None or seconds > self._pause.seconds:
            self._pause = Pause(seconds, reason)
        self._takes_left = self._takes_max

    def alarmed(self) -> None:
        """Record that an alarm reports the silence until the next value."""
        self._silent = True
        self._takes_left = self._takes_max

    def replace(self, before: Gaps) -> None:
        """Continue from the gaps of the same stream with its former detector."""
        self._last, self._measured = before._last, before._measured
        self._silent = before._silent
        self._resumed, self._pause = before._resumed, before._pause
        self._takes_left = before._takes_left

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Report the gaps that end with these samples."""
        times = samples.times - self._teller.correction_s
        if samples.quality is None and self._all_in_a_row(times, samples.values):
            self._last = self._measured = float(times[-1])
        else:
            self._look_for_gaps(samples._replace(times=times), batch)
        self._takes_left -= 1
        if self._takes_left <= 0:
            self._silent, self._resumed, self._pause = False, False, None

    def _all_in_a_row(self, times: Float64, values: Float32) -> bool:
        """Return whether all values (n, C) are known, and none comes after a gap.

        This is the usual case, and takes a third of the time of ``_look_for_gaps``.
        """
        if self._last is None or np.isnan(values).any():
            return False
        longest_s = times.item(0) - self._last
        if len(times) > 1:
            longest_s = max(longest_s, np.maximum.reduce(times[1:] - times[:-1]))
        return bool(longest_s <= self.least_s)

    def _look_for_gaps(self, samples: Samples, batch: Batch) -> None:
        """Report the gaps; the times of ``samples`` are the detector's."""
        known = ~np.isnan(samples.values).all(axis=1)
        times, quality = samples.times[known], samples.quality
        good = None if quality is None else (quality == GOOD).any(axis=1)[known]
        before = times[:1] if self._last is None else [self._last]
        steps = np.diff(np.concatenate([before, times]))
        for end in np.flatnonzero(steps > self.least_s).tolist():
            self._note_last(times[:end], None if good is None else good[:end])
            begin = self._last if self._measured is None else self._measured
            assert begin is not None  # no gap comes before the first value
            self._tell(begin, times.item(end), batch)
        self._note_last(times, good)

    def _note_last(self, times: Float64, good: Bool | None) -> None:
        """Record the last of these values, (n,); ``good``: which were measured; None: all."""
        if len(times):
            self._last = float(times[-1])
        if len(measured := times if good is None else times[good]):
            self._measured = float(measured[-1])

    def _tell(self, begin: float, end: float, batch: Batch) -> None:
        """Report the causes of a gap, each with its part of the time."""
        paused_s, reason = self._pause or (0.0, None)
        if self._resumed:
            self._resumed = False
            start = min(max(begin, end - paused_s), end)  # start of the agent
            if end - start <= self.least_s:
                start = end
            self._report(begin, start, AGENT_AWAY, batch)
            begin = start
        if self._silent:
            return
        if reason is None or paused_s < (end - begin) / 2:
            reason = TIMES
        self._report(begin, end, reason, batch)

    def _report(self, begin: float, end: float, reason: Reason, batch: Batch) -> None:
        if end - begin <= self.least_s:
            return
        event = Event(
            number=self._teller.take_number(),
            kind="gap",
            detector=SENSOR_DETECTOR,
            onset=begin,
            opened=end,
            closed=end,
            score=0.0,
            probability=None,
            severity="low",
        )
        self._teller.report([event], batch, reason=reason)

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save the state with the memory: samples that are stored later are taken again."""
        saved = {"last": self._last, "measured": self._measured, "silent": self._silent}
        return json.dumps(saved).encode()

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue from the newest value."""
        saved = json.loads(data)
        self._last, self._measured = saved["last"], saved["measured"]
        self._silent = saved["silent"]
