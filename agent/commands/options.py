"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

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
