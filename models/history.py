"""A bounded history of normal values per row: ring buffers, saved in parts if they changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from models.messages import Bool, Float32, Float64, Int64

PART_COLUMNS = 64  # columns per saved part of a history; only changed parts are saved


class Moments(NamedTuple):
    """Moments of sets of values of ``R`` rows, (…, R) each."""

    counts: Int64  # number of values
    mean: Float64  # in the values' unit
    squares: Float64  # sum of the squared distances from the mean


@dataclass(eq=False, slots=True)
class History:
    """The newest values of ``R`` rows."""

    values: Float32  # (R, H), a ring per row
    written: Int64  # (R,) values ever put into each ring
    changed: set[int] = field(default_factory=set)  # parts changed since they were last saved
    # moments of the K parts, (K, R), so that only changed parts are recomputed; None: not computed
    _moments: Moments | None = None
    _outdated: set[int] = field(default_factory=set)  # parts whose moments must be recomputed

    @staticmethod
    def empty(rows: int, size: int) -> History:
        """Return a history without a value."""
        return History(np.zeros((rows, size), np.float32), np.zeros(rows, np.int64))

    def kept(self, row: int) -> Float32:
        """Return the row's values, oldest first."""
        size, written = self.values.shape[1], int(self.written[row])
        if written <= size:
            return self.values[row, :written]
        return np.roll(self.values[row], -(written % size))

    def remember(self, row: int, values: Float32) -> None:
        """Append ``values`` (n,) to a row; they replace its oldest values."""
        size = self.values.shape[1]
        columns = (int(self.written[row]) + np.arange(len(values))) % size
        self.values[row, columns] = values
        self.written[row] += len(values)
        self._change(columns)

    def _change(self, columns: Int64) -> None:
        parts = set((columns // PART_COLUMNS).ravel().tolist())
        self.changed |= parts
        self._outdated |= parts

    def forget(self, rows: Bool) -> None:
        """Empty the rows where ``rows`` (R,) is true."""
        self.written[rows] = 0
        self._moments = None

    def remember_where(self, values: Float32, chosen: Bool | None) -> None:
        """Append to each row its ``values`` (R, n) where ``chosen`` (R, n) is true; None: all."""
        written = self.written.tolist()
        if chosen is None and written.count(written[0]) == len(written):
            self._remember_all(values, written[0])
            return
        if chosen is None:
            self._remember_apart(values)
            return
        for row in range(len(values)):
            self.remember(row, values[row] if chosen is None else values[row, chosen[row]])

    def _remember_all(self, values: Float32, written: int) -> None:
        """Append ``values`` (R, n) to rows that all have the same number of values."""
        size, count = self.values.shape[1], values.shape[1]
        skipped = max(0, count - size)  # later values would overwrite these at once
        at, first = (written + skipped) % size, min(size, count)
        end = min(size, at + first)
        self.values[:, at:end] = values[:, skipped : skipped + end - at]
        self.values[:, : at + first - end] = values[:, skipped + end - at :]
        self.written += count
        parts = {*range(at // PART_COLUMNS, (end - 1) // PART_COLUMNS + 1)}
        parts |= {*range(-(-(at + first - end) // PART_COLUMNS))}
        self.changed |= parts
        self._outdated |= parts

    def _remember_apart(self, values: Float32) -> None:
        """Append ``values`` (R, n) to rows of which some have got more values than others."""
        size, count = self.values.shape[1], values.shape[1]
        skipped = max(0, count - size)  # they would be overwritten at once
        columns = (self.written[:, None] + np.arange(skipped, count)) % size
        np.put_along_axis(self.values, columns, values[:, skipped:], axis=1)
        self.written += count
        self._change(np.unique(columns))

    def moments(self) -> Moments:
        """Return the moments of each of the ``K`` parts of the history, (K, R)."""
        size = self.values.shape[1]
        if self._moments is None:
            shape = (-(-size // PART_COLUMNS), len(self.values))
            self._moments = Moments(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))
            self._outdated = set(range(shape[0]))
        full = min(self.written.tolist()) >= size
        for part in self._outdated:
            begin = part * PART_COLUMNS
            values = self.values[:, begin : begin + PART_COLUMNS]
            used = None
            if not full:
                used = np.arange(begin, begin + values.shape[1]) < self.written[:, None]
            for array, news in zip(self._moments, moments(values, used), strict=True):
                array[part] = news
        self._outdated.clear()
        return self._moments


def moments(values: Float32, counted: Bool | None) -> Moments:
    """Return the moments (R,) of ``values`` (R, n) where ``counted`` (R, n) is true; None: all."""
    if counted is None or counted.all():
        count = np.full(len(values), values.shape[1])
        mean = np.add.reduce(values, axis=1, dtype=np.float64) / values.shape[1]
        apart = values - mean[:, None]
    else:
        count = counted.sum(axis=1)
        kept = np.where(counted, values, np.float32(0))
        mean = kept.sum(axis=1, dtype=np.float64) / np.maximum(count, 1)
        apart = np.where(counted, values - mean[:, None], 0.0)
    return Moments(count, mean, np.einsum("ij,ij->i", apart, apart))


def merged(parts: Moments, more: Moments) -> Moments:
    """Return the moments (R,) of the union of ``parts`` (K, R) and ``more`` (R,).

    After Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", Stanford 1979.
    """
    count = np.add.reduce(parts.counts) + more.counts
    total = np.add.reduce(parts.counts * parts.mean) + more.counts * more.mean
    mean = total / np.maximum(count, 1)
    apart = parts.mean - mean
    squares = np.add.reduce(parts.squares) + np.add.reduce(parts.counts * (apart * apart))
    apart = more.mean - mean
    return Moments(count, mean, squares + more.squares + more.counts * (apart * apart))
