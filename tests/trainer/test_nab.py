"""Reading NAB's files, in both layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import DataError
from trainer.datasets import nab

ROWS = [
    "timestamp,value",
    "2014-04-01 00:00:00,1.5",
    "2014-04-01 00:05:00,",
    "2014-04-01 00:10:00,3",
    "2014-04-01 00:10:00,4",
]
WINDOWS = {
    "real/pump.csv": [["2014-04-01 00:05:00.000000", "2014-04-01 00:10:00.000000"]],
    "real/absent.csv": [],
    "made/flat.csv": [],
}


@pytest.fixture(params=["flat", "published"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    published = request.param == "published"
    data, labels = (tmp_path / "data", tmp_path / "labels") if published else (tmp_path, tmp_path)
    write(data / "real" / "pump.csv", "\n".join(ROWS))
    write(data / "made" / "flat.csv", "\n".join(ROWS[:2]))
    write(labels / "combined_windows.json", json.dumps(WINDOWS))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_both_layouts_are_read(directory: Path) -> None:
    assert nab.names(directory) == ["made/flat", "real/pump"]
    file = nab.read(directory, "real/pump")
    assert (file.name, file.folder, file.windows) == ("real/pump", "real", [(1, 2)])
    assert (file.times - file.times[0]).tolist() == [0.0, 300.0, 600.0, 600.0]
    assert file.times[0] == 1396310400.0
    assert file.values[[0, 2, 3]].tolist() == [1.5, 3.0, 4.0]
    assert file.values[1] != file.values[1]
    assert nab.read(directory, "made/flat").windows == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["time,value", "2014-04-01 00:00:00,1"], "the header must be timestamp,value"),
        (["timestamp,value"], "no rows below the header"),
        ([*ROWS, "2014-04-01 00:15:00"], "pump.csv:6: the row has 1 cells, but the header has 2"),
        ([*ROWS, "2014-04-01 00:15:00,x"], "pump.csv:6: value: 'x' is not a number"),
        ([*ROWS, "soon,1"], "pump.csv:6: timestamp: 'soon' is not a time"),
        (ROWS[:2], "2014-04-01 00:05:00.000000: .* has no row at this time"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, rows: list[str], said: str) -> None:
    write(tmp_path / "real" / "pump.csv", "\n".join(rows))
    write(tmp_path / "combined_windows.json", json.dumps(WINDOWS))
    with pytest.raises(DataError, match=said):
        nab.read(tmp_path, "real/pump")


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        (None, "no combined_windows.json; looked for"),
        ("{", "combined_windows.json: not JSON"),
        ('{"real/pump.csv": [["2014-04-01 00:05:00"]]}', "must have a list of windows"),
        ('{"real/other.csv": []}', "none of the files"),
    ],
)
def test_what_is_wrong_with_the_windows_is_said(
    tmp_path: Path, windows: str | None, said: str
) -> None:
    write(tmp_path / "real" / "pump.csv", "\n".join(ROWS))
    if windows is not None:
        write(tmp_path / "combined_windows.json", windows)
    with pytest.raises(DataError, match=said):
        nab.names(tmp_path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        nab.names(tmp_path / "none")
