"""The command ``fieldwatch-agent labels``: the findings of staff, for the next training."""

from __future__ import annotations

import time
from pathlib import Path

import click

from agent.commands.options import config_option
from models.console import say_lines


@click.group()
def labels() -> None:
    """Hand the findings of staff to the next training."""


@labels.command()
@click.option("--stream", required=True, help="Of this stream; a recording has one stream.")
@config_option
def export(stream: str, config_file: Path) -> int:
    """Print a stream's labels as CSV, for data.labels of fieldwatch-trainer.

    Confirmed faults, maintenance and what is not explained yet are cut out of its recordings. False
    alarms stay in.
    """
    from agent.commands.alarms import labels as labelled
    from agent.config.location import store_directory
    from agent.store.reader import Reader

    with Reader(store_directory(config_file)) as reader:
        found = labelled.labels(reader, stream)
    say_lines(labelled.as_csv(found, time.time()))
    return 0
