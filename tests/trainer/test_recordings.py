"""Recordings of every form are read as the same readings, and what is wrong is told."""

from __future__ import annotations

import gzip
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.columns import Sought
from models.errors import ConfigError, DataError
from models.formats.recording import Layout, Long
from trainer.config import ColumnTable, QueryTable
from trainer.datasets import Recording
from trainer.datasets.database import read_query
from trainer.datasets.recordings import labels_path, read_recording

BEGIN_S = 1_700_000_000.0
ROWS = 50
SOUGHT = Sought(("time",), [("flow",), ("T 1",)])
CHANNELS = [ColumnTable(name="flow", high=45.0), ColumnTable(name="heat", column="T 1")]
TIMES = BEGIN_S + np.arange(ROWS) / 4
FLOW = np.arange(ROWS) * 1.1
HEAT = np.where(np.arange(ROWS) % 7 == 3, np.nan, 20.125)


PLAIN = Layout()


def read(path: Path, layout: Layout = PLAIN, sought: Sought = SOUGHT) -> Recording:
    return read_recording(path, sought, CHANNELS, layout)


def check(found: Recording) -> None:
    assert found.readings.times.tolist() == TIMES.tolist()
    flow = np.where(FLOW > 45.0, np.nan, FLOW)
    wide = np.stack([flow, HEAT], axis=1).astype(np.float32)
    np.testing.assert_array_equal(found.readings.values, wide)
    assert found.out_of_range == int((FLOW > 45.0).sum())
    assert found.rejected == {}
    assert len(found.sha256) == 64


def as_csv(separator: str = ",", comma: bool = False) -> str:
    lines = [separator.join(["T 1", "time", "flow"])]
    for at, flow, heat in zip(TIMES.tolist(), FLOW.tolist(), HEAT.tolist(), strict=True):
        cells = ["" if np.isnan(heat) else f"{heat!r}", f"{at!r}", f"{flow!r}"]
        lines.append(separator.join(cell.replace(".", ",") if comma else cell for cell in cells))
    return "\n".join(lines) + "\n"


def frame(**columns: Any) -> pl.DataFrame:
    heat = pl.Series(HEAT).fill_nan(None)
    return pl.DataFrame({"T 1": heat, "time": TIMES, "flow": FLOW} | columns)


def parquet(path: Path, **columns: Any) -> Path:
    frame(**columns).write_parquet(path / "x.parquet")
    return path / "x.parquet"


@pytest.mark.parametrize(("separator", "comma"), [(",", False), (";", True), ("\t", True)])
def test_csv_and_compressed_csv(tmp_path: Path, separator: str, comma: bool) -> None:
    (tmp_path / "x.csv").write_text(as_csv(separator, comma))
    check(read(tmp_path / "x.csv"))
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(as_csv(separator, comma).encode()))
    check(read(tmp_path / "x.csv.gz"))
    assert labels_path(tmp_path / "x.csv.gz") == labels_path(tmp_path / "x.csv")


MOMENTS = [datetime.fromtimestamp(at, UTC) for at in TIMES]
TIME_COLUMNS: dict[str, Any] = {
    "seconds": TIMES,
    "milliseconds": (TIMES * 1e3).astype(np.int64),
    "microseconds": (TIMES * 1e6).astype(np.int64),
    "with a zone": pl.Series(MOMENTS).dt.convert_time_zone("Asia/Tokyo"),
    "in ns": pl.Series(MOMENTS).cast(pl.Datetime("ns", "UTC")),
    "in ms": pl.Series(MOMENTS).cast(pl.Datetime("ms", "UTC")),
    "text": [moment.isoformat() for moment in MOMENTS],
    "local": [moment.replace(tzinfo=None) for moment in MOMENTS],
    "local text": [f"{moment:%d.%m.%Y %H:%M:%S.%f}" for moment in MOMENTS],
}


@pytest.mark.parametrize("kind", TIME_COLUMNS)
def test_times_of_parquet(tmp_path: Path, kind: str) -> None:
    layout = Layout(time_zone="UTC" if "local" in kind else None)
    if kind == "local text":
        layout = layout._replace(time_format="%d.%m.%Y %H:%M:%S.%f")
    check(read(parquet(tmp_path, time=TIME_COLUMNS[kind]), layout))


def test_date_and_time_of_day_of_parquet(tmp_path: Path) -> None:
    columns = {
        "day": [moment.date() for moment in MOMENTS],
        "clock": [moment.time() for moment in MOMENTS],
    }
    sought = Sought(("day",), SOUGHT.channels, "clock")
    check(read(parquet(tmp_path, **columns), Layout(time_zone="UTC"), sought))


HEAT_COLUMNS: dict[str, Any] = {
    "float32": pl.Series(HEAT, dtype=pl.Float32),
    "decimal": pl.Series([None if np.isnan(one) else Decimal("20.125") for one in HEAT]),
    "text": ["NA" if np.isnan(one) else "20.125" for one in HEAT],
    "text with a comma": [None if np.isnan(one) else "20,125" for one in HEAT],
    "categories": pl.Series(["" if np.isnan(one) else "20.125" for one in HEAT]).cast(
        pl.Categorical
    ),
}


@pytest.mark.parametrize("kind", HEAT_COLUMNS)
def test_values_of_parquet(tmp_path: Path, kind: str) -> None:
    found = read(parquet(tmp_path, **{"T 1": HEAT_COLUMNS[kind]}))
    check(found._replace(rejected={}))
    assert found.rejected.get("no_value", 0) == (np.isnan(HEAT).sum() if kind == "text" else 0)


def test_integers_and_booleans_are_numbers(tmp_path: Path) -> None:
    columns = {"flow": [row % 2 == 0 for row in range(ROWS)], "T 1": list(range(ROWS))}
    values = read(parquet(tmp_path, **columns)).readings.values
    assert values[:3].tolist() == [[1, 0], [0, 1], [1, 2]]


def test_infinite_values_and_nan_are_missing(tmp_path: Path) -> None:
    values = read(parquet(tmp_path, flow=[np.inf, np.nan, 1.0, 1e300] + [2.0] * 46)).readings.values
    assert np.isnan(values[:4, 0]).tolist() == [True, True, False, True]


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "missing column": ({"T 1": None}, "no column 'T 1'; there are: time, flow"),
    "missing time": ({"time": None}, "no column 'time'; there are: T 1, flow"),
    "lists": ({"flow": [[1.0]] * ROWS}, "column 'flow' has the type List(Float64)"),
    "times as values": ({"flow": MOMENTS}, "'flow' has times, not numbers"),
    "words": ({"flow": ["high"] * ROWS}, "row 1: flow: 'high' is not a number; 50 of 50 rows"),
    "no times": ({"time": [None] * ROWS}, "row 1: time: "),
    "years": ({"time": [20.0e12] * ROWS}, "is not a time between 2000 and 2100"),
    "local times": ({"time": TIME_COLUMNS["local"]}, "set data.time_zone"),
    "dates": ({"time": [date(2023, 11, 14)] * ROWS}, "set data.time_zone"),
}


@pytest.mark.parametrize("kind", ODD)
def test_parquet_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    columns, said = ODD[kind]
    whole = frame(**{name: column for name, column in columns.items() if column is not None})
    path = tmp_path / "x.parquet"
    gone = [name for name, column in columns.items() if column is None]
    whole.drop(gone).write_parquet(path)
    with pytest.raises(DataError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_no_rows_and_no_file(tmp_path: Path) -> None:
    frame().clear().write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: there are no rows"):
        read(tmp_path / "x.parquet")
    for name in ("none.parquet", "none.npy", "none.csv.gz"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read: No such file"):
            read(tmp_path / name)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    whole = {"x.parquet": parquet(tmp_path).read_bytes()}
    np.save(tmp_path / "x.npy", np.stack([TIMES, FLOW, HEAT], axis=1))
    np.savez_compressed(tmp_path / "x.npz", time=TIMES, flow=FLOW)
    whole |= {name: (tmp_path / name).read_bytes() for name in ("x.npy", "x.npz")}
    whole["x.csv.gz"] = gzip.compress(as_csv().encode())
    for name, data in whole.items():
        path = tmp_path / name
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(DataError) as refused:
            read(path)
        assert str(path) in str(refused.value)
        assert "not a whole" in str(refused.value) or "truncated" in str(refused.value)


def test_a_spoilt_block_of_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.parquet: it is not a whole Parquet file"):
        read(path)


def test_arrays(tmp_path: Path) -> None:
    wide = np.stack([TIMES, FLOW, HEAT], axis=1)
    np.save(tmp_path / "x.npy", wide)
    plain = Sought(("column 1",), [("column 2",), ("column 3",)])
    check(read(tmp_path / "x.npy", sought=plain))
    fields = np.array(
        list(zip(TIMES, FLOW, HEAT, strict=True)),
        dtype=[("time", "f8"), ("flow", "f8"), ("T 1", "f4")],
    )
    np.save(tmp_path / "x.npy", fields)
    check(read(tmp_path / "x.npy"))
    times = (TIMES * 1e3).astype(np.int64).view("datetime64[ms]").astype("datetime64[ns]")
    np.savez(tmp_path / "x.npz", **{"time": times, "flow": FLOW, "T 1": HEAT})
    check(read(tmp_path / "x.npz"))


def test_arrays_without_times(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([FLOW, HEAT], axis=1))
    sought = Sought(("time",), [("column 1",), ("column 2",)])
    with pytest.raises(DataError, match="no column 'time'; there are: column 1, column 2"):
        read(tmp_path / "x.npy", sought=sought)
    found = read(tmp_path / "x.npy", Layout(row_period_s=0.25), sought)
    assert found.readings.times.tolist() == [row / 4 for row in range(ROWS)]
    (tmp_path / "x.csv").write_text(as_csv())
    with pytest.raises(DataError, match="row_period_s is for arrays"):
        read(tmp_path / "x.csv", Layout(row_period_s=0.25))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 2, 2)), "it has 3 dimensions"),
        (np.array([object()]), "Python objects"),
        (np.zeros((3, 2), np.complex128), "has the type complex128"),
    ],
)
def test_arrays_that_are_no_columns(tmp_path: Path, array: Any, said: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "x.npy", sought=Sought(("column 1",), [("column 2",)]))


def test_arrays_of_different_lengths(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", time=TIMES, flow=FLOW[1:])
    with pytest.raises(DataError, match="different lengths: time 50, flow 49"):
        read(tmp_path / "x.npz")


LONG = Layout(long=Long("tag", "value"))


def in_long_form(by_channel: bool = False) -> list[tuple[str, str, str]]:
    times = TIMES.tolist()
    rows = [(f"{at!r}", "flow", f"{one!r}") for at, one in zip(times, FLOW.tolist(), strict=True)]
    heat = zip(times, HEAT.tolist(), strict=True)
    rows += [(f"{at!r}", "T 1", f"{one!r}") for at, one in heat if not np.isnan(one)]
    rows += [(f"{at!r}", "other", "words") for at in times[:4]]
    return rows if by_channel else sorted(rows, key=lambda row: float(row[0]))


@pytest.mark.parametrize("by_channel", [False, True])
def test_the_long_form(tmp_path: Path, by_channel: bool) -> None:
    rows = in_long_form(by_channel)
    text = "\n".join([" tag;time;value;q", *(f"{t};{at};{v};0" for at, t, v in rows)]) + "\n"
    (tmp_path / "x.csv").write_text(text)
    check(read(tmp_path / "x.csv", LONG)._replace(rejected={}))
    (tmp_path / "x.csv").write_text(text.replace("flow;", '"flow";'))
    check(read(tmp_path / "x.csv", LONG)._replace(rejected={}))
    columns = {"time": [float(one) for one, _, _ in rows], "tag": [one for _, one, _ in rows]}
    columns |= {"value": [None if one == "words" else float(one) for _, _, one in rows]}
    pl.DataFrame(columns).write_parquet(tmp_path / "x.parquet")
    check(read(tmp_path / "x.parquet", LONG))


def test_a_value_twice_and_a_channel_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time,tag,value\n1,flow,1\n1,T 1,2\n2,flow,3\n2,flow,4\n")
    found = read(path, LONG)
    np.testing.assert_array_equal(found.readings.values, [[1, 2], [4, np.nan]])
    assert found.rejected == {"duplicate": 1}
    path.write_text("time,tag,value\n1,flow,1\n1,T2,2\n")
    with pytest.raises(DataError, match="no row has the channel 'T 1'; there are: flow, T2"):
        read(path, LONG)
    path.write_text("time,name,value\n1,flow,1\n")
    with pytest.raises(DataError, match="no column 'tag'; the header has: time, name, value"):
        read(path, LONG)


CLOCKS = ("01:30", "02:00", "02:30", "02:00", "02:30", "03:00")  # of 2025-10-26 in Berlin
AUTUMN = Layout(time_zone="Europe/Berlin", time_format="%d.%m.%Y %H:%M")


@pytest.mark.parametrize("long", [False, True])
def test_a_repeated_hour(tmp_path: Path, long: bool) -> None:
    path = tmp_path / "x.csv"
    if long:
        rows = [f"26.10.2025 {clock};{tag};3" for tag in ("flow", "T 1") for clock in CLOCKS]
        path.write_text("\n".join(["time;tag;value", *rows]) + "\n")
    else:
        rows = [f"26.10.2025 {clock};3;4" for clock in CLOCKS]
        path.write_text("\n".join(["time;flow;T 1", *rows]) + "\n")
    times = read(path, AUTUMN._replace(long=LONG.long if long else None)).readings.times
    assert np.diff(times).tolist() == [1800.0] * 5
    assert times[0] == datetime(2025, 10, 25, 23, 30, tzinfo=UTC).timestamp()


def test_a_repeated_hour_that_nothing_tells_names_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    clocks = ("01:00", "01:30", "02:00", "02:30", "03:00", "03:30")
    rows = [f"26.10.2025 {clock};3;4" for clock in clocks]
    path.write_text("\n".join(["Plant 7", "time;flow;T 1", *rows]) + "\n")
    with pytest.raises(DataError) as refused:
        read(path, AUTUMN)
    assert str(refused.value).startswith(
        f"{path}:5: '26.10.2025 02:00' (rows up to line 6, 2 in all): the clock of Europe/Berlin"
        " shows this hour twice"
    )
    path.write_text("\n".join(["time;flow;T 1", *rows]).replace("26.10", "30.03") + "\n")
    with pytest.raises(DataError, match=r"x\.csv:4: '30\.03\.2025 02:00' .*does not exist in Eur"):
        read(path, AUTUMN)


def test_a_repeated_hour_of_parquet(tmp_path: Path) -> None:
    local = [datetime.combine(date(2025, 10, 26), time.fromisoformat(clock)) for clock in CLOCKS]
    few = pl.DataFrame({"time": local, "flow": [1.0] * 6, "T 1": [2.0] * 6})
    few.write_parquet(tmp_path / "x.parquet")
    times = read(tmp_path / "x.parquet", AUTUMN).readings.times
    assert np.diff(times).tolist() == [1800.0] * 5
    few.sort("time").unique(maintain_order=True).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"row 2: 2025-10-26 02:00:00 \(rows up to 3, 2 in all\)"):
        read(tmp_path / "x.parquet", AUTUMN)


@pytest.mark.parametrize("library", ["polars", "sqlalchemy"])
def test_without_the_extra(tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path)
    (tmp_path / "x.csv").write_text(as_csv())
    monkeypatch.setitem(sys.modules, library, None)
    check(read(tmp_path / "x.csv"))  # slower
    with pytest.raises(ConfigError, match=r"needs the extra: pip install 'fieldwatch\[ingest\]'"):
        if library == "polars":
            read(tmp_path / "x.parquet")
        else:
            query = QueryTable(name="x", url="sqlite:///x.db", query="SELECT 1")
            read_query(tmp_path, query, SOUGHT, CHANNELS, PLAIN)
