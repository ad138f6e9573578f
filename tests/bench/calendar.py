"""Does the hour of the day or of the week help a forecast?

    python -m tests.bench.calendar ett FILE [--horizon 96]
    python -m tests.bench.calendar nab FOLDER NAME...

Prints a line of JSON per file: the squared error of the closed forms at each rolling origin without
and with each cycle, and whether it would ship. No network is trained. The files' times are read as
local times without daylight saving. ``ett`` uses the benchmark's configuration. ``nab`` forecasts
half a day from one day, in steps of half an hour, and names files such as
``realTraffic/speed_6005``; steps without a value are interpolated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest import Channel
from models.messages import Float32, Samples
from trainer.benchmark.forecasting import read_config
from trainer.config import ForecastTable
from trainer.datasets import ett, nab
from trainer.forecast.calendar import Moments, choose
from trainer.forecast.windows import steps

ZONE = "UTC"
TRAINED_SHARE = 2 / 3
STEP_S = 1800.0
CONTEXT, HORIZON = 48, 24


def compared(
    name: str, values: Float32, moments: Moments, settings: ForecastTable
) -> dict[str, Any]:
    """Return the figures of the first steps (n, C) of a file."""
    zoned = settings.calendar.model_copy(update={"zone": ZONE})
    settings = settings.model_copy(update={"calendar": zoned})
    centers, scales = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    channels = [
        Channel(name=f"variable_{at}", unit="", center=float(center), scale=float(scale))
        for at, (center, scale) in enumerate(zip(centers, scales, strict=True))
    ]
    found = choose(values, len(values), channels, moments, settings)
    return {"file": name, "steps": len(values), **found.as_json()}


def of_ett(path: Path, horizon: int) -> dict[str, Any]:
    """Return the figures of a file of ETT: of the first 16 of its 20 months."""
    file = ett.read(path)
    settings, _ = read_config(None, None)
    day = round(86400 / file.period_s)
    maps = settings.maps.model_copy(update={"season_steps": day})
    settings = settings.model_copy(update={"horizon_steps": horizon, "maps": maps})
    moments = Moments(file.period_s, round(float(file.times[0]) / file.period_s), 0)
    return compared(file.name, file.values[: 16 * 30 * day], moments, settings)


def of_nab(folder: Path, name: str) -> dict[str, Any]:
    """Return the figures of a file of NAB: of its first two thirds."""
    file = nab.read(folder, name)
    period_s = float(np.median(np.diff(file.times)))
    samples = Samples(file.times, file.values.reshape(-1, 1))
    found = steps(samples, [0], round(STEP_S / period_s), period_s)
    settings = ForecastTable.model_validate(
        {
            "context_steps": CONTEXT,
            "horizon_steps": HORIZON,
            "maps": {"season_steps": CONTEXT},
            "network": {"patch_steps": 8},
            "fit": {"trend_share": 0.0},
        }
    )
    known = np.flatnonzero(~np.isnan(found.values[:, 0]))
    whole = np.interp(np.arange(len(found.values)), known, found.values[known, 0])
    values = whole[: round(TRAINED_SHARE * len(whole)), None].astype(np.float32)
    return compared(name, values, Moments(STEP_S, found.first, 0), settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("ett")
    one.add_argument("file", type=Path)
    one.add_argument("--horizon", type=int, default=96)
    more = kinds.add_parser("nab")
    more.add_argument("folder", type=Path)
    more.add_argument("names", nargs="+")
    given = parser.parse_args(arguments)
    if given.kind == "ett":
        print(json.dumps(of_ett(given.file, given.horizon)))
        return
    for name in given.names:
        print(json.dumps(of_nab(given.folder, name)))


if __name__ == "__main__":
    main()
