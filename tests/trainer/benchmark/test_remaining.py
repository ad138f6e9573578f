"""The remaining life of engines: a map that finds what is there, through the sealed form."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import DataError
from tests.trainer.benchmark.conftest import write_engines
from trainer.benchmark import remaining


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_engines(tmp_path)
    return tmp_path


def test_the_map_finds_the_wear(directory: Path) -> None:
    found = remaining.figures(directory)
    assert found["linear"].rmse < 15 < 30 < found["constant"].rmse
    assert found["linear"].score < found["constant"].score
    assert found == remaining.figures(directory)
    assert found["linear"].coverage_80 is not None and found["linear"].coverage_80 > 0.5
    assert found["constant"].coverage_80 is None


def test_both_sides_are_capped(directory: Path) -> None:
    path = directory / "RUL_FD001.txt"
    path.write_text("\n".join(["125"] * 20))
    capped = remaining.figures(directory)
    path.write_text("\n".join(["900"] * 20))
    assert remaining.figures(directory) == capped


def test_without_the_actual_cycles_there_are_no_figures(directory: Path) -> None:
    (directory / "RUL_FD001.txt").unlink()
    with pytest.raises(DataError, match=r"RUL_FD001.txt: cannot be read"):
        remaining.figures(directory)
