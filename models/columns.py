"""Finds the columns of a recording that contain a bundle's channels.

The training may have read a channel from a column with another name, which is in the bundle's
lineage. A recording from a gateway has the channels' own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.formats.cells import CLOCK, TIME
from models.formats.header import Wanted
from models.formats.recording import Layout, Recorded, recorded
from models.manifest import Manifest


class Sought(NamedTuple):
    """The possible columns of each value; the first one that the header has is read."""

    time: Sequence[str]
    channels: Sequence[Sequence[str]]  # of each channel
    clock: str | None = None  # of the time of day, if the first of ``time`` has only the date


class Found(NamedTuple):
    """The columns to read."""

    time: str
    channels: list[str]
    clock: str | None  # of the time of day; None: ``time`` has it

    def meaning(self, names: Sequence[str]) -> dict[str, str]:
        """Return what each column is; ``names``: of the channels."""
        of_time = {self.time: TIME} | ({} if self.clock is None else {self.clock: CLOCK})
        return dict(zip(self.channels, names, strict=True)) | of_time


def of_bundle(
    manifest: Manifest, time_column: str | None = None, clock_column: str | None = None
) -> Sought:
    """Return the possible columns of a bundle's channels: the training's, then the names.

    Args:
        manifest: Of the bundle.
        time_column: The only column of times; None: that of the training, or ``time``.
        clock_column: The column of the time of day, if ``time_column`` has only the date.

    """
    lineage = manifest.lineage
    names = [channel.name for channel in manifest.source_channels]
    channels = [tuple(dict.fromkeys((lineage.columns.get(name, name), name))) for name in names]
    if time_column is not None:
        return Sought((time_column,), channels, clock_column)
    return Sought(
        tuple(dict.fromkeys((lineage.time_column, TIME))),
        channels,
        lineage.clock_column,
    )


def cut(data: bytes, sought: Sought, layout: Layout) -> tuple[Recorded, Found]:
    """Cut a recording into rows; return them and the columns to read.

    If the header has none of a channel's columns, this returns the first one.

    Raises:
        ValueError: see ``models.formats.recording.recorded``.

    """
    names = frozenset(name for columns in sought.channels for name in columns)
    refused: ValueError | None = None
    for time in sought.time:
        try:
            read = recorded(data, Wanted(time, names), layout)
        except ValueError as error:
            refused = refused or error
            continue
        columns = [_first(columns, read.header) for columns in sought.channels]
        return read, Found(time, columns, _clock(sought, time, read.header))
    assert refused is not None, "no column of times is sought"
    raise refused


def _clock(sought: Sought, time: str, header: Sequence[str]) -> str | None:
    """Return the column of the time of day; a gateway's recording has the whole time in one."""
    apart = time == sought.time[0] and (time != TIME or sought.clock in header)
    return sought.clock if apart else None


def _first(columns: Sequence[str], header: Sequence[str]) -> str:
    return next((column for column in columns if column in header), columns[0])
