"""Checks the tail of the score on a benchmark: predicted against observed exceedance.

A bundle gives each score a probability: the share of normal operation with a higher score. If it is
right, one in a hundred normal samples has a probability of at most 1 %. More of them mean that the
bundle calls ordinary samples rare, fewer that it calls rare samples ordinary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from models.messages import Bool, Float64
from trainer.benchmark.counts import Span, point_mask

ONE_IN: Final = (10, 100, 1000)  # the predicted shares are 1 / each
LIFE_NORMAL: Final = 0.5  # share of a life that ends in failure; no label says where wear begins


class Exceeding(NamedTuple):
    """Counts of the normal samples of one test array, or of several."""

    samples: int  # normal samples that have a probability
    at_most: tuple[int, ...]  # of them with a probability of at most 1 / each of ``ONE_IN``


def normal(labels: Sequence[Span], steps: int, fails: bool) -> Bool:
    """Return which samples of a test array count as normal operation, (steps,).

    They are those outside the labels; of a machine that fails at the end, those of the first half.
    """
    mask = ~point_mask(labels, steps)
    if fails:
        mask[int(LIFE_NORMAL * steps) :] = False
    return mask


def exceeding(probability: Float64, is_normal: Bool) -> Exceeding | None:
    """Count the normal samples by their probability; None if none of the samples has one.

    Args:
        probability: (n,) 0 to 1; NaN where a sample has none.
        is_normal: (n,) the samples that count.

    """
    if np.isnan(probability).all():
        return None
    known = probability[is_normal & ~np.isnan(probability)]
    return Exceeding(len(known), tuple(int((known * each <= 1).sum()) for each in ONE_IN))


def figures(found: Iterable[Exceeding | None]) -> dict[str, Any] | None:
    """Return the observed shares over all arrays, in percent; None without a normal sample."""
    counted = [each for each in found if each is not None]
    samples = sum(each.samples for each in counted)
    if not samples:
        return None
    sums = [sum(column) for column in zip(*(each.at_most for each in counted), strict=True)]
    shares = {key(one_in): 100 * s / samples for one_in, s in zip(ONE_IN, sums, strict=True)}
    return {"samples": samples, **shares}


def key(one_in: int) -> str:
    """Return the name of an observed share in a document."""
    return f"one_in_{one_in}"
