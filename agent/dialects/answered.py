"""Samples in the answer to a command of central ops: JSON, a row for each sample.

    {"stream":"pump-1","channels":["flow","heat"],"interval_s":1.2,
     "rows":[[1790121600.0,0.25,46.42,71.3],…],"samples":true,"quality":[[0,2],…]}

A row has time, score, and the value of each channel; null is none. With ``samples`` the rows are
the samples that the gateway has stored, and their numbers have the digits that tell a float32 from
the next. Without it each row is the mean of a period. ``quality`` has a code for each channel
(``models.quality``); without it all are good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from agent.dialects.samples import (
    CONTENT_BYTES_MAX,
    TIME_MAX,
    Refused,
    Samples,
    channel_names,
    content_bytes,
)
from models.messages import FLOAT32_MAX, GOOD, QUALITIES, Float32, Float64, Int64, Uint8

_PER_S: Final = 1e6


def rows_of(times: Float64, scores: Float32, values: Float32) -> list[list[float | None]]:
    """Return a row for each sample: time (n,), score (n,), and values (n, C)."""
    numbers = np.column_stack([scores, values])
    known = np.isfinite(numbers)
    cells = np.where(known, numbers, np.float32(0)).astype(str).astype(np.float64).astype(object)
    cells[~known] = None
    return [[time, *row] for time, row in zip(times.tolist(), cells.tolist(), strict=True)]


def read(result: Mapping[str, Any]) -> Samples | None:
    """Return the samples in a part of an answer, in the order of their times; None: it has none.

    Their numbers are their times in µs, and of two samples with one time the first counts.

    Raises:
        Refused: no gateway writes them so.

    """
    if result.get("samples") is not True:
        return None
    channels = channel_names(result.get("channels"))
    table = _table(result.get("rows"), 2 + len(channels))
    if not len(table):
        return None
    times = table[:, 0]
    if not ((times >= 0) & (times <= TIME_MAX)).all():  # not so where a time is missing
        raise Refused("it has times that are none")
    quality = None
    if "quality" in result:
        quality = _quality(result["quality"], len(table), len(channels))
    numbers, first = np.unique(micros(times), return_index=True)
    numbers_only = table[first, 1:].astype(np.float32)
    return Samples(
        channels,
        numbers,
        times[first],
        numbers_only[:, 1:],
        numbers_only[:, 0],
        None if quality is None else quality[first],
    )


def micros(times: Float64) -> Int64:
    """Return times (n,) in Unix seconds as whole µs, as files have them."""
    return np.round(times * _PER_S).astype(np.int64)


def _table(rows: Any, width: int) -> Float64:
    """Return rows of JSON as an array (n, width); NaN: null."""
    if not isinstance(rows, list) or not all(_is_row(row, width) for row in rows):
        raise Refused("rows is missing, or has a row that is none")
    if content_bytes(len(rows), width - 2) > CONTENT_BYTES_MAX:
        raise Refused(f"more than {CONTENT_BYTES_MAX} bytes of samples")
    table = np.array(rows, np.float64).reshape(-1, width)
    if (np.abs(table[:, 1:]) > FLOAT32_MAX).any():
        raise Refused("it has a number that is no float32")
    return table


def _is_row(row: Any, width: int) -> bool:
    if not isinstance(row, list) or len(row) != width:
        return False
    return all(cell is None or type(cell) is float or _is_integer(cell) for cell in row)


def _is_integer(cell: Any) -> bool:
    return type(cell) is int and abs(cell) < 2**63


def _quality(codes: Any, count: int, channels: int) -> Uint8:
    """Return the codes of JSON as an array (n, C)."""
    if not isinstance(codes, list) or len(codes) != count:
        raise Refused("quality is not a list with as many rows")
    if not all(isinstance(row, list) and len(row) == channels for row in codes):
        raise Refused("quality has a row that is none")
    if not all(
        type(code) is int and GOOD <= code < len(QUALITIES) for row in codes for code in row
    ):
        raise Refused("it has an unknown quality")
    return np.array(codes, np.uint8)
