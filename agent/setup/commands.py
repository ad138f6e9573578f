"""The command line of ``fieldwatch-agent setup``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from agent.commands.options import config_option, json_option
from models.console import say, say_error, say_json
from models.errors import FieldwatchError
from models.options import Number

_UNAVAILABLE = 69  # as in agent.commands.check
_UMASK = 0o077  # what is meant for others is written with its own mode
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@config_option
@click.option("--answers", "answers_file", type=_FILE, help="Settings as in agent.toml (TOML).")
@click.option("--once", is_flag=True, help="Remove the secrets of --answers, and rename the file.")
@click.option("--name", help="Name of this gateway.")
@click.option("--site", help="Its site or plant.")
@click.option("--host", help="The broker of central ops.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the broker.")
@click.option("--no-broker", is_flag=True, help="The gateway works alone.")
@click.option("--username", help="User at the broker.")
@click.option("--password-file", type=_FILE, help="File with only the password, which is stored.")
@click.option("--tls-ca-file", type=_FILE, help="CA certificates (PEM), copied; turns TLS on.")
@click.option("--serial", multiple=True, type=click.Path(path_type=Path), help="Probe this port.")
@click.option(
    "--by-id",
    type=click.Path(path_type=Path),
    default=Path("/dev/serial/by-id"),
    show_default=True,
    help="Directory with the stable names of the serial devices.",
)
@click.option(
    "--seconds",
    type=Number(0, 3600, min_open=True),
    default=5.0,
    show_default=True,
    help="How long to listen to a port.",
)
@click.option(
    "--credentials",
    "way",
    type=click.Choice(["auto", "plain", "encrypted"]),
    default="auto",
    show_default=True,
    help="How to store secrets; auto encrypts them where systemd can.",
)
@click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), help="Set up the image in here."
)
@click.option("--dry-run", is_flag=True, help="Only try the broker, and show the changes.")
@click.option("--no-test", is_flag=True, help="Do not try the broker.")
@click.option("--no-enable", is_flag=True, help="Do not enable and start the service.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def setup(answers_file: Path | None, once: bool, as_json: bool, **given: Any) -> int:
    """Set up this gateway: names, broker, inputs, secrets, and the service.

    The command asks for what neither the options nor --answers say; what is there is the default.
    It shows the changes before it writes. A password goes to systemd's credentials, and never into
    the configuration. If the broker cannot be used, --yes sets up nevertheless, and the exit code
    is 69.
    """
    from agent.setup import once as onces
    from agent.setup.apply import enable
    from agent.setup.place import Place
    from agent.setup.steps import Options, Voice, set_up

    if once and answers_file is None:
        raise click.UsageError("--once needs --answers")
    asks = not given["yes"] and not given["dry_run"]
    if asks and not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked: add --yes, or --dry-run")
    os.umask(_UMASK)
    names = ("serial", "by_id", "seconds", "way", "dry_run")
    named = {name: given[name] for name in names}
    options = Options(
        _settings(given), answers_file, asks=asks, tries=not given["no_test"], **named
    )
    said = _Log(as_json)
    place = Place.of(given["config_file"], given["root"])
    try:
        outcome = set_up(place, options, Voice(said.tell, said.warn, _confirm))
        if once and answers_file is not None and not options.dry_run:
            applied = onces.finish(answers_file, outcome.secret_files)
            said.tell(f"{answers_file} has no secrets any more, and is now {applied.name}")
        if not options.dry_run and not given["no_enable"]:
            said.tell(enable(place, bool(outcome.written)))
    except FieldwatchError as error:
        said.lines.append(f"error: {error}")
        raise
    finally:
        if once and answers_file is not None:
            _report(answers_file, said)
    if as_json:
        say_json(outcome.document())
    return _UNAVAILABLE if outcome.broker_fails else 0


class _Log:
    """Keeps what is said, for the report beside a file of answers."""

    def __init__(self, as_json: bool) -> None:
        self.lines: list[str] = []
        self._as_json = as_json

    def tell(self, line: str) -> None:
        self.lines.append(line)
        if not self._as_json:
            say(line)

    def warn(self, line: str) -> None:
        self.lines.append(line)
        say_error("fieldwatch-agent", line)


def _report(answers_file: Path, said: _Log) -> None:
    """Write what was said beside the file; that this fails hides no other error."""
    from agent.setup import once

    try:
        once.report(answers_file, said.lines)
    except FieldwatchError as error:
        said.warn(f"no report: {error}")


def _confirm(question: str, default: bool) -> None:
    click.confirm(question, default=default, abort=True, err=True)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options in the form of agent.toml."""
    gateway = {key: given[key] for key in ("name", "site") if given[key]}
    keys = ("host", "port", "username", "password_file", "tls_ca_file")
    broker = {key: given[key] for key in keys if given[key] is not None}
    broker |= {key: str(value) for key, value in broker.items() if isinstance(value, Path)}
    settings: dict[str, Any] = {"gateway": gateway} if gateway else {}
    if given["no_broker"]:
        if broker:
            raise click.UsageError("--no-broker excludes the options of a broker")
        settings["mqtt"] = False
    elif broker:
        settings["mqtt"] = broker
    return settings
