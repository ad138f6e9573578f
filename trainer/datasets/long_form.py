"""The long form of a recording: each row has one value, and names its channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from models.errors import DataError
from models.messages import Float32, Float64, Int64

_NAMED_MAX: Final = 20  # names in an error


def chosen(
    channels: Sequence[Sequence[str]], there: Sequence[str], of_rows: Int64
) -> tuple[list[str], Int64]:
    """Return the name of each channel, and each row's channel (n,); -1: none that is read.

    Args:
        channels: the possible names of each channel; the first one that is there is read.
        there: the names in the source.
        of_rows: (n,) the position in ``there`` of each row's name.

    """
    names = [next((name for name in some if name in there), some[0]) for some in channels]
    meaning = [names.index(name) if name in names else -1 for name in there]
    return names, np.array(meaning, np.int64)[of_rows]


class LongRows(NamedTuple):
    """The rows of a long form: each has a value of one channel."""

    times: Float64  # (n,)
    channels: Int64  # (n,) positions of the channels; -1: of none that is read
    values: Float32 | Float64  # (n,)


def widened(
    where: str, cells: LongRows, names: Sequence[str], there: Sequence[str]
) -> tuple[Float64, Float32, int]:
    """Return times (n,), values (n, C) with a row for each time, and how many values were doubled.

    Of two values of a channel at the same time the later row counts.

    Args:
        where: names the source in errors.
        cells: the rows of the long form.
        names: of the C channels, as the source has them.
        there: all names that the source has, for the error.

    Raises:
        DataError: a channel has no row.

    """
    for position, name in enumerate(names):
        if not (cells.channels == position).any():
            some = ", ".join(there[:_NAMED_MAX])
            raise DataError(f"{where}: no row has the channel {name!r}; there are: {some}")
    used = cells.channels >= 0
    channels = cells.channels[used]
    times, rows = np.unique(cells.times[used], return_inverse=True)
    values = np.full((len(times), len(names)), np.nan, np.float32)
    with np.errstate(over="ignore"):  # values outside float32 become missing
        values[rows, channels] = cells.values[used].astype(np.float32)
    doubled = len(channels) - len(np.unique(rows * len(names) + channels))
    return times, values, doubled
