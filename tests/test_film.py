"""The film of the first five minutes: its commands exist, and what docs/ shows is of this film."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from agent.cli import commands
from tests.bench.film import (
    CAST,
    COLUMNS,
    PAGE,
    PICTURE,
    SCRIPT,
    Line,
    Step,
    Take,
    WrongFilm,
    cast,
    play,
    read,
    svg,
    table,
)

TAKES = (
    Take(Step(":", "Look."), 0.0),
    Take(Step("$", "ls | head"), 12.0, (Line(11.0, "a < b & c"), Line(11.5, "x" * 250))),
)


@pytest.fixture(scope="module")
def film() -> list[str]:
    return [step.text for step in read(SCRIPT.read_text()) if step.kind == "$"]


def test_its_commands_exist(film: list[str]) -> None:
    ours = [text.split("fieldwatch-agent ", 1)[1] for text in film if "fieldwatch-agent " in text]
    assert len(ours) >= 5
    assert {text.split()[0] for text in ours} <= set(commands.commands)


def test_the_page_the_picture_and_the_recording_show_these_commands(film: list[str]) -> None:
    page, picture = PAGE.read_text(), "".join(ET.parse(PICTURE).getroot().itertext())
    events = [json.loads(line) for line in CAST.read_text().splitlines()[1:]]
    typed = "".join(text for _, _, text in events)
    for command in film:
        assert f"| `{command}` |" in page
        assert command[: COLUMNS - 2] in picture
        assert command in typed


def test_a_picture_loads_nothing_and_shows_all(film: list[str]) -> None:
    shown = svg(TAKES)
    assert shown.count("http") == 1  # the name of its language
    texts = [text.text or "" for text in ET.fromstring(shown).iter() if text.tag.endswith("text")]
    assert "a < b & c" in texts
    assert "".join(texts).count("x") == 250
    assert max(map(len, texts)) <= COLUMNS


def test_a_recording_has_the_real_times() -> None:
    header, *events = map(json.loads, cast(TAKES).splitlines())
    assert header["version"] == 2
    times = [at_s for at_s, _, _ in events]
    assert times == sorted(times)
    typed_s = max(at_s for at_s, _, text in events if text == "d")  # the last key
    shown_s = next(at_s for at_s, _, text in events if text.startswith("a < b"))
    assert shown_s - typed_s == pytest.approx(11.0, abs=0.1)


def test_a_table_says_how_long_each_command_took() -> None:
    assert "| `ls \\| head` | 12.0 |\n| **all** | **12** |" in table(TAKES, "Debian")


def test_a_command_is_typed_until_the_screen_shows_what_it_should() -> None:
    steps = read(": Say it.\n$ echo one; echo two; exit 3\n= tw.\n")
    assert steps == [Step(":", "Say it."), Step("$", "echo one; echo two; exit 3", "tw.")]
    (_, take) = play(steps, ["sh", "-c"])
    assert [line.text for line in take.lines] == ["one", "two"]


def test_a_command_that_fails_ends_the_film() -> None:
    with pytest.raises(WrongFilm, match=r"exit 3: ended with 3.*\nbad"):
        list(play(read("$ echo bad; exit 3"), ["sh", "-c"]))


@pytest.mark.parametrize("text", ["= seen", ": told\n= seen", "? what"])
def test_a_line_that_belongs_to_nothing_is_named(text: str) -> None:
    with pytest.raises(WrongFilm, match=r"not a line of a film: ."):
        read(text)
