"""Do a forecaster's intervals cover again after the machine has changed?

    python -m tests.bench.adaptation [--days 2] [--seed 7]

The simulated pump, by the reference bundle; from the middle on, something is added to every
channel: noise, or modes that it never had. Prints JSON: coverage of the 80 % and 95 % intervals
before the shift and in the last half after it, with the adaptation on the gateway and without.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from agent.inputs.plant import PERIOD_S, Pump
from models import bundle as bundles
from models.bundle import Bundle
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.manifest import FORECASTER
from models.messages import Float32, Samples
from tests.conftest import ZOO_BUNDLE

START_S = 1_700_000_000.0
SHIFTS = {"noise": 5.0, "modes": 600.0}  # how long what is added stays as it is, in seconds
DEVIATION = 2.0  # of it, in the channels' scales


def recording(bundle: Bundle, days: float, seed: int, holds_s: float) -> tuple[Samples, int]:
    """Return the recording, and the sample at which the machine changes."""
    count = round(days * 86400 / PERIOD_S)
    values, shift = Pump(seed).run(count), count // 2
    random = np.random.default_rng(seed)
    held = round(holds_s / PERIOD_S)
    load = np.repeat(random.normal(0, DEVIATION, -(-(count - shift) // held)), held)[
        : count - shift
    ]
    scales = np.array([channel.scale for channel in bundle.manifest.channels], np.float32)
    values[shift:] += (load[:, None] * scales).astype(np.float32)
    return Samples(START_S + np.arange(count) * PERIOD_S, values), shift


def coverage(bundle: Bundle, rate: float | None, samples: Samples, shift: int) -> dict[str, Any]:
    """Run the forecaster over the recording; return what its intervals covered."""
    part = bundle.manifest.forecaster
    assert part is not None
    if rate is not None:
        intervals = part.intervals.model_copy(update={"rate": rate})
        part = part.model_copy(update={"intervals": intervals})
    manifest = bundle.manifest.model_copy(update={"forecaster": part})
    forecaster = Forecaster(manifest, ForecastNetwork(bundle.parts[FORECASTER]))
    made = forecaster.step(forecaster.start(), samples)
    size = part.step_samples
    whole = len(samples.values) // size * size
    first = round(samples.times[0] / forecaster.step_s) + 1
    steps: Float32 = samples.values[:whole].reshape(-1, size, samples.values.shape[1]).mean(axis=1)
    changed, told = START_S + shift * PERIOD_S, START_S + len(samples.times) * PERIOD_S
    spans = {"before": (0.0, changed), "after": ((changed + told) / 2, told)}
    found: dict[str, Any] = {}
    for name, (begin, end) in spans.items():
        inside: dict[int, list[float]] = {level: [] for level in forecaster.pairs}
        for one in made:
            at = round(one.time / forecaster.step_s) + 1 - first
            came = steps[at : at + part.horizon_steps].T
            if begin <= one.time and one.times[-1] < end and came.shape[1] == part.horizon_steps:
                for level, (low, high) in forecaster.pairs.items():
                    low_path, high_path = one.quantiles[:, :, low], one.quantiles[:, :, high]
                    inside[level].append(float(((low_path <= came) & (came <= high_path)).mean()))
        found[name] = {
            f"coverage_{level}": round(float(np.mean(inside[level])), 4) for level in (80, 95)
        }
    return found


def main() -> None:
    """Print what was covered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    bundle = bundles.read(ZOO_BUNDLE)
    found = {}
    for kind, holds_s in SHIFTS.items():
        samples, shift = recording(bundle, arguments.days, arguments.seed, holds_s)
        found[kind] = {
            "adapting": coverage(bundle, None, samples, shift),
            "not_adapting": coverage(bundle, 0.0, samples, shift),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
