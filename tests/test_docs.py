"""The documentation is checked, not hoped for: commands, targets, links and examples are real."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import jsonschema
import pytest
import yaml

from agent.cli import commands as agent_commands
from agent.config.broker import MqttTable
from agent.config.load import AgentConfig
from models import __version__, errors
from trainer.cli import commands as trainer_commands

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "tests" / "cases" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXT = {page.relative_to(ROOT).as_posix().removeprefix("docs/"): page.read_text() for page in PAGES}


def called(program: str) -> Iterator[tuple[str, list[str]]]:
    """The words after ``program`` wherever a page calls it in code."""
    for name, text in TEXT.items():
        code = re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
        for line in "\n".join(code).splitlines():
            if match := re.search(rf"{program} ([^#;&|]*)", line):
                yield name, match[1].split()


@pytest.mark.parametrize(
    ("program", "group"),
    [("fieldwatch-agent", agent_commands), ("fieldwatch-trainer", trainer_commands)],
)
def test_every_command_in_the_pages_exists(program: str, group: click.Group) -> None:
    calls = list(called(program))
    assert calls
    for page, words in calls:
        command: click.Command = group
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{page}: {program} {words[0]}"
            command = command.commands[words.pop(0)]
        options = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
        for word in words:
            if word.startswith("--") and word != "--help":
                assert word.split("=")[0] in options, f"{page}: {program} … {word}"


@pytest.mark.parametrize(
    ("program", "group"),
    [("fieldwatch-agent", agent_commands), ("fieldwatch-trainer", trainer_commands)],
)
def test_every_command_is_in_the_readme(program: str, group: click.Group) -> None:
    for name in group.commands:
        assert f"{program} {name}" in TEXT["README.md"], f"{program} {name} is not in README.md"


def test_every_setting_in_the_pages_exists() -> None:
    """Not in ``store`` and ``control``: the health message and a file are called so, too."""
    tables = {
        name: table.annotation.model_fields
        for name, table in AgentConfig.model_fields.items()
        if isinstance(table.annotation, type) and name not in ("store", "control")
    } | {"mqtt": MqttTable.model_fields}
    assert {"bundles", "gateway", "keys"} <= tables.keys()
    for page, text in TEXT.items():
        if page != "CHANGELOG.md":  # which tells of old ones
            for table, key in re.findall(r"`(\w+)\.(\w+)(?: = [^`\n]*)?`", text):
                assert table not in tables or key in tables[table], f"{page}: {table}.{key}"


def test_every_make_target_in_the_pages_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page, text in TEXT.items():
        for target in re.findall(r"(?:`|\n)make ([a-z][a-z-]*)", text):
            assert re.search(rf"(?m)^{target}:", makefile), f"{page}: make {target}"


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def missing(text: str) -> list[str]:
    """Return the paths in a text that are not there; of those with a placeholder, their folders."""
    found = re.findall(
        r"(?<![\w./-])(?:\.ci|agent|containers|docs|models|scripts|tests|trainer)/[\w./-]*", text
    )
    paths = [path.rstrip(".") for path in found]
    folders = [
        path.split("NAME")[0].rpartition("/")[0] if "NAME" in path else path for path in paths
    ]
    return [path for path in folders if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", TEXT)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    assert missing(TEXT[page]) == []


def test_a_file_that_is_not_there_is_found() -> None:
    text = "see `agent/nowhere.py`, agent/daemon.py. And agent/no/NAME.py, agent/inputs/NAME.py"
    assert missing(text) == ["agent/nowhere.py", "agent/no"]


def test_the_page_of_the_architecture_names_files_of_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "agent").glob("*/__init__.py")}
    named = set(re.findall(r"agent/(\w+)/", TEXT["architecture.md"]))
    assert rooms - named == {"bench", "demo"}  # which look at it from outside


def test_the_examples_of_messages_are_as_the_asyncapi_document_says() -> None:
    components = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())["components"]
    examples = re.findall(r"```json\n(.*?)```", TEXT["messages.md"], re.DOTALL)
    kinds = set()
    for example in map(json.loads, examples):
        kind = example["type"].split(".")[1]
        kinds.add(kind)
        schema = {"$ref": f"#/components/schemas/{kind.capitalize()}", "components": components}
        jsonschema.Draft202012Validator(schema).validate(example)
    assert kinds == {"status", "summary", "alarm", "transition", "health"}


def test_the_example_of_the_first_hour_is_a_configuration() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT["first-hour.md"], re.DOTALL)
    config = AgentConfig.model_validate(tomllib.loads(example))
    assert [source.stream for source in config.inputs] == [stream.name for stream in config.streams]


def test_the_exit_codes_of_the_errors_are_explained() -> None:
    explained = set(map(int, re.findall(r"(?m)^\| (\d+) \|", TEXT["troubleshooting.md"])))
    kinds: list[type[errors.FieldwatchError]] = [errors.FieldwatchError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    raised = {kind.exit_code for kind in kinds if kind.__module__ == errors.__name__}
    assert raised - explained == {1}  # of no kind of its own


def test_the_texts_that_staff_look_up_are_those_of_the_code() -> None:
    foreign = {"Connection refused", "Not authorized", "certificate verify failed"}
    code = "".join(
        path.read_text() for top in ("agent", "models") for path in (ROOT / top).rglob("*.py")
    )
    code = re.sub(r'"\s*f?"', "", code)  # a text in several lines
    rows = re.findall(r"(?m)^\| (`[^|]*) \|", TEXT["troubleshooting.md"])
    assert len(rows) > 20
    for quoted in re.findall(r"`([^`]+)`", " ".join(rows)):
        for part in re.split(r"…|: (?=Not authorized)", quoted):
            text = part.strip(" ()")
            assert text in code or text in foreign, text


def test_the_changes_of_this_version_are_told() -> None:
    assert f"## {__version__}" in TEXT["CHANGELOG.md"]
