"""Looks at data, and writes the configuration of a training that reads them."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from models.columns import Sought
from models.errors import ConfigError, DataError
from models.files import replace
from models.formats.recording import Layout
from models.plain_names import plain_name
from models.settings import explain
from trainer.config import LABELS_SUFFIX, ColumnTable, Config, QueryTable, read
from trainer.datasets import Recording
from trainer.datasets.database import QueryResult, read_query
from trainer.datasets.recordings import read_recording
from trainer.survey.guess import Guess, guess
from trainer.survey.look import Looked, look, look_at
from trainer.survey.measure import Measured, Read, measure
from trainer.survey.propose import configuration, questions

_NAME_MAX: Final = 64
_COLUMNS: Final = ("time_column", "clock_column")
_LOOKED_AT: Final = 20_000  # rows of a query


class Proposal(NamedTuple):
    """What was written, and what is not sure."""

    path: Path
    found: Guess
    measured: Measured
    unsure: list[str]


def propose(
    files: Sequence[Path],
    queries: Sequence[QueryTable],
    output: Path,
    given: Mapping[str, Any],
    force: bool,
    say: Callable[[str], None],
) -> Proposal:
    """Look at files and queries, and write a configuration.

    Args:
        files: recordings of one machine, of the same form; files of labels are left out.
        queries: the same of databases.
        output: the file to write; paths in it are relative to it.
        given: settings of the table ``[data]`` that need no guess.
        force: whether an existing file is replaced.
        say: called with each line of progress.

    Raises:
        ConfigError: the file exists, or cannot be written.
        DataError: the data cannot be read, or have no times or no channels.

    """
    if output.exists() and not force:
        raise ConfigError(f"{output}: exists already; name another file, or use --force")
    files = [path for path in files if not path.name.endswith(LABELS_SUFFIX)]
    where = output.absolute().parent
    looked = [(str(path), look(path)) for path in files]
    looked += [
        (f"query {one.name}", look_at(QueryResult(where, one, _LOOKED_AT))) for one in queries
    ]
    missing = {given[key] for key in _COLUMNS if key in given} - set(
        looked[0][1].names if looked else []
    )
    if looked and missing:
        there = ", ".join(looked[0][1].names)
        raise DataError(f"{looked[0][0]}: no column {missing.pop()!r}; there are: {there}")
    if not looked:
        raise DataError("there are only files of labels: name a recording, too")
    found = _timed(_common(looked, given), looked[0][0])
    say(f"reading {len(looked)} recordings")
    sources = [*(_of_file(path) for path in files), *(_of_query(where, one) for one in queries)]
    measured = measure(found, sources)
    if not measured.channels:
        told = "; ".join(f"{name!r}: {why}" for name, why in _left_out(found, measured).items())
        raise DataError(f"{looked[0][0]}: no column can be a channel: {told}")
    relative = [glob.escape(os.path.relpath(path.absolute(), where)) for path in files]
    tables = [one.model_dump(exclude_none=True) for one in queries]
    text = configuration(_name(files, queries), relative, tables, found, measured)
    _write(output, text)
    return Proposal(output, found, measured, questions(found, measured))


def _common(looked: Sequence[tuple[str, Looked]], given: Mapping[str, Any]) -> Guess:
    """Return the guess that holds for all sources.

    It is that of the first, without columns or channels that another lacks.
    """
    (_, first), *others = looked
    found = guess(first, given)
    if "channel_column" in found.settings:
        return _together([found, *(guess(other, given) for _, other in others)])
    left_out = dict(found.left_out)
    for where, other in others:
        lacking = {one.source for one in found.channels} - set(other.names)
        left_out |= dict.fromkeys(sorted(lacking), f"{where} has no such column")
    channels = [one for one in found.channels if one.source not in left_out]
    return found._replace(channels=channels, left_out=left_out)


def _together(found: Sequence[Guess]) -> Guess:
    """Return the first guess with the channels that all have.

    A channel that one of them lacks would be an error of the training.
    """
    first, *others = found
    in_all = set.intersection(*({one.source for one in guess.channels} for guess in found))
    some = {one.source: one for guess in reversed(found) for one in guess.channels}
    left_out = first.left_out | dict.fromkeys(
        sorted(some.keys() - in_all), "not all recordings have it, in the rows that were looked at"
    )
    channels = [one for one in first.channels if one.source in in_all]
    return first._replace(channels=channels, left_out=left_out) if others else first


def _timed(found: Guess, where: str) -> Guess:
    if "time_column" not in found.settings and "row_period_s" not in found.settings:
        raise DataError(
            f"{where}: no column of times was found. Name it with --time-column, and its form with"
            " --time-format, such as '%Y.%m.%d.%H.%M.%S'; if arrays have no times, give the seconds"
            " from row to row with --row-period-s"
        )
    if not found.channels:
        told = "; ".join(f"{name!r}: {why}" for name, why in found.left_out.items())
        raise DataError(f"{where}: no column can be a channel: {told}")
    return found


def _of_file(path: Path) -> Read:
    def reading(sought: Sought, channels: Sequence[ColumnTable], layout: Layout) -> Recording:
        return read_recording(path, sought, channels, layout)

    return reading


def _of_query(where: Path, query: QueryTable) -> Read:
    return functools.partial(read_query, where, query)


def _left_out(found: Guess, measured: Measured) -> dict[str, str]:
    return {**found.left_out, **measured.left_out}


def _name(files: Sequence[Path], queries: Sequence[QueryTable]) -> str:
    """Return the name of a bundle, from that of the first source."""
    first = files[0].name.split(".")[0].split("=")[-1] if files else queries[0].name
    plain = re.sub(r"[^a-z0-9.\-]+", "-", plain_name(first, "-").lower())
    return plain[:_NAME_MAX].strip("-.") or "machine"


def _write(output: Path, text: str) -> None:
    try:
        replace(output, text.encode())
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
    read(output)  # what was written is what the training accepts


def query_of(settings: dict[str, Any]) -> QueryTable:
    """Return a query from the options of a command line.

    Raises:
        ConfigError: the URL has a password, or a setting is wrong.

    """
    try:
        return QueryTable.model_validate(settings)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(Config, error))) from error
