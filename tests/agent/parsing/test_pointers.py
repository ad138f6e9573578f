"""JSON pointers, by the examples of RFC 6901."""

from __future__ import annotations

import json

import pytest

from agent.config.inputs import InputTable
from agent.parsing.lines import LineParser
from models.manifest import Channel

DOCUMENT = {
    "foo": [10, 11],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
    "deep": {"er": [{"x": 9}]},
    "00": 12,
    "~1": 13,
}


def pointed_at(pointer: str) -> float | None:
    settings = {"name": "a", "stream": "s", "format": "json", "keys": {"flow": pointer}}
    channel = Channel(name="flow", unit="", center=0, scale=1)
    parser = LineParser(InputTable.model_validate(settings), [channel])
    values = parser.parse([json.dumps(DOCUMENT).encode()], 1.7e9).values
    return float(values[0, 0]) if len(values) else None


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/foo/0", 10),
        ("/foo/1", 11),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        ("/deep/er/0/x", 9),
        ("/00", 12),
        ("/~01", 13),
        ("/foo/2", None),
        ("/foo/01", None),
        ("/foo/-", None),
        ("/foo/٠", None),
        ("/foo/99999999999999999999", None),
        ("/deep/er/x", None),
        ("/a/b", None),
    ],
)
def test_pointers(pointer: str, value: float | None) -> None:
    assert pointed_at(pointer) == value
