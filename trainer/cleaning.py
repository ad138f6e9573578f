"""Marks outliers and fills short gaps in the training part, and counts what each step touches.

Only the network's inputs of the training part are filled: a filled value is never a target, and
the calibration and test parts stay as a gateway sees them. Outliers are marked everywhere, and
nothing is clipped without being counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.impute import fill
from models.manifest import Channel, Imputation
from models.messages import Float32, Samples
from trainer.config import PrepareTable
from trainer.steps import Step, by_channel

Mask = npt.NDArray[np.bool_]
_REFERENCES_MAX = 2000  # rows among which neighbours are sought
_BLOCK = 500  # rows whose neighbours are sought at once


def outliers(scaled: Float32, settings: PrepareTable) -> Mask:
    """Return which scaled values (n, C) are outliers."""
    return np.abs(scaled) > settings.outlier_deviations  # NaN is none


def known(scaled: Float32, settings: PrepareTable) -> Float32:
    """Return the scaled values to learn from; NaN for outliers, if they are to be left out."""
    if settings.outliers == "mark":
        return scaled
    return np.where(outliers(scaled, settings), np.float32(np.nan), scaled)


def filled(scaled: Float32, settings: PrepareTable) -> Float32:
    """Return scaled values (n, C) of one sequence with its short gaps filled."""
    gaps = _short_gaps(scaled, settings.fill_samples_max) & ~np.isnan(scaled).all(axis=0)
    if settings.fill == "none" or not gaps.any():
        return scaled
    if settings.fill == "neighbours":
        made = _from_neighbours(scaled, gaps, settings.neighbours)
    else:
        made = np.array(scaled)
        some = gaps.any(axis=0)
        made[:, some] = fill(scaled[:, some], _imputation(settings))
    return np.where(gaps, made, scaled).astype(np.float32)


def steps(
    parts: Mapping[str, Samples], channels: Sequence[Channel], settings: PrepareTable, clip: float
) -> list[Step]:
    """Return what the preparation touches in the parts.

    Args:
        parts: the first is the training part.
        channels: of the samples.
        settings: of the preparation.
        clip: the network's inputs are clipped to ± this.

    """
    names = [channel.name for channel in channels]
    scaled = {name: _scaled(part.values, channels) for name, part in parts.items()}
    train = known(next(iter(scaled.values())), settings)
    left_out = ", left out of the training part" if settings.outliers == "leave-out" else ""
    every = np.concatenate([outliers(values, settings) for values in scaled.values()])
    found = [by_channel(f"outliers, marked{left_out}", every, names)]
    if settings.fill != "none":
        new = np.isnan(train) & ~np.isnan(filled(train, settings))
        found.append(by_channel(f"filled in the training part, {settings.fill}", new, names))
    clipped = np.concatenate([np.abs(values) > clip for values in scaled.values()])
    return [*found, by_channel(f"clipped to ±{clip:g} scales as inputs", clipped, names)]


def _scaled(values: Float32, channels: Sequence[Channel]) -> Float32:
    center = np.array([channel.center for channel in channels], np.float32)
    scale = np.array([channel.scale for channel in channels], np.float32)
    return (values - center) / scale


def _imputation(settings: PrepareTable) -> Imputation:
    season = settings.season_samples if settings.fill == "seasonal" else None
    method = "linear" if season is None else "seasonal"
    return Imputation(method=method, season_steps=season, gap_steps_max=0, missing_share_max=0)


def _short_gaps(values: Float32, longest: int) -> Mask:
    """Return the missing values in runs of at most ``longest`` rows."""
    missing = np.isnan(values)
    short = np.zeros_like(missing)
    for column in np.flatnonzero(missing.any(axis=0)):
        edges = np.flatnonzero(np.diff(missing[:, column].astype(np.int8), prepend=0, append=0))
        for begin, end in edges.reshape(-1, 2):
            short[begin:end, column] = end - begin <= longest
    return short


def _from_neighbours(values: Float32, gaps: Mask, count: int) -> Float32:
    """Fill from the mean of the rows that are most similar in the other channels."""
    whole = np.flatnonzero(~np.isnan(values).any(axis=1))
    if len(whole) == 0:
        return values
    chosen = whole[np.linspace(0, len(whole) - 1, min(len(whole), _REFERENCES_MAX)).astype(int)]
    references, made = values[chosen], np.array(values)
    patterns, of_row = np.unique(np.isnan(values), axis=0, return_inverse=True)
    for number, missing in enumerate(patterns):
        rows = np.flatnonzero((of_row.ravel() == number) & gaps.any(axis=1))
        if missing.all() or not missing.any():
            continue  # nothing is similar, or nothing is missing
        for at in range(0, len(rows), _BLOCK):
            block = rows[at : at + _BLOCK]
            near = _nearest(values[block][:, ~missing], references[:, ~missing], count)
            made[np.ix_(block, missing)] = references[near][:, :, missing].mean(axis=1)
    return made


def _nearest(rows: Float32, references: Float32, count: int) -> npt.NDArray[np.intp]:
    """Return the positions (n, count) of the references nearest to each row."""
    distances = np.square(rows[:, None, :] - references[None, :, :]).sum(axis=2)
    count = min(count, len(references))
    return np.argpartition(distances, count - 1, axis=1)[:, :count]
