"""Queries of databases, by SQLAlchemy; they only read.

The password comes from the environment or a file, never from the configuration. Rows are fetched in
parts, so that memory holds the numbers only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from models.columns import Sought
from models.errors import ConfigError, DataError
from models.formats.recording import Layout
from models.messages import Float64
from models.printable import printable
from trainer.config import QueryTable
from trainer.datasets import Recording
from trainer.datasets.raw import Ranged, Raw, finished
from trainer.datasets.tables import Column, Moments, Numbers, Texts, raw_of
from trainer.passwords import password

if TYPE_CHECKING:
    from sqlalchemy import URL, CursorResult

_ROWS: Final = 10_000  # fetched at once
_SQLITE: Final = "sqlite"
_NUMBERS, _TEXTS, _LOCAL, _UTC, _NONE = "numbers", "texts", "local times", "times", "nothing"


def read_query(
    directory: Path,
    query: QueryTable,
    sought: Sought,
    channels: Sequence[Ranged],
    layout: Layout,
) -> Recording:
    """Read the rows of a query as a recording, in the order of its times.

    Args:
        directory: of the configuration; paths in ``query`` are relative to it.
        query: the query and its database.
        sought: the columns of the times and of each channel.
        channels: the channels to read, each with its range.
        layout: as of files.

    Raises:
        ConfigError: the extra or the database's driver is not installed, the URL is wrong, or there
            is no password where the configuration says.
        DataError: the database refuses, or see ``trainer.datasets.tables.raw_of``.

    """
    raw = raw_of(QueryResult(directory, query), "", sought, layout)
    return finished(query.name, raw._replace(sha256=_digest(raw)), channels)


def _digest(raw: Raw) -> str:
    """Return the sha256 of what was read, as a database has no bytes of a file."""
    digest = hashlib.sha256(raw.times.tobytes())
    digest.update(np.ascontiguousarray(raw.values).tobytes())
    return digest.hexdigest()


class _Part(NamedTuple):
    """Some cells of a column."""

    kind: str
    cells: Float64 | Texts


class QueryResult:
    """The columns of a query's rows.

    Raises:
        ConfigError, DataError: see ``read_query``.

    """

    def __init__(self, directory: Path, query: QueryTable, rows_max: int | None = None) -> None:
        """Run the query; fetch about ``rows_max`` rows, None: all."""
        self._name = query.name
        self._columns: dict[str, list[_Part]] = {}
        self.rows = 0
        try:
            import sqlalchemy
            from sqlalchemy import exc
        except ImportError as error:
            raise ConfigError(
                f"{self.where}: a database needs the extra: pip install 'fieldwatch[ingest]'"
            ) from error
        try:
            url = _url(directory, query, self.where)
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        except exc.NoSuchModuleError as error:
            raise ConfigError(f"{self.where}: url names no known database: {error}") from error
        except exc.ArgumentError as error:
            raise ConfigError(f"{self.where}: url is not one that SQLAlchemy knows") from error
        except ImportError as error:
            raise ConfigError(
                f"{self.where}: the driver of this database is not installed: {error}"
            ) from error
        options: dict[str, Any] = {"stream_results": True, "yield_per": _ROWS}
        if engine.dialect.name == "postgresql":
            options["postgresql_readonly"] = True
        try:
            with engine.connect().execution_options(**options) as connection:
                with closing(connection.execute(sqlalchemy.text(query.query))) as result:
                    self._take(result, rows_max)
        except exc.DBAPIError as error:
            raise DataError(f"{self.where}: the database refuses: {_said(error.orig)}") from error
        except exc.SQLAlchemyError as error:
            raise DataError(f"{self.where}: {_said(error)}") from error

    @property
    def where(self) -> str:
        """The name of the query."""
        return f"query {self._name}"

    def _take(self, result: CursorResult[Any], rows_max: int | None) -> None:
        if not result.returns_rows:
            raise DataError(f"{self.where}: the query returns no rows: it must be a SELECT")
        names = list(result.keys())
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DataError(f"{self.where}: two columns are called {twice[0]!r}: rename one")
        self._columns = {name: [] for name in names}
        for rows in result.partitions(_ROWS):
            for name, cells in zip(names, zip(*rows, strict=True), strict=True):
                self._columns[name].append(self._part(name, cells))
            self.rows += len(rows)
            if rows_max is not None and self.rows >= rows_max:
                break

    def _part(self, name: str, cells: Sequence[Any]) -> _Part:
        kinds = {_kind(cell) for cell in cells if cell is not None}
        if len(kinds) > 1:
            raise DataError(f"{self.where}: column {name!r} mixes {' and '.join(sorted(kinds))}")
        kind = kinds.pop() if kinds else _NONE
        match kind:
            case "numbers" | "nothing":
                return _Part(kind, np.array(cells, np.float64))  # None becomes NaN
            case "texts":
                return _Part(kind, [None if cell is None else str(cell) for cell in cells])
            case "times" | "local times":
                return _Part(kind, np.array([_seconds(cell) for cell in cells]))
        raise DataError(
            f"{self.where}: column {name!r} has values of the type {kind}; numbers, times and"
            " texts can be read: convert it in the query"
        )

    @property
    def names(self) -> Sequence[str]:
        """The names of the columns."""
        return list(self._columns)

    def column(self, name: str) -> Column:
        """Return a column of numbers, times or texts.

        Raises:
            DataError: its rows have values of several types.

        """
        parts = self._columns[name]
        kinds = {part.kind for part in parts} - {_NONE}
        if len(kinds) > 1:
            raise DataError(f"{self.where}: column {name!r} mixes {' and '.join(sorted(kinds))}")
        if kinds == {_TEXTS}:
            return [cell if isinstance(cell, str) else None for p in parts for cell in p.cells]
        numbers = np.concatenate([np.asarray(part.cells, np.float64) for part in parts])
        if kinds & {_LOCAL, _UTC}:
            return Moments(numbers, local=_LOCAL in kinds)
        return Numbers(numbers)


def _kind(cell: Any) -> str:
    match cell:
        case bool() | int() | float() | Decimal():
            return _NUMBERS
        case str() | time():
            return _TEXTS
        case datetime():
            return _UTC if cell.tzinfo else _LOCAL
        case date():
            return _LOCAL
    return type(cell).__name__


def _seconds(cell: Any) -> float:
    """Return the seconds of a time; without a zone, as if its clock were UTC."""
    if cell is None:
        return float("nan")
    if not isinstance(cell, datetime):
        cell = datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
    moment: datetime = cell if cell.tzinfo else cell.replace(tzinfo=UTC)
    return moment.timestamp()


def _url(directory: Path, query: QueryTable, where: str) -> URL:
    """Return the URL with the password; a file of SQLite is opened for reading only."""
    from sqlalchemy import make_url

    url = make_url(query.url)
    if url.get_backend_name() == _SQLITE:
        return _existing(directory, url, where)
    found = password(directory, query.password_env, query.password_file, where)
    return url if found is None else url.set(password=found)


def _existing(directory: Path, url: URL, where: str) -> URL:
    """Return the URL of a file that is there: SQLite would make an empty one."""
    if not url.database or url.database == ":memory:":
        raise ConfigError(f"{where}: url names no file of SQLite, such as sqlite:///history.db")
    path = (directory / url.database).absolute()
    if not path.is_file():
        raise DataError(f"{where}: {path}: there is no such file")
    return url.set(database=path.as_uri()).update_query_dict({"mode": "ro", "uri": "true"})


def _said(error: BaseException | None) -> str:
    """Return the first lines of what a database says."""
    return printable(" ".join(str(error).split()))
