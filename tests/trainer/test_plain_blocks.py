"""The fast path of CSV reads what the one reader reads, or leaves it to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import Sought
from models.errors import DataError
from models.formats.cells import Cells, NotANumber, NoValue
from models.formats.local_times import clock_of, settled
from models.formats.recording import Layout
from models.formats.times import Times
from trainer.config import ColumnTable
from trainer.datasets import Recording
from trainer.datasets import csv_text as texts
from trainer.datasets.plain_blocks import Wanted, plain_block
from trainer.datasets.recordings import read_recording

NUMBERS = Wanted(",", 2, 0, [1], None, numeric=True, comma=False)
BERLIN = Times("auto", "Europe/Berlin")

_digits = st.text("0123456789", min_size=0, max_size=25)
NUMBER_LIKE = st.one_of(
    st.floats(width=64).map(repr),
    st.tuples(
        st.sampled_from(["", "-", "+"]), _digits, st.sampled_from([".", "", ","]), _digits,
        st.sampled_from(["", "e5", "E-300", "e400"]),
    ).map("".join),
    st.text("0123456789.eE+-_ xXnNaAiIfF", max_size=12),
    st.sampled_from(["", " ", "nan", "-inf", "Infinity", "1_0", "0x10", "1 000", "٣", "1d5", "t"]),
)  # fmt: skip


def by_the_reader(cell: str) -> float:
    try:
        value = Cells().value(cell)
    except (NoValue, NotANumber):
        return float("nan")
    return value if np.isfinite(value) else float("nan")


@given(st.lists(NUMBER_LIKE, min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_numbers_are_those_of_the_reader(cells: list[str]) -> None:
    data = "".join(f"{row},{cell}\n" for row, cell in enumerate(cells)).encode()
    read = plain_block(data, NUMBERS, Times())
    if read is None:
        return
    assert read.times.tolist() == list(range(len(cells)))
    values = read.values[:, 0]
    values[~np.isfinite(values)] = np.nan
    np.testing.assert_array_equal(values, [by_the_reader(cell) for cell in cells])


def test_plain_numbers_take_the_fast_path() -> None:
    read = plain_block(b"1,2.5\n2,\n3,-1e-3\r\n4,+7\n", NUMBERS, Times())
    assert read is not None
    np.testing.assert_array_equal(read.values[:, 0], [2.5, np.nan, -0.001, 7])
    comma = NUMBERS._replace(separator=";", comma=True)
    read = plain_block(b"1;2,5\n2;3,25\n", comma, Times())
    assert read is not None
    assert read.values[:, 0].tolist() == [2.5, 3.25]


@pytest.mark.parametrize(
    "data",
    [
        b"1,x\n",
        b"1,NA\n",
        b'1,"2"\n',
        b"1\n",
        b"1,2,3\n",
        b"1,2\n\n3,4\n",
        b"1,2\n3\n4,5,6\n",
        b"1,\xff\n",
    ],
)
def test_what_is_not_plain_is_left_to_the_reader(data: bytes) -> None:
    assert plain_block(data, NUMBERS, Times()) is None


FORMS = [
    "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S.%f", "%Y%m%d%H%M%S", "%d-%m-%Y %I:%M %p", "%y-%m-%d %H",
    "%Y-%m-%dT%H:%M:%S+02:00",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_times_are_those_of_the_reader(form: str) -> None:
    draw = random.Random(4)
    iso = form.startswith("%Y-%m-%d") and "%H:%M:%S" in form
    times = BERLIN if iso else Times(form, "Europe/Berlin")
    wanted = NUMBERS._replace(numeric=False)
    fast = 0
    for _ in range(60):
        made = [clock_of(draw.uniform(1.0e9, 4.0e9)).strftime(form) for _ in range(20)]
        if draw.random() < 0.5:  # spoil one
            at = draw.randrange(20)
            where = draw.randrange(len(made[at]))
            made[at] = made[at][:where] + draw.choice("0369 :-Zx") + made[at][where + 1 :]
        read = plain_block("".join(f"{one},1\n" for one in made).encode(), wanted, times)
        if read is not None:
            fast += 1
            assert read.times.tolist() == [times.seconds(one) for one in made]
    padded = "%p" not in form and "%y" not in form and "+02:00" not in form
    assert (fast > 20) == padded


def test_a_whole_day_of_each_change_of_the_clock() -> None:
    wanted = NUMBERS._replace(numeric=False)
    for day in ("2025-10-26", "2025-03-30", "2025-06-01"):
        clocks = [
            f"{day} {hour:02}:{minute:02}:00" for hour in range(24) for minute in range(0, 60, 7)
        ]
        read = plain_block("".join(f"{one},1\n" for one in clocks).encode(), wanted, BERLIN)
        assert read is not None
        assert read.times.tolist() == [BERLIN.seconds(one) for one in clocks]
        assert BERLIN.zone is not None
        settled(read.times, BERLIN.zone, lambda row: None)


SOUGHT = Sought(("time",), [("a",), ("b",)])
TABLES = [ColumnTable(name="a"), ColumnTable(name="b")]
SPOILS: list[Callable[[str], str]] = [
    lambda row: row,
    lambda row: row.replace(",", ", ", 1),
    lambda row: row.rpartition(",")[0],
    lambda row: row + ",",
    lambda row: row.replace(".5", ".x", 1),
    lambda row: f'"{row}"'.replace(",", '","'),
    lambda row: row.replace("17", "71", 1),
    lambda row: f"\n{row}\n   ",
    lambda row: row.replace(",1.5", ",NA"),
    lambda row: row.replace(",1.5", ","),
]


def reading(path: Path) -> Recording:
    return read_recording(path, SOUGHT, TABLES, Layout(bad_share_max=1.0))


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_blocks_of_any_size_read_the_same(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(7)
    rows = [f"{1_700_000_000 + row},1.5,{row}.5" for row in range(300)]
    rows = [draw.choice(SPOILS)(row) if draw.random() < 0.2 else row for row in rows]
    path = tmp_path / "x.csv"
    path.write_bytes(("Plant\n\ntime,a,b\n" + "\n".join(rows) + end).encode())
    whole = reading(path)
    for size in (1, 20, 333, 4000):
        monkeypatch.setattr(texts, "BLOCK_BYTES", size)
        parts = reading(path)
        assert parts.readings.times.tolist() == whole.readings.times.tolist()
        np.testing.assert_array_equal(parts.readings.values, whole.readings.values)
        assert parts.rejected == whole.rejected


def test_a_line_is_named_by_its_number_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "BLOCK_BYTES", 64)
    path = tmp_path / "x.csv"
    rows = [f"{26 + row // 24}.10.2025 {row % 24:02}:00;{row};2" for row in range(60)]
    path.write_text("time;a;b\n\n" + "\n".join(rows) + "\n")
    layout = Layout(time_zone="Europe/Berlin", time_format="%d.%m.%Y %H:%M")
    with pytest.raises(DataError, match=r"x\.csv:5: '26\.10\.2025 02:00': the clock"):
        read_recording(path, SOUGHT, TABLES, layout)
