"""Who may ask what of alarms, and what another door than the control socket needs of it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.alarms.points import Points
from agent.control.inbox import Asker, Command
from agent.control.protocol import Refused
from agent.operating import GROUP, VERBS, Operating, Roles

ALARM = {
    "stream": "pump",
    "number": 1,
    "kind": "anomaly",
    "state": "opened",
    "severity": "high",
    "channels": [],
}
NAMED: dict[str, Any] = {"stream": "pump", "number": 1, "revision": 1}
ROLES = Roles("operators", "maintainers")
SOMEBODY = 12_345  # neither root nor the agent's user


def operating() -> Operating:
    points = Points({})
    points.take(ALARM, 0.0)
    return Operating(points, lambda _, number: ALARM if number == 1 else None, lambda: 1.0, ROLES)


def asked(verb: str, groups: set[str], **more: Any) -> dict[str, Any]:
    asker = Asker("socket", "maria", SOMEBODY, frozenset(groups))
    verbs = operating().verbs()
    answer = verbs[verb].run(Command(verb, NAMED | more, asker, lambda _: None))
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("verb", [*VERBS, GROUP])
def test_nobody_outside_the_groups_may_ask_anything(verb: str) -> None:
    with pytest.raises(Refused, match="maria is not in the group") as refused:
        asked(verb, {"fieldwatch"})
    assert refused.value.code == "not_allowed"


def test_operators_handle_alarms_and_maintainers_take_them_out_of_service() -> None:
    assert asked("alarm.acknowledge", {"operators"})["after"] == "ACKED"
    assert asked("alarm.out-of-service", {"maintainers"}, reason="motor")["after"] == "OOSRV"
    with pytest.raises(Refused, match="not in the group maintainers, which may take alarms out"):
        asked("alarm.out-of-service", {"operators"}, reason="motor")
    with pytest.raises(Refused, match="not in the group operators, which may handle alarms"):
        asked("alarm.acknowledge", {"maintainers"})


def test_another_door_brings_its_own_permission_and_the_name_that_it_knows() -> None:
    made = operating().perform("alarm.acknowledge", NAMED, "ops: jo", "agent")
    assert (made["by"], made["door"], made["told"]) == ("ops: jo", "agent", "acknowledged")
