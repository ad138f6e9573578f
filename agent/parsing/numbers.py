"""Converts measurements of an input to rows of numbers, which are not validated yet."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np

from agent.config.inputs import InputTable
from agent.parsing.formats import Row, Rows, expect, stacked
from agent.parsing.measurement import Bad, Measurement
from agent.parsing.rejects import Rejects
from models.formats.cells import ABSENT, IGNORED, NOT_FINITE, TIME
from models.formats.times import NO_TIME, TIME_MIN
from models.messages import Float64


class Numbers:
    """Reads measurements: a block at once if all values exist and are good, otherwise singly.

    Raises:
        ConfigError: ``columns`` names a channel that the bundle does not have.

    """

    block_counts_nothing = True
    earliest_s = TIME_MIN

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        assert settings.columns is not None  # the configuration sees to it
        known = set(settings.columns) - {TIME, IGNORED}
        expect(settings, "columns", known, names)
        self._rejects = rejects
        self._known = frozenset(known)
        self._used = [(at, name) for at, name in enumerate(names) if name in known]
        self._order = None if len(known) == len(names) else [at for at, _ in self._used]
        self._width = len(names)
        self.has_time = TIME in settings.columns

    def block(self, measurements: Sequence[Measurement]) -> Rows | None:
        """Read all at once; if that is impossible, return None and count nothing."""
        if not measurements:
            return None
        numbers = array("d")
        times = array("d")
        try:
            for values, time in measurements:
                if len(values) != len(self._used):
                    return None
                numbers.extend([values[name] for _, name in self._used])  # type: ignore[misc]
                if self.has_time:
                    times.append(time)  # type: ignore[arg-type]
        except (KeyError, TypeError, OverflowError):  # not measured, bad, or too large for a double
            return None
        return Rows(measurements, np.frombuffer(times), self._table(numbers, len(measurements)))

    def _table(self, numbers: array[float], rows: int) -> Float64:
        table = np.frombuffer(numbers).reshape(rows, -1)
        if math.isnan(sum(numbers)):
            table[np.isnan(table)] = NOT_FINITE
        if self._order is None:
            return table
        ordered = np.full((rows, self._width), ABSENT)
        ordered[:, self._order] = table
        return ordered

    def each(self, measurements: Sequence[Measurement]) -> Rows:
        """Read one by one; count what cannot be used."""
        rows = map(self._row, measurements)
        return stacked([row for row in rows if row], self._width)

    def in_seconds(self, times: Float64) -> Float64:
        """Return times unchanged: those of measurements are Unix seconds."""
        return times

    def _row(self, measurement: Measurement) -> Row | None:
        given = measurement.values.keys()
        if self._known.isdisjoint(given):
            self._rejects.add("unknown_channel", measurement)
            return None
        for name in sorted(given - self._known):
            self._rejects.add("unknown_channel", measurement, name)
        values = [ABSENT] * self._width
        for at, name in self._used:
            values[at] = self._value(measurement, name)
        return Row(measurement, self._time(measurement), values)

    def _value(self, measurement: Measurement, name: str) -> float:
        value = measurement.values.get(name)
        if value is None:
            return ABSENT
        if isinstance(value, Bad):
            self._rejects.add("bad_quality", measurement, name)
            return ABSENT
        try:
            number = _number(value)
        except TypeError:
            self._rejects.add("not_a_number", measurement, name)
            return ABSENT
        return NOT_FINITE if math.isnan(number) else number

    def _time(self, measurement: Measurement) -> float:
        try:
            return NO_TIME if measurement.time is None else _number(measurement.time)
        except TypeError:
            return NO_TIME


def _number(value: float) -> float:
    """Convert a number as ``block`` does; raises TypeError if it is not a number."""
    try:
        return array("d", [value])[0]
    except OverflowError:
        return NOT_FINITE
