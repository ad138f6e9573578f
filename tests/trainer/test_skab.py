"""SKAB's files as they are downloaded: good ones are read, odd ones refused with the place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from trainer.datasets.skab import CHANNELS, files, read

HEADER = ";".join(["datetime", *CHANNELS, "anomaly", "changepoint"])
FIRST_S = 1_583_748_873.0  # 2020-03-09 10:14:33 UTC


def row(second: int = 33, first: str = "0.1", anomaly: str = "0.0") -> str:
    others = ";".join(str(number) for number in range(2, 9))
    return f"2020-03-09 10:14:{second:02};{first};{others};{anomaly};0.0"


def experiment(directory: Path, *lines: str, name: str = "valve1/0.csv") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("where", ["", "data/"])
def test_labelled_files_are_found_in_natural_order(tmp_path: Path, where: str) -> None:
    for name in ("valve1/10", "valve1/2", "other/3", "valve2/0", "anomaly-free/anomaly-free"):
        experiment(tmp_path, HEADER, row(), name=f"{where}{name}.csv")
    experiment(tmp_path, "from a file manager", name=f"{where}valve1/._2.csv")
    found = files(tmp_path)
    assert [read(path).name for path in found] == ["other/3", "valve1/2", "valve1/10", "valve2/0"]


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = experiment(tmp_path, HEADER, row(33), row(33, "", "1.0"), "", row(31, "inf", "1"))
    file = read(path)
    assert file.times.tolist() == [FIRST_S, FIRST_S, FIRST_S - 2]  # repeated and backward, kept
    assert file.times.dtype == np.float64
    assert file.values.dtype == np.float32
    assert file.values.shape == (3, 8)
    assert file.values[0].tolist() == pytest.approx([0.1, 2, 3, 4, 5, 6, 7, 8])
    assert np.isnan(file.values[:, 0]).tolist() == [False, True, True]
    assert file.anomaly is not None
    assert file.anomaly.tolist() == [False, True, True]
    assert file.anomaly.dtype == np.bool_
    assert file.channels == CHANNELS
    assert file.sha256 != read(experiment(tmp_path, HEADER, row(), name="other/1.csv")).sha256


def test_columns_are_found_by_name_and_others_left(tmp_path: Path) -> None:
    names = ["anomaly", "note", *reversed(CHANNELS), "datetime"]
    cells = ["1.0", "x", *(str(number) for number in range(8, 0, -1)), "2020-03-09T13:14:33+03:00"]
    file = read(experiment(tmp_path, "\ufeff" + ";".join(names), ";".join(cells)))
    assert file.values.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert file.times.tolist() == [FIRST_S]
    assert file.channels == CHANNELS
    assert file.anomaly is not None
    assert file.anomaly.tolist() == [True]


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Pacific/Auckland")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_times_without_an_offset_are_utc_wherever_they_are_read(tmp_path: Path) -> None:
    assert read(experiment(tmp_path, HEADER, row(33))).times.tolist() == [FIRST_S]


def test_a_file_without_labels_has_none(tmp_path: Path) -> None:
    header = ";".join(["datetime", *CHANNELS])
    line = row().removesuffix(";0.0;0.0")
    file = read(experiment(tmp_path, header, line, name="anomaly-free/anomaly-free.csv"))
    assert file.name == "anomaly-free/anomaly-free"
    assert file.anomaly is None


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], r"0\.csv: no column 'datetime'"),
        ([HEADER], r"0\.csv: it has no values"),
        ([HEADER, row(first="x").replace(";2;3;4;5;6;7;8;", ";;;;;;;;")], r":2: Accelerometer1RMS"),
        (
            [HEADER, row(first="").replace(";2;3;4;5;6;7;8;", ";;;;;;;;")],
            r"0\.csv: it has no values",
        ),
        ([HEADER.replace("Voltage", "Volts"), row()], r"no column 'Voltage'; the header has: "),
        ([HEADER.replace("Voltage", "Current"), row()], r"more than one column 'Current'"),
        ([HEADER + ";anomaly", row() + ";1"], r"more than one column 'anomaly'"),
        ([HEADER.replace(";", ","), row()], r"no column 'datetime'"),
        ([HEADER, row(), row() + ";1"], r":3: the row has 12 cells, but the header has 11"),
        ([HEADER, row(), row(first="0,5")], r":3: Accelerometer1RMS: '0,5' is not a number"),
        ([HEADER, row(), row(61)], r":3: datetime: '2020-03-09 10:14:61' is not a time"),
        ([HEADER, row(), row(anomaly="0.5")], r":3: anomaly: '0\.5' is neither 0 nor 1"),
        ([HEADER, row(), row(anomaly="")], r":3: anomaly: '' is neither 0 nor 1"),
        ([HEADER, row(), row(first='"0.5')], r":3: not CSV"),
    ],
)
def test_an_odd_file_is_refused_with_its_place(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(experiment(tmp_path, *lines))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = experiment(tmp_path, HEADER)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8 text"):
        read(path)
    with pytest.raises(DataError, match=r"9\.csv: cannot be read: No such file"):
        read(tmp_path / "9.csv")


def test_a_folder_without_files_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        files(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no CSV files in valve1, valve2, other of .*data"):
        files(tmp_path)
