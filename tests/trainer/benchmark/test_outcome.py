"""The work directory: what is kept, and what is not used again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.benchmark.conftest import MakeOutcome
from trainer.benchmark import outcome
from trainer.benchmark.outcome import Curve, WorkDirectory


def test_what_is_kept_comes_back(
    tmp_path: Path, make_outcome: MakeOutcome, curves: list[Curve]
) -> None:
    work = WorkDirectory(tmp_path / "work")
    work.keep(make_outcome("valve1/0"), curves)
    assert work.outcome("valve1/0", "k") == make_outcome("valve1/0")
    assert work.outcome("valve1/0", "another key") is None
    assert work.outcome("valve1/1", "k") is None
    kept = work.curves("valve1/0")
    assert kept is not None
    for found, made in zip(kept, curves, strict=True):
        assert found[:2] == made[:2]
        np.testing.assert_array_equal(found[2:], made[2:])
    assert not list(work.path.glob("*.partial*"))


@pytest.mark.parametrize("file", ["A-1.json", "A-1.npz"])
@pytest.mark.parametrize("bytes_left", [0, 60, None])
def test_what_is_damaged_is_made_again(
    tmp_path: Path,
    make_outcome: MakeOutcome,
    curves: list[Curve],
    file: str,
    bytes_left: int | None,
) -> None:
    work = WorkDirectory(tmp_path)
    work.keep(make_outcome("A-1"), curves)
    path = tmp_path / file
    if bytes_left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:bytes_left])
    assert work.outcome("A-1", "k") is None


def test_the_key_is_of_everything_an_outcome_comes_from() -> None:
    sources = ("nasa", "config", "data", [[[(1, 2)]]], {"numpy": "2"})
    others = ("skab", "other", "other", [[[(1, 3)]]], {"numpy": "1"})
    keys = {outcome.key(*sources)}
    for position, other in enumerate(others):
        keys.add(outcome.key(*sources[:position], other, *sources[position + 1 :]))  # type: ignore[arg-type]
    assert len(keys) == 1 + len(others)
    assert outcome.key(*sources) in keys
