"""Patterns that a line can keep busy: ``check`` finds them, the agent does not wait for them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.config.hostile_lines import slow_line
from agent.config.inputs import InputTable
from agent.config.line_patterns import REGEX_BYTES_MAX, channels_in
from agent.config.time_limit import TIME_LIMIT, TooSlow
from agent.parsing.lines import LineParser
from models.manifest import Channel
from tests.conftest import ROOT, WAIT_S_MAX, ZOO_BUNDLE

# none of them within hours
SLOW = {
    "the same": r"(?P<flow>" + r"\d*" * 12 + ")x",
    "numbers": r"\s*".join([r"(?P<flow>\d+\.?\d*)", *[r"\d+\.?\d*"] * 9]),
    "words": r"(?P<flow>\w+)" + r"\s*,?\s*(?:\w+)" * 12 + "$",
    "in turn": "(?P<flow>" + "[ab]*[bc]*[cd]*[de]*[ef]*[fg]*[gh]*" * 3 + ")!",
    "optional": "(?P<flow>" + r"\d?" * 80 + ")x",
    "alternatives": "(?P<flow>" + "(?:1|11)" * 60 + ")x",
    "groups": "(?P<flow>" + "(?:ab)*" * 12 + ")c",
    "after a text": r"temperature: (?P<flow>" + r"\d*" * 12 + ")x",
    "second alternative": r"(?:off|(?P<flow>" + r"\d*" * 12 + "))x",
    "lazy": r"(?P<flow>" + r"\d*?" * 12 + ")x",
}
USUAL = [
    r"T=(?P<t>[\d.]+) P=(?P<p>-?\d+(?:\.\d+)?)",
    r"\$WIMDA,(?P<hpa>[^,]*),.*",
    r"\((?:on|off)\)+ (?P<x>\d{2})+",
    r"(?i)[+(a)*]+(?P<x>\d+)(?: ?[A-Z]{1,3})?",
    r".*? (?P<x>\d+).*",
    r"\[(?P<time>[^\]]+)\] flow (?P<flow>[-\d.]+) m3/h.*",
    r"(?P<a>\d+)\s+(?P<b>\d+)\s+(?P<c>\S+)\s+(?P<d>\S+)\s*",
    ",".join(rf"(?P<c{number}>[^,]*)" for number in range(20)),
    ";".join(rf"(?P<c{number}>-?\d+(?:\.\d+)?)" for number in range(12)),
    r"(?P<x>\d+)(?=;).*\b",
    r"(?P<x>.)(?P=x)\1",
]


@pytest.mark.parametrize("pattern", SLOW.values(), ids=SLOW)
def test_a_pattern_that_takes_too_long_is_found_with_a_line(pattern: str) -> None:
    line = slow_line(pattern)
    assert line is not None
    assert len(line) <= REGEX_BYTES_MAX


@pytest.mark.parametrize("pattern", USUAL)
def test_usual_patterns_are_not(pattern: str) -> None:
    channels_in(pattern)
    assert slow_line(pattern) is None


def parser(pattern: str) -> LineParser:
    table = InputTable(name="a", stream="b", format="regex", pattern=pattern)
    return LineParser(
        table, [Channel(name="flow", unit="m3/h", low=0, high=100, center=0, scale=1)]
    )


@pytest.mark.parametrize("pattern", [SLOW["the same"], SLOW["optional"]])
def test_a_line_that_takes_too_long_is_rejected_and_the_others_are_read(
    pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = slow_line(pattern)
    assert hostile is not None
    one = parser(pattern)
    readings = one.parse([b"41x", hostile.encode(), b"42x"], 0.0)
    assert readings.values.tolist() == [[41.0], [42.0]]
    assert one.counters == {"too_slow": 1}
    assert caplog.text.count("rejected as too_slow") == 1


def test_a_flood_of_such_lines_is_rejected_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may take a twentieth of a second; thousands of them may not."""
    now = 1000.0
    tried: list[str] = []
    pattern = SLOW["the same"]
    hostile = slow_line(pattern)
    assert hostile is not None

    class Slow:
        """Stands for a pattern that takes 0.06 s, by a clock of the test's own."""

        pattern = "slow"
        groupindex: ClassVar = {"flow": 1}

        def fullmatch(self, text: str) -> re.Match[str] | None:
            nonlocal now
            tried.append(text)
            now += 0.06
            raise TooSlow

    monkeypatch.setattr("agent.parsing.regex.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("agent.parsing.regex.re", SimpleNamespace(compile=lambda _: Slow()))
    one = parser(pattern)
    one.parse([hostile.encode()] * 5000, 0.0)
    assert one.counters == {"too_slow": 5000}
    assert len(tried) < 30
    now += 60  # which is rest enough for one second
    tried.clear()
    one.parse([b"41x"], 0.0)
    assert tried


def test_a_busy_machine_makes_no_line_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line seems to take a second, as something else has the processor."""
    seconds = itertools.count(1000.0)
    busy = SimpleNamespace(monotonic=lambda: next(seconds), thread_time=time.thread_time)
    one = parser(r"(?P<flow>\d+)x")
    monkeypatch.setattr("agent.parsing.regex.time", busy)
    readings = one.parse([b"41x"] * 100, 0.0)
    assert len(readings.values) == 100
    assert one.counters == {}


def test_the_limit_is_for_what_it_is_about_only() -> None:
    pattern = re.compile(SLOW["the same"])
    for _ in range(3):
        TIME_LIMIT.begin()
        try:
            with pytest.raises(TooSlow):
                pattern.fullmatch("1" * REGEX_BYTES_MAX)
        finally:
            TIME_LIMIT.end()
        sum(range(20_000_000))  # as long as several limits, and nothing comes of it


def test_a_process_that_ends_ends_as_it_wants_to() -> None:
    code = """
import re
from agent.config.time_limit import LIMIT_S, TIME_LIMIT
class Late:
    def __del__(self): sum(range(10_000_000))  # while the interpreter ends
late = Late()
TIME_LIMIT.begin()
re.fullmatch("a", "a")
TIME_LIMIT.end()
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert ended.returncode == 0


def test_in_another_thread_there_is_no_limit_and_no_trouble() -> None:
    found: list[object] = []

    def use() -> None:
        TIME_LIMIT.begin()
        found.append(re.fullmatch("a", "a"))
        TIME_LIMIT.end()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(WAIT_S_MAX)
    (match,) = found
    assert match is not None


def test_check_tells_of_it(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f"""
gateway = {{ site = "plant", name = "gw-1" }}
store = {{ directory = "." }}
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "line"
type = "file"
path = "lines"
stream = "pump"
format = "regex"
pattern = '{SLOW["numbers"]}'
""")
    words = ["check", "--json", "--config", str(config)]
    outcome = CliRunner().invoke(commands, words, standalone_mode=False)
    assert outcome.return_value == 78
    (finding,) = [one for one in json.loads(outcome.stdout) if not one["ok"]]
    assert finding["what"] == "input line"
    assert "several repeats can match the same text" in finding["detail"]
