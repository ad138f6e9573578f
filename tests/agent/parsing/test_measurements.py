"""Measurements into readings: the same rules as for lines, in the same place."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from agent.config.inputs import (
    FileTable,
    InputTable,
    MqttInputTable,
    ReplayTable,
    SerialTable,
    SourceTable,
)
from agent.parsing.lines import LineParser
from agent.parsing.measurement import Bad, Measurement, as_bytes
from models.errors import ConfigError
from models.manifest import Channel

CHANNELS = [
    Channel(name="flow", unit="m3/h", center=0, scale=1, low=-5.0, high=100.0),
    Channel(name="level", unit="m", center=0, scale=1),
    Channel(name="speed", unit="1/min", center=0, scale=1),
]
ALL = ["flow", "level", "speed"]


def parser(columns: Sequence[str] = ALL, **settings: Any) -> LineParser:
    given = {"name": "a", "stream": "s", "format": "readings", "columns": columns}
    return LineParser(InputTable.model_validate(given | settings), CHANNELS)


def rows(parsed: LineParser, *given: Measurement) -> list[list[float | None]]:
    values = parsed.parse(given, 5.0).values.tolist()
    return [[None if math.isnan(value) else value for value in row] for row in values]


def test_good_rows_are_read_at_once_and_as_one_by_one() -> None:
    given = [Measurement({"level": at / 2, "flow": float(at), "speed": 3}) for at in range(4)]
    at_once = parser().parse_clean(given, np.arange(4.0))
    assert at_once is not None
    alone = [parser().parse([one], float(at)) for at, one in enumerate(given)]
    assert at_once.values.dtype == np.float32
    assert at_once.values.tolist() == [row.values[0].tolist() for row in alone]
    assert at_once.values[2].tolist() == [2.0, 1.0, 3.0]
    assert at_once.times.tolist() == [row.times[0] for row in alone] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (Bad("open circuit"), "bad_quality"),
        (Bad("overrange", 7.0), "bad_quality"),
        (math.nan, "not_finite"),
        (-math.inf, "not_finite"),
        (10**400, "not_finite"),
        (1e39, "not_finite"),
        (100.5, "out_of_range"),
        ("7", "not_a_number"),
        (None, None),
    ],
)
def test_a_value_that_cannot_be_used_costs_only_itself(value: Any, cause: str | None) -> None:
    parsed = parser()
    row = Measurement({"flow": value, "level": 2.0, "speed": 3.0})
    assert parsed.parse_clean([row], np.array([5.0])) is None or cause is None
    assert not parsed.counters
    assert rows(parsed, row) == [[None, 2.0, 3.0]]
    assert parsed.counters == ({cause: 1} if cause else {})
    assert [reject.channel for reject in parsed.rejects()] == (["flow"] if cause else [])


def test_a_reject_shows_the_value_or_the_whole_row() -> None:
    parsed = parser(["time", *ALL])
    bad = Bad("line\ncut", -32768.0)
    parsed.parse([Measurement({"flow": bad, "level": 1.0}, 1e9)], 5.0)
    parsed.parse([Measurement({"flow": 1.0, "level": 2.5})], 5.0)
    shown = {reject.cause: reject.excerpt for reject in parsed.rejects()}
    assert shown == {
        "bad_quality": r"flow=-32768.0, bad (line\ncut)",
        "bad_time": "flow=1.0 level=2.5",
    }


def test_channels_that_are_not_there_or_not_its_own() -> None:
    parsed = parser(["flow", "level"], channels=["flow"])
    assert rows(parsed, Measurement({"flow": 1.0, "other": 2.0})) == [[1.0, None, None]]
    assert rows(parsed, Measurement({"flow": 1.0, "level": 2.0})) == [[1.0, None, None]]
    assert rows(parsed, Measurement({"other": 1.0}), Measurement({})) == []
    assert parsed.counters == {"unknown_channel": 3, "not_its_channel": 1}


def test_times_of_its_own_or_of_arrival() -> None:
    own = parser(["time", "flow"])
    assert own.has_time
    given = [Measurement({"flow": 1.0}, time) for time in (1e9, 1e9 + 1, 5.0, None, 3e9)]
    assert own.parse(given, 5.0, latest_s=2e9).times.tolist() == [1e9, 1e9 + 1]
    assert own.counters == {"bad_time": 2, "in_future": 1}
    clean = own.parse_clean(given[:2], None, latest_s=2e9)
    assert clean is not None
    assert clean.times.tolist() == [1e9, 1e9 + 1]
    assert own.parse_clean(given[:2], None, latest_s=1e9) is None
    assert not parser(["flow"]).has_time
    assert parser(["flow"]).parse(given[:1], 5.0).times.tolist() == [5.0]


def test_no_row_is_no_reading() -> None:
    assert len(parser().parse([], 5.0).times) == 0
    assert parser().parse_clean([], np.empty(0)) is None


def test_a_channel_that_the_bundle_lacks_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"columns: 'flwo' is not a channel .* did you mean 'flow'"
    ):
        parser(["flwo"])


@pytest.mark.parametrize(
    ("table", "more"),
    [
        (SerialTable, {"port": "/dev/ttyUSB0"}),
        (MqttInputTable, {"type": "mqtt", "topics": ["a"]}),
        (FileTable, {"type": "file", "path": "/a"}),
        (ReplayTable, {"type": "replay", "path": "/a", "header": False}),
    ],
)
def test_what_brings_lines_brings_no_readings(
    table: type[SourceTable], more: dict[str, Any]
) -> None:
    given = {"name": "a", "stream": "s", "format": "readings", "columns": ["time", "flow"]}
    with pytest.raises(ValueError, match="readings"):
        table.model_validate(given | more)


def test_readings_have_no_checksum() -> None:
    with pytest.raises(ValueError, match="checksum is for"):
        parser(checksum="xor")


def test_a_row_as_text() -> None:
    assert as_bytes(b"1,2") == b"1,2"
    row = Measurement({"flow": 1.5, "level": Bad("no answer"), "speed": None}, 1e9)
    assert as_bytes(row) == b"time=1000000000.0 flow=1.5 level=bad (no answer) speed=None"
    assert as_bytes(row, "level") == b"level=bad (no answer)"
    assert as_bytes(Measurement({"\ud800": 1.0})) == rb"\ud800=1.0"


QUALITY = {
    "format": "json",
    "keys": {"flow": "/flow/value", "level": "/level/value"},
    "quality_keys": {"flow": "/flow/q", "level": "/level/q"},
}


@pytest.mark.parametrize(
    ("quality", "good", "used"),
    [
        ("good", ["good"], True),
        ("GOOD", ["good"], True),
        (192, ["192"], True),
        (0, ["0"], True),
        (True, ["true"], True),
        (None, ["good"], True),
        ("bad", ["good"], False),
        (0, ["192"], False),
        (False, ["true"], False),
        ([], ["good"], False),
    ],
)
def test_a_value_of_a_message_may_have_a_quality(
    quality: object, good: list[str], used: bool
) -> None:
    given = {"name": "a", "stream": "s", "quality_good": good}
    parsed = LineParser(InputTable.model_validate(given | QUALITY), CHANNELS)
    message = {"flow": {"value": 1.5, "q": quality}, "level": {"value": 2.5}}
    values = parsed.parse([json.dumps(message).encode()], 5.0).values[0]
    assert np.isnan(values[0]) == (not used)
    assert values[1] == 2.5
    assert parsed.counters == ({} if used else {"bad_quality": 1})
    assert [reject.channel for reject in parsed.rejects()] == ([] if used else ["flow"])


def test_a_quality_of_no_channel_is_refused() -> None:
    given = {"name": "a", "stream": "s", "format": "json", "quality_keys": {"flwo": "q"}}
    with pytest.raises(ConfigError, match="quality_keys: 'flwo' is not a channel"):
        LineParser(InputTable.model_validate(given), CHANNELS)
