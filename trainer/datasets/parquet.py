"""Parquet files. Polars delivers the columns that are needed, and nothing else."""

from __future__ import annotations

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


def read(path: Path, sought: Sought, layout: Layout) -> Raw:
    """Read one file, in its order.

    Raises:
        DataError: it cannot be read, or see ``trainer.datasets.tables.raw_of``.

    """
    return raw_of(ParquetFile(path), file_digest(path), sought, layout)


class ParquetFile:
    """The columns of a file.

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
        try:
            self._lazy = polars.scan_parquet(path, glob=False)
            self._schema = self._lazy.collect_schema()
            self.rows = int(self._lazy.select(polars.len()).collect().item())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        except polars.exceptions.PolarsError as error:
            raise self._damaged(error) from error

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
            raise self._damaged(error) from error

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

    def _damaged(self, error: Exception) -> DataError:
        first = str(error).split("\n", 1)[0]
        return DataError(f"{self._path}: it is not a whole Parquet file: {first}")


def _divided(series: polars.Series, per_second: int) -> tuple[polars.Series, polars.Series]:
    """Return whole seconds and the rest; a float cannot hold the nanoseconds of our time."""
    ticks = series.to_physical()
    return ticks // per_second, ticks % per_second


def _numbers(series: polars.Series) -> Float64:
    return np.asarray(series.to_numpy(), np.float64)
