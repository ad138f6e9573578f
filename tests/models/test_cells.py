"""Names and units of every script stand in their columns."""

from __future__ import annotations

import pytest

from models.cells import Cell, cell, columns, wrap


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("flow", 4),
        ("Größe", 5),
        ("流量", 4),
        ("ﾎﾟﾝﾌﾟ", 5),  # half-width katakana
        ("펌프", 4),
        ("🔥", 2),
        ("e\u0301", 1),
        ("m³/h", 4),
    ],
)
def test_the_width_is_in_columns(text: str, width: int) -> None:
    assert columns(text) == width
    assert f"{Cell(text):<8}|" == text + " " * (8 - width) + "|"
    assert f"{Cell(text):>8}|" == " " * (8 - width) + text + "|"


@pytest.mark.parametrize(
    ("text", "columns_max", "shown"),
    [
        ("流量計", 6, "流量計"),
        ("流量計", 5, "流量…"),
        ("流量計", 4, "流…"),
        ("temperature", 5, "temp…"),
        ("a\nb", 9, "a\\nb"),
    ],
)
def test_a_cell_is_cut_at_its_columns(text: str, columns_max: int, shown: str) -> None:
    assert cell(text, columns_max) == shown
    assert columns(cell(text, columns_max)) <= columns_max


def test_lines_are_wrapped_at_their_columns() -> None:
    text = "流量計 " * 20 + "流" * 50 + " flow is too high"
    lines = wrap(text, 40, "    ", "  ")
    assert max(map(columns, lines)) <= 40
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert lines[0].startswith("    流")
    assert lines[1].startswith("  流")
