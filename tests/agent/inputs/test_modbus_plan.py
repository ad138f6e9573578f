"""Which requests read a device's registers, and what is learnt of it: without any device."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.inputs.modbus_plan import Plan
from agent.inputs.modbus_terms import Block, Refusal, Words

NO_ADDRESS = Refusal(2, "illegal data address")
TOO_LONG = Refusal(3, "illegal data value")
BUSY = Refusal(6, "server device busy")
LONGEST = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
RETRY_MAX_S = 600.0


class Registers:
    """A device: each register contains its address."""

    def __init__(self, missing: set[int] | None = None, longest: int = 2000) -> None:
        self.missing = missing or set()
        self.longest = longest
        self.asked: list[Block] = []

    def __call__(self, block: Block) -> Words | Refusal:
        self.asked.append(block)
        addresses = range(block.address, block.address + block.words)
        if block.words > self.longest:
            return TOO_LONG
        return NO_ADDRESS if self.missing.intersection(addresses) else list(addresses)

    def since_asked(self) -> list[Block]:
        asked, self.asked = self.asked, []
        return asked


def single(*addresses: int, function: str = "holding") -> list[Block]:
    return [Block(function, at, 1) for at in addresses]


@example(wanted=[("holding", 0, 1)], missing={0}, longest=125)
@given(
    wanted=st.lists(
        st.tuples(st.sampled_from(["holding", "input"]), st.integers(0, 150), st.integers(1, 4)),
        min_size=1,
        max_size=60,
        unique=True,
    ),
    missing=st.sets(st.integers(0, 155), max_size=8),
    longest=st.integers(4, 125),
)
def test_all_that_a_device_has_is_read_and_nothing_else(
    wanted: list[tuple[str, int, int]], missing: set[int], longest: int
) -> None:
    blocks = [Block(*one) for one in wanted]
    device = Registers(missing, longest)
    plan = Plan(blocks, LONGEST, RETRY_MAX_S)
    for _ in range(3):
        found = plan.read(device, 0.0)
        for block, words in zip(blocks, found, strict=True):
            addresses = list(range(block.address, block.address + block.words))
            if missing.intersection(addresses):
                assert words in (NO_ADDRESS, TOO_LONG)
                assert block in plan.refused
            else:
                assert words == addresses
    device.since_asked()
    plan.read(device, 0.0)
    steady = device.since_asked()
    assert len(set(steady)) == len(steady) <= len(blocks)
    if len(plan.refused) == len(blocks):  # one is asked for with each poll: the device may be back
        assert len(steady) == 1
    else:
        assert all(not isinstance(device(block), Refusal) for block in steady)


def test_a_hole_costs_few_requests_and_they_are_not_repeated() -> None:
    device = Registers({37})
    plan = Plan(single(*range(125)), LONGEST, RETRY_MAX_S)
    plan.read(device, 0.0)
    assert len(device.since_asked()) <= 15
    plan.read(device, 1.0)
    assert len(device.since_asked()) <= 7
    assert plan.refused == {Block("holding", 37, 1): NO_ADDRESS}


def test_what_is_refused_is_asked_for_less_and_less_often() -> None:
    device = Registers({1})
    plan = Plan(single(0, 1), LONGEST, RETRY_MAX_S)
    tried = []
    for now_s in range(2000):
        plan.read(device, float(now_s))
        if Block("holding", 1, 1) in device.since_asked():
            tried.append(now_s)
    assert tried == [0, 10, 30, 70, 150, 310, 630, 1230, 1830]
    changes = plan.changes
    plan.read(device, 3000.0)
    assert plan.changes == changes  # nothing to tell


def test_only_one_of_those_refused_is_asked_for_at_a_time() -> None:
    device = Registers(set(range(10, 30)))
    plan = Plan(single(*range(40)), LONGEST, RETRY_MAX_S)
    plan.read(device, 0.0)
    device.since_asked()
    plan.read(device, 100.0)
    assert len([block for block in device.since_asked() if 10 <= block.address < 30]) == 1


def test_if_one_is_given_again_all_are_asked_for() -> None:
    """A device that starts may refuse everything for a while."""
    device = Registers(set(range(20)))
    plan = Plan(single(*range(20)), LONGEST, RETRY_MAX_S)
    assert plan.read(device, 0.0) == [NO_ADDRESS] * 20
    device.since_asked()
    assert plan.read(device, 1.0) == [NO_ADDRESS] * 20
    assert len(device.since_asked()) == 1
    device.missing = {7}
    assert plan.read(device, 2.0) == [[at] if at != 7 else NO_ADDRESS for at in range(20)]
    assert plan.refused == {Block("holding", 7, 1): NO_ADDRESS}


def test_a_device_that_gives_and_refuses_by_turns_keeps_nobody_busy() -> None:
    answers: list[Words | Refusal] = [NO_ADDRESS]

    def device(_: Block) -> Words | Refusal:
        answers.append([7] if isinstance(answers[-1], Refusal) else NO_ADDRESS)
        return answers[-1]

    plan = Plan(single(0), LONGEST, RETRY_MAX_S)
    for poll in range(1, 20):
        plan.read(device, float(poll))
        assert len(answers) <= 3 * poll + 1


def test_a_length_is_learnt_only_if_nothing_else_is_wrong() -> None:
    device = Registers(longest=50)
    plan = Plan(single(*range(100)), LONGEST, RETRY_MAX_S)
    plan.read(device, 0.0)
    assert plan.longest == LONGEST | {"holding": 50}
    assert plan.refused == {}


@pytest.mark.parametrize("missing", [{40}, {40, 60}])
def test_a_hole_that_is_refused_like_a_length_is_no_length(missing: set[int]) -> None:
    def device(block: Block) -> Words | Refusal:
        answer = Registers(missing)(block)
        return TOO_LONG if isinstance(answer, Refusal) else answer

    plan = Plan(single(*range(100)), LONGEST, RETRY_MAX_S)
    plan.read(device, 0.0)
    assert plan.longest == LONGEST
    assert set(plan.refused) == set(single(*missing))


def test_a_learnt_length_holds_for_the_rest_at_once() -> None:
    device = Registers(longest=50)
    plan = Plan(single(*range(100), *range(200, 300)), LONGEST, RETRY_MAX_S)
    plan.read(device, 0.0)
    assert [block.words for block in device.since_asked()] == [100, 50, 50, 50, 50]


def test_areas_that_must_not_be_crossed_stay_apart() -> None:
    def device(block: Block) -> Words | Refusal:
        last = block.address + block.words - 1
        return NO_ADDRESS if block.address < 50 <= last else [0] * block.words

    plan = Plan(single(*range(100)), LONGEST, RETRY_MAX_S)
    plan.read(device, 0.0)
    assert plan.refused == {}
    assert [request.block for request in plan.requests] == [
        Block("holding", 0, 50),
        Block("holding", 50, 50),
    ]


def test_what_passes_by_itself_is_not_remembered() -> None:
    plan = Plan(single(0, 1), LONGEST, RETRY_MAX_S)
    assert plan.read(lambda _: BUSY, 0.0) == [BUSY, BUSY]
    assert plan.refused == {}
    assert plan.read(Registers(), 1.0) == [[0], [1]]


def test_an_error_of_the_line_leaves_the_requests_as_they_were() -> None:
    device = Registers({3})
    plan = Plan(single(0, 1, 2, 3, 10), LONGEST, RETRY_MAX_S)

    def breaking(block: Block) -> Words | Refusal:
        if len(device.asked) == 2:
            raise OSError("gone")
        return device(block)

    with pytest.raises(OSError, match="gone"):
        plan.read(breaking, 0.0)
    assert plan.read(device, 1.0) == [[0], [1], [2], NO_ADDRESS, [10]]


def test_values_that_overlap_are_each_read_whole() -> None:
    wanted = [Block("holding", 0, 4), Block("holding", 1, 1), Block("holding", 3, 2)]
    random.Random(1).shuffle(wanted)
    device = Registers({4})
    plan = Plan(wanted, LONGEST, RETRY_MAX_S)
    found = dict(zip(wanted, plan.read(device, 0.0), strict=True))
    assert found == {
        Block("holding", 0, 4): [0, 1, 2, 3],
        Block("holding", 1, 1): [1],
        Block("holding", 3, 2): NO_ADDRESS,
    }
