"""Who may ask what of alarms, and what another door than the control socket needs of it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.alarms.handled import Handled
from agent.alarms.points import Points
from agent.control.inbox import Asker, Command
from agent.control.protocol import Person, Refused, Role
from agent.operating import GROUP, VERBS, Labelling, Operating, Roles, role_for

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
    points = Points({"pump": Handled()})
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


def asked_by(role: Role, verb: str, **more: Any) -> dict[str, Any]:
    page = Asker("socket", "fieldwatch-page", SOMEBODY, frozenset(), Person("maria", role))
    verbs = operating().verbs()
    answer = verbs[verb].run(Command(verb, NAMED | more, page, lambda _: None))
    assert isinstance(answer, dict)
    return answer


def test_a_user_of_the_page_may_what_the_role_may_and_is_named() -> None:
    made = asked_by("operator", "alarm.acknowledge")
    assert (made["after"], made["by"], made["door"]) == ("ACKED", "maria", "page")
    made = asked_by("maintainer", "alarm.out-of-service", reason="motor")
    assert (made["after"], made["by"], made["door"]) == ("OOSRV", "maria", "page")
    assert asked_by("maintainer", "alarm.acknowledge")["after"] == "ACKED"


@pytest.mark.parametrize(
    ("role", "verb"),
    [
        *(("reader", verb) for verb in [*VERBS, GROUP]),
        ("operator", "alarm.out-of-service"),
        ("operator", "alarm.in-service"),
    ],
)
def test_a_user_of_the_page_may_not_more(role: Role, verb: str) -> None:
    with pytest.raises(Refused, match=f"maria has the role {role}; it takes the role") as refused:
        asked_by(role, verb, reason="motor")
    assert refused.value.code == "not_allowed"


def test_the_page_asks_for_a_person_even_if_its_own_user_may_all() -> None:
    root = Asker("socket", "root", 0, frozenset({"operators"}), Person("maria", "reader"))
    verb = operating().verbs()["alarm.acknowledge"]
    with pytest.raises(Refused, match="maria has the role reader"):
        verb.run(Command("alarm.acknowledge", NAMED, root, lambda _: None))


def test_the_role_that_a_command_takes_is_known_in_advance() -> None:
    roles = {verb: role_for(verb) for verb in [*VERBS, GROUP]}
    assert {verb for verb, role in roles.items() if role == "maintainer"} == {
        "alarm.out-of-service",
        "alarm.in-service",
    }
    assert set(roles.values()) == {"operator", "maintainer"}


def test_a_label_needs_a_stream_that_there_is() -> None:
    label = {"stream": "pmup", "label": "confirmed", "from": 1.0, "to": 2.0}
    with pytest.raises(Refused, match="there is no stream 'pmup'"):
        operating().perform("alarm.label", label, "maria", "terminal")


def test_a_note_of_two_lines_is_refused_by_the_name_that_people_use() -> None:
    with pytest.raises(Refused, match="nothing was done: the text must be one line"):
        operating().perform("alarm.note", NAMED | {"reason": "a\nb"}, "maria", "terminal")


def test_another_door_brings_its_own_permission_and_the_name_that_it_knows() -> None:
    made = operating().perform("alarm.acknowledge", NAMED, "ops: jo", "agent")
    assert (made["by"], made["door"], made["told"]) == ("ops: jo", "agent", "acknowledged")


def labelled(**more: Any) -> dict[str, Any]:
    return operating().perform("alarm.label", {"stream": "pump"} | more, "maria", "terminal")


def test_a_label_has_its_own_time_with_an_alarm_or_without() -> None:
    made = labelled(number=1, label="maintenance", **{"from": 100, "to": 200.5})
    assert (made["number"], made["point"]) == (1, "anomaly")
    assert (made["begin"], made["end"]) == ("1970-01-01T00:01:40.000Z", "1970-01-01T00:03:20.500Z")
    made = labelled(label="confirmed", reason="leak", **{"from": 100, "to": 100})
    assert (made["number"], made["point"], made["after"]) == (0, "reported", "NORM")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"label": "confirmed"}, "a label may have a time instead"),
        ({"label": "confirmed", "number": 1, "from": 5}, "from and to must be times"),
        ({"label": "confirmed", "number": 1, "from": 5, "to": 4}, "to must not be before from"),
        ({"label": "confirmed", "number": 1, "from": True, "to": 4}, "must be times"),
        ({"label": "confirmed", "number": 1, "from": 1, "to": 1e300}, "must be times"),
        ({"label": "false", "from": 1, "to": 9000}, "to is in the future"),
        ({"label": "other", "number": 1}, "label must be one of confirmed, false"),
    ],
)
def test_a_label_that_makes_no_sense_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        labelled(**arguments)
    assert refused.value.code == "arguments"


def test_what_is_not_explained_has_a_time_to_look_again() -> None:
    handling = operating()
    handling.labelling = Labelling(ask_again_s=60.0)
    made = handling.perform("alarm.label", NAMED | {"label": "nothing-found"}, "jo", "terminal")
    assert made["until"] == "1970-01-01T00:01:01.000Z"  # the time is 1 s


def test_a_confirmed_fault_of_no_known_kind_is_written_and_the_kinds_are_told() -> None:
    handling = operating()
    handling.labelling = Labelling(("bearing", "cavitation"))
    told = [
        handling.perform(
            "alarm.label", NAMED | {"label": label, "reason": why}, "jo", "terminal"
        ).get("kinds")
        for label, why in (("confirmed", "bering"), ("confirmed", "bearing"), ("false", "x"))
    ]
    assert told == [["bearing", "cavitation"], None, None]
