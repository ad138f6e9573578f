"""Chunks of samples: what comes out is what went in, and what is wrong is refused."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agent.dialects.samples import CONTENT_BYTES_MAX, Refused, Samples, packed, parted, unpacked


def some(count: int = 50, channels: int = 3, digits: int | None = 2) -> Samples:
    rng = np.random.default_rng(count)
    values = rng.normal(50, 5, (count, channels))
    values = values if digits is None else values.round(digits)
    values[0, 0] = np.nan
    scores = rng.random(count).astype(np.float32)
    scores[0] = np.nan
    return Samples(
        [f"channel-{at}" for at in range(channels)],
        np.cumsum(rng.integers(1, 9, count)),
        1_790_000_000.05 + 0.1 * np.arange(count),
        values.astype(np.float32),
        scores,
        rng.integers(0, 4, (count, channels)).astype(np.uint8),
    )


def same(one: Samples, other: Samples) -> bool:
    pairs = zip(one[1:], other[1:], strict=True)
    return list(one.channels) == list(other.channels) and all(
        (a is None and b is None)
        or (a is not None and b is not None and a.tobytes() == b.tobytes())
        for a, b in pairs
    )


@pytest.mark.parametrize("digits", [1, None])
@pytest.mark.parametrize("count", [1, 2, 1000])
@pytest.mark.parametrize("quality", [True, False])
def test_a_chunk_is_lossless(count: int, digits: int | None, quality: bool) -> None:
    samples = some(count, digits=digits)
    if not quality:
        samples = samples._replace(quality=None)
    about, data = packed(samples)
    assert same(unpacked(about, data), samples)
    assert (about["n"], about["first"]) == (count, samples.numbers[0])


def test_times_that_go_back_and_extreme_numbers_are_lossless() -> None:
    samples = some(4)._replace(times=np.array([1.79e9, 1.0, 0.5, 1.8e9]))
    values = np.array([[np.inf, -0.0, 3e38]] * 4, np.float32)
    samples = samples._replace(values=values, numbers=np.array([1, 2**53, 2**54, 2**62]))
    assert same(unpacked(*packed(samples)), samples)


def test_measured_values_take_less_than_half_of_their_bytes() -> None:
    samples = some(1000, 8, digits=1)._replace(quality=None)
    _, data = packed(samples)
    assert len(data) < 1000 * (8 + 8 * 4 + 4) / 2


def test_the_samples_above_a_number_remain() -> None:
    samples = some(20)
    rest = samples.after(int(samples.numbers[4]))
    assert rest.numbers.tolist() == samples.numbers.tolist()[5:]
    assert len(rest.times) == len(rest.values) == len(rest.scores) == 15
    assert rest.quality is not None
    assert len(rest.quality) == 15


def test_a_body_without_bytes_is_refused() -> None:
    assert parted(b'{"a":1}\nab\ncd') == (b'{"a":1}', b"ab\ncd")
    for body in (b"", b"{}", b"{}\n"):
        with pytest.raises(Refused, match="no bytes"):
            parted(body)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("n", 51, "another number of samples"),
        ("n", 49, "another number of samples"),
        ("n", 0, "n is missing"),
        ("n", True, "n is missing"),
        ("n", CONTENT_BYTES_MAX, "when decompressed"),
        ("channels", ["a", "b"], "another number of samples"),
        ("channels", ["a", "a", "b"], "a name twice"),
        ("channels", ["a", "", "b"], "no name"),
        ("channels", ["a", "\ud800", "b"], "no name"),  # no column of a file can have it
        ("channels", ["a", "a:quality", "b"], "no name"),
        ("channels", [], "empty"),
        ("channels", None, "missing"),
        ("quality", False, "another number of samples"),
        ("quality", 1, "quality or planes"),
        ("planes", None, "quality or planes"),
        ("encoding", "lzma", "encoding"),
        ("sha256", "0" * 64, "digest"),
        ("first", 0, "first or last"),
        ("last", None, "first or last"),
    ],
)
def test_what_does_not_fit_its_message_is_refused(key: str, value: Any, why: str) -> None:
    about, data = packed(some())
    with pytest.raises(Refused, match=why):
        unpacked(about | {key: value}, data)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda one: one._replace(numbers=one.numbers[::-1]), "do not increase"),
        (lambda one: one._replace(numbers=one.numbers * 0 + 7), "do not increase"),
        (lambda one: one._replace(numbers=one.numbers - 99), "do not increase"),
        (lambda one: one._replace(times=one.times * 100), "times"),
        (lambda one: one._replace(times=one.times - 1.8e9), "times"),
        (lambda one: one._replace(quality=one.quality + np.uint8(4)), "unknown quality"),
    ],
)
def test_what_no_gateway_writes_is_refused(spoil: Callable[[Samples], Samples], why: str) -> None:
    with pytest.raises(Refused, match=why):
        unpacked(*packed(spoil(some())))


def test_a_bomb_is_refused_without_being_expanded() -> None:
    about, _ = packed(some())
    bomb = zlib.compress(bytes(200_000_000))
    with pytest.raises(Refused, match="another number of samples"):
        unpacked(about | {"sha256": hashlib.sha256(bomb).hexdigest()}, bomb)
