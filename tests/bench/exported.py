"""Do intervals cover as exported, in months that come after those that set them?

    python -m tests.bench.exported --data ETTh1.csv [--horizons 96,192,336,720] [--half-life 2]

The file is one of ETT's layout. Ridge maps are fitted before months 6, 8, 10 and 12. At each later
even month all of their errors that are known by then set the intervals, per channel and lead, as
``trainer.forecast.calibrate`` does. The next two months (after month 16 the four months of the test
part) say what these intervals cover. With a half-life, in months, newer errors count more. Prints a
row per horizon and month: coverage of 80 % and 95 % in percent, width of 80 % in scales.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.intervals import between
from models.messages import Float32, Float64
from trainer.benchmark.forecasting import read_config
from trainer.config import ForecastTable
from trainer.datasets import ett
from trainer.forecast import calibrate, maps
from trainer.forecast.windows import Cutter, Int64, some_of

FITTED, CHECKED, END = (6, 8, 10, 12), (10, 12, 14, 16), 20  # months
MAP, WINDOWS_MAX, BATCH = "ridge 504, 0.1", 8000, 4096
MONTH_S, DAY_S = 30 * 86400.0, 86400.0


class Errors(NamedTuple):
    """Errors of one map, in scales of the contexts."""

    begin: Int64  # (n,) first step that is forecast
    channel: Int64  # (n,)
    scale: Float32  # (n,) of the context, in scales of the channel
    error: Float32  # (n, G) at the leads

    def where(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Errors:
        return Errors(*(each[chosen] for each in self))


def errors(
    file: ett.EttFile, settings: ForecastTable, leads: list[int], month: int
) -> dict[int, Errors]:
    """Return the errors of the maps by the month before which they were fitted."""
    scales = np.maximum(np.nanstd(file.values[: 12 * month], axis=0), 1e-9).astype(np.float32)
    cutter, at = Cutter(file.values[: END * month], scales, settings), np.array(leads) - 1
    moments, before, found = maps.Moments.empty(settings), 0, dict[int, Errors]()
    random = np.random.default_rng(settings.fit.seed)
    for fitted in FITTED:
        places = some_of(cutter.ending(before, fitted * month), WINDOWS_MAX)
        moments.add(cutter, places, settings.fit.trend_share, random)
        weights, before = maps.fitted(moments, settings)[MAP][:, at], fitted * month
        places = cutter.forecast_from(before, END * month)
        parts = list[Errors]()
        for begin in range(0, len(places), BATCH):
            cut = cutter.cut(places[begin : begin + BATCH])
            starts = places[begin : begin + BATCH, 0] + settings.longest_steps
            error = cut.future[:, at] - cut.context @ weights
            parts.append(Errors(starts, cut.channel, cut.scale, error))
        found[fitted] = Errors(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    return found


def checks(
    found: dict[int, Errors], horizon: int, leads: list[int], month: int, half_life: float
) -> Iterator[tuple[int, list[float]]]:
    """Yield coverage of 80 %, of 95 % and width of 80 % for each month that sets intervals."""
    share = between(np.array(leads), horizon).mean(axis=0).astype(np.float64)
    for now in CHECKED:
        known = [
            each.where((each.begin < (fitted + 2) * month) | (fitted == FITTED[-1]))
            for fitted, each in found.items()
            if fitted < now
        ]
        known = [each.where(each.begin + horizon <= now * month) for each in known]
        setting = Errors(*(np.concatenate(each) for each in zip(*known, strict=True)))
        newest = found[max(fitted for fitted in FITTED if fitted <= now)]
        last = END if now == CHECKED[-1] else now + 2
        after = newest.where((newest.begin >= now * month) & (newest.begin < last * month))
        age = (now * month - setting.begin) / month
        weight = np.ones(len(age)) if half_life == 0 else 0.5 ** (age / half_life)
        inside, width = covered(setting, after, weight, 0.8)
        yield (
            now,
            [
                100 * float((inside @ share).mean()),
                100 * float((covered(setting, after, weight, 0.95)[0] @ share).mean()),
                float((width @ share * after.scale).mean()),
            ],
        )


def covered(
    setting: Errors, after: Errors, weight: Float64, level: float
) -> tuple[Float64, Float64]:
    """Return which errors (n, G) of ``after`` lie inside, and the widths there (n, G)."""
    inside, width = np.zeros(after.error.shape), np.zeros(after.error.shape)
    for channel in np.unique(after.channel):
        mine, its = setting.channel == channel, after.channel == channel
        low, high = (
            quantiles(setting.error[mine], weight[mine], side)
            for side in ((1 - level) / 2, (1 + level) / 2)
        )
        inside[its] = (after.error[its] >= low) & (after.error[its] <= high)
        width[its] = high - low
    return inside, width


def quantiles(values: Float32, weight: Float64, level: float) -> Float64:
    """Return the weighted quantile of each column of ``values`` (n, G)."""
    order = np.argsort(values, axis=0)
    sums = np.cumsum(weight[order], axis=0)
    at = np.minimum((sums < level * sums[-1]).sum(axis=0), len(values) - 1)
    return np.take_along_axis(values, order, axis=0)[at, np.arange(values.shape[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--horizons", default="96,192,336,720")
    parser.add_argument("--half-life", type=float, default=0.0, help="months; 0: all count alike")
    options = parser.parse_args()
    file, (settings, _) = ett.read(options.data), read_config(None, None)
    season = settings.maps.model_copy(update={"season_steps": round(DAY_S / file.period_s)})
    month = round(MONTH_S / file.period_s)
    for horizon in map(int, options.horizons.split(",")):
        own = settings.model_copy(update={"horizon_steps": horizon, "maps": season})
        leads = calibrate.leads(own.intervals.leads, horizon)
        found = errors(file, own, leads, month)
        for now, row in checks(found, horizon, leads, month, options.half_life):
            print(
                f"{horizon:4} steps, set at month {now:2}: 80 % covers {row[0]:.1f},"
                f" 95 % covers {row[1]:.1f}, width {row[2]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
