"""Rows per second and peak memory of reading a recording, per form, beside the bare library.

python -m tests.bench.ingest [--rows 5000000] [--only csv,parquet] [--keep DIRECTORY]

Each reading is a process of its own: a time and four channels become float32, in order. ``bare`` is
polars (numpy for arrays, polars over sqlite3 for the database) without any checks. ``peak`` is the
process's own, MB of 2^20 bytes; ``data`` is what the readings themselves take.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.columns import Sought
from models.formats.recording import Layout, Long
from models.messages import Float32, Float64

CHANNELS = ("flow", "heat", "speed", "level")
SOUGHT = Sought(("time",), [(name,) for name in CHANNELS])
BYTES = 8 + 4 * len(CHANNELS)  # per row
BLOCK = 100_000  # rows that are made at once
FORMS = ("csv", "csv-iso", "csv-local", "csv-long", "parquet", "npy", "sqlite")
Read = tuple[Float64, Float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--only", default=",".join(FORMS))
    parser.add_argument("--keep", type=Path, help="make the files here, or use those that are")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        form, reader, path = arguments.one
        print(json.dumps(one(form, reader, Path(path), arguments.rows)))
        return
    with tempfile.TemporaryDirectory() as name:
        directory = arguments.keep or Path(name)
        print(f"{'form':<10} {'reader':<8} {'s':>7} {'M rows/s':>9} {'peak MB':>8} {'data MB':>8}")
        for form in arguments.only.split(","):
            for reader in ("make", "ours", "bare"):
                found = apart(form, reader, directory, arguments.rows)
                if reader != "make":
                    print(
                        f"{form:<10} {reader:<8} {found['s']:7.2f}"
                        f" {found['rows'] / found['s'] / 1e6:9.2f} {found['peak_mb']:8.0f}"
                        f" {found['rows'] * BYTES / 2**20:8.0f}",
                        flush=True,
                    )


def apart(form: str, reader: str, directory: Path, rows: int) -> dict[str, float]:
    """Do one thing in a process of its own."""
    words = ["--one", form, reader, str(directory), "--rows", str(rows)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench.ingest", *words],
        check=True,
        stdout=subprocess.PIPE,
    )
    return dict(json.loads(ended.stdout))


def one(form: str, reader: str, directory: Path, rows: int) -> dict[str, float]:
    path = directory / f"{form}-{rows}.{form.partition('-')[0]}"
    if reader == "make":
        if not path.exists():
            make(form, path, rows)
        return {}
    read = ours(form) if reader == "ours" else BARE[form]
    began = time.perf_counter()
    times, values = read(path)
    seconds = time.perf_counter() - began
    assert values.dtype == np.float32
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"s": seconds, "rows": len(times), "peak_mb": peak}


def block(begin: int, count: int) -> tuple[Float64, Float64]:
    random = np.random.default_rng(begin)
    values = random.normal(20, 3, (count, len(CHANNELS))).round(3)
    return 1.7e9 + np.arange(begin, begin + count, dtype=np.float64), values


def make(form: str, path: Path, rows: int) -> None:
    if form.startswith("csv"):
        with path.open("w") as file:
            long = form == "csv-long"
            file.write("time,tag,value\n" if long else f"time,{','.join(CHANNELS)}\n")
            for begin in range(0, rows, BLOCK):
                file.writelines(lines(form, *block(begin, min(BLOCK, rows - begin))))
        return
    parts = [block(begin, min(BLOCK, rows - begin)) for begin in range(0, rows, BLOCK)]
    times, values = map(np.concatenate, zip(*parts, strict=True))
    if form == "npy":
        np.save(path, np.column_stack([times, values]))
    elif form == "parquet":
        import polars as pl

        columns = {name: values[:, at] for at, name in enumerate(CHANNELS)}
        frame = pl.DataFrame({"time": (times * 1e6).astype(np.int64)} | columns)
        moments = pl.col("time").cast(pl.Datetime("us", "UTC"))
        frame.with_columns(moments).write_parquet(path)
    else:
        import sqlite3

        with sqlite3.connect(path) as database:
            names = ",".join(CHANNELS)
            database.execute(f"CREATE TABLE readings (time REAL, {names})")
            cells = ([t, *row] for t, row in zip(times.tolist(), values.tolist(), strict=True))
            database.executemany("INSERT INTO readings VALUES (?, ?, ?, ?, ?)", cells)


def lines(form: str, times: Float64, values: Float64) -> list[str]:
    seconds = times.astype("datetime64[s]").astype(str).tolist()
    rows = values.tolist()
    match form:
        case "csv-iso":
            shown = [f"{at}Z" for at in seconds]
        case "csv-local":
            shown = [at.replace("T", " ") for at in seconds]
        case _:
            shown = [f"{at:.0f}" for at in times.tolist()]
    if form != "csv-long":
        return [f"{at},{','.join(map(str, row))}\n" for at, row in zip(shown, rows, strict=True)]
    return [
        f"{shown[at]},{name},{value}\n"
        for at, row in enumerate(rows)
        if at % len(CHANNELS) == 0  # so that there are as many lines as in the other forms
        for name, value in zip(CHANNELS, row, strict=True)
    ]


def ours(form: str) -> Callable[[Path], Read]:
    from trainer.config import ColumnTable, QueryTable
    from trainer.datasets.database import read_query
    from trainer.datasets.recordings import read_recording

    tables = [ColumnTable(name=name) for name in CHANNELS]
    layout = Layout()
    sought = SOUGHT
    if form == "csv-local":
        layout = layout._replace(time_zone="Europe/Berlin")
    elif form == "csv-long":
        layout = layout._replace(long=Long("tag", "value"))
    elif form == "npy":
        columns = [(f"column {at + 2}",) for at in range(len(CHANNELS))]
        sought = Sought(("column 1",), columns)

    def read(path: Path) -> Read:
        if form == "sqlite":
            query = QueryTable(name="x", url=f"sqlite:///{path}", query="SELECT * FROM readings")
            return read_query(path.parent, query, sought, tables, layout).readings
        return read_recording(path, sought, tables, layout).readings

    return read


def _csv(path: Path, times: str | None = None) -> Read:
    import polars as pl

    frame = pl.read_csv(path)
    if times is not None:
        frame = frame.with_columns(pl.col("time").str.to_datetime(times).dt.epoch("s"))
    values = frame.select(pl.col(CHANNELS).cast(pl.Float32)).to_numpy()
    return frame["time"].cast(pl.Float64).to_numpy(), np.ascontiguousarray(values)


def _long(path: Path) -> Read:
    import polars as pl

    frame = pl.read_csv(path).pivot("tag", index="time", values="value")
    values = frame.select(pl.col(CHANNELS).cast(pl.Float32)).to_numpy()
    return frame["time"].cast(pl.Float64).to_numpy(), np.ascontiguousarray(values)


def _parquet(path: Path) -> Read:
    import polars as pl

    frame = pl.read_parquet(path)
    values = frame.select(pl.col(CHANNELS).cast(pl.Float32)).to_numpy()
    return frame["time"].dt.epoch("us").to_numpy() / 1e6, np.ascontiguousarray(values)


def _npy(path: Path) -> Read:
    whole = np.load(path)
    return whole[:, 0], whole[:, 1:].astype(np.float32)


def _sqlite(path: Path) -> Read:
    import sqlite3

    import polars as pl

    with sqlite3.connect(path) as database:
        frame = pl.read_database("SELECT * FROM readings", database)
    values = frame.select(pl.col(CHANNELS).cast(pl.Float32)).to_numpy()
    return frame["time"].to_numpy(), np.ascontiguousarray(values)


BARE: dict[str, Callable[[Path], Read]] = {
    "csv": _csv,
    "csv-iso": lambda path: _csv(path, "%Y-%m-%dT%H:%M:%SZ"),
    "csv-local": lambda path: _csv(path, "%Y-%m-%d %H:%M:%S"),
    "csv-long": _long,
    "parquet": _parquet,
    "npy": _npy,
    "sqlite": _sqlite,
}


if __name__ == "__main__":
    main()
