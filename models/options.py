"""The command-line options that describe the format of recordings.

They have the same names as the settings in the table ``[data]`` of a training.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from models.formats.cells import Decimal
    from models.formats.encodings import Encoding

_TAB: Final = ("tab", r"\t")  # what people write for it on a command line


class Number(click.FloatRange):
    """A number in a range; unlike click's, it refuses NaN and infinity, which pass comparisons."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; any other value is a usage error."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def time_column_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options for the time columns to a command; both are None by default."""

    @click.option(
        "--time-column", help="Name of the time column.  [default: as in the training, or time]"
    )
    @click.option(
        "--clock-column", help="Column of the time of day, if --time-column has only the date."
    )
    @functools.wraps(command)
    def wrapped(time_column: str | None, clock_column: str | None, **rest: Any) -> int:
        if clock_column is not None and time_column is None:
            raise click.UsageError("--clock-column needs --time-column: the column of the date")
        if clock_column is not None and clock_column == time_column:
            raise click.UsageError(
                f"--clock-column is --time-column, {time_column!r}: leave it out"
            )
        return command(time_column=time_column, clock_column=clock_column, **rest)

    return wrapped


def layout_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options for a recording's layout; the command receives them as ``layout``."""

    @click.option(
        "--encoding",
        type=click.Choice(["utf-8", "latin-1", "cp1252"]),
        default="utf-8",
        show_default=True,
        help="Text encoding of the recordings.",
    )
    @click.option(
        "--separator",
        callback=_separator,
        help="Separates two cells; 'tab' for a tab.  [default: the separator of the header]",
    )
    @click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="Decimal point or comma.  [default: as in the first rows]",
    )
    @click.option(
        "--missing-words",
        multiple=True,
        metavar="WORD",
        help="A word in place of a value that means it is missing; may be repeated, and replaces"
        " the usual ones (NA, NULL, ERR, - ...).",
    )
    @click.option(
        "--time-format",
        help="Format of the times: excel, or a pattern such as '%d.%m.%Y %H:%M:%S'.",
    )
    @click.option(
        "--time-zone", help="Time zone of times without an offset, such as Europe/Berlin."
    )
    @functools.wraps(command)
    def wrapped(
        encoding: Encoding,
        separator: str | None,
        decimal: Decimal | None,
        missing_words: tuple[str, ...],
        time_format: str | None,
        time_zone: str | None,
        **rest: Any,
    ) -> int:
        from models.formats.recording import Layout  # loads numpy

        usual = Layout()
        layout = Layout(
            encoding,
            separator,
            decimal,
            missing_words or usual.missing_words,
            time_format or usual.time_format,
            time_zone,
        )
        return command(layout=layout, **rest)

    return wrapped


def _separator(_context: object, _option: object, value: str | None) -> str | None:
    if value in _TAB:
        return "\t"
    if value is not None and (len(value) != 1 or value.isalnum()):
        raise click.BadParameter("must be one character, no letter or digit; or tab")
    return value
