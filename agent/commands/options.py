"""Options that many commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agent.handling.transition import REASON_CHARS_MAX

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = Path("/etc/fieldwatch/agent.toml")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    envvar="FIELDWATCH_CONFIG",
    help="The agent's configuration.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
interpreter_option = click.option(
    "--interpreter",
    type=click.Choice(["auto", "litert", "tflite"]),
    default="auto",
    show_default=True,
    help="The interpreter that runs the network.",
)


def broker_options(whose: str) -> Callable[[Decorated], Decorated]:
    """Return options for the access to a broker, named as the keys of its table.

    ``whose``: the owner of the certificate, for the help.
    """
    options = (
        click.option("--host", required=True, help="Name or address of the broker."),
        click.option(
            "--port",
            type=click.IntRange(1, 65535),
            default=1883,
            show_default=True,
            help="Port of the broker.",
        ),
        click.option("--username", help="User at the broker."),
        click.option(
            "--password-file", type=click.Path(), help="File that contains only the password."
        ),
        click.option(
            "--tls-ca-file", type=click.Path(), help="CA certificates (PEM); turns TLS on."
        ),
        click.option("--tls-cert-file", type=click.Path(), help=f"{whose} certificate (PEM)."),
        click.option("--tls-key-file", type=click.Path(), help="The certificate's key (PEM)."),
    )

    def add(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def short_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return a text that fits into the logbook; a callback of options and arguments."""
    if value is not None and len(value) > REASON_CHARS_MAX:
        raise click.BadParameter(
            f"it has {len(value)} characters; shorten it to at most {REASON_CHARS_MAX}"
        )
    return value


def reason_option(
    required: bool = False, told: str = "Why; it goes into the logbook."
) -> Callable[[Decorated], Decorated]:
    """Return the option for what a person writes into the logbook."""
    return click.option("--reason", required=required, callback=short_text, help=told)
