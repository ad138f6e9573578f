"""The file input follows what another program writes, over rotation and truncation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.config.inputs import FileTable
from agent.inputs.file import probe_file
from agent.inputs.kinds import open_input
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, csv_line
from agent.inputs.source import Chunk
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import ZOO_BUNDLE, RealAgent, wait_until


class Tail:
    """A running input on a file, and what it brought."""

    def __init__(self, path: Path, **settings: object) -> None:
        table = {"name": "log", "stream": "pump", "type": "file", "columns": ["flow"]}
        given = table | {"path": path, "poll_interval_s": 0.01} | settings
        self.settings = FileTable.model_validate(given)
        self.input = open_input(self.settings)
        self.chunks: list[Chunk] = []
        self.input.start(self.chunks.append)

    def lines(self) -> list[bytes]:
        return [line for chunk in self.chunks for line in chunk.lines]

    def has(self, *lines: bytes) -> None:
        wait_until(lambda: len(self.lines()) >= len(lines), f"{lines}")
        assert self.lines() == list(lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.csv"


@pytest.fixture
def tails() -> Iterator[list[Tail]]:
    made: list[Tail] = []
    yield made
    for tail in made:
        tail.input.stop()


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_what_is_there_is_read_where_that_is_asked_for(path: Path, tails: list[Tail]) -> None:
    append(path, b"1\n2\n3")
    tails.append(tail := Tail(path, begin="start"))
    tail.has(b"1", b"2")
    append(path, b"3\n")
    tail.has(b"1", b"2", b"33")
    assert tail.input.status().connected
    assert tail.input.status().bytes == 7


def test_only_what_comes_is_read_else(path: Path, tails: list[Tail]) -> None:
    append(path, b"1\n")
    tails.append(tail := Tail(path))
    wait_until(lambda: tail.input.status().connected, "the file to be open")
    append(path, b"2\n")
    tail.has(b"2")


def test_a_file_that_appears_later_is_read_from_its_beginning(
    path: Path, tails: list[Tail]
) -> None:
    tails.append(tail := Tail(path))
    wait_until(lambda: tail.input.status().last_error is not None, "the file to be missed")
    assert not tail.input.status().connected
    append(path, b"1\n")
    tail.has(b"1")


def test_it_goes_on_over_rotation_and_truncation(path: Path, tails: list[Tail]) -> None:
    append(path, b"1\n")
    tails.append(tail := Tail(path, begin="start"))
    tail.has(b"1")
    path.rename(path.with_suffix(".1"))
    append(path, b"2\n")
    tail.has(b"1", b"2")
    assert tail.input.status().reconnects == 1
    append(path, b"3\n4\n")
    tail.has(b"1", b"2", b"3", b"4")
    path.write_bytes(b"5\n")
    tail.has(b"1", b"2", b"3", b"4", b"5")


def test_each_chunk_has_the_header_of_its_file(path: Path, tails: list[Tail]) -> None:
    append(path, b"time,flow\r\n1,1\n")
    tails.append(tail := Tail(path, columns=None, header=True))
    wait_until(lambda: tail.input.status().connected, "the file to be open")
    append(path, b"2,2\n")
    tail.has(b"time,flow", b"2,2")
    path.rename(path.with_suffix(".1"))
    append(path, b"flow,")  # a header in two pieces
    wait_until(lambda: tail.input.status().reconnects == 1, "the new file")
    append(path, b"time\n3,3\n")
    tail.has(b"time,flow", b"2,2", b"flow,time", b"3,3")
    assert tail.input.status().lines == 2
    path.write_bytes(b"time\n")
    append(path, b"4\n")
    tail.has(b"time,flow", b"2,2", b"flow,time", b"3,3", b"time", b"4")


TOA5 = (
    b'"TOA5","Station7","CR1000X","12345"\r\n"TIMESTAMP","RECORD","flow"\r\n'
    b'"TS","RN","m3/h"\r\n"","","Avg"\r\n'
)
SEP = b"\xef\xbb\xbfsep=;\r\ntime;flow\r\n"


@pytest.mark.parametrize(
    ("head", "given", "header"),
    [
        (TOA5, {}, b'"TIMESTAMP","RECORD","flow"'),
        (TOA5, {"time_key": "TIMESTAMP"}, b'"TIMESTAMP","RECORD","flow"'),
        (TOA5, {"keys": {"flow": '"flow"'}}, b'"TIMESTAMP","RECORD","flow"'),
        (SEP, {"separator": ";", "decimal": ",", "time_key": "time"}, b"time;flow"),
        (b"time,flow,p\r", {}, b"time,flow,p"),
    ],
)
@pytest.mark.parametrize("begin", ["start", "end"])
def test_the_header_is_found_below_a_title(
    path: Path, tails: list[Tail], head: bytes, given: dict[str, object], header: bytes, begin: str
) -> None:
    end = b"\r" if head.endswith(b"p\r") else b"\r\n"
    row = b"1;2" if head == SEP else b"1,2,3"
    append(path, head + row + end)
    tails.append(tail := Tail(path, columns=None, header=True, begin=begin, **given))
    wait_until(lambda: tail.input.status().connected, "the file to be open")
    if begin == "start":
        tail.has(header, row)
    append(path, b"4,5;6,5" + end if head == SEP else b"4,5,6" + end)
    wait_until(lambda: len(tail.lines()) == (4 if begin == "start" else 2), "the new row")
    assert [chunk.lines[0] for chunk in tail.chunks] == [header] * len(tail.chunks)
    assert tail.lines()[-1].startswith(b"4,5")


def test_a_line_that_is_half_there_at_the_start_is_not_read_as_a_whole(
    path: Path, tails: list[Tail]
) -> None:
    append(path, b"1\n12")
    tails.append(tail := Tail(path))
    wait_until(lambda: tail.input.status().connected, "the file to be open")
    append(path, b".5\n3\n")
    tail.has(b"3")
    assert tail.input.status().lines_cut == 1


def test_utf_16_is_named(path: Path, tails: list[Tail]) -> None:
    path.write_bytes("time,flow\n1,2\n".encode("utf-16"))
    tails.append(tail := Tail(path, columns=None, header=True))
    wait_until(lambda: tail.input.status().last_error is not None, "the reason")
    assert "is UTF-16; make the program that writes it" in str(tail.input.status().last_error)


def test_a_file_without_a_header_says_so(path: Path, tails: list[Tail]) -> None:
    append(path, b"1,2\n" * 200)
    tails.append(tail := Tail(path, columns=None, header=True, begin="start"))
    wait_until(lambda: tail.input.status().last_error is not None, "the reason")
    assert tail.input.status().last_error == "no header among the first 100 lines"


def test_a_header_that_is_not_there_yet_is_waited_for(path: Path, tails: list[Tail]) -> None:
    append(path, b"time,f")
    tails.append(tail := Tail(path, columns=None, header=True))
    wait_until(lambda: tail.input.status().bytes == 6, "its beginning")
    append(path, b"low\n1,1\n")
    tail.has(b"time,flow", b"1,1")


def test_what_was_there_at_the_start_may_have_come_before_and_no_other(
    path: Path, tails: list[Tail]
) -> None:
    append(path, b"1\n2\n")
    tails.append(tail := Tail(path, begin="start"))
    tail.has(b"1", b"2")
    append(path, b"3\n")
    tail.has(b"1", b"2", b"3")
    path.rename(path.with_suffix(".old"))
    append(path, b"4\n")
    tail.has(b"1", b"2", b"3", b"4")
    assert [chunk.again for chunk in tail.chunks] == [True, False, False]


def test_a_long_file_waits_until_what_was_read_is_committed(path: Path, tails: list[Tail]) -> None:
    line = b"1" * 1023 + b"\n"
    append(path, line * 64 * 100)  # 100 reads
    tails.append(tail := Tail(path, begin="start"))
    wait_until(lambda: len(tail.chunks) == 64, "the first reads")
    assert len(tail.chunks) == 64
    tail.input.committed([chunk.token for chunk in tail.chunks])
    wait_until(lambda: len(tail.lines()) == 6400, "the rest")


def test_a_restart_reads_what_was_written_meanwhile_and_nothing_twice(
    path: Path, start_agent: Callable[[Path], RealAgent]
) -> None:
    lines = [
        csv_line(1.7e9 + number * PERIOD_S, row).encode() + b"\n"
        for number, row in enumerate(Pump(2).run(300))
    ]
    config, data = path.with_name("agent.toml"), path.with_name("data")
    data.mkdir()
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "log"
type = "file"
stream = "pump"
path = "{path}"
begin = "start"
columns = {["time", *(channel.name for channel in CHANNELS)]}
""")

    def stored() -> int:
        try:
            with Reader(data) as reader:
                chunks = reader.newest_samples("pump", 10**6)
        except StoreError:  # not yet
            return 0
        times = np.concatenate([np.frombuffer(times) for times, *_ in chunks] or [np.empty(0)])
        assert len(np.unique(times)) == len(times)
        return len(times)

    append(path, b"".join(lines[:100]))
    agent = start_agent(config)
    wait_until(lambda: stored() == 100, "what was there")
    agent.kill()
    append(path, b"".join(lines[100:200]))
    agent = start_agent(config)
    wait_until(lambda: stored() == 200, "what was written meanwhile")
    append(path, b"".join(lines[200:]))
    wait_until(lambda: stored() == 300, "what came then")
    assert agent.stop() == 0


def test_json_over_several_lines_is_refused_and_read_when_it_is_in_one(
    path: Path, tails: list[Tail]
) -> None:
    append(path, b'{\n  "flow": 1\n}\n')
    tails.append(tail := Tail(path, format="json", columns=None))
    wait_until(lambda: "jq -c" in (tail.input.status().last_error or ""), "the refusal")
    assert "documents have several lines" in (probe_file(tail.settings) or "")
    path.unlink()
    path.write_bytes(b"")
    wait_until(lambda: tail.input.status().connected, "a file in its place")
    append(path, b'{"flow": 1}\n')
    tail.has(b'{"flow": 1}')
    assert probe_file(tail.settings) is None


def test_a_pipe_is_refused_and_does_not_keep_the_input_from_its_end(
    path: Path, tails: list[Tail]
) -> None:
    os.mkfifo(path)
    tails.append(tail := Tail(path))
    wait_until(
        lambda: "a named pipe, not a file" in (tail.input.status().last_error or ""), "the refusal"
    )
    path.unlink()
    append(path, b"")
    wait_until(lambda: tail.input.status().connected, "a file in its place")
    append(path, b"1\n")
    tail.has(b"1")
