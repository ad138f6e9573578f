"""Writes what an old bundle forecasts, adapting, for the test that this never changes.

Run by hand, with the software of that time, only for a bundle of a new form:

    python -m tests.models.make_forecasts

``data/forecast-1.fieldwatch`` is the reference bundle of before intervals were aggregated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agent.inputs.plant import PERIOD_S, Pump
from models import bundle as bundles
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import FORECASTER
from models.messages import Float32, Samples

DATA = Path(__file__).parent / "data"
BUNDLE = DATA / "forecast-1.fieldwatch"
FORECASTS = DATA / "forecast-1.npz"
STEPS, KEPT, EVERY = 600, 3, 24  # steps of the recording; the last forecasts kept, leads apart


def forecasts() -> Float32:
    """Return the last forecasts (n, C, H / EVERY, Q) of a recording of the simulated pump."""
    bundle = bundles.read(BUNDLE)
    forecaster = Forecaster(bundle.telemanom, ForecastNetwork(bundle.parts[FORECASTER]))
    values = Pump(5).run(STEPS * forecaster.part.step_samples)
    times = 1_700_000_000.0 + PERIOD_S * np.arange(1, len(values) + 1)
    made = forecaster.step(forecaster.start(), Samples(times, values))[-KEPT:]
    return np.stack([one.quantiles[:, ::EVERY] for one in made])


if __name__ == "__main__":
    np.savez_compressed(FORECASTS, forecasts=forecasts())
