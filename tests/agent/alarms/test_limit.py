"""Limits of a configuration, and the channels that they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.alarms.limit import check_limits, limits_of, never_back, unreachable
from agent.commands.check import check
from agent.config.streams import LimitTable
from models.errors import ConfigError
from models.manifest import unscaled

CHANNELS = [unscaled("flow", "m3/h", None, None), unscaled("head", "", None, None)]


def test_the_critical_limit_of_a_side_comes_first_and_other_channels_are_left_out() -> None:
    given = {"low_critical": 1, "low_warning": 2, "high_warning": 3, "high_critical": 4}
    tables = [LimitTable.model_validate({"channel": one} | given) for one in ("head", "valve")]
    found = [(one.position, one.side, one.level, one.value) for one in limits_of(tables, CHANNELS)]
    assert found == [
        (1, "high", "critical", 4.0),
        (1, "high", "warning", 3.0),
        (1, "low", "critical", 1.0),
        (1, "low", "warning", 2.0),
    ]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"channel": "flwo"}, "channel = 'flwo': no channel of the stream; did you mean 'flow'?"),
        ({"channel": "?"}, "no channel of the stream; allowed are flow, head"),
        (
            {"channel": "flow", "unit": "l/s"},
            "flow: unit = 'l/s': must be that of the channel, 'm3",
        ),
    ],
)
def test_limits_must_fit_the_stream(table: dict[str, Any], says: str) -> None:
    limit = LimitTable.model_validate(table | {"high_warning": 1.0})
    with pytest.raises(ConfigError, match="stream pump: limits: ") as caught:
        check_limits("pump", [limit], CHANNELS)
    assert says in str(caught.value)
    assert list(limits_of([limit], CHANNELS[1:])) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"high_critical": 149.9, "low_critical": 0.1}, []),
        ({"high_critical": 150.0, "high_warning": 100.0}, ["high_critical = 150: readings above"]),
        ({"low_warning": -1.0}, ["low_warning = -1: readings below 0 are rejected"]),
    ],
)
def test_a_limit_that_no_reading_can_pass_is_found(
    given: dict[str, float], says: list[str]
) -> None:
    ranged = [unscaled("flow", "m3/h", 0.0, 150.0), CHANNELS[1]]
    tables = [LimitTable.model_validate({"channel": name} | given) for name in ("flow", "head")]
    found = list(unreachable(tables, ranged))
    assert len(found) == len(says)
    assert all(one in text for one, text in zip(says, found, strict=True))


CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[[streams]]
name = "pump"
[streams.baseline]
period_s = 1.0
channels = [{ name = "flow", low = 0.0, high = 150.0 }]
[[streams.limits]]
channel = "flow"
high_critical = 200.0
[[inputs]]
name = "line"
port = "/dev/does-not-exist"
stream = "pump"
columns = ["flow"]
"""


def test_check_warns_of_a_limit_that_guards_nothing_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "agent.toml"
    file.write_text(CONFIG)
    told = [one for one in check(file) if one.what == "stream pump"]
    assert [(one.ok, one.mark) for one in told] == [(True, "ok"), (True, "warn")]
    assert "flow: no measured value can pass high_critical = 200" in told[1].detail
    file.write_text(CONFIG.replace('channel = "flow"', 'channel = "flwo"'))
    (refused,) = (one for one in check(file) if one.what == "stream pump")
    assert (refused.ok, refused.exit_code) == (False, 78)
    assert "did you mean 'flow'" in refused.detail


def test_an_alarm_that_no_reading_can_close_is_found() -> None:
    ranged = [unscaled("flow", "m3/h", 0.0, 150.0), CHANNELS[1]]

    def found(**given: float) -> list[str]:
        tables = [LimitTable.model_validate({"channel": name} | given) for name in ("flow", "head")]
        return list(never_back(tables, ranged))

    assert found(high_critical=100.0, deadband=100.0) == []
    assert found(high_critical=100.0, deadband=1e9) == [
        "limits: flow: an alarm of high_critical = 100 can never close: with deadband = 1e+09,"
        " 'back' means at most -1e+09, and readings below 0 are rejected"
    ]
    (told,) = found(low_warning=100.0, deadband=51.0)
    assert "low_warning = 100 can never close" in told
    assert "'back' means at least 151, and readings above 150 are rejected" in told
