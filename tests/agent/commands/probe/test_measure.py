"""The rate of lines without a time, which arrive in heaps."""

from __future__ import annotations

import pytest

from agent.commands.probe.measure import Arrival, measured, plain_channels
from agent.config.inputs import InputTable


@pytest.mark.parametrize(
    ("arrivals", "period_s"),
    [
        ([0.0, 0.5, 1.0, 1.5], 0.5),
        ([0.0] * 8 + [0.5, 1.0, 1.5], 0.5),  # what waited for the first reading
        ([0.0, 0.0, 1.0, 1.0, 2.0, 2.0], 0.5),
        ([0.0, 0.0], None),
        ([0.0], None),
    ],
)
def test_what_waited_does_not_make_a_device_faster(
    arrivals: list[float], period_s: float | None
) -> None:
    table = InputTable.model_validate({"name": "a", "stream": "s", "columns": ["q"]})
    came = [Arrival("", arrived_s, b"7") for arrived_s in arrivals]
    assert measured(table, plain_channels(["q"]), came)["period_s"] == period_s
