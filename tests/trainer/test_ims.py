"""The tests of IMS as they are published: read with their bearings, odd ones refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from trainer.datasets import ims

FIRST = ",Datetime,Bearing 1-A,Bearing 1-B,Bearing 3-A,Bearing 3-B"
SECOND = ",Datetime,Bearing 1,Bearing 2"
ROWS = (
    "0,2004.02.12.10.32.39,0.058,0.071",
    "1,2004.02.12.10.42.39,,0.074",
    "2,2004.02.14.10.42.39,0.060,0.073",  # after two days without a record
)


def written(directory: Path, *lines: str, name: str = "2nd_test") -> Path:
    path = directory / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_test_is_read_with_its_bearings_and_times(tmp_path: Path) -> None:
    test = ims.read(written(tmp_path, SECOND, *ROWS))
    assert (test.name, list(test.bearings)) == ("2nd_test", ["1", "2"])
    np.testing.assert_allclose(test.bearings["2"][:, 0], [0.071, 0.074, 0.073], rtol=1e-6)
    assert np.isnan(test.bearings["1"][1, 0])
    assert np.diff(test.times).tolist() == [600.0, 172_800.0]


def test_two_accelerometers_are_of_one_bearing(tmp_path: Path) -> None:
    path = written(tmp_path, FIRST, "0,2003.10.22.12.06.24,0.1,0.2,0.3,0.4", name="1st_test")
    bearings = ims.read(path).bearings
    assert {name: values.tolist() for name, values in bearings.items()} == {
        "1": [pytest.approx([0.1, 0.2])],
        "3": [pytest.approx([0.3, 0.4])],
    }


def test_either_test_may_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        ims.files(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no 1st_test.csv or 2nd_test.csv"):
        ims.files(tmp_path)
    path = written(tmp_path, SECOND, *ROWS)
    assert ims.files(tmp_path) == [path]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "the header must have 'Datetime'"),
        ((SECOND,), "no rows below the header"),
        ((",Datetime,flow", "0,2004.02.12.10.32.39,1"), "the header must have 'Datetime'"),
        ((",Bearing 1,Bearing 2", "0,1,2"), "the header must have 'Datetime'"),
        ((",Datetime,Bearing 1,Bearing 1", "0,2004.02.12.10.32.39,1,2"), "each once"),
        (
            (SECOND, *ROWS, "3,2004.02.14.10.5"),
            "2nd_test.csv:5: the row has 2 cells, but the header has 4",
        ),
        ((SECOND, "0,2004-02-12 10:32:39,1,2"), "2nd_test.csv:2: Datetime: .* is not a time"),
        ((SECOND, ROWS[1], ROWS[0]), "2nd_test.csv:3: Datetime: not later than the row before"),
        (
            (SECOND, "0,2004.02.12.10.32.39,high,2"),
            "2nd_test.csv:2: Bearing 1: 'high' is not a number",
        ),
        ((SECOND, '0,"2004.02.12.10.32.39,1,2'), "not a CSV file"),
    ],
)
def test_what_is_odd_is_refused_with_its_place(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ims.read(written(tmp_path, *lines))


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "1st_test.csv"
    with pytest.raises(DataError, match="cannot be read"):
        ims.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a CSV file"):
        ims.read(path)
