"""Limits of a configuration, and the channels that they are for."""

from __future__ import annotations

from typing import Any

import pytest

from agent.alarms.limit import check_limits, limits_of
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
