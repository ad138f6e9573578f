"""The rolling accuracy, against figures computed by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.accuracy import by_channel, by_lead
from models.bundle import Bundle
from models.forecaster import Forecaster
from models.pipeline import Pipeline

FLOW, VOLTAGE = 4, 7


@pytest.fixture(scope="module")
def forecaster(forecasting_bundle: Callable[..., Bundle]) -> Forecaster:
    made = Pipeline(forecasting_bundle()).forecaster
    assert made is not None
    return made


def test_nothing_judged_is_nothing_said(forecaster: Forecaster) -> None:
    judged = forecaster.start().judged
    flow = by_channel(forecaster, judged)["flow"]
    assert flow["judged"] == 0
    assert flow["unit"] == "m3/h"
    figures = {"mae", "bias", "coverage_95", "coverage_80", "coverage_50"}
    assert all(flow[name] is None for name in figures)
    leads = by_lead(forecaster, judged)
    assert [lead["lead_s"] for lead in leads] == [1.0, 3.0, 6.0, 12.0]
    assert all(lead[name] is None for name in figures for lead in leads)


def test_figures_are_means_over_what_was_judged(forecaster: Forecaster) -> None:
    judged = forecaster.start().judged
    # flow: three forecasts at the first lead, one at the last; voltage: one at the last
    judged.weight[[0, 3], FLOW] = 3, 1
    judged.error[[0, 3], FLOW] = -3.0, 7.0
    judged.absolute[[0, 3], FLOW] = 5.0, 7.0
    judged.inside[:, 0, FLOW] = list(np.array([3, 2, 1]))  # of 95 %, 80 %, 50 %
    judged.inside[0, 3, FLOW] = 1
    judged.weight[3, VOLTAGE] = 1
    judged.error[3, VOLTAGE] = judged.absolute[3, VOLTAGE] = 4.0
    channels = by_channel(forecaster, judged)
    assert channels["flow"] == {
        "unit": "m3/h",
        "judged": 4.0,
        "mae": 3.0,
        "bias": 1.0,
        "coverage_95": 1.0,
        "coverage_80": 0.5,
        "coverage_50": 0.25,
    }
    assert channels["voltage"]["coverage_95"] == 0.0
    assert channels["motor_current"]["mae"] is None
    first, *_, last = by_lead(forecaster, judged)
    flow, voltage = (forecaster.channels[column].scale for column in (FLOW, VOLTAGE))
    assert first["mae"] == pytest.approx(5 / 3 / flow, 1e-3)
    assert first["bias"] == pytest.approx(-3 / 3 / flow, 1e-3)
    assert first["coverage_80"] == pytest.approx(2 / 3, 1e-3)
    assert last["judged"] == 2.0
    assert last["mae"] == pytest.approx((7 / flow + 4 / voltage) / 2, 1e-3)
    assert last["coverage_95"] == 0.5
