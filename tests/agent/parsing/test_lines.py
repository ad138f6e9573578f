"""Line protocols: every kind of bad line, and that it costs nothing but itself."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config.inputs import InputTable
from agent.parsing.lines import LineParser
from agent.parsing.rejects import EXCERPT_BYTES_MAX
from models.errors import ConfigError
from models.formats.lines import Framer, whole_lines
from models.manifest import Channel
from models.messages import Readings
from tests.hostile import HOSTILE, SHOWN

ARRIVED = 1_700_000_000.0
CHANNELS = [
    Channel(name="flow", unit="m3/h", low=0, high=100, center=0, scale=1),
    Channel(name="temp", unit="degC", low=None, high=None, center=0, scale=1),
]
NAN = math.nan


def csv(*columns: str, **settings) -> LineParser:
    table = InputTable(name="a", stream="s", columns=list(columns), **settings)
    return LineParser(table, CHANNELS)


def json_lines(**settings) -> LineParser:
    return LineParser(InputTable(name="a", stream="s", format="json", **settings), CHANNELS)


def rows(readings: Readings) -> list[tuple[float, ...]]:
    """(time, values...) of each row; NaN as None, which is equal to itself."""
    return [
        (time, *(None if math.isnan(value) else value for value in values))
        for time, values in zip(readings.times.tolist(), readings.values.tolist(), strict=True)
    ]


# ---- lines that are good


@pytest.mark.parametrize("together", [True, False])
def test_a_date_and_a_time_of_day_in_two_columns_are_one_time(together):
    how = {"separator": ";", "decimal": ",", "time_format": "%d.%m.%Y %H:%M:%S", "time_zone": "UTC"}
    parser = csv("+time", "time", "temp", "flow", **how)
    lines = [b"22:13:20;14.11.2023;20,5;7", b"22:13:21;14.11.2023;21;8"]
    bad = [b"soon;14.11.2023;21;9"]
    given = [lines] if together else [lines[:1], [*lines[1:], *bad]]
    read = [row for chunk in given for row in rows(parser.parse(chunk, ARRIVED))]
    assert read == [(1700000000.0, 7.0, 20.5), (1700000001.0, 8.0, 21.0)]
    assert parser.counters["bad_time"] == (0 if together else 1)


def test_a_time_of_day_needs_its_date():
    with pytest.raises(ValueError, match="beside 'time', the date"):
        csv("+time", "flow")


def test_csv_columns_are_put_into_the_order_of_the_channels():
    parser = csv("temp", "-", "time", "flow")
    readings = parser.parse(
        [b"20.5,pump_1,1700000001.25,7", b"21,\xc3\xa9,1700000002,8e0"], ARRIVED
    )
    assert rows(readings) == [(1700000001.25, 7.0, 20.5), (1700000002.0, 8.0, 21.0)]
    assert readings.times.dtype == np.float64
    assert readings.values.dtype == np.float32
    assert readings.values.flags.c_contiguous
    assert not parser.counters


def test_a_channel_without_a_column_is_absent():
    assert rows(csv("flow").parse([b"7"], ARRIVED)) == [(ARRIVED, 7.0, None)]


@pytest.mark.parametrize(
    "time",
    [
        "1700000000",
        "1.7e9",
        " 1700000000.0 ",
        "2023-11-14T22:13:20Z",
        "2023-11-14t22:13:20.000z",
        "2023-11-14 23:13:20.0000000+01:00",
        "2023-11-14T16:43:20-05:30",
        "2023-11-14T23:13:20+0100",
        "2023-11-14 22:13:20.000 UTC",
        "2023-11-15T00:13:20+02",
        "1700000000000",
        "1700000000000000",
        "1700000000000000000",
    ],
)
def test_times(time):
    assert csv("time", "flow").parse([f"{time},7".encode()], 0.0).times.tolist() == [1.7e9]
    line = json.dumps({"t": time, "flow": 7}).encode()
    assert json_lines(time_key="t").parse([line], 0.0).times.tolist() == [1.7e9]


@pytest.mark.parametrize(
    ("form", "zone", "time"),
    [
        ("auto", "Europe/Berlin", "2023-11-14 23:13:20"),
        ("auto", "UTC", "2023-11-14T22:13:20.000"),
        ("auto", "Europe/Berlin", "2023-11-14T22:13:20Z"),
        ("excel", None, "45244.92592592592"),
        ("excel", "Europe/Berlin", "45244.96759259259"),
        ("%d.%m.%Y %H:%M:%S", "Europe/Berlin", "14.11.2023 23:13:20"),
        ("%Y%m%d%H%M%S", "UTC", "20231114221320"),
        ("%d/%m/%y %H:%M:%S %z", None, "14/11/23 23:13:20 +0100"),
    ],
)
def test_times_of_other_forms(form, zone, time):
    parser = csv("time", "flow", time_format=form, time_zone=zone)
    lines = [f"{time},7".encode(), f"{time},8".encode()]
    assert parser.parse(lines, 0.0).times.tolist() == [1.7e9] * 2
    assert parser.parse([lines[0], b"\xff"], 0.0).times.tolist() == [1.7e9]
    clean = csv("time", "flow", time_format=form, time_zone=zone).parse_clean(lines, None)
    assert clean is not None
    assert clean.times.tolist() == [1.7e9] * 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"time_format": "iso"}, "'iso' must be auto, elapsed, excel, or a pattern"),
        ({"time_zone": "Mars/Base"}, "'Mars/Base' is not a time zone of this machine"),
        ({"time_zone": "../etc"}, "is not a time zone of this machine"),
    ],
)
def test_a_form_of_time_that_does_not_exist_is_refused(given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        csv("time", "flow", **given)


def test_json():
    parser = json_lines(time_key="ts", keys={"flow": "q"}, ignore_keys=["id"])
    lines = [
        b'{"ts": 1700000001, "q": 7, "temp": 20.5}',
        b'{"id": "pump", "temp": null, "q": 8.5, "ts": 1700000002.5}',
        b'{"q": 9, "ts": "2023-11-14T22:13:23Z", "id": {"a": [1]}}',
    ]
    assert rows(parser.parse(lines, ARRIVED)) == [
        (1700000001.0, 7.0, 20.5),
        (1700000002.5, 8.5, None),
        (1700000003.0, 9.0, None),
    ]
    assert not parser.counters


def test_a_header_and_blank_lines_are_passed_over():
    parser = csv("time", "flow", "-")
    lines = [b"time, flow ,Remark", b"", b"  ", b"1700000000,7,ok"]
    assert rows(parser.parse(lines, ARRIVED)) == [(1.7e9, 7.0, None)]
    assert not parser.counters


def test_an_empty_field_is_absent_and_no_reject():
    parser = csv("time", "flow", "temp")
    lines = [b"1700000000,,20", b"1700000001,7, ", b"1700000002,8,21"]
    assert rows(parser.parse(lines, ARRIVED)) == [
        (1700000000.0, None, 20.0),
        (1700000001.0, 7.0, None),
        (1700000002.0, 8.0, 21.0),
    ]
    assert not parser.counters


def test_nothing_gives_no_rows():
    readings = csv("flow").parse([], ARRIVED)
    assert readings.times.shape == (0,)
    assert readings.values.shape == (0, 2)


# ---- lines that are bad


CSV_REJECTS = {
    "not_utf8": [b"1700000000,7,2\xff0"],
    "too_long": [b"1700000000,7,20." + b"0" * 200],
    "malformed": [b"1700000000,7,20,21", b"a,b,c"],
    "truncated": [b"1700000000,7", b"garbage"],
    "bad_time": [
        b",7,20",
        b"yesterday,7,20",
        b"nan,7,20",
        b"inf,7,20",
        b"17000000000000,7,20",
        b"86400,7,20",
        b"700000000.5,7,20",
        b"2023-11-14T22:13:20,7,20",
        b"2023-11-14,7,20",
        b"2023-02-30T22:13:20Z,7,20",
        b"023-11-14T22:13:20Z,7,20",
    ],
}
JSON_REJECTS = {
    "not_utf8": [b'{"t": 1700000000, "flow": 7, "temp": 2\xff}'],
    "too_long": [b'{"t": 1700000000, "flow": 7' + b" " * 200 + b"}"],
    "malformed": [
        b"garbage",
        b"7",
        b"[1, 2]",
        b'{"t": 1700000000, "flow": 7}, {"t": 1700000000, "flow": 7}',
        b'{"flow": 7 "t": 1700000000}',
        b"[" * 150,
    ],
    "truncated": [b'{"t": 1700000000, "flow": 7', b'{"t": 17000', b"{"],
    "bad_time": [
        b'{"flow": 7}',
        b'{"t": null, "flow": 7}',
        b'{"t": true, "flow": 7}',
        b'{"t": "soon", "flow": 7}',
        b'{"t": 5, "flow": 7}',
        b'{"t": NaN, "flow": 7}',
        b'{"t": 1' + b"0" * 120 + b', "flow": 7}',
    ],
    "unknown_channel": [b"{}", b'{"t": 1700000000}', b'{"t": 1700000000, "q": 7, "r": 8}'],
}


def cases(rejects: dict[str, list[bytes]]) -> list[tuple[str, bytes]]:
    return [(cause, line) for cause, lines in rejects.items() for line in lines]


@pytest.mark.parametrize(("cause", "line"), cases(CSV_REJECTS))
def test_a_bad_csv_line_costs_only_itself(cause, line):
    parser = csv("time", "flow", "temp", line_bytes_max=160)
    before, after = b"1700000001,1,10", b"1700000002,2,20"
    assert rows(parser.parse([before, line, after], ARRIVED)) == [
        (1700000001.0, 1.0, 10.0),
        (1700000002.0, 2.0, 20.0),
    ]
    assert parser.counters == {cause: 1}
    (reject,) = parser.rejects()
    assert (reject.time, reject.cause, reject.channel) == (ARRIVED, cause, None)


@pytest.mark.parametrize(("cause", "line"), cases(JSON_REJECTS))
def test_a_bad_json_line_costs_only_itself(cause, line):
    parser = json_lines(time_key="t", line_bytes_max=160)
    before, after = b'{"t":1700000001,"flow":1}', b'{"t":1700000002,"temp":20}'
    assert rows(parser.parse([before, line, after], ARRIVED)) == [
        (1700000001.0, 1.0, None),
        (1700000002.0, None, 20.0),
    ]
    assert parser.counters == {cause: 1}


@pytest.mark.parametrize(
    ("flow", "cause"),
    [
        ("nan", "not_finite"),
        ("-inf", "not_finite"),
        ("Infinity", "not_finite"),
        ("1e39", "not_finite"),  # more than a float32 holds
        ("1e999", "not_finite"),
        ("-0.001", "out_of_range"),
        ("100.01", "out_of_range"),
        ("1e38", "out_of_range"),
    ],
)
@pytest.mark.parametrize("neighbour", [b"", b"garbage"])  # clean blocks, and line by line
def test_a_bad_value_costs_only_itself(flow, cause, neighbour):
    parser = csv("time", "flow", "temp")
    lines = [b"1700000000,7,19", f"1700000001,{flow},20".encode()]
    assert rows(parser.parse([*lines, neighbour] if neighbour else lines, ARRIVED)) == [
        (1700000000.0, 7.0, 19.0),
        (1700000001.0, None, 20.0),
    ]
    assert parser.counters[cause] == 1
    assert (cause, "flow") in [(reject.cause, reject.channel) for reject in parser.rejects()]


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e39", "1" + "0" * 400])
def test_a_json_value_that_is_not_finite_costs_only_itself(value):
    parser = json_lines()
    assert rows(parser.parse([f'{{"flow": {value}, "temp": 20}}'.encode()], ARRIVED)) == [
        (ARRIVED, None, 20.0)
    ]
    assert parser.counters == {"not_finite": 1}


def test_the_limits_themselves_are_in_range():
    parser = csv("flow")
    assert rows(parser.parse([b"0", b"100"], ARRIVED)) == [
        (ARRIVED, 0.0, None),
        (ARRIVED, 100.0, None),
    ]


def test_unknown_json_keys_are_counted_and_the_known_ones_used():
    parser = json_lines()
    assert rows(parser.parse([b'{"flow": 7, "q\\n": 1, "id": "p"}'], ARRIVED)) == [
        (ARRIVED, 7.0, None)
    ]
    assert parser.counters == {"unknown_channel": 2}
    assert [reject.channel for reject in parser.rejects()] == ["id", "q\\n"]


def test_a_line_whose_values_are_all_bad_still_says_that_its_device_lives():
    assert rows(csv("time", "flow").parse([b"1700000001,999"], ARRIVED)) == [
        (1700000001.0, None, None)
    ]


@pytest.mark.parametrize(
    "deep", [b"[" * 4000, b'{"x":' + b"[" * 2000 + b"]" * 2000 + b',"flow":5}']
)
def test_a_line_nested_too_deep_costs_only_itself(deep):
    readings = json_lines().parse([b'{"flow":1}', deep, b'{"flow":2}'], ARRIVED)
    assert [row[1] for row in rows(readings) if row[1] != 5] == [1.0, 2.0]


def test_fields_do_not_move_over_the_end_of_a_line():
    parser = csv("flow", "-")
    assert rows(parser.parse([b"7", b"8,9,10"], ARRIVED)) == []
    assert parser.counters == {"truncated": 1, "malformed": 1}


def test_objects_do_not_move_over_the_end_of_a_line():
    parser = json_lines()
    lines = [b'{"flow":1},{"flow":2}', b"5", b'{"flow":3}']
    assert rows(parser.parse(lines, ARRIVED)) == [(ARRIVED, 3.0, None)]
    assert parser.counters == {"malformed": 2}


# ---- what is kept of rejects


def test_the_last_rejects_of_each_cause_are_kept():
    parser = csv("time", "flow", rejects_kept=2)
    parser.parse([b"x,y,z"], ARRIVED)
    for number in range(5):
        parser.parse([f"cut{number}".encode()], ARRIVED + number)
    assert [(reject.time, reject.cause, reject.excerpt) for reject in parser.rejects()] == [
        (ARRIVED, "malformed", "x,y,z"),
        (ARRIVED + 3, "truncated", "cut3"),
        (ARRIVED + 4, "truncated", "cut4"),
    ]
    assert parser.counters == {"malformed": 1, "truncated": 5}


def test_no_rejects_are_kept_where_none_are_wanted():
    parser = csv("flow", rejects_kept=0)
    parser.parse([b"x", b"999"], ARRIVED)
    assert parser.counters == {"malformed": 1, "out_of_range": 1}
    assert parser.rejects() == []


def test_excerpts_are_printable_and_bounded():
    parser = csv("flow", line_bytes_max=1000)
    parser.parse([b"\x1b[2J\xff\r\xc3\xa9" + b"y" * 900], ARRIVED)
    (reject,) = parser.rejects()
    assert reject.excerpt.startswith("\\x1b[2J\\xff\\ré")
    assert reject.excerpt.isprintable()
    assert len(reject.excerpt) <= 4 * EXCERPT_BYTES_MAX


def test_a_key_of_any_text_is_counted_and_costs_nothing():
    parser = json_lines()
    got = parser.parse([json.dumps({"flow": 51, HOSTILE: 1, "k" * 1000: 2}).encode()], ARRIVED)
    assert got.values[:, 0].tolist() == [51]
    assert parser.counters == {"unknown_channel": 2}
    for reject, key in zip(parser.rejects(), ("k" * 100, SHOWN), strict=True):
        assert reject.channel == key
        json.dumps(reject, ensure_ascii=False).encode()


def test_half_a_pair_of_surrogates_in_a_line_is_no_text():
    parser = json_lines()
    assert len(parser.parse([b'{"flow": 1, "\xed\xa0\x80": 2}'], ARRIVED).times) == 0
    assert parser.counters == {"not_utf8": 1}


# ---- settings that do not fit the bundle


def test_a_column_that_is_no_channel_is_refused():
    with pytest.raises(
        ConfigError, match=r"input a: columns: 'flwo' is not a channel.*mean 'flow'"
    ):
        csv("time", "flwo")


def test_a_key_of_no_channel_is_refused():
    with pytest.raises(ConfigError, match=r"keys: 'speed' is not a channel.*there are flow, temp"):
        json_lines(keys={"speed": "v"})


# ---- properties


reproducible = settings(derandomize=True, deadline=None)

FIELDS = st.sampled_from(
    "1|-2.5|3e1|1e39|nan|-inf|99999|| |x|1_0|７|\x1c|-0|1700000000|1700000001.5|12|time|flow|temp"
    "|2023-11-14T22:13:20Z".split("|")
)
CSV_LINES = st.one_of(
    st.tuples(
        st.sampled_from(["1700000000.5", "2023-11-14T22:13:20Z"]),
        st.floats(-1000, 1000).map(repr),
        st.integers(-5, 5).map(str),
    ).map(lambda fields: ",".join(fields).encode()),
    st.lists(FIELDS, min_size=1, max_size=4).map(lambda fields: ",".join(fields).encode()),
    st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")),
)
JSON_LINES = st.one_of(
    st.fixed_dictionaries(
        {"t": st.sampled_from([1.7e9, 1_700_000_001, "2023-11-14T22:13:20Z", 5, None])},
        optional={
            "flow": st.one_of(st.floats(), st.integers(), st.none(), st.just("7"), st.booleans()),
            "temp": st.floats(-10, 10),
            "q": st.sampled_from(["}", "{", "},\n{", 5, {"a": 1}]),
        },
    ).map(lambda document: json.dumps(document).encode()),
    # pieces that might go together over the end of a line
    st.sampled_from(
        '{"flow":1|"temp":2}|{"flow":1},{"flow":2}|{},0,{}|{"a":[1|2]}|{"}|{"flow":"x}|{":1}'
        '|{"flow":1}|{"temp":2}| {"flow":1} |{|}|[|]'.split("|")
    ).map(str.encode),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
)
BAD = b"\xff"


def one_by_one(parser: LineParser, lines: Sequence[bytes]) -> list[tuple[float, ...]]:
    return [row for line in lines for row in rows(parser.parse([line], ARRIVED))]


def beside_a_bad_one(parser: LineParser, lines: Sequence[bytes]) -> list[tuple[float, ...]]:
    """Each line in a block that cannot be read as a whole."""
    found = [row for line in lines for row in rows(parser.parse([line, BAD], ARRIVED))]
    parser.counters["not_utf8"] -= len(lines)
    return found


def assert_chunking_changes_nothing(parser_of, lines: Sequence[bytes]) -> None:
    whole, singly, slowly = parser_of(), parser_of(), parser_of()
    expected = rows(whole.parse(lines, ARRIVED))
    assert one_by_one(singly, lines) == expected
    assert beside_a_bad_one(slowly, lines) == expected
    assert whole.counters == singly.counters == Counter(slowly.counters)
    assert whole.rejects() == singly.rejects()


@reproducible
@given(st.lists(CSV_LINES, max_size=8))
def test_chunking_changes_nothing_in_csv(lines):
    assert_chunking_changes_nothing(lambda: csv("time", "flow", "temp"), lines)
    assert_chunking_changes_nothing(lambda: csv("temp", "flow"), lines)
    assert_chunking_changes_nothing(lambda: csv("flow"), lines)
    assert_chunking_changes_nothing(lambda: csv("-", "temp", "-", "flow"), lines)


@reproducible
@given(st.lists(JSON_LINES, max_size=8))
def test_chunking_changes_nothing_in_json(lines):
    assert_chunking_changes_nothing(lambda: json_lines(time_key="t"), lines)
    assert_chunking_changes_nothing(lambda: json_lines(ignore_keys=["t"]), lines)


@reproducible
@example([b"x", b"\r", b"x", b"\n"], 1)
@given(
    st.lists(st.sampled_from([b"x", b"xx\n", b"\r", b"\n", b"\r\n", b"xxxx"])), st.integers(1, 9)
)
def test_framing_does_not_depend_on_how_the_bytes_come(pieces, line_bytes_max):
    framer = Framer(line_bytes_max)
    lines = [line for piece in pieces for line in framer.push(piece)]
    assert lines == Framer(line_bytes_max).push(b"".join(pieces))
    ended, cut = whole_lines(b"".join(pieces))
    expected = [line[: line_bytes_max + 1] for line in ended if line]
    # the last one has no end, or may have half of one: it is there if it is too long
    assert expected[: len(lines)] == lines
    assert len(expected) - len(lines) <= 1
    if not cut and b"\n" in pieces[-1:]:
        assert lines == expected


# ---- framing


@pytest.mark.parametrize("line_end", ["auto", "cr"])
def test_lines_may_end_in_a_carriage_return(line_end):
    framer = Framer(100, line_end=line_end)
    assert [*framer.push(b"40.29,21.5\r40."), *framer.push(b"23,21.4\r")] == [
        b"40.29,21.5",
        b"40.23,21.4",
    ]
    assert framer.push(b"\n1\n2\r3\r\n") == [b"1", b"2", b"3"]


def test_a_carriage_return_within_lines_that_end_in_a_line_feed_is_no_end():
    assert Framer(100).push(b"1\n2\r3\n") == [b"1", b"2\r3"]
    assert Framer(100, line_end="lf").push(b"2\r3\n") == [b"2\r3"]


def test_a_line_that_never_ends_is_bounded_and_too_long():
    framer = Framer(100)
    lines = [line for _ in range(1000) for line in framer.push(b"x" * 1000)]
    assert lines == [b"x" * 101]
    assert framer.push(b"\r\n1\r\n") == [b"1"]
    assert framer.lines_cut == 0
    parser = csv("flow", line_bytes_max=100)
    parser.parse(lines, ARRIVED)
    assert parser.counters == {"too_long": 1}


def test_what_comes_before_the_first_line_end_may_be_skipped():
    framer = Framer(100, skip_first=True)
    assert framer.push(b"2.5,") == []
    assert framer.push(b"3\n12.5,3\n1") == [b"12.5,3"]
    assert framer.lines_cut == 1
    framer.end()
    assert framer.push(b"5,3\n7,3\n") == [b"7,3"]
    assert framer.lines_cut == 3


def test_a_line_in_progress_at_the_end_is_dropped_and_counted():
    framer = Framer(100)
    framer.push(b"1,2\n1,")
    framer.end()
    assert framer.lines_cut == 1
    assert framer.push(b"3\n") == [b"3"]
