"""A bounded history of normal values per row: rings, saved in parts of which few change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.messages import Float32

PART_COLUMNS = 64  # a history is saved in parts of so many columns, only the changed ones


@dataclass(slots=True)
class History:
    """The newest values of ``R`` rows."""

    values: Float32  # (R, H), a ring per row
    written: npt.NDArray[np.int64]  # (R,) values ever put into each ring
    changed: set[int] = field(default_factory=set)  # parts changed since they were last saved

    @staticmethod
    def empty(rows: int, size: int) -> History:
        """Return a history without a value."""
        return History(np.zeros((rows, size), np.float32), np.zeros(rows, np.int64))

    def kept(self, row: int) -> Float32:
        """Return the row's values in order of time, oldest first."""
        size, written = self.values.shape[1], int(self.written[row])
        if written <= size:
            return self.values[row, :written]
        return np.roll(self.values[row], -(written % size))

    def remember(self, row: int, values: Float32) -> None:
        """Put new values in; the oldest go."""
        size = self.values.shape[1]
        columns = (int(self.written[row]) + np.arange(len(values))) % size
        self.values[row, columns] = values
        self.written[row] += len(values)
        self.changed.update((columns // PART_COLUMNS).tolist())

    def forget(self, rows: npt.NDArray[np.bool_]) -> None:
        """Let some rows begin anew."""
        self.written[rows] = 0

    def remember_where(self, values: Float32, chosen: npt.NDArray[np.bool_]) -> None:
        """Put the ``chosen`` of new values, (R, n), into each row; the oldest go."""
        if not chosen.all():
            for row in range(len(values)):
                self.remember(row, values[row, chosen[row]])
            return
        size = self.values.shape[1]
        columns = (self.written[:, None] + np.arange(values.shape[1])) % size
        self.values[np.arange(len(columns))[:, None], columns] = values
        self.written += values.shape[1]
        self.changed.update(np.unique(columns // PART_COLUMNS).tolist())

    def in_use(self) -> npt.NDArray[np.bool_]:
        """Tell which places of the rings hold a value, (R, H)."""
        used: npt.NDArray[np.bool_] = np.arange(self.values.shape[1]) < self.written[:, None]
        return used
