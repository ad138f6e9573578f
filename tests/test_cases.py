"""Each folder of ``tests/cases`` is run by a real agent; see the README there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.case_rig import CASES, Case, Seen, Table, differences, unknown_keys

FOLDERS = sorted(path for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_case(folder: Path, tmp_path: Path) -> None:
    case = Case(folder, tmp_path)
    found = case.differences()
    assert not found, "\n".join([*found, f"the agent's log is {case.log}"])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_case_says_in_one_line_what_it_shows_and_expects_something(folder: Path) -> None:
    expected = tomllib.loads((folder / "expected.toml").read_text())
    about = expected.pop("about")
    assert about.endswith(".") and "\n" not in about
    assert expected


def test_the_examples_of_the_guide_are_in_the_format() -> None:
    examples = re.findall(r"```toml\n(.*?)```", (CASES / "README.md").read_text(), re.DOTALL)
    found = [tomllib.loads(example) for example in examples]
    assert [sorted(one.keys() - {"about"}) for one in found] == [
        ["alarms", "inputs", "messages", "streams"],
        ["refused"],
    ]
    assert list(unknown_keys(found[0])) == []


SEEN = Seen(
    status={
        "inputs": {"line": {"lines": 3, "rejected": {"malformed": 1}}},
        "streams": {"pump": {"counters": {"late": 1}}},
    },
    alarms=[
        {
            "stream": "pump",
            "number": 1,
            "kind": "stuck",
            "state": "opened",
            "opened": "2023-11-14T22:13:21.000Z",
            "closed": None,
            "channels": [{"channel": "flow"}],
        }
    ],
    samples={
        "pump": Table(["flow"], np.array([1_700_000_000.0, 1_700_000_001.0]), np.ones((2, 1), "f4"))
    },
    messages=[("alarm/pump", {"seq": 1, "data": {"kind": "stuck"}})],
    ran=(1_800_000_000.0, 1_800_000_001.0),
)


@pytest.mark.parametrize(
    "expected",
    [
        "inputs.line = { lines = 3, rejected = { malformed = 1 } }",
        "streams.pump = { stored = 2, counters = { late = 1, duplicate = 0 } }",
        "streams.pump.sample = [{ number = 1, flow = 1.0, time = 1700000001.0 }]",
        'alarms = [{ kind = "stuck", channels = ["flow"], opened_at = [1, 1] }]',
        'messages = [{ topic = "alarm/pump", count = 1, data = { kind = "stuck" } }]',
    ],
)
def test_what_is_as_expected_is_no_difference(expected: str) -> None:
    assert list(differences(tomllib.loads(expected), SEEN)) == []


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        ("inputs.line.lines = 4", "inputs.line.lines: expected 4, seen 3"),
        ("inputs.other.lines = 3", "inputs.other: expected {'lines': 3}, seen None"),
        ("inputs.line.rejected = {}", "inputs.line.rejected.malformed: expected 0, seen 1"),
        ("streams.pump.stored = 3", "streams.pump.stored: expected 3, seen 2"),
        ("streams.other.stored = 3", "streams.other: no such stream in agent.toml"),
        ("streams.pump.counters.late = 0", "streams.pump.counters.late: expected 0, seen 1"),
        ("streams.pump.sample = [{ number = 0, flow = nan }]", "sample 0.flow: expected nan"),
        ("streams.pump.sample = [{ number = 2 }]", "sample 2: there are 2 samples"),
        ("streams.pump.sample = [{ number = 0, time = 5.0 }]", "sample 0.time: expected 5.0"),
        ('streams.pump.sample = [{ number = 0, time = "arrival" }]', "expected that of arrival"),
        ("alarms = []", "alarms: expected 0, seen 1: pump #1 stuck"),
        ('alarms = [{ kind = "anomaly" }]', "alarms[0].kind: expected 'anomaly', seen 'stuck'"),
        ('alarms = [{ channels = ["p"] }]', "alarms[0].channels: expected ['p'], seen ['flow']"),
        ("alarms = [{ opened_at = [0, 0] }]", "alarms[0].opened_at: expected sample 0 to 0, seen"),
        ("alarms = [{ closed_at = [0, 9] }]", "alarms[0].closed_at: expected sample 0 to 9, seen"),
        ('messages = [{ topic = "alarm/other" }]', "expected one on alarm/other, seen only alarm"),
        ('messages = [{ topic = "alarm/pump", count = 2 }]', "expected 2 of them, seen 1"),
        (
            'messages = [{ topic = "alarm/pump", data = { kind = "silent" } }]',
            "nearest: messages[0].data",
        ),
        ("alarm = []", "alarm is no key"),
    ],
)
def test_each_difference_is_told(expected: str, says: str) -> None:
    found: list[Any] = list(differences(tomllib.loads(expected), SEEN))
    assert len(found) == 1
    assert says in found[0]
