"""Writes a manual page of each command of fieldwatch-agent, from its help: man_pages.py DIR."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from agent.cli import commands
from models import __version__


def pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield name and text of the page of a command, and of each command below it."""
    yield context.command_path.replace(" ", "-"), page(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            if not below.hidden:
                yield from pages(below, click.Context(below, context, info_name=name))


def page(command: click.Command, context: click.Context) -> str:
    """Return the manual page of a command, in the language of man(7)."""
    name = context.command_path.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{name.upper()}" 1 "" "Fieldwatch {__version__}" "Fieldwatch"',
        ".SH NAME",
        f"{name} \\- {escaped(command.get_short_help_str(300))}",
        ".SH SYNOPSIS",
        f".B {escaped(context.command_path)}",
        escaped(usage),
        ".SH DESCRIPTION",
        *paragraphs(command.help or ""),
    ]
    records = [
        record
        for one in command.get_params(context)
        if isinstance(one, click.Option) and (record := one.get_help_record(context)) is not None
    ]
    if records:
        lines.append(".SH OPTIONS")
        for option, text in records:
            lines += [".TP", f".B {escaped(option)}", escaped(text)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for below in command.list_commands(context):
            one = command.get_command(context, below)
            assert one is not None
            if not one.hidden:
                text = escaped(one.get_short_help_str(300))
                lines += [".TP", f".BR {name}-{below} (1)", text]
    return "\n".join(lines) + "\n"


def paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of a help text; ``\\b`` leaves the lines of a paragraph as they are."""
    for paragraph in text.replace("\f", "").strip().split("\n\n"):
        lines = paragraph.splitlines()
        kept = lines[0].strip() == "\b"
        yield ".PP"
        if kept:
            yield ".nf"
        yield from (escaped(line if kept else line.strip()) for line in lines[kept:])
        if kept:
            yield ".fi"


def escaped(text: str) -> str:
    """Return text in which man(7) sees no commands."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main(directory: Path) -> None:
    """Write the pages."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages(commands, click.Context(commands, info_name="fieldwatch-agent")):
        (directory / f"{name}.1").write_text(text)


main(Path(sys.argv[1]))
