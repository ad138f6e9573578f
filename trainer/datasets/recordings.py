"""Reads a recording, whatever its form; the end of its name says which that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from models.columns import Sought
from models.formats.recording import Layout
from trainer.config import LABELS_SUFFIX
from trainer.datasets import Recording, arrays, csv_files, parquet
from trainer.datasets.raw import Ranged, Raw, finished

LAYOUT: Final = Layout()
_READERS: Final[Mapping[str, Callable[[Path, Sought, Layout], Raw]]] = {
    **dict.fromkeys(parquet.SUFFIXES, parquet.read),
    ".npy": arrays.read,
    ".npz": arrays.read,
}


def read_recording(
    path: Path,
    sought: Sought,
    channels: Sequence[Ranged],
    layout: Layout = LAYOUT,
) -> Recording:
    """Read one recording, in the order of its times.

    Args:
        path: of the file: Parquet, ``.npy``, ``.npz``, or else CSV, maybe as ``.gz``; or of a
            folder with Parquet files.
        sought: the columns of the times and of each channel.
        channels: the channels to read, each with its range.
        layout: the format of the file.

    Raises:
        DataError: the file cannot be read, a column is missing, or too many cells or rows cannot be
            used; the text has file, line and column.

    """
    read = _READERS.get(path.suffix.lower(), csv_files.read)
    if path.is_dir():
        read = parquet.read
    return finished(path.name, read(path, sought, layout), channels)


def labels_path(recording: Path) -> Path:
    """Return the path of a recording's labels: ``X.labels.csv`` beside ``X.csv``."""
    stem = Path(recording.stem) if recording.suffix == ".gz" else recording
    return recording.with_name(stem.stem + LABELS_SUFFIX)
