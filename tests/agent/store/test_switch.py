"""Files that go aside have names of their own."""

from __future__ import annotations

from agent.store.switch import unused


def test_what_goes_aside_in_the_same_second_has_another_name() -> None:
    given: list[str] = []
    for _ in range(3):
        given.append(unused(lambda stamp: stamp in given))
    assert len(set(given)) == 3
