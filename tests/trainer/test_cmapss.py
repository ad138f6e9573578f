"""The engines of C-MAPSS as they are published: read, and odd files refused with the place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from trainer.datasets import cmapss

HEADER = "unit_number time opt_set1 opt_set2 opt_set3 s1 s2 s3"  # names do not matter
SENSORS = " ".join(str(500 + number) for number in range(21))


def row(engine: object, cycle: object) -> str:
    return f"{engine} {cycle} -0.0007 0.0003 100.0 {SENSORS}  "  # blanks at the end, as published


ROWS = (row(1, 1), row(1, 2), row(2, 1), row(2, 2), row(2, 3))


def written(directory: Path, *lines: str, name: str = "train_FD001.txt") -> Path:
    (directory / name).write_text("\n".join(lines) + "\n")
    return directory


@pytest.mark.parametrize("header", [(HEADER,), ()])
def test_engines_are_read_with_or_without_a_header(tmp_path: Path, header: tuple[str, ...]) -> None:
    fleet = cmapss.read(written(tmp_path, *header, *ROWS), "train")
    assert [engine.shape for engine in fleet.engines] == [(2, 24), (3, 24)]
    assert len(cmapss.COLUMNS) == 24
    np.testing.assert_allclose(fleet.engines[0][0, :5], [-0.0007, 0.0003, 100.0, 500, 501])


def test_a_folder_without_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        cmapss.names(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no train_FD001.txt"):
        cmapss.names(tmp_path)
    assert cmapss.names(written(tmp_path, *ROWS)) == ["FD001"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "no rows"),
        ((HEADER,), "no rows"),
        ((*ROWS, row(2, 4)[:40]), "train_FD001.txt:6: .* cells; .* are 26"),
        ((row(1, 1) + " 7",), "train_FD001.txt:1: 27 cells"),
        ((row(1, 1), row(1, 3)), "train_FD001.txt:2: cycle 3 of engine 1: .* must count up from 1"),
        ((row(1, 1), row(3, 1)), "train_FD001.txt:2: cycle 1 of engine 3"),
        ((row(2, 1),), "train_FD001.txt:1: cycle 1 of engine 2"),
        ((row(1, 1), row(1, "2x")), "train_FD001.txt:2: cycle: '2x' is not a number"),
        ((row(1, 1).replace("505", "hot"),), "train_FD001.txt:1: sensor_6: 'hot' is not a number"),
    ],
)
def test_what_is_odd_is_refused_with_its_place(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        cmapss.read(written(tmp_path, *lines), "train")


def test_the_remaining_cycles_are_one_number_per_test_engine(tmp_path: Path) -> None:
    written(tmp_path, "RUL  ", "112  ", "98  ", name="RUL_FD001.txt")
    assert cmapss.remaining(tmp_path, 2) == [112, 98]
    with pytest.raises(DataError, match=r"RUL_FD001.txt: 2 engines, but test_FD001.txt has 3"):
        cmapss.remaining(tmp_path, 3)
    written(tmp_path, "112", "many", name="RUL_FD001.txt")
    with pytest.raises(DataError, match=r"RUL_FD001.txt:2: 'many' is not a number of cycles"):
        cmapss.remaining(tmp_path, 2)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_FD001.txt: cannot be read"):
        cmapss.read(tmp_path, "train")
    with pytest.raises(DataError, match=r"RUL_FD001.txt: cannot be read"):
        cmapss.remaining(tmp_path, 1)
    (tmp_path / "test_FD001.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"test_FD001.txt: not UTF-8 text"):
        cmapss.read(tmp_path, "test")
