"""What ``init`` guesses of data, and that the training accepts what it writes."""

from __future__ import annotations

import sqlite3
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from models.errors import ConfigError, DataError, FieldwatchError
from trainer import config, prepared
from trainer.cli import commands
from trainer.survey.propose import limits

BEGIN = datetime(2025, 6, 14, 22, 13, 20, tzinfo=UTC)
ROWS = 600


def init(directory: Path, *words: str | Path) -> Result:
    output = f"--output={directory / 'made.toml'}"
    return CliRunner().invoke(commands, ["init", output, *map(str, words)])


def proposed(directory: Path, *words: str | Path) -> tuple[dict[str, Any], str]:
    """Return what was written, and what was said; the training reads the same data with it."""
    found = init(directory, *words)
    assert found.exit_code == 0, found.output or found.exception
    path = directory / "made.toml"
    read = prepared.sources(config.read(path), lambda _: None)
    recordings = [source.recording for source in read]
    assert all(len(recording.readings.times) for recording in recordings)
    return tomllib.loads(path.read_text()), path.read_text() + found.output


def refusal(directory: Path, *words: str | Path) -> str:
    error = init(directory, *words).exception
    assert isinstance(error, FieldwatchError)
    return str(error)


def columns() -> dict[str, list[float]]:
    random = np.random.default_rng(3)
    flow = (80 + random.normal(0, 2, ROWS)).round(3)
    heat = (40 + np.sin(np.arange(ROWS) / 40)).round(4)
    heat[100:160] = -999
    return {
        "Durchfluss": flow.tolist(),
        "Öl-Temperatur": heat.tolist(),
        "Pumpe ein": [float(row // 200 % 2) for row in range(ROWS)],
        "Anlage Nr": [float(4711 + row // 300) for row in range(ROWS)],
        "Zeile": [float(row) for row in range(ROWS)],
        "Soll": [75.5] * ROWS,
        "Kopie": flow.tolist(),
    }


def times(form: str, step: timedelta = timedelta(seconds=5)) -> list[str]:
    return [f"{BEGIN + row * step:{form}}" for row in range(ROWS)]


def write(
    path: Path,
    time: dict[str, list[str]],
    separator: str = ";",
    comma: bool = True,
    above: str = "",
    units: bool = True,
    encoding: str = "utf-8",
) -> Path:
    wide: dict[str, list[Any]] = {**time, **columns(), "Bemerkung": ["ok"] * ROWS}
    lines = [separator.join(wide)]
    if units:
        lines.append(separator.join([*[""] * len(time), "m³/h", "[°C]", *[""] * 6]))
    for row in zip(*wide.values(), strict=True):
        cells = [f"{cell:g}" if isinstance(cell, float) else cell for cell in row]
        lines.append(
            separator.join(c.replace(".", ",") if comma else c for c in cells[len(time) :])
        )
        lines[-1] = separator.join([*map(str, row[: len(time)]), lines[-1]])
    path.write_bytes((above + "\r\n".join(lines) + "\r\n").encode(encoding))
    return path


def check(document: dict[str, Any], told: str) -> None:
    """Check what is the same in every form."""
    channels = {channel["name"]: channel for channel in document["data"]["channels"]}
    assert list(channels) == ["Durchfluss", "Oel-Temperatur", "Pumpe_ein"]
    assert channels["Oel-Temperatur"]["column"] == "Öl-Temperatur"
    assert channels["Durchfluss"]["low"] < 70
    assert -999 < channels["Oel-Temperatur"]["low"] < 39
    assert document["sampling"]["period_s"] == 5.0
    assert "-999 seem to mean a missing value" in told
    assert "only 2 different values: is it a switch? Then: scored = false" in told
    for line in (
        "'Anlage Nr': it seems to be an identifier",
        "'Zeile': it counts the rows",
        "'Soll': it is always 75.5",
        "'Kopie': it has the same values as Durchfluss",
    ):
        assert told.count(line) == 2  # in the file, and on the terminal


FORMS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "German": (
        lambda path: write(path, {"Datum": times("%d.%m.%Y"), "Uhrzeit": times("%H:%M:%S")}),
        {
            "time_column": "Datum",
            "clock_column": "Uhrzeit",
            "time_format": "%d.%m.%Y %H:%M:%S",
            "decimal": ",",
        },
    ),
    "sep= and a mark": (
        lambda path: write(path, {"t": times("%Y-%m-%d %H:%M:%S")}, above="\ufeffsep=;\r\n"),
        {"time_column": "t", "decimal": ","},
    ),
    "tabs below a title": (
        lambda path: write(path, {"Time": times("%m/%d/%Y %I:%M:%S %p")}, "\t", above="Plant 7\n"),
        {"time_column": "Time", "time_format": "%m/%d/%Y %I:%M:%S %p"},
    ),
    "Western": (
        lambda path: write(path, {"Zeit": times("%Y-%m-%dT%H:%M:%SZ")}, encoding="latin-1"),
        {"time_column": "Zeit", "encoding": "latin-1"},
    ),
    "milliseconds": (
        lambda path: write(
            path,
            {"ts": [f"{int(BEGIN.timestamp()) + 5 * row}000" for row in range(ROWS)]},
            ",",
            False,
            units=False,
        ),
        {"time_column": "ts", "decimal": "."},
    ),
    "seconds since a start": (
        lambda path: write(path, {"time": [f"{5 * row}" for row in range(ROWS)]}, ",", False),
        {"decimal": "."},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_csv_as_loggers_write_it(tmp_path: Path, form: str) -> None:
    writing, settings = FORMS[form]
    document, told = proposed(tmp_path, writing(tmp_path / "Pumpe 7 [neu].csv"))
    check(document, told)
    assert document["bundle"]["name"] == "pumpe-7-neu"
    assert {key: document["data"].get(key) for key in settings} == settings
    assert "'Bemerkung': it has text, not numbers" in told
    units = [channel["unit"] for channel in document["data"]["channels"]]
    assert units == (["", "", ""] if form == "milliseconds" else ["m³/h", "°C", ""])
    local = not form.startswith(("Western", "milli", "seconds"))
    assert ("has no offset from UTC; " in told) == local
    assert ("seems to count seconds since a start" in told) == form.startswith("seconds")


def test_day_and_month_that_cannot_be_told_apart(tmp_path: Path) -> None:
    rows = [f"0{1 + row // 300}/05/2025 10:{row // 6 % 50:02}:{row % 6}0" for row in range(ROWS)]
    write(tmp_path / "x.csv", {"when": sorted(rows)})
    _, told = proposed(tmp_path, tmp_path / "x.csv")
    assert "day and month cannot be told apart" in told


def test_parquet_and_arrays(tmp_path: Path) -> None:
    moments = [BEGIN + timedelta(seconds=5 * row) for row in range(ROWS)]
    frame = pl.DataFrame({"at": moments} | columns() | {"lists": [[1]] * ROWS})
    frame.write_parquet(tmp_path / "x.parquet")
    document, told = proposed(tmp_path, tmp_path / "x.parquet")
    check(document, told)
    assert document["data"]["time_column"] == "at"
    assert "time_zone" not in document["data"]
    assert "left out 'lists'" in told
    seconds = [moment.timestamp() for moment in moments]
    np.savez(
        tmp_path / "x.npz", at=seconds, **{k.replace(" ", "_"): v for k, v in columns().items()}
    )
    document, _ = proposed(tmp_path, tmp_path / "x.npz", "--force")
    assert [one["name"] for one in document["data"]["channels"]][:2] == [
        "Durchfluss",
        "Oel-Temperatur",
    ]


def test_arrays_without_times(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", random.normal(0, 1, (ROWS, 2)))
    assert "no column of times was found" in refusal(tmp_path, tmp_path / "x.npy")
    document, _ = proposed(tmp_path, tmp_path / "x.npy", "--row-period-s", "0.1")
    assert document["data"]["row_period_s"] == 0.1
    assert document["sampling"]["period_s"] == 0.1
    assert [one["column"] for one in document["data"]["channels"]] == ["column 1", "column 2"]


def test_the_long_form(tmp_path: Path) -> None:
    wide = columns()
    rows = [
        f"{stamp};{name};{wide[name][row]:g};192"
        for row, stamp in enumerate(times("%Y-%m-%dT%H:%M:%SZ"))
        for name in ("Durchfluss", "Öl-Temperatur")
    ]
    (tmp_path / "x.csv").write_text("\n".join(["time;tag;value;quality", *rows]) + "\n")
    document, told = proposed(tmp_path, tmp_path / "x.csv")
    data = document["data"]
    assert (data["channel_column"], data["value_column"]) == ("tag", "value")
    assert [one.get("column", one["name"]) for one in data["channels"]] == [
        "Durchfluss",
        "Öl-Temperatur",
    ]
    assert document["sampling"]["period_s"] == 5.0
    assert "left out 'quality'" in told


def test_a_form_of_times_that_nobody_guesses(tmp_path: Path) -> None:
    rows = [f"{at},{stamp},{at % 9}" for at, stamp in enumerate(times("%Y.%m.%d.%H.%M.%S"))]
    (tmp_path / "x.csv").write_text("\n".join([",Datetime,flow", *rows]) + "\n")
    said = refusal(tmp_path, tmp_path / "x.csv")
    assert "no column of times was found. Name it with --time-column" in said
    named = ["--time-column=Datetime", "--time-format=%Y.%m.%d.%H.%M.%S", "--time-zone=Etc/GMT-1"]
    document, told = proposed(tmp_path, tmp_path / "x.csv", *named)
    assert document["data"]["time_format"] == "%Y.%m.%d.%H.%M.%S"
    assert document["data"]["time_zone"] == "Etc/GMT-1"
    assert document["sampling"]["period_s"] == 5.0
    assert [one["name"] for one in document["data"]["channels"]] == ["flow"]
    assert "left out '': it has no name" in told
    assert "no column 'When'; there are: , Datetime, flow" in refusal(
        tmp_path, tmp_path / "x.csv", "--time-column=When", "--force"
    )


def test_a_zone_that_is_given_is_no_question(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", {"t": times("%Y-%m-%d %H:%M:%S")})
    document, told = proposed(tmp_path, tmp_path / "x.csv", "--time-zone=Europe/Berlin")
    assert document["data"]["time_zone"] == "Europe/Berlin"
    assert "has no offset from UTC" not in told


def test_long_forms_of_different_channels(tmp_path: Path) -> None:
    for month, names in (("06", ("flow", "heat", "old")), ("07", ("heat", "flow", "new"))):
        rows = [
            f"{stamp.replace('2025-06', f'2025-{month}')};{name};{row % 7 + at}"
            for row, stamp in enumerate(times("%Y-%m-%dT%H:%M:%SZ"))
            for at, name in enumerate(names)
        ]
        (tmp_path / f"{month}.csv").write_text("\n".join(["time;tag;value", *rows]) + "\n")
    document, told = proposed(tmp_path, tmp_path / "06.csv", tmp_path / "07.csv")
    assert [one["name"] for one in document["data"]["channels"]] == ["flow", "heat"]
    for name in ("old", "new"):
        assert f"left out '{name}': not all recordings have it" in told
    assert "the channels are those of the 1000 rows that were looked at" in told


def test_an_export_of_a_gateway(tmp_path: Path) -> None:
    rows = [
        f"{stamp},{80 + row % 9},{row / 1000},good"
        for row, stamp in enumerate(times("%Y-%m-%dT%H:%M:%S.%fZ"))
    ]
    header = "time,flow,fieldwatch:score,flow:quality"
    (tmp_path / "x.csv").write_text("\n".join([header, *rows]) + "\n")
    document, told = proposed(tmp_path, tmp_path / "x.csv")
    assert [one["name"] for one in document["data"]["channels"]] == ["flow"]
    assert told.count("the gateway adds it; it is not measured") == 4


def test_a_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "plant.db") as database:
        database.execute("CREATE TABLE readings (time, flow, heat)")
        database.executemany(
            "INSERT INTO readings VALUES (?, ?, ?)",
            zip(
                times("%Y-%m-%dT%H:%M:%SZ"),
                columns()["Durchfluss"],
                columns()["Öl-Temperatur"],
                strict=True,
            ),
        )
    database.close()
    url, query = "--url=sqlite:///plant.db", "--query=SELECT * FROM readings"
    document, _ = proposed(tmp_path, url, query)
    assert "files" not in document["data"]
    assert document["data"]["queries"][0]["query"] == "SELECT * FROM readings"
    assert [one["name"] for one in document["data"]["channels"]] == ["flow", "heat"]
    assert "url has a password" in refusal(
        tmp_path, "--url=postgresql://a:secret-7@b/c", query, "--force"
    )
    assert init(tmp_path, url).exit_code == 2
    assert init(tmp_path).exit_code == 2


def test_several_files_have_their_common_columns(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", {"t": times("%Y-%m-%dT%H:%M:%SZ")})
    second = tmp_path / "b.csv"
    text = first.read_text().replace("2025-06", "2025-07").replace("Durchfluss", "Flow")
    second.write_text(text)
    (tmp_path / "a.labels.csv").write_text("start,end,kind\n")
    document, told = proposed(tmp_path, first, second, tmp_path / "a.labels.csv")
    assert document["data"]["files"] == ["a.csv", "b.csv"]
    assert f"'Durchfluss': {second} has no such column" in told
    assert "Kopie" in [one["name"] for one in document["data"]["channels"]]


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", {"t": times("%Y-%m-%dT%H:%M:%SZ")})
    (tmp_path / "made.toml").write_text("mine")
    assert isinstance(init(tmp_path, tmp_path / "x.csv").exception, ConfigError)
    assert "exists already; name another file, or use --force" in refusal(
        tmp_path, tmp_path / "x.csv"
    )
    assert (tmp_path / "made.toml").read_text() == "mine"
    proposed(tmp_path, tmp_path / "x.csv", "--force")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no header was found"),
        ("1,2\n3,4\n", "no header was found"),
        ("time,flow\n", "no header was found"),
        ("a,b\n1,2\n3,9\n", "no column of times was found"),
        ("time,b\n2025-06-14T10:00:00Z,x\n2025-06-14T10:00:01Z,y\n", "no column can be a channel"),
        ("time,b\n2025-06-14T10:00:00Z,7\n2025-06-14T10:00:01Z,7\n", "'b': it is always 7"),
    ],
)
def test_data_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert isinstance(init(tmp_path, tmp_path / "x.csv").exception, DataError)
    assert said in refusal(tmp_path, tmp_path / "x.csv")
    assert not (tmp_path / "made.toml").exists()


def test_limits_are_outside_of_what_was_seen() -> None:
    assert limits(2.0, 9.5) == (-6.0, 20.0)
    assert limits(0.0, 0.3) == (-0.3, 0.6)
