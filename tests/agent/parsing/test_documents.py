"""JSON documents over several lines, and arrays of them; text in other encodings."""

from __future__ import annotations

import json

import pytest

from agent.config.inputs import InputTable
from agent.parsing.documents import documents, go_over_lines
from agent.parsing.lines import LineParser
from models.manifest import Channel

CHANNELS = [Channel(name=name, unit="", center=0, scale=1) for name in ("flow", "temp")]
ROW = {"flow": 45.5, "temp": 21.5}


def parser(**given: object) -> LineParser:
    return LineParser(InputTable.model_validate({"name": "a", "stream": "s"} | given), CHANNELS)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", " \n\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_message_is_one_document_however_it_is_printed(
    indent: int | None, end: str, mark: str
) -> None:
    body = (mark + json.dumps(ROW, indent=indent) + end).encode()
    assert [json.loads(one.decode("utf-8-sig")) for one in documents(body) if one.strip()] == [ROW]
    read = parser(format="json")
    assert read.parse(documents(body), 1.7e9).values.tolist() == [[45.5, 21.5]]
    assert not read.counters


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects_is_many_rows(indent: int | None) -> None:
    body = json.dumps([ROW, ROW | {"flow": 1.5}], indent=indent).encode()
    assert [json.loads(one) for one in documents(body)] == [ROW, ROW | {"flow": 1.5}]


def test_a_line_may_be_an_array_of_objects() -> None:
    read = parser(format="json")
    line = json.dumps([ROW, ROW]).encode()
    alone = json.dumps(ROW).encode()
    assert len(read.parse([alone, line, alone], 1.7e9).times) == 4
    assert not read.counters


@pytest.mark.parametrize(
    "body",
    [b'{"flow":1}\n{"flow":2}', b"[1, 2]", b"[]", b"[" * 5000, b'{"flow":\n', b"a,b\nc,d", b""],
)
def test_what_is_no_such_document_is_lines(body: bytes) -> None:
    assert documents(body) == body.split(b"\n")[: len(documents(body))]


@pytest.mark.parametrize(
    ("text", "over_lines"),
    [
        (json.dumps(ROW, indent=2), True),
        (json.dumps([ROW, ROW], indent=2), True),
        ("\ufeff\n" + json.dumps(ROW, indent="\t"), True),
        ('{"flow": 1,\n"temp": 2}', True),
        ('{\r\n"flow": 1}', True),
        (
            "[" + json.dumps(ROW) + ",\n" + json.dumps(ROW) + "]",
            False,
        ),  # may be a line that was cut
        ('[\n{"flow": 1},', True),
        ('{"flow": 1}\n{"flow": 2}', False),
        ('{"flow": 1, "te\n{"flow": 2}', False),
        ("[12:00] flow 41.7\n[12:01] flow 41.8", False),
        ("{", False),
        ("1,2\n3,4", False),
        ("", False),
    ],
)
def test_a_document_over_several_lines_is_recognised(text: str, over_lines: bool) -> None:
    assert go_over_lines(text.encode()) == over_lines


def test_half_a_surrogate_pair_stays_what_it_was() -> None:
    (one,) = documents(b'[{"flow":44,"\\ud83d_note":1}]')
    assert parser(format="json").parse([one], 1.7e9).values[:, 0].tolist() == [44.0]


@pytest.mark.parametrize(("encoding", "body"), [("latin-1", b"\xb0C"), ("cp1252", b"\x80")])
def test_names_may_be_in_another_encoding(encoding: str, body: bytes) -> None:
    key = body.decode(encoding)
    line = b'{"flow":1,"%b":2}' % body
    read = parser(format="json", encoding=encoding, keys={"temp": key})
    assert read.parse([line], 1.7e9).values.tolist() == [[1.0, 2.0]]
    assert read.parse([line, line], 1.7e9).values.tolist() == [[1.0, 2.0]] * 2
    assert not read.counters


def test_utf_16_is_a_cause_of_its_own() -> None:
    read = parser(columns=["flow", "temp"])
    read.parse(["1,2".encode("utf-16-le"), b"1,2"], 1.7e9)
    assert read.counters == {"utf_16": 1}
