"""Finds the columns of a recording that contain a bundle's channels.

The training may have read a channel from a column with another name, which is in the bundle's
lineage. A recording from a gateway has the channels' own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.formats.cells import TIME
from models.formats.header import Wanted
from models.formats.recording import Layout, Recorded, recorded
from models.manifest import Manifest


class Sought(NamedTuple):
    """The possible columns of each value; the first one that the header has is read."""

    time: Sequence[str]
    channels: Sequence[Sequence[str]]  # of each channel


class Found(NamedTuple):
    """The columns to read."""

    time: str
    channels: list[str]


def of_bundle(manifest: Manifest) -> Sought:
    """Return the possible columns of a bundle's channels: the training's, then the names."""
    lineage = manifest.lineage
    names = [channel.name for channel in manifest.source_channels]
    return Sought(
        tuple(dict.fromkeys((lineage.time_column, TIME))),
        [tuple(dict.fromkeys((lineage.columns.get(name, name), name))) for name in names],
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
        return read, Found(time, columns)
    assert refused is not None, "no column of times is sought"
    raise refused


def _first(columns: Sequence[str], header: Sequence[str]) -> str:
    return next((column for column in columns if column in header), columns[0])
