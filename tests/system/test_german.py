"""A person who reads German reads no English on the whole way of an alarm, from raise to label."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from agent.wording import english, german
from tests.agent_rig import StartAgent
from tests.conftest import ROOT, wait_until
from tests.serial_line import Line
from tests.system.test_handling import Gateway

SETTINGS: Final = """
[[streams.alarms.suppress]]
when = {channel = "motor_current", below = 1.0}
[alarms]
fault_kinds = ["Lager"]
[language]
default = "de"
"""
# words of sentences, of which none is also a German word or a name in a command
ENGLISH_WORDS: Final = frozenset(
    "the is it of and to this that since by again from now nothing not other has been until".split()
)
_PLACE: Final = re.compile(r"\{\w+\}")


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def english_phrases() -> Iterator[str]:
    """Yield what is between the parameters of English texts, and in no German text."""
    all_german = "\n".join(german.TEXTS.values())
    for text in english.TEXTS.values():
        for phrase in _PLACE.split(text):
            if len(phrase.split()) > 1 and phrase not in all_german:
                yield phrase.strip()


@pytest.fixture
def followed(gateway: Gateway) -> Iterator[Path]:
    """``alarms --follow`` of a person, while the gateway runs."""
    file = gateway.directory / "followed.txt"
    with file.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "alarms", "--follow", "--config", str(gateway.config)],
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    yield file
    process.kill()
    process.wait()


@pytest.fixture
def gateway(tmp_path: Path, line: Line, start_agent: StartAgent) -> Gateway:
    return Gateway(tmp_path, line, start_agent, more=SETTINGS)


def test_no_english_sentence_reaches_a_german_terminal(gateway: Gateway, followed: Path) -> None:
    gateway.raise_one()
    wait_until(lambda: "pump" in followed.read_text(), "the raise in what --follow prints")
    said = [gateway.command("show", "1").stdout, gateway.command().stdout]
    handling = (
        ("ack", "1"),
        ("unack", "1"),
        ("shelve", "1", "--reason", "Ersatzteil kommt", "--hours", "1"),
        ("unshelve", "1"),
        ("out-of-service", "1", "--reason", "Motor wird getauscht"),
        ("in-service", "1"),
        ("note", "1", "Filter gereinigt"),
        ("label", "1", "nothing-found"),
        ("label", "1", "confirmed", "--reason", "Dichtung"),
        ("label", "1", "false"),
    )
    for command in handling:
        done = gateway.command(*command)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    gateway.send(480.0, motor_current=0.0)
    wait_until(lambda: gateway.standing().get("state") == "DSUPR", "the suppression")
    said.append(gateway.command().stdout)
    gateway.send(480.0, motor_current=20.0)
    wait_until(lambda: gateway.standing()["state"] == "UNACK", "its end")
    gateway.send(400.0)
    wait_until(lambda: gateway.standing()["state"] == "RTNUN", "the return to normal")
    said += [gateway.command(*one).stdout for one in (("show", "1"), ("labels",), ("--open",))]
    gateway.agent.kill()
    wait_until(lambda: "NICHT ÜBERWACHT" in followed.read_text(), "the end in --follow")
    gateway.start()
    wait_until(lambda: "ein Agent überwacht wieder" in followed.read_text(), "the start")
    gateway.agent.stop()
    said += [gateway.command().stdout, followed.read_text()]
    told = "\n".join(said)
    for expected in (
        "#1.2: quittiert; steht im Logbuch",
        "Befund bestätigt; steht im Logbuch",
        "die Fehlerarten dieses Gateways sind Lager",
        "(pump motor_current unter 1)",
        "(vorbei: pump motor_current unter 1)",
        "NICHT ÜBERWACHT seit",
    ):
        assert expected in " ".join(told.split()), expected
    assert not words(told) & ENGLISH_WORDS
    assert not [phrase for phrase in english_phrases() if phrase in " ".join(told.split())]
