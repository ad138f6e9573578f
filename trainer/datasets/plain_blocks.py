"""Fast path for CSV: blocks in which every cell that is read is plainly a number or a time.

Polars splits such a block, and converts its numbers. It returns None for any other block, such as
one with a quote, a word or a line that is too short: ``models.formats`` then reads that line by
line. A test compares both ways.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from models.formats.local_times import first_reading
from models.formats.times import Times
from models.messages import Float64

if TYPE_CHECKING:
    import polars

# text in these forms means the same to ``strptime`` and to polars
_PADDED: Final = {
    **{f"%{one}": r"\d{2}" for one in "dmHM"},
    "%Y": r"\d{4}",
    "%S": r"[0-5]\d",
    "%f": r"\d{1,6}",
}
_ISO: Final = tuple(
    f"%Y-%m-%d{joint}%H:%M:%S{fraction}{zone}"
    for joint in ("T", " ")
    for fraction in ("", ".%f")
    for zone in ("Z", "")
)
_DIRECTIVE: Final = re.compile(r"%.")


class Wanted(NamedTuple):
    """What is read of each line."""

    separator: str
    width: int  # number of columns
    time: int  # position of the column
    values: Sequence[int]  # positions
    tag: int | None  # position of the channels' names, in the long form
    numeric: bool  # the times are numbers
    comma: bool  # numbers have a decimal comma


class Plain(NamedTuple):
    """The cells of a block."""

    times: Float64  # (n,) as ``Times.seconds`` reads them
    values: Float64  # (n, C); NaN: empty, or not finite
    tags: list[str] | None


def plain_block(data: bytes, wanted: Wanted, times: Times) -> Plain | None:
    """Return the cells of whole lines, each with its end; None if a cell is not plain."""
    try:
        import polars as pl
    except ImportError:
        return None
    if wanted.separator == " " or b'"' in data:
        return None
    if wanted.comma and (times.has_comma or wanted.separator == ","):
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if wanted.comma:
        data = data.replace(b",", b".")
    count = data.count(b"\n")
    if data.count(wanted.separator.encode()) != count * (wanted.width - 1):
        return None
    used = {wanted.time, *wanted.values, *([] if wanted.tag is None else [wanted.tag])}
    texts = {wanted.tag, *([] if wanted.numeric else [wanted.time])}
    numbers = used - texts
    schema = {str(at): pl.Float64 if at in numbers else pl.String for at in range(wanted.width)}
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            separator=wanted.separator,
            quote_char=None,
            columns=sorted(used),
            schema=schema,
            infer_schema=False,
            empty_string_is_null=True,
        )
    except pl.exceptions.PolarsError:
        return None
    if frame.height != count:
        return None
    column = frame[str(wanted.time)]
    seconds = _numbers(column) if wanted.numeric else _seconds(column, times)
    if seconds is None:
        return None
    values = np.column_stack([_numbers(frame[str(at)]) for at in wanted.values])
    tags = None
    if wanted.tag is not None:
        tags = [(tag or "").strip() for tag in frame[str(wanted.tag)].to_list()]
    return Plain(seconds, values, tags)


def _numbers(series: polars.Series) -> Float64:
    return np.asarray(series.to_numpy(), np.float64)


def _seconds(series: polars.Series, times: Times) -> Float64 | None:
    """Return Unix seconds (n,) of texts that all have one padded form; None if they have none."""
    import polars as pl

    forms = _ISO if times.numbers_are_times else (times.form,)
    for form in forms:
        pattern = _pattern(form)
        if pattern is None or not re.fullmatch(pattern, series[0] or ""):
            continue
        if not series.str.contains(f"^{pattern}$").all():
            return None
        read = series.str.to_datetime(
            form.replace(".%f", "%.f"), time_unit="us", strict=False, exact=True
        )
        if read.null_count() or read.dtype.time_zone is not None:  # type: ignore[attr-defined]
            return None
        local_s = read.cast(pl.Int64).to_numpy() / 1e6
        if form.endswith("Z"):
            return np.asarray(local_s)
        return None if times.zone is None else first_reading(np.asarray(local_s), times.zone)
    return None


@functools.cache
def _pattern(form: str) -> str | None:
    """Return the regular expression of a form's padded texts; None if its parts are others."""
    directives = _DIRECTIVE.findall(form)
    if not set(directives) <= _PADDED.keys() or len(set(directives)) < len(directives):
        return None
    if not {"%Y", "%m", "%d"} <= set(directives) or ("%f" in directives and ".%f" not in form):
        return None
    literal = map(re.escape, _DIRECTIVE.split(form))
    parts = [*(_PADDED[one] for one in directives), ""]
    return "".join(text + part for text, part in zip(literal, parts, strict=True))
