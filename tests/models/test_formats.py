"""Recordings as they come: the header, the cells, the lines, and what is cut off."""

from __future__ import annotations

import io
import math

import pytest

from models.formats.encodings import as_utf8, likely
from models.formats.header import LINES_MAX, Preamble, Wanted
from models.formats.lines import whole_lines
from models.formats.recording import Layout, each_line, recorded, without_last_cell
from models.formats.separated import split
from models.formats.times import TIME_MIN, Times

WANTED = Wanted("time", frozenset(("flow", "temp")))

TOA5 = (
    '"TOA5","Station7","CR1000X","12345"\n'
    '"TIMESTAMP","RECORD","Temp_C_Avg"\n'
    '"TS","RN","Deg C"\n'
    '"","","Avg"\n'
    '"2025-11-28 18:40:00",0,21.24\n'
)


@pytest.mark.parametrize(
    ("text", "header", "separator", "rows"),
    [
        ("time,flow,temp\n1,2,3\n", ["time", "flow", "temp"], ",", [b"1,2,3"]),
        ("\ufefftime;flow\n1;2\n", ["time", "flow"], ";", [b"1;2"]),
        ("\ufeffsep=;\r\ntime;flow\r\n1;2,5\r\n", ["time", "flow"], ";", [b"1;2,5"]),
        ("Plant 7\nline 2, 12\n time , flow\ns,m3/h\n1,2\n", ["time", "flow"], ",", [b"1,2"]),
        ('"time","flow"\n"1","2"\n', ["time", "flow"], ",", [b'"1","2"']),
        ("time\tflow\r1\t2\r", ["time", "flow"], "\t", [b"1\t2"]),
        ("time  flow\n1  2\n", ["time", "flow"], " ", [b"1  2"]),
    ],
)
def test_the_header_is_found_where_it_is(
    text: str, header: list[str], separator: str, rows: list[bytes]
) -> None:
    read = recorded(text.encode(), WANTED)
    assert (read.header, read.separator, read.rows) == (header, separator, rows)
    assert read.decimal_comma == ("2,5" in text)


def test_lines_keep_their_numbers() -> None:
    read = recorded(b"title\n\ntime,flow\n\n1,2\n\n3,4\n", WANTED)
    assert read.numbers == [5, 7]


def test_a_header_without_known_names_is_told_by_its_looks() -> None:
    preamble = Preamble(Wanted(), ",")
    lines = TOA5.encode().splitlines()
    assert [preamble.takes(line) for line in lines] == [True, True, True, True, False]
    assert preamble.header == ["TIMESTAMP", "RECORD", "Temp_C_Avg"]
    assert preamble.line == lines[1]


def test_without_a_header_the_search_ends() -> None:
    preamble = Preamble(Wanted(), ",")
    assert all(preamble.takes(b"1,2") for _ in range(LINES_MAX))
    assert not preamble.takes(b"1,2")
    assert preamble.given_up
    assert preamble.header is None


@pytest.mark.parametrize(
    ("text", "separator", "cells"),
    [
        ('a,"b,c",d', ",", ["a", "b,c", "d"]),
        ('"a ""b""",c', ",", ['a "b"', "c"]),
        ('1, "2"', ",", ["1", "2"]),
        ('1 "2 3"  4', " ", ["1", "2 3", "4"]),
        ("a;b", ";", ["a", "b"]),
    ],
)
def test_cells_may_be_quoted(text: str, separator: str, cells: list[str]) -> None:
    assert split(text, separator) == cells


def test_the_last_cell_of_a_recording_that_is_cut_off_is_not_used() -> None:
    assert recorded(b"time,flow\n1,51.42\n2,51", WANTED).rows == [b"1,51.42", b"2,"]
    assert recorded(b"time,flow\n1,51.42\n2,51\n", WANTED).rows == [b"1,51.42", b"2,51"]
    assert without_last_cell(b"51", ",") == b""


def test_lines_of_a_file_are_read_whatever_ends_them() -> None:
    for data in (b"a\nb\n", b"a\r\nb\r\n", b"a\rb\r"):
        assert list(each_line(io.BytesIO(data))) == [(b"a", False), (b"b", False)]
        assert whole_lines(data) == ([b"a", b"b"], False)
        assert whole_lines(data[:-1].removesuffix(b"\r")) == ([b"a", b"b"], True)


def test_utf_16_is_named_and_other_encodings_are_read() -> None:
    for encoding in ("utf-16", "utf-16-le"):
        with pytest.raises(ValueError, match="is UTF-16"):
            recorded("time,flow\n1,2\n".encode(encoding), WANTED)
    latin = "time,flow,°C\n1,2,3\n".encode("latin-1")
    assert recorded(latin, WANTED, Layout(encoding="latin-1")).header[2] == "°C"
    assert likely(latin) == "latin-1"
    assert likely(b"caf\x80") == "cp1252"
    assert likely("°C".encode()) == "utf-8"
    assert as_utf8(b"\xef\xbb\xbfa", "cp1252") == b"a"


@pytest.mark.parametrize("form", ["auto", "elapsed", "excel", "%d.%m.%Y %H:%M:%S"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_a_time_that_is_written_is_read_as_it_was(form: str, zone: str | None) -> None:
    times = Times(form, zone or ("UTC" if "%" in form else None))
    assert times.unix_s(times.written(1_700_000_000.0)) == pytest.approx(1.7e9, abs=0.001)


def test_a_small_number_is_a_time_only_since_a_start() -> None:
    assert math.isnan(Times().unix_s("12.5"))
    assert Times("elapsed").unix_s("12.5") == 12.5
    assert Times("elapsed").unix_s(f"{TIME_MIN * 1000:.0f}") == TIME_MIN
    assert "time_zone" in Times().explain("2025-11-28 18:40:00")
    assert "pattern" in Times().explain("28.11.2025")
    german = "%d.%m.%Y %H:%M"
    assert "time_zone" in Times(german).explain("28.11.2025 18:40")
    assert "not a time of the format" in Times(german).explain("28.11.2025")
    assert "not a time of the format" in Times(german, "UTC").explain("30.02.2025 18:40")
