"""Queries of real databases: what they return is read, and what is wrong is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest

from models.columns import Sought
from models.errors import ConfigError, DataError
from models.formats.recording import Layout, Long
from tests.postgres import PASSWORD, Postgres, running
from trainer.config import ColumnTable, DataTable, QueryTable
from trainer.datasets import Recording
from trainer.datasets.database import read_query

BEGIN_S = 1_700_000_000.0
SOUGHT = Sought(("time",), [("flow",), ("heat",)])
CHANNELS = [ColumnTable(name="flow", low=0.0), ColumnTable(name="heat")]
ROWS = 25_000  # more than are fetched at once


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        with psycopg.connect(
            host="127.0.0.1", port=server.port, user="reader", password=PASSWORD, dbname="postgres"
        ) as database:
            database.execute(
                "CREATE TABLE readings (time timestamptz, clock timestamp, flow real,"
                " heat numeric, note text, alarm boolean)"
            )
            database.execute("CREATE SEQUENCE numbers")
            with database.cursor().copy("COPY readings FROM STDIN") as copy:
                for row in range(ROWS):
                    at = datetime.fromtimestamp(BEGIN_S + row, UTC)
                    clock = at.replace(tzinfo=None)
                    heat = None if row % 10 == 0 else f"{row / 4}"
                    copy.write_row((at, clock, float(row), heat, "7,5", row % 2 == 0))
        yield server


def asked(server: Postgres, query: str, **more: str) -> QueryTable:
    more = {"password_env": "PLANT_PASSWORD"} | more
    return QueryTable.model_validate({"name": "plant", "url": server.url, "query": query} | more)


PLAIN = Layout()


def read(
    table: QueryTable, layout: Layout = PLAIN, sought: Sought = SOUGHT, where: Path = Path("/")
) -> Recording:
    return read_query(where, table, sought, CHANNELS, layout)


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_PASSWORD", PASSWORD)


@pytest.mark.usefixtures("password")
def test_rows_of_postgresql(postgres: Postgres) -> None:
    found = read(asked(postgres, "SELECT time, flow, heat FROM readings ORDER BY time"))
    times, values = found.readings
    assert found.name == "plant"
    assert times.tolist() == [BEGIN_S + row for row in range(ROWS)]
    assert values[:, 0].tolist() == list(range(ROWS))
    assert np.isnan(values[::10, 1]).all()
    assert values[1, 1] == 0.25
    again = read(asked(postgres, "SELECT heat, flow, time FROM readings ORDER BY time"))
    assert again.sha256 == found.sha256


@pytest.mark.usefixtures("password")
def test_local_times_need_a_zone(postgres: Postgres) -> None:
    table = asked(postgres, "SELECT clock AS time, flow, heat FROM readings LIMIT 5")
    with pytest.raises(DataError, match=r"query plant: 'time' has local times.*set data.time_zone"):
        read(table)
    found = read(table, Layout(time_zone="Etc/GMT-1"))
    assert found.readings.times.tolist() == [BEGIN_S - 3600 + row for row in range(5)]


@pytest.mark.usefixtures("password")
def test_texts_and_booleans_are_read_as_in_files(postgres: Postgres) -> None:
    query = "SELECT time, alarm::int AS flow, note AS heat FROM readings ORDER BY time LIMIT 4"
    assert read(asked(postgres, query)).readings.values.tolist() == [[1, 7.5], [0, 7.5]] * 2


@pytest.mark.usefixtures("password")
def test_the_long_form(postgres: Postgres) -> None:
    query = """SELECT time, 'F1' AS tag, flow AS value FROM readings WHERE flow < 3
        UNION ALL SELECT time, 'T1', heat FROM readings WHERE flow < 3 ORDER BY time, tag"""
    layout, sought = Layout(long=Long("tag", "value")), Sought(("time",), [("F1",), ("T1",)])
    values = read(asked(postgres, query), layout, sought).readings.values
    np.testing.assert_array_equal(values, [[0, np.nan], [1, 0.25], [2, 0.5]])


@pytest.mark.usefixtures("password")
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM readings WHERE false", "query plant: there are no rows"),
        ("SELECT time, flow FROM readings", "no column 'heat'; there are: time, flow"),
        ("SELECT * FROM nothing", 'the database refuses: relation "nothing" does not exist'),
        ("SELEC 1", "the database refuses: syntax error"),
        ("SELECT time, flow, flow, heat FROM readings", "two columns are called 'flow'"),
        ("SELECT time, flow, ARRAY[1] AS heat FROM readings", "'heat' has values of the type list"),
        ("SELECT time, flow, time AS heat FROM readings", "'heat' has times, not numbers"),
        ("DELETE FROM readings", 'syntax error at or near "DELETE"'),
        ("SELECT nextval('numbers') AS time", "in a read-only transaction"),
        ("SELECT time, flow, 'no' AS heat FROM readings", "heat: 'no' is not a number; 25000 of"),
    ],
)
def test_a_query_that_cannot_be_used(postgres: Postgres, query: str, said: str) -> None:
    with pytest.raises(DataError) as refused:
        read(asked(postgres, query))
    assert said in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_a_wrong_password(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_PASSWORD", "wrong-one")
    with pytest.raises(DataError, match="password authentication failed") as refused:
        read(asked(postgres, "SELECT 1"))
    assert "wrong-one" not in str(refused.value)


def test_no_password_where_the_configuration_says(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLANT_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="the environment has no variable PLANT_PASSWORD"):
        read(asked(postgres, "SELECT 1"))
    by_file = {"name": "plant", "url": postgres.url, "password_file": "secret"}
    query = "SELECT time, flow, heat FROM readings LIMIT 2"
    table = QueryTable.model_validate(by_file | {"query": query})
    with pytest.raises(ConfigError, match=r"password_file .*secret cannot be read: No such file"):
        read(table, where=tmp_path)
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    assert len(read(table, where=tmp_path).readings.times) == 2


def test_a_server_that_is_not_there() -> None:
    url = "postgresql+psycopg://reader@127.0.0.1:1/postgres"
    table = QueryTable(name="plant", url=url, query="SELECT 1")
    with pytest.raises(DataError, match=r"query plant: the database refuses: .*connection failed"):
        read(table)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oracleofdelphi://x/y", "url names no known database"),
        ("mysql+pymysql://x/y", "the driver of this database is not installed"),
        ("sqlite://", "url names no file of SQLite"),
    ],
)
def test_a_url_that_nothing_answers(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(QueryTable(name="plant", url=url, query="SELECT 1"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:secret-7@db/plant",
        "postgresql://reader:@db/plant",
        "postgresql://reader@db/plant?password=secret-7",
        "mssql+pyodbc://reader@db/plant?PWD=secret-7",
        "secret-7",
        "sqlite:secret-7.db",
        "http://[secret-7",
    ],
)
def test_a_password_in_the_configuration_is_refused_and_not_repeated(url: str) -> None:
    data = {"channels": [{"name": "flow"}]}
    with pytest.raises(ValueError, match=r"url has a password|url is not a URL") as refused:
        DataTable.model_validate(
            data | {"queries": [{"name": "plant", "url": url, "query": "SELECT 1"}]}
        )
    assert "secret-7" not in str(refused.value.errors()[0]["ctx"])  # type: ignore[attr-defined]


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "plant #7.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE readings (time, flow, heat)")
        rows = [("2023-11-14T22:13:20Z", 1, "1.5"), ("2023-11-14T22:13:21Z", None, "NA")]
        database.executemany("INSERT INTO readings VALUES (?, ?, ?)", rows)
    database.close()
    return path


def test_rows_of_sqlite(sqlite: Path) -> None:
    table = QueryTable(name="plant", url=f"sqlite:///{sqlite.name}", query="SELECT * FROM readings")
    found = read(table, where=sqlite.parent)
    assert found.readings.times.tolist() == [BEGIN_S, BEGIN_S + 1]
    np.testing.assert_array_equal(found.readings.values, [[1.0, 1.5], [np.nan, np.nan]])
    assert found.rejected == {"no_value": 1}


def test_sqlite_makes_no_file(tmp_path: Path) -> None:
    table = QueryTable(name="plant", url="sqlite:///none.db", query="SELECT 1")
    with pytest.raises(DataError, match=r"none\.db: there is no such file"):
        read(table, where=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_and_a_query_that_writes(sqlite: Path) -> None:
    (sqlite.parent / "text.db").write_text("no database" * 100)
    table = QueryTable(name="plant", url="sqlite:///text.db", query="SELECT 1 FROM x")
    with pytest.raises(DataError, match="file is not a database"):
        read(table, where=sqlite.parent)
    table = QueryTable(name="plant", url=f"sqlite:///{sqlite.name}", query="DELETE FROM readings")
    with pytest.raises(DataError, match="readonly database"):
        read(table, where=sqlite.parent)


def test_a_repeated_hour_in_a_database(tmp_path: Path) -> None:
    path = tmp_path / "autumn.db"
    begin = datetime(2025, 10, 26, 1, 30, tzinfo=UTC)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE readings (time, flow, heat)")
        for minutes in (0, 30, 60, 30, 60, 90):  # 01:30, 02:00, 02:30, 02:00, 02:30, 03:00
            database.execute(
                "INSERT INTO readings VALUES (?, ?, 2)",
                [f"{begin + timedelta(minutes=minutes):%Y-%m-%d %H:%M}", minutes],
            )
    database.close()
    table = QueryTable(name="plant", url="sqlite:///autumn.db", query="SELECT * FROM readings")
    times = read(table, Layout(time_zone="Europe/Berlin"), where=tmp_path).readings.times
    assert np.diff(times).tolist() == [1800.0] * 5
