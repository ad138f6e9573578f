"""The wait before the next try."""

from __future__ import annotations

import pytest

from agent.backoff import STEADY_S, Backoff


def bounds_s(backoff: Backoff, failures: int) -> list[float]:
    found = []
    for _ in range(failures):
        backoff.failed()
        found.append(backoff.bound_s)
    return found


def test_the_bound_begins_with_the_first_and_doubles_up_to_the_longest() -> None:
    assert bounds_s(Backoff(1.0, 60.0), 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_first_wait_is_not_above_the_longest() -> None:
    assert bounds_s(Backoff(0.5, 0.001), 2) == [0.001, 0.001]


def test_a_thousand_failures_are_as_one_more() -> None:
    assert bounds_s(Backoff(1.0, 1e12), 2000)[-1] == 2.0**32


def test_before_any_failure_and_after_a_success_nothing_is_waited() -> None:
    backoff = Backoff(1.0, 60.0)
    assert backoff.wait_s() == 0
    bounds_s(backoff, 5)
    backoff.succeeded()
    assert backoff.wait_s() == 0
    assert bounds_s(backoff, 2) == [1, 2]


@pytest.mark.parametrize("failures", [1, 2, 7])
def test_the_wait_is_random_over_all_of_its_bound(failures: int) -> None:
    backoff = Backoff(1.0, 60.0)
    bounds_s(backoff, failures)
    waits = [backoff.wait_s() for _ in range(300)]
    assert 0 <= min(waits) < 0.1 * backoff.bound_s
    assert 0.9 * backoff.bound_s < max(waits) <= backoff.bound_s


@pytest.mark.parametrize(
    ("max_s", "seconds", "failures"),
    [
        (60.0, STEADY_S, 0),
        (60.0, STEADY_S - 1, 3),
        (3600.0, STEADY_S, 0),  # a long wait asks for no longer connection
        (2.0, 2.0, 0),  # nor is more asked than the longest wait
        (2.0, 1.9, 3),
    ],
)
def test_a_connection_that_held_for_long_is_a_success(
    max_s: float, seconds: float, failures: int
) -> None:
    backoff = Backoff(1.0, max_s)
    bounds_s(backoff, 3)
    backoff.lasted(seconds)
    assert backoff.failures == failures
