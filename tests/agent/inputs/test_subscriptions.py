"""Which topics are asked for, over several connections."""

from __future__ import annotations

from agent.inputs.subscriptions import GIVEN_UP_S, Subscriptions
from agent.mqtt.connection import matches


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_topic_is_given_up_at_the_second_connection_in_a_row_for_a_day() -> None:
    clock = Clock()
    one = Subscriptions(["big/#", "plant/+"], clock)
    one.begin()
    assert one.too_large("big/a") == []
    assert one.too_large("big/b") == []  # counts once
    one.begin()
    assert one.wanted() == ["big/#", "plant/+"]
    assert one.too_large("big/a") == ["big/#"]
    assert (one.wanted(), one.given_up()) == (["plant/+"], ["big/#"])
    clock.now_s += GIVEN_UP_S - 1
    one.begin()
    assert one.given_up() == ["big/#"]
    clock.now_s += 1
    assert one.given_up() == []
    one.begin()
    assert one.too_large("big/a") == ["big/#"]  # one more is enough


def test_a_connection_without_one_in_between_forgives() -> None:
    one = Subscriptions(["big/#"])
    one.begin()
    one.too_large("big/a")
    one.begin()
    one.begin()
    assert one.too_large("big/a") == []


def test_all_topics_that_bring_it_are_given_up() -> None:
    one = Subscriptions(["#", "big/+", "$share/us/big/a", "plant/a"])
    for _ in range(2):
        one.begin()
        found = one.too_large("big/a")
    assert found == ["#", "big/+", "$share/us/big/a"]
    assert one.wanted() == ["plant/a"]


def test_what_a_filter_brings() -> None:
    assert matches("a/+/c", "a/b/c")
    assert matches("$share/group/a/#", "a/b/c")
    assert not matches("$share/group/a/#", "b/c")
    assert not matches("#", "$SYS/broker/uptime")
