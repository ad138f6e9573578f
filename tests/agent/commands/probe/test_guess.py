"""What lines are taken for: the agent's own parser must read all of them with the guess."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from agent.commands.probe.baud import RATES, choose, is_clear
from agent.commands.probe.guess import Guess, guess
from agent.commands.probe.measure import Arrival, measured, plain_channels
from agent.commands.probe.propose import input_name, input_table
from agent.config.hostile_lines import slow_line
from agent.config.inputs import InputTable
from agent.config.line_patterns import channels_in
from agent.inputs.plant import CHANNELS, Pump, csv_line
from agent.parsing.checksum import KINDS, Kind, signed
from agent.parsing.lines import LineParser
from models.formats.moments import rounded
from models.plain_names import plain_name

PUMP = [csv_line(1.7e9 + n / 5, row).encode() for n, row in enumerate(Pump(1).run(20))]


def understood(found: Guess, lines: list[bytes]) -> int:
    table = InputTable.model_validate({"name": "a", "stream": "s"} | found.settings)
    arrivals = [Arrival("", float(number), line) for number, line in enumerate(lines)]
    about = measured(table, plain_channels(list(found.channels)), arrivals)
    assert about["readings"] + sum(about["rejected"].values()) == len(lines)
    return int(about["readings"])


LINES: dict[str, tuple[list[bytes], dict[str, Any]]] = {
    "csv": (
        PUMP,
        {"format": "csv", "columns": ["time", *(f"channel_{n}" for n in range(2, 10))]},
    ),
    "one number": ([b"1.5", b"2", b"-3e2"], {"format": "csv", "columns": ["channel_1"]}),
    "other columns": (
        [b"pump;7;2023-11-14T22:13:20Z;;1", b"pump;8;2023-11-14T22:13:21Z;;2"],
        {
            "format": "csv",
            "separator": ";",
            "columns": ["-", "channel_2", "time", "-", "channel_5"],
        },
    ),
    "decimal commas": (
        [b"7,25;1,5", b"8,5;2,5"],
        {
            "format": "csv",
            "separator": ";",
            "decimal": ",",
            "columns": ["channel_1", "channel_2"],
        },
    ),
    "thousands": (
        [b"1.404,95;1,5", b"-12.001.404,95;2,5", b"8;3"],
        {
            "format": "csv",
            "separator": ";",
            "decimal": ",",
            "columns": ["channel_1", "channel_2"],
        },
    ),
    "thousands and points": (
        [b"1,404.95;1.5", b"8;2.5"],
        {"format": "csv", "separator": ";", "columns": ["channel_1", "channel_2"]},
    ),
    "blanks": (
        [b"  7.5   8.5 ok", b" 17.5   8.5 ok"],
        {"format": "csv", "separator": " ", "columns": ["channel_1", "channel_2", "-"]},
    ),
    "tabs": (
        [b"7.5\t8.5", b"1\t2"],
        {"format": "csv", "separator": "\t", "columns": ["channel_1", "channel_2"]},
    ),
    "json": (
        [b'{"at": 1700000000.5, "q": 7, "id": "p", "on": true, "p in": null}'] * 2
        + [b'{"at": 1700000001.5, "q": null, "id": "p", "on": true, "p in": 2}'],
        {
            "format": "json",
            "time_key": "at",
            "keys": {"p_in": "p in"},
            "ignore_keys": ["id"],
        },
    ),
    "nested json": (
        [b'{"t": "2023-11-14T22:13:20Z", "v": {"q": 7, "a/b": [1, {"x": 2}]}, "id": "p"}'],
        {
            "format": "json",
            "time_key": "/t",
            "keys": {"q": "/v/q", "b_0": "/v/a~1b/0", "x": "/v/a~1b/1/x"},
        },
    ),
    "pairs": (
        [b"PUMP1 T=21.4C, P = 1.2bar; id=x7 at=1700000000", b"PUMP1 at=1700000001 T=-3C P= 2bar"],
        {
            "format": "keyvalue",
            "time_key": "at",
            "ignore_keys": ["PUMP1", "id"],
            "units": ["C", "bar"],
        },
    ),
    "pairs with colons": (
        [b"Temp: 21.4, Hum(%): 40", b"Temp: 21.5, Hum(%): 41"],
        {"format": "keyvalue", "keys": {"Hum": "Hum(%)"}},
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_are_recognised_and_all_are_read(name: str) -> None:
    lines, settings = LINES[name]
    found = guess(lines)
    assert found is not None
    if name == "nested json":
        assert set(found.settings["keys"].values()) == set(settings["keys"].values())
        found.settings["keys"] = settings["keys"]
        found.channels = settings["keys"]
    assert found.settings == settings
    assert understood(found, lines) == len(lines)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checksum_is_recognised(kind: Kind) -> None:
    lines = [signed(line, kind) for line in PUMP]
    found = guess([*lines, b"broken"])
    assert found is not None
    assert found.settings["checksum"] == kind
    assert understood(found, lines) == len(lines)


def test_a_header_names_the_channels() -> None:
    names = ["time", *(channel.name for channel in CHANNELS)]
    found = guess([",".join(names).encode(), *PUMP])
    assert found is not None
    assert found.header == names
    assert found.settings["columns"] == names
    odd = guess([b"Zeit;Durchfluss [m3/h];time", b"2023-11-14T22:13:20Z;7;1"])
    assert odd is not None
    assert odd.time == "Zeit"
    assert odd.settings["columns"] == ["time", "Durchfluss_m3_h", "time_value"]


@pytest.mark.parametrize("time", [b"1700000000123", b"1700000000123456", b"1700000000123456789"])
def test_unix_times_in_other_units_are_times(time: bytes) -> None:
    for line in (b"%b,7", b'{"t": %b, "q": 7}', b"t=%b q=7"):
        found = guess([line % time])
        assert found is not None
        assert found.time is not None
        assert len(found.channels) == 1
        assert understood(found, [line % time]) == 1


def test_a_local_time_is_proposed_with_a_zone_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    lines = [b"2023-11-14 23:13:20,7", b"2023-11-14 23:13:21,8"]
    found = guess(lines)
    assert found is not None
    assert found.settings["time_zone"] == "Europe/Berlin"
    assert "has no offset from UTC" in found.notes[0]
    assert understood(found, lines) == 2


@pytest.mark.parametrize(
    ("time", "form"),
    [
        ("21.09.2026 14:13:33", "%d.%m.%Y %H:%M:%S"),
        ("21.09.26 14:13", "%d.%m.%y %H:%M"),
        ("09/21/2026 02:13:33 PM", "%m/%d/%Y %I:%M:%S %p"),
        ("21/09/2026 14:13", "%d/%m/%Y %H:%M"),
        ("2026/09/21 14:13:33", "%Y/%m/%d %H:%M:%S"),
        ("21.09.2026 14:13:33.250", "%d.%m.%Y %H:%M:%S.%f"),
        ("21.09.2026, 14:13:33", "%d.%m.%Y, %H:%M:%S"),
    ],
)
def test_a_time_of_another_form_is_proposed_with_its_pattern(time: str, form: str) -> None:
    for line in (f"{time};50,13", f'{{"t": "{time}", "q": 50.13}}'):
        found = guess([line.encode()])
        assert found is not None
        assert found.settings["time_format"] == form
        assert len(found.channels) == 1
        assert "has no offset from UTC" in found.notes[-1]
        assert understood(found, [line.encode()]) == 1


TOGETHER = {
    "semicolons": (
        "21.09.2026;14:13:{n};41,7;-20,5;ok",
        {
            "pattern": "(?P<time>[^;]+;[^;]+);(?P<channel_3>[^;]*);(?P<channel_4>[^;]*);[^;]*",
            "decimal": ",",
            "time_format": "%d.%m.%Y;%H:%M:%S",
        },
    ),
    "commas and fractions": (
        "a,2026-09-21,14:13:{n}.250,41.7,-20.5",
        {
            "pattern": "[^,]*,(?P<time>[^,]+,[^,]+),(?P<channel_4>[^,]*),(?P<channel_5>[^,]*)",
            "time_format": "%Y-%m-%d,%H:%M:%S.%f",
        },
    ),
    "blanks": (
        "09/21/2026  2:13:{n} 41.7 -20.5",
        {
            "pattern": r"\s*(?P<time>\S+\s+\S+)\s+(?P<channel_3>\S+)\s+(?P<channel_4>\S+)\s*",
            "time_format": "%m/%d/%Y %H:%M:%S",
        },
    ),
    "the other order, and blanks around": (
        "41.7 ; 2:13:{n} PM ; 21.09.26 ; -20.5",
        {
            "pattern": "(?P<channel_1>[^;]*);(?P<time>[^;]+;[^;]+);(?P<channel_4>[^;]*)",
            "time_format": "%I:%M:%S %p ; %d.%m.%y",
        },
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_a_date_and_a_time_of_day_in_two_columns_are_read_by_a_pattern(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    text, settings = TOGETHER[name]
    lines = [text.replace("{n}", str(n)).encode() for n in range(10, 30)]
    found = guess(lines)
    assert found is not None
    assert found.settings == settings | {"format": "regex", "time_zone": "UTC"}
    assert "are date and time of day; the pattern reads them as one time" in found.notes[0]
    table = InputTable.model_validate({"name": "a", "stream": "s"} | found.settings)
    parser = LineParser(table, plain_channels(list(found.channels)))
    read = parser.parse(lines, 0.0)
    began = datetime(2026, 9, 21, 2 + 12 * ("14" in text or "PM" in text), 13, 10, tzinfo=UTC)
    first = began.timestamp() + 0.25 * (".250" in text)
    assert read.times.tolist() == [first + n for n in range(20)]
    assert read.values.tolist() == [[np.float32(41.7), -20.5]] * 20
    assert not parser.counters
    channels_in(settings["pattern"])
    assert slow_line(settings["pattern"]) is None


def test_what_no_pattern_can_put_together_is_told() -> None:
    found = guess([b'"21.09.2026";"14:13:33";41.7', b'"21.09.2026";"14:13:34";41.8'])
    assert found is not None
    assert found.time is None
    assert "column 1 and column 2 are date and time of day" in found.notes[0]
    assert "make the program that writes the lines put both" in found.notes[0]


def test_days_of_a_spreadsheet_are_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    for header in (b"Zeit;p", b"A;p", None):
        rows = [b"45989,77777%d;4,5" % n for n in range(7, 10)]
        lines = [header, *rows] if header else rows
        found = guess(lines)
        assert found is not None
        assert found.settings["time_format"] == "excel"
        assert found.settings["time_zone"] == "Europe/Berlin"
        assert "seems to be a spreadsheet's dates: check the times" in found.notes[0]
        assert len(found.channels) == 1
        assert understood(found, rows) == 3
    dated = guess([b"Datum;p", b"45991;4.5", b"45990;4.6"])  # and are not in order
    assert dated is not None
    assert dated.time == "Datum"


@pytest.mark.parametrize(
    "lines",
    [
        [b"45989;1.5", b"45990;1.6"],  # a counter
        [b"1.5;45989.5", b"1.6;45990.5"],  # any figure
        [b"time;speed", b"99;45989.5", b"100;45990.5"],
        [b"45990.5;1.5", b"45989.5;1.6"],  # goes back
        [b"45990.5;1.5", b"60000.5;1.6"],  # decades
        [b"1;45990.5;2023-11-14T22:13:20Z", b"2;45990.5;2023-11-14T22:13:21Z"],
    ],
)
def test_other_figures_are_no_days(lines: list[bytes]) -> None:
    found = guess(lines)
    assert found is not None
    assert found.settings.get("time_format") is None


def test_a_day_that_may_be_a_month_is_told() -> None:
    found = guess([b"01/02/2026 14:13:33,7", b"01/02/2026 14:13:34,8"])
    assert found is not None
    assert found.settings["time_format"] == "%d/%m/%Y %H:%M:%S"
    assert "may also be '%m/%d/%Y %H:%M:%S'" in found.notes[0]


def test_another_encoding_is_proposed() -> None:
    lines = ["time;T [°C]", *(f"17000000{n};2{n}" for n in range(10, 20))]
    found = guess([line.encode("latin-1") for line in lines])
    assert found is not None
    assert found.settings["encoding"] == "latin-1"
    assert found.header == ["time", "T [°C]"]
    noise = guess([b"1,2", b"1,\xb02", *[b"1,2"] * 8])
    assert noise is not None
    assert "encoding" not in noise.settings


def test_the_header_is_found_below_a_title_and_in_quotes() -> None:
    lines = [
        b'"TOA5","Station7","CR1000X","12345"',
        b'"TIMESTAMP","RECORD","flow"',
        b'"TS","RN","m3/h"',
        b'"","","Avg"',
        *(b'"2023-11-14 23:13:%d",%d,5.5' % (n, n) for n in range(10, 40)),
    ]
    found = guess(lines)
    assert found is not None
    assert found.header == ["TIMESTAMP", "RECORD", "flow"]
    assert found.time == "TIMESTAMP"
    assert list(found.channels) == ["RECORD", "flow"]


def test_numbers_as_text_booleans_and_missing_words_are_channels() -> None:
    lines = [b'{"value": "317.00", "error": "no error", "on": true, "t": null}'] * 2
    found = guess(lines)
    assert found is not None
    assert list(found.channels) == ["value", "on"]
    words = guess([b"1,2,ERR", b"2,3,4", b"3,NA,5"])
    assert words is not None
    assert len(words.channels) == 3


@pytest.mark.parametrize(
    "lines", [[], [b""], [b"\xff\xfe\x00"] * 3, [b"hello there"] * 3, [b'{"a": "b"}'], [b"a,b,c"]]
)
def test_what_is_nothing_known_is_not_guessed(lines: list[bytes]) -> None:
    assert guess(lines) is None


def test_channels_of_several_sources_have_names_of_their_own() -> None:
    first = guess([b"41.7"], "flow")
    assert first is not None
    assert first.settings["columns"] == ["flow"]
    second = guess([b'{"v": 1}'], "a")
    third = guess([b'{"v": 1, "v ": 2}'], "b", frozenset(["v"]))
    assert second is not None
    assert third is not None
    assert (list(second.channels), list(third.channels)) == (["v"], ["b_v", "b_v_2"])
    assert third.settings["keys"] == {"b_v": "v", "b_v_2": "v "}
    taken: set[str] = set()
    assert [input_name(text, taken) for text in ("a/b", "a b", "+")] == ["a-b", "a-b-2", "input"]


def test_names_keep_their_letters_in_ascii() -> None:
    header = "Zeit;Öldruck [bar];Rücklauf;Größe;Débit m³/h;ÜBERDRUCK;Smørolje;ΔT [°C];Давление;Ø"
    found = guess([header.encode(), b"2023-11-14T22:13:20Z" + b";7.5" * 9])
    assert found is not None
    assert list(found.channels) == [
        *("Oeldruck_bar", "Ruecklauf", "Groesse", "Debit_m3_h", "UEBERDRUCK", "Smoerolje"),
        *("DeltaT_C", "channel", "OE"),
    ]
    decomposed = unicodedata.normalize("NFD", "Öldruck")
    assert plain_name(decomposed) == "Oeldruck"
    assert input_name("Kühlung 1", set()) == "Kuehlung-1"


def test_odd_texts_are_written_as_toml() -> None:
    import tomllib

    settings = {"a": 'q"\\\t\x7fé\n', "b": {"x y": 1.5, "z": [True]}, "c": ["l" * 60, "m" * 60]}
    assert tomllib.loads(input_table(settings))["inputs"] == [settings]


@pytest.mark.parametrize(
    ("measured_s", "proposed_s"),
    [(0.106, 0.1), (0.0961, 0.1), (0.99, 1.0), (0.26, 0.25), (60.2, 60.0), (0.33, 0.33), (7, 7)],
)
def test_a_period_near_a_usual_one_is_that(measured_s: float, proposed_s: float) -> None:
    assert rounded(measured_s) == proposed_s


# ---- the rate of a serial line


def at_a_wrong_rate(data: bytes) -> bytes:
    """As bits of another length are read: bytes that have little to do with those sent."""
    return bytes((byte * 37 + 128) & 0xFF | (0x80 if byte % 3 else 0) for byte in data[::2])


def test_the_rate_is_that_at_which_text_comes() -> None:
    good = b"\n".join(PUMP)
    samples = dict.fromkeys(RATES, at_a_wrong_rate(good))
    assert choose(samples | {9600: good, 115200: b""}) == 9600
    assert is_clear(good)
    assert not is_clear(at_a_wrong_rate(good))
    cut = at_a_wrong_rate(good)[:9] + good  # some dirt at the beginning
    assert choose(samples | {1200: cut}) == 1200
    assert choose(dict.fromkeys(RATES, b"")) is None


def test_of_two_that_are_text_the_one_that_can_be_read_is_taken() -> None:
    words = b"\n".join([b"some words"] * 5)
    values = b"\n".join(json.dumps({"q": n}).encode() for n in range(5))
    assert choose({9600: words, 19200: values}) == 19200
    assert not is_clear(words)
