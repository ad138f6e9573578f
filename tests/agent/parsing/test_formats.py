"""Key-value lines, regular expressions, headers, separators, checksums."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.inputs import FileTable, InputTable
from agent.parsing import checksum
from agent.parsing.checksum import signed
from agent.parsing.lines import LineParser
from models.errors import ConfigError
from models.manifest import Channel

ARRIVED = 1_700_000_000.0
CHANNELS = [
    Channel(name="flow", unit="m3/h", low=0, high=100, center=0, scale=1),
    Channel(name="temp", unit="degC", low=None, high=None, center=0, scale=1),
]
BAD = b"\xff"


def parser(**given: Any) -> LineParser:
    return LineParser(InputTable.model_validate({"name": "a", "stream": "s"} | given), CHANNELS)


def rows(parsed: LineParser, lines: Sequence[bytes]) -> list[tuple[float | None, ...]]:
    readings = parsed.parse(lines, ARRIVED)
    return [
        (time, *(None if value != value else value for value in values))
        for time, values in zip(readings.times.tolist(), readings.values.tolist(), strict=True)
    ]


def keyvalue(**given: Any) -> LineParser:
    return parser(format="keyvalue", **given)


def regex(pattern: str, **given: Any) -> LineParser:
    return parser(format="regex", pattern=pattern, **given)


# ---- key and value


@pytest.mark.parametrize(
    "line",
    [
        b"flow=7 temp=20.5",
        b"flow=7,temp=20.5",
        b" temp = 20.5;flow=  7;;",
        b"flow:7, temp: 20.5",
        b"flow=1 temp=2.05e1 flow=7",
    ],
)
def test_pairs_are_read_in_any_order_and_spelling(line: bytes) -> None:
    read = keyvalue()
    assert rows(read, [line]) == [(ARRIVED, 7.0, 20.5)]
    assert not read.counters


def test_pairs_have_keys_times_units_and_words_of_their_own() -> None:
    read = keyvalue(
        keys={"temp": "T"}, time_key="at", ignore_keys=["PUMP1", "id"], units=["C", "degC", "l"]
    )
    lines = [
        b"PUMP1 at=2023-11-14T22:13:20Z T=21.4degC id=x1 flow=7l",
        b"at:1700000001 T: -3C",
        b"at=1700000002 flow= 8 l",
    ]
    assert rows(read, lines) == [
        (1700000000.0, 7.0, pytest.approx(21.4)),
        (1700000001.0, None, -3.0),
        (1700000002.0, 8.0, None),
    ]
    assert not read.counters


def test_a_separator_lets_blanks_be_part_of_a_value() -> None:
    read = keyvalue(separator="|", time_key="at")
    line = b"at = 2023-11-14 22:13:20+00:00 | flow=| temp = 20.5 |"
    assert rows(read, [line]) == [(1700000000.0, None, 20.5)]
    assert rows(keyvalue(separator=" "), [b"flow=7  temp = 1"]) == [(ARRIVED, 7.0, 1.0)]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"at=1700000000 hello flow=7", "malformed"),
        (b"at=1700000000 flow=7 te", "truncated"),
        (b"at=yesterday flow=7", "bad_time"),
        (b"flow=7", "bad_time"),
        (b"at=1700000000 q=7", "unknown_channel"),
        (b"flow=7 temp=\xff", "not_utf8"),
        (b"flow=" + b"7" * 5000, "too_long"),
    ],
)
def test_a_bad_line_of_pairs_costs_only_itself(line: bytes, cause: str) -> None:
    read = keyvalue(time_key="at")
    good = b"at=1700000001 temp=1"
    assert rows(read, [good, line, good]) == [(1700000001.0, None, 1.0)] * 2
    assert read.counters == {cause: 1}


@pytest.mark.parametrize(
    ("cell", "cause"),
    [
        ("x", "not_a_number"),
        ("7_0", "not_a_number"),
        ("0x7", "not_a_number"),
        ("７", "not_a_number"),
        ("7x", "not_a_number"),
        ("ERR", "no_value"),
        ("n/a", "no_value"),
        ("---", "no_value"),
    ],
)
@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"columns": ["time", "flow", "temp"]}, "1700000000,{},20.5"),
        ({"format": "keyvalue", "time_key": "t"}, "t=1700000000 flow={} temp=20.5"),
        (
            {"format": "regex", "pattern": r"(?P<time>\d+) (?P<flow>\S+) (?P<temp>\S+)"},
            "1700000000 {} 20.5",
        ),
        ({"format": "json", "time_key": "t"}, '{{"t":1700000000,"flow":"{}","temp":20.5}}'),
    ],
)
def test_a_bad_cell_costs_only_its_value(
    cell: str, cause: str, given: dict[str, Any], line: str
) -> None:
    read = parser(**given)
    good, bad = line.format(7).encode(), line.format(cell).encode()
    assert rows(read, [good, bad]) == [(1.7e9, 7.0, 20.5), (1.7e9, None, 20.5)]
    assert read.counters == {cause: 1}
    assert [reject.channel for reject in read.rejects()] == ["flow"]


def test_the_words_for_a_missing_value_are_a_setting() -> None:
    read = parser(columns=["flow", "temp"], missing_words=["off"])
    assert rows(read, [b"OFF,20.5", b"NA,20.5"]) == [(ARRIVED, None, 20.5)] * 2
    assert read.counters == {"no_value": 1, "not_a_number": 1}


def test_numbers_in_strings_and_booleans_are_read_from_json() -> None:
    read = parser(format="json", time_key="t", decimal=",")
    lines = [
        b'{"t": "2023-11-14T22:13:20+0000", "flow": "45,5", "temp": "21.5"}',
        b'{"t": "1700000001", "flow": true, "temp": " "}',
    ]
    assert rows(read, lines) == [(1.7e9, 45.5, 21.5), (1.7e9 + 1, 1.0, None)]
    assert not read.counters


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"format": "keyvalue"}, b"flow=7,5, temp=20,5"),
        ({"format": "keyvalue"}, b"flow: 7,5; temp: 20,5"),
        ({"format": "regex", "pattern": r"(?P<flow>\S+) (?P<temp>\S+)"}, b"7,5 20,5"),
        ({"format": "json"}, b'{"flow": "7,5", "temp": 20.5}'),
        ({"columns": ["flow", "temp"], "separator": ";"}, b"7,5;20,5"),
    ],
)
def test_every_format_has_the_decimal_comma(given: dict[str, Any], line: bytes) -> None:
    read = parser(decimal=",", **given)
    assert rows(read, [line]) == rows(read, [line, line])[:1] == [(ARRIVED, 7.5, 20.5)]
    assert not read.counters


@pytest.mark.parametrize(
    ("given", "line", "form"),
    [
        (
            {"columns": ["time", "flow"], "separator": ";"},
            b"14.11.2023, 22:13:20,5;7,5",
            "{}, {},%f",
        ),
        ({"columns": ["flow", "time"], "separator": ";"}, b"7,5;14.11.2023 22:13:20,5", "{} {},%f"),
        (
            {"format": "regex", "pattern": "(?P<time>[^;]+);(?P<flow>[^;]+)"},
            b"14.11.2023, 22:13:20.5;7,5",
            "{}, {}.%f",
        ),
        (
            {"format": "json", "time_key": "t"},
            b'{"t": "14.11.2023, 22:13:20", "flow": "7,5"}',
            "{}, {}",
        ),
    ],
)
def test_a_comma_in_a_time_is_no_decimal_sign(
    given: dict[str, Any], line: bytes, form: str
) -> None:
    form = form.format("%d.%m.%Y", "%H:%M:%S")
    read = parser(decimal=",", time_format=form, time_zone="UTC", **given)
    expected = (1.7e9 + 0.5 * ("%f" in form), 7.5, None)
    assert rows(read, [line] * 3) == [expected] * 3
    assert not read.counters


# ---- what was cut off, and what was damaged


def test_of_a_file_the_rest_of_a_cut_row_is_used_without_its_last_value() -> None:
    table = {"name": "a", "stream": "s", "type": "file", "path": "/x", "columns": ["flow", "temp"]}
    names = [Channel(name="flow", unit="", center=0, scale=1), CHANNELS[1]]
    read = LineParser(FileTable.model_validate(table | {"columns": ["flow", "temp", "-"]}), names)
    assert rows(read, [b"7,20,x,", b"8,2", b"9", b"1,2,3,4"]) == [
        (ARRIVED, 7.0, 20.0),
        (ARRIVED, 8.0, None),
    ]
    assert read.counters == {"truncated": 2, "malformed": 1}


def test_of_a_file_a_byte_that_is_no_text_costs_its_cell() -> None:
    table = {"name": "a", "stream": "s", "type": "file", "path": "/x"}
    given = FileTable.model_validate(table | {"columns": ["flow", "temp", "-"]})
    read = LineParser(given, CHANNELS)
    assert rows(read, [b"7,2\xff,x", b"8,20,\xb0C"]) == [(ARRIVED, 7.0, None), (ARRIVED, 8.0, 20.0)]
    assert read.counters == {"not_a_number": 1}


@pytest.mark.parametrize("checksum", [None, "xor"])
def test_on_a_line_without_a_checksum_such_a_byte_costs_the_line(checksum: Any) -> None:
    read = parser(columns=["flow", "temp"], checksum=checksum)
    line = b"7,2\xff" if checksum is None else signed(b"7,2\xff", checksum)
    expected = [] if checksum is None else [(ARRIVED, 7.0, None)]
    assert rows(read, [line]) == expected
    assert read.counters == {"not_utf8" if checksum is None else "not_a_number": 1}


def test_an_unknown_key_is_counted_and_the_rest_used() -> None:
    read = keyvalue()
    assert rows(read, [b"flow=7 q=1 r=x"]) == [(ARRIVED, 7.0, None)]
    assert [(one.cause, one.channel) for one in read.rejects()] == [
        ("unknown_channel", "q"),
        ("unknown_channel", "r"),
    ]


# ---- regular expressions


def test_the_groups_of_a_pattern_are_channels() -> None:
    read = regex(
        r"\[(?P<time>[^\]]+)\] q=(?P<q>\S*)(?: T (?P<temp>[-\d.]+)C)?( .*)?", keys={"flow": "q"}
    )
    lines = [b"[2023-11-14T22:13:20Z] q=7 T 20.5C ok", b"[1700000001] q=", b"[1700000002] q=8"]
    assert rows(read, lines) == [
        (1700000000.0, 7.0, 20.5),
        (1700000001.0, None, None),
        (1700000002.0, 8.0, None),
    ]
    assert not read.counters


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"q 7", "malformed"),
        (b"t 5 q 7", "bad_time"),
        (b"t 1700000000 q 7" + b" " * 600, "too_long"),
    ],
)
def test_a_line_that_does_not_match_costs_only_itself(line: bytes, cause: str) -> None:
    read = regex(r"t (?P<time>\d+) q (?P<flow>\w+) *")
    good = b"t 1700000001 q 1"
    assert rows(read, [good, line, good]) == [(1700000001.0, 1.0, None)] * 2
    assert read.counters == {cause: 1}


@pytest.mark.parametrize(
    "given", [{"pattern": "(?P<flwo>.)"}, {"pattern": ".", "keys": {"q": "q"}}]
)
def test_a_group_of_no_channel_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, ValueError), match=r"not a channel of|no named group"):
        parser(format="regex", **given)


# ---- csv: separators, decimal commas, headers


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"separator": ";"}, b"7;20.5;x"),
        ({"separator": "\t"}, b"7\t20.5\tx"),
        ({"separator": "|"}, b"7 | 20.5 | x"),
        ({"separator": " "}, b"  7\t 20.5 x "),
        ({"separator": ";", "decimal": ","}, b"7,0;20,5;x,y"),
    ],
)
def test_csv_has_other_separators_and_the_decimal_comma(given: dict[str, str], line: bytes) -> None:
    read = parser(columns=["flow", "temp", "-"], **given)
    assert rows(read, [line, line]) == [(ARRIVED, 7.0, 20.5)] * 2
    assert rows(read, [line, BAD]) == [(ARRIVED, 7.0, 20.5)]
    assert read.counters == {"not_utf8": 1}


def test_a_header_names_the_columns_and_may_change() -> None:
    read = parser(header=True, time_key="Time", keys={"temp": "T (C)"})
    first = [b"\xef\xbb\xbfTime, flow,note", b"1700000000,7,ok", b"1700000001,8,ok"]
    assert rows(read, first) == [(1700000000.0, 7.0, None), (1700000001.0, 8.0, None)]
    assert rows(read, [first[0], b"1700000002,9,ok"]) == [(1700000002.0, 9.0, None)]
    assert rows(read, [first[0]]) == []
    second = [b"T (C),flow,flow,Time", b"20.5,1,2,1700000003"]
    assert rows(read, second) == [(1700000003.0, 1.0, 20.5)]
    assert not read.counters


def test_without_a_header_nothing_is_known() -> None:
    read = parser(header=True, time_key="time")
    assert rows(read, [b"1700000000,7", b"flow,temp"]) == []
    assert read.counters == {"malformed": 2}
    assert read.parse_clean([b"time,flow", b"1700000000,7"], ARRIVED) is None


# ---- checksums


def test_the_checksums_are_those_of_their_standards() -> None:
    # NMEA 0183: a sentence from its glossary; Modbus over serial line 1.02; IEEE 802.3
    gga = b"$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*76"
    assert checksum.checked(gga, "xor") == gga[1:-3]
    assert checksum.crc16_modbus(b"123456789") == 0x4B37
    assert checksum.crc16_modbus(bytes([0x11, 3, 0, 0x6B, 0, 3])) == 0x8776  # sent as 76 87
    assert signed(b"123456789", "crc32") == b"123456789*CBF43926"
    assert zlib.crc32(b"123456789") == 0xCBF43926


BODIES = {
    "csv": ({"columns": ["time", "flow"]}, b"1700000000,7"),
    "json": ({"format": "json", "time_key": "t"}, b'{"t": 1700000000, "flow": 7}'),
    "keyvalue": ({"format": "keyvalue", "time_key": "t"}, b"t=1700000000 flow=7"),
    "regex": (
        {"format": "regex", "pattern": r"(?P<time>\d+)\*(?P<flow>\d+)"},
        b"1700000000*7",
    ),
}


@pytest.mark.parametrize("kind", checksum.KINDS)
@pytest.mark.parametrize("name", BODIES)
def test_a_checksum_goes_with_every_format(name: str, kind: checksum.Kind) -> None:
    given, body = BODIES[name]
    read = parser(checksum=kind, **given)
    good = signed(body, kind)
    assert rows(read, [good, good.lower() + b" "]) == [(1.7e9, 7.0, None)] * 2
    wrong = [good.replace(b"7", b"8", 1), good[:-1], body, good + b"0", b"*", body + b"*zz"]
    assert rows(read, [*wrong, b" ", good]) == [(1.7e9, 7.0, None)]
    assert read.counters == {"bad_checksum": len(wrong)}
    assert {reject.cause for reject in read.rejects()} == {"bad_checksum"}


# ---- in blocks and one by one


PIECES = st.sampled_from(
    "flow=7|temp=|=|:|t=1700000000|t=x|temp = -2.5|q=1|flow:99999|flow=nan|flow=1_0| |,|;|C|٣|"
    "1700000000|1700000001.5|7|-2.5|x|*00|*1B|{|}|\x1c|\t".split("|")
)
LINES = st.one_of(
    st.lists(PIECES, max_size=5).map(lambda pieces: " ".join(pieces).encode()),
    st.lists(PIECES, max_size=5).map(lambda pieces: ";".join(pieces).encode()),
    st.lists(PIECES, max_size=3).map(lambda pieces: signed(" ".join(pieces).encode(), "xor")),
    st.sampled_from([b"t;flow", b"flow;t;q", b"1700000000;7", b"t=1700000000 flow=7"]),
)
KINDS: list[dict[str, Any]] = [
    {"format": "keyvalue", "time_key": "t", "units": ["C"]},
    {"format": "keyvalue", "separator": ";"},
    {"format": "regex", "pattern": r"(?P<time>[^ ;]*)[ ;](?P<flow>[^ ;]*)(?:[ ;](?P<temp>.*))?"},
    {"columns": ["time", "flow"], "separator": ";", "decimal": ","},
    {"columns": ["time", "flow", "-"], "separator": " "},
    {"header": True, "time_key": "t", "separator": ";"},
    {"format": "keyvalue", "checksum": "xor"},
    {"columns": ["flow", "-"], "checksum": "xor", "separator": " "},
]


@settings(derandomize=True, deadline=None)
@given(st.lists(LINES, max_size=6), st.sampled_from(KINDS))
def test_chunking_changes_nothing(lines: list[bytes], kind: dict[str, Any]) -> None:
    whole, singly, slowly = (parser(**kind) for _ in range(3))
    expected = rows(whole, lines)
    assert [row for line in lines for row in rows(singly, [line])] == expected
    assert [row for line in lines for row in rows(slowly, [line, BAD])] == expected
    bad = "bad_checksum" if "checksum" in kind else "not_utf8"
    slowly.counters[bad] -= len(lines)
    assert whole.counters == singly.counters == +slowly.counters
    assert whole.rejects() == singly.rejects()
