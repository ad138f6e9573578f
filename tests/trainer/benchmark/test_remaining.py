"""The remaining life of engines: the score by hand, and a map that finds what is there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from tests.trainer.benchmark.conftest import write_engines
from trainer.benchmark import remaining
from trainer.benchmark.remaining import CAP_CYCLES


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_engines(tmp_path)
    return tmp_path


def test_too_much_is_worse_than_too_little() -> None:
    found = remaining.accuracy(np.array([50.0, 60.0]), np.array([63.0, 50.0]))
    assert found.rmse == pytest.approx(((13**2 + 10**2) / 2) ** 0.5)
    assert found.score == pytest.approx(2 * (math.e - 1))
    assert remaining.accuracy(np.ones(3), np.ones(3)) == (0, 0)


def test_the_map_finds_the_wear(directory: Path) -> None:
    found = remaining.figures(directory)
    assert found["linear"].rmse < 15 < 30 < found["constant"].rmse
    assert found["linear"].score < found["constant"].score
    assert found == remaining.figures(directory)


def test_both_sides_are_capped(directory: Path) -> None:
    path = directory / "RUL_FD001.txt"
    path.write_text("\n".join([str(CAP_CYCLES)] * 20))
    capped = remaining.figures(directory)
    path.write_text("\n".join(["900"] * 20))
    assert remaining.figures(directory) == capped


def test_without_the_actual_cycles_there_are_no_figures(directory: Path) -> None:
    (directory / "RUL_FD001.txt").unlink()
    with pytest.raises(DataError, match=r"RUL_FD001.txt: cannot be read"):
        remaining.figures(directory)
