"""The reader of ETT files: what it takes, and what it says of files that are odd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from trainer.datasets import ett

HEADER = "date,load,OT\n"
ROWS = [
    "2016-07-01 00:00:00,5.827,30.531",
    "2016-07-01 01:00:00,,27.787",
    "2016-07-01 02:00:00,1,2",
]


def written(path: Path, text: str) -> Path:
    file = path / "ETTx1.csv"
    file.write_text(text)
    return file


def test_a_file_is_read(tmp_path: Path) -> None:
    found = ett.read(written(tmp_path, HEADER + "\n".join(ROWS) + "\n"))
    assert (found.name, found.channels, found.period_s) == ("ETTx1", ("load", "OT"), 3600.0)
    assert found.times[0] == 1467331200.0  # taken as UTC
    np.testing.assert_array_equal(
        found.values, np.array([[5.827, 30.531], [np.nan, 27.787], [1, 2]], np.float32)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,OT\n", "header must be 'date'"),
        ("", "header must be 'date'"),
        ("date,OT,OT\n", "a different name for each"),
        (HEADER, "no rows below the header"),
        (
            HEADER + ROWS[0] + "\n" + ROWS[1] + ",9\n",
            ":3: the row has 4 cells, but the header has 3",
        ),
        (HEADER + ROWS[0] + "\nyesterday,1,2\n", ":3: date: 'yesterday' is not a time"),
        (HEADER + ROWS[0] + "\n2016-07-01 01:00:00,1,hot\n", ":3: OT: 'hot' is not a number"),
        (
            HEADER + "\n".join([*ROWS, "2016-07-01 04:00:00,1,2"]),
            ":5: the row is 7200 s after the row",
        ),
        (HEADER + "\n".join(reversed(ROWS)), "times do not increase"),
    ],
)
def test_an_odd_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(DataError, match=r"ETTx1\.csv") as error:
        ett.read(file)
    assert said in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        ett.read(tmp_path / "ETTh9.csv")
