"""Figures as people and programs get to see them."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from models.printable import json_text
from models.shown import short, shown
from tests.conftest import ROOT
from trainer import pages

BY_HAND = re.compile(r":[<>^]?z[\d.,]*[gfe%]\}")  # a format that is for a figure


@pytest.mark.parametrize(
    ("value", "form", "told"),
    [
        (41.70004, ".4g", "41.7"),
        (-0.0, ".4g", "0"),
        (np.float32(-0.0), "g", "0"),
        (-0.004, ".2f", "0.00"),
        (-0.4, ".0f", "0"),
        (-0.004, ".2%", "-0.40%"),
        (12_345, ",.0f", "12,345"),
        (math.nan, ".4g", "no value"),
        (np.float32("nan"), ".4g", "no value"),
        (None, ".4g", "no value"),
        (math.inf, ".4g", "infinite"),
        (-math.inf, ".4g", "-infinite"),
    ],
)
def test_a_figure_for_a_person(value: float | None, form: str, told: str) -> None:
    assert shown(value, form) == told


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, np.float32("nan")])
def test_json_gets_null_where_there_is_no_figure(value: float | None) -> None:
    assert short(value) is None
    assert shown(value, absent="–") in ("–", "infinite", "-infinite")


def test_a_figure_for_a_program_is_short_and_has_no_signed_zero() -> None:
    assert json.dumps([short(np.float32(0.1)), short(-0.0), short(123456789.0)]) == (
        "[0.1, 0.0, 123457000.0]"
    )
    assert short(1 / 3, digits=3) == 0.333


def test_json_for_programs_has_no_nan() -> None:
    document = {"a": [math.nan, 1.5, (math.inf, -math.inf)], "b": {"c": "nan", "d": None}}
    expected = {"a": [None, 1.5, [None, None]], "b": {"c": "nan", "d": None}}
    assert json.loads(json_text(document, 2)) == expected


def test_a_page_has_no_nan() -> None:
    table = pages.table(("a", "b"), [(math.nan, -0.0), (0.25, 7)])
    assert "<td>–</td><td>0</td>" in table
    assert "<td>0.25</td><td>7</td>" in table


def test_nobody_writes_figures_by_hand() -> None:
    """A recording of the simulator is no text for people."""
    for package in ("agent", "trainer", "models"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name not in ("shown.py", "plant.py"):
                assert BY_HAND.search(path.read_text()) is None, path
