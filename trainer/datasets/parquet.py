"""Parquet: a file, or a folder of them. Polars delivers the needed columns, and nothing else.

All files below a folder are one recording, in the order of their paths. A folder
``stream=…/day=…`` of a collector is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from models.columns import Sought
from models.errors import ConfigError, DataError
from models.formats.recording import Layout
from models.messages import Float64
from trainer.datasets import file_digest
from trainer.datasets.raw import Raw
from trainer.datasets.tables import Column, Moments, Numbers, raw_of

if TYPE_CHECKING:
    import polars

_PER_SECOND: Final = {"ns": 1_000_000_000, "us": 1_000_000, "ms": 1_000}
_DAY_S: Final = 86_400.0
SUFFIXES: Final = (".parquet", ".pq")
_NAMED_MAX: Final = 10  # folders in an error


def read(path: Path, sought: Sought, layout: Layout) -> Raw:
    """Read a file, in its order, or all files of a folder.

    Raises:
        DataError: it cannot be read, or see ``trainer.datasets.tables.raw_of``.

    """
    return raw_of(ParquetFile(path), _digest(path), sought, layout)


def _digest(path: Path) -> str:
    """Return the sha256 of a file's bytes; of a folder, that of its files' digests and names."""
    if not path.is_dir():
        return file_digest(path)
    found = hashlib.sha256()
    for file in files_below(path):
        found.update(f"{file.relative_to(path)}\0{file_digest(file)}\n".encode())
    return found.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder, in order.

    Raises:
        DataError: there are none, or they are of several streams or gateways.

    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder}: there is no Parquet file in this folder")
    for key in ("gateway=", "stream="):
        parts = {part for file in files for part in file.relative_to(folder).parts}
        several = sorted(part for part in parts if part.startswith(key))
        if len(several) > 1:
            raise DataError(
                f"{folder}: it has files of {', '.join(several[:_NAMED_MAX])}; name the folder of"
                " one stream"
            )
    return files


class ParquetFile:
    """The columns of a file, or of all files of a folder.

    Raises:
        ConfigError: the extra is not installed.
        DataError: it cannot be read, or is no whole Parquet file.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            import polars

            self._polars = polars
        except ImportError as error:
            raise ConfigError(
                f"{path}: Parquet needs the extra: pip install 'fieldwatch[ingest]'"
            ) from error
        files = files_below(path) if path.is_dir() else [path]
        opened = [self._opened(file) for file in files]
        self.rows = sum(rows for _, rows in opened)
        # a channel that a later file adds has no values before
        self._lazy = polars.concat([lazy for lazy, _ in opened], how="diagonal_relaxed")
        try:
            self._schema = self._lazy.collect_schema()
        except polars.exceptions.PolarsError as error:
            raise self._damaged(path, error) from error

    def _opened(self, file: Path) -> tuple[polars.LazyFrame, int]:
        """Return the columns of a whole file, and the number of its rows."""
        pl = self._polars
        try:
            lazy = pl.scan_parquet(file, glob=False, hive_partitioning=False)
            lazy.collect_schema()
            return lazy, int(lazy.select(pl.len()).collect().item())
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
        except pl.exceptions.PolarsError as error:
            raise self._damaged(file, error) from error

    @property
    def where(self) -> str:
        """The path."""
        return str(self._path)

    @property
    def names(self) -> Sequence[str]:
        """The names of the columns."""
        return self._schema.names()

    def column(self, name: str) -> Column:
        """Return a column of numbers, times or texts.

        Raises:
            DataError: it has another type, or the file is damaged.

        """
        try:
            return self._converted(name, self._lazy.select(name).collect().to_series())
        except self._polars.exceptions.PolarsError as error:
            raise self._damaged(self._path, error) from error

    def _converted(self, name: str, series: polars.Series) -> Column:
        pl, kind = self._polars, series.dtype
        if isinstance(kind, pl.Datetime):
            whole, rest = (_numbers(part) for part in _divided(series, _PER_SECOND[kind.time_unit]))
            seconds = whole + rest / _PER_SECOND[kind.time_unit]
            return Moments(seconds, local=kind.time_zone is None)
        if kind == pl.Date:
            return Moments(_numbers(series.to_physical()) * _DAY_S, local=True)
        if kind.is_numeric() or kind == pl.Boolean:
            return Numbers(_numbers(series.cast(pl.Float64)))
        if kind == pl.Null:
            return Numbers(np.full(len(series), np.nan))
        if kind == pl.Time:
            return series.dt.to_string("%H:%M:%S%.f").to_list()
        if kind in (pl.String, pl.Categorical, pl.Enum):
            return series.cast(pl.String).to_list()
        raise DataError(
            f"{self._path}: column {name!r} has the type {kind}; numbers, times and texts can be"
            " read"
        )

    @staticmethod
    def _damaged(path: Path, error: Exception) -> DataError:
        first = str(error).split("\n", 1)[0]
        return DataError(f"{path}: it is not a whole Parquet file: {first}")


def _divided(series: polars.Series, per_second: int) -> tuple[polars.Series, polars.Series]:
    """Return whole seconds and the rest; a float cannot hold the nanoseconds of our time."""
    ticks = series.to_physical()
    return ticks // per_second, ticks % per_second


def _numbers(series: polars.Series) -> Float64:
    return np.asarray(series.to_numpy(), np.float64)
