"""The command ``fieldwatch-agent labels``: the findings of staff, for the next training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import config_option
from models.console import say_error, say_lines
from models.options import Number

if TYPE_CHECKING:
    from agent.store.reader import Reader


@click.group()
def labels() -> None:
    """Hand the findings of staff to the next training."""


@labels.command()
@click.option("--stream", required=True, help="Of this stream; a recording has one stream.")
@click.option(
    "--windows",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the stored readings around the labels to this file, as a recording.",
)
@click.option(
    "--windows-in",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write a CSV file for each labelled alarm into this directory: what was observed,"
    " what was expected, and the score.",
)
@click.option(
    "--around-s",
    type=Number(0, 86_400),
    default=600.0,
    show_default=True,
    help="With --windows: so many seconds before and after each label, too.",
)
@config_option
def export(
    stream: str,
    windows: Path | None,
    windows_in: Path | None,
    around_s: float,
    config_file: Path,
) -> int:
    """Print a stream's labels as CSV, for data.labels of fieldwatch-trainer.

    Confirmed faults, maintenance and what is not explained yet are cut out of its recordings. False
    alarms stay in.
    """
    from agent.commands.alarms import labels as labelled
    from agent.config.location import store_directory
    from agent.store.reader import Reader

    with Reader(store_directory(config_file)) as reader:
        found, now_s = labelled.labels(reader, stream), time.time()
        if windows is not None:
            _write(reader, stream, found, windows, around_s, now_s)
        if windows_in is not None:
            _write_windows(reader, found, windows_in)
    say_lines(labelled.as_csv(found, now_s))
    return 0


def _write(
    reader: Reader,
    stream: str,
    found: Sequence[dict[str, Any]],
    path: Path,
    around_s: float,
    now_s: float,
) -> None:
    from agent.commands.alarms.recorded import recorded
    from models.files import replace

    made = recorded(reader, stream, found, around_s, now_s)
    replace(path, f"{made.text}\n".encode())
    told = f"{path}: {made.samples} samples around {len(found)} labels"
    if made.gone:
        told += f"; no reading is stored any more of {_names(made.gone)}"
    say_error("fieldwatch-agent", told)


def _write_windows(reader: Reader, found: Sequence[dict[str, Any]], directory: Path) -> None:
    from agent.commands.alarms.windowed import write

    made = write(reader, found, directory)
    count = len(made.files)
    told = f"{directory}: {count} {'window' if count == 1 else 'windows'}"
    if made.gone:
        told += f"; no window is kept of {_names(made.gone)}"
    say_error("fieldwatch-agent", told)


def _names(labels: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{one['stream']}#{one['number']}" for one in labels)
