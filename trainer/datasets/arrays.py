"""Arrays of numpy, as files ``.npy`` and ``.npz``.

    .npy  (n, K) numbers   columns "column 1", "column 2", ...
          (n,) with fields the fields are the columns
    .npz  arrays (n,)      each is a column, with its name

They may have no times: then ``row_period_s`` has the seconds from row to row.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from models.columns import Sought
from models.errors import DataError
from models.formats.recording import Layout
from trainer.datasets import file_digest
from trainer.datasets.raw import Raw
from trainer.datasets.tables import Column, Moments, Numbers, raw_of

# the errors of numpy's reader on damaged files
DAMAGED: Final = (
    *(ValueError, TypeError, SyntaxError, TokenError, MemoryError, OverflowError),
    *(EOFError, KeyError, OSError, zipfile.BadZipFile, zlib.error),
)
_Array = npt.NDArray[Any]


def read(path: Path, sought: Sought, layout: Layout) -> Raw:
    """Read one file, in its order.

    Raises:
        DataError: it cannot be read, or see ``trainer.datasets.tables.raw_of``.

    """
    return raw_of(ArrayFile(path), file_digest(path), sought, layout)


class ArrayFile:
    """The columns of a file.

    Raises:
        DataError: it is not a whole file of this kind, or its arrays are no columns.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                self._columns = _columns(_loaded(path, file))
        except DAMAGED as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise DataError(f"{path}: cannot be read: {error.strerror}") from error
            raise DataError(f"{path}: it is not a whole array file of numbers: {error}") from error
        lengths = {len(column) for column in self._columns.values()}
        if len(lengths) > 1:
            told = ", ".join(f"{name} {len(one)}" for name, one in self._columns.items())
            raise DataError(f"{path}: its arrays have different lengths: {told}")
        self.rows = lengths.pop() if lengths else 0

    @property
    def where(self) -> str:
        """The path."""
        return str(self._path)

    @property
    def names(self) -> Sequence[str]:
        """The names of the columns."""
        return list(self._columns)

    def column(self, name: str) -> Column:
        """Return a column of numbers, times or texts.

        Raises:
            DataError: it has another type.

        """
        values = self._columns[name]
        match values.dtype.kind:
            case "b" | "i" | "u" | "f":
                return Numbers(values.astype(np.float64))
            case "M":
                micros = values.astype("datetime64[us]")
                seconds = micros.astype(np.int64) / 1e6  # exact: below 2**53
                return Moments(np.where(np.isnat(micros), np.nan, seconds), local=False)
            case "U":
                return [str(one) for one in values]
        raise DataError(
            f"{self._path}: column {name!r} has the type {values.dtype}; numbers, times and texts"
            " can be read"
        )


def _loaded(path: Path, file: BinaryIO) -> Any:
    """Return what a file has; a table is mapped, so that only read columns take memory."""
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return np.load(file, allow_pickle=False)


def _columns(found: Any) -> Mapping[str, _Array]:
    """Return the columns of what a file has; ValueError if they are none."""
    if isinstance(found, np.lib.npyio.NpzFile):
        columns = {name: found[name] for name in found.files}
        odd = [name for name, one in columns.items() if one.ndim != 1]
        if odd:
            raise ValueError(f"array {odd[0]!r} has {columns[odd[0]].ndim} dimensions, not 1")
        return columns
    if found.dtype.names:
        return {name: found[name] for name in found.dtype.names}
    if found.ndim not in (1, 2):
        raise ValueError(f"it has {found.ndim} dimensions, not 1 or 2")
    wide = found.reshape(len(found), -1)
    return {f"column {at + 1}": wide[:, at] for at in range(wide.shape[1])}
