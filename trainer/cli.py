"""The command ``fieldwatch-trainer``: reads arguments, calls the code that does the work, prints.

Exit codes: 0 done, 1 a trained bundle fails a gate, a channel of a benchmark or a stream of a fleet
failed, or a bundle or its metrics are not reproduced, 2 wrong usage, 65 recordings or bundle
refused, 69 the extra is not installed, 71 not enough memory, 74 the system refused to read or
write, 78 configuration, 130 interrupted. With ``--json`` an error is a document, too.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from models import __version__, console
from models.console import say, say_error, say_json, say_lines
from models.errors import FieldwatchError
from models.options import Number, layout_options, time_column_options
from models.printable import printable
from models.shown import shown
from trainer.extras import require
from trainer.registry import commands as registry_commands

if TYPE_CHECKING:
    from models.formats.recording import Layout
    from trainer.benchmark.cases import Benchmark
    from trainer.benchmark.runs import Run
    from trainer.benchmark.suite import Measured
    from trainer.config import ConfigFile
    from trainer.datasets.ett import EttFile
    from trainer.fleet.run import FleetWorks
    from trainer.survey.run import Proposal
    from trainer.train import Outcome
    from trainer.tune import Record
    from trainer.workers import Finished

TRAINING = ("tensorflow", "matplotlib")  # packages of the extra that a training needs
DRAWING = ("matplotlib",)
MEMORY_EXIT_CODE = 71
SYSTEM_EXIT_CODE = 74
INTERRUPTED = 130  # as in a shell: 128 + SIGINT

Command = Callable[..., int]
_File = click.Path(path_type=Path, dir_okay=False)
_Directory = click.Path(path_type=Path, file_okay=False)


def main() -> NoReturn:
    """Run the command line; print a ``FieldwatchError`` as one line, and exit with its code."""
    console.begin()
    # keeps child processes from importing modules from the user's directory
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        sys.exit(commands(standalone_mode=False))
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            say_lines(error.ctx.get_usage(), error=True)
            say(f"Try '{error.ctx.command_path} --help' for help.", error=True)
        say_error("Error", error.format_message())
        _fail(error.format_message(), error.exit_code)
    except click.Abort:
        _fail("interrupted", INTERRUPTED)
    except FieldwatchError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        _end(_system_error(error), SYSTEM_EXIT_CODE)
    except MemoryError as error:
        _end(_memory_error(error), MEMORY_EXIT_CODE)
    except ImportError as error:
        if _NO_ROOM_FOR_A_LIBRARY not in str(error):
            raise
        _end(_memory_error(error), MEMORY_EXIT_CODE)


def _needs(packages: Sequence[str]) -> Callable[[Command], Command]:
    """Let a command end at once if a package of the trainer's extra is not installed."""

    def decorated(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(**arguments: Any) -> int:
            require(str(click.get_current_context().info_name), packages)
            return command(**arguments)

        return wrapped

    return decorated


def _end(message: str, exit_code: int) -> NoReturn:
    """Print an error, and end the command."""
    say_error("fieldwatch-trainer", message)
    _fail(message, exit_code)


def _fail(message: str, exit_code: int) -> NoReturn:
    """End the command; ``--json`` of a benchmark is a file."""
    console.fail(message, exit_code, "--json" in sys.argv and "benchmark" not in sys.argv)


def _memory_error(error: Exception) -> str:
    return (
        f"there is not enough memory{f': {error}' if str(error) else ''}. Use fewer or shorter"
        " recordings, a longer sampling.period_s, a smaller fit.batch, or a larger machine"
    )


_NO_ROOM_FOR_A_LIBRARY = "failed to map segment"  # ld.so, where mmap has no memory


def _system_error(error: OSError) -> str:
    """Return in words what the system refused, where, and what to do."""
    names = [os.fspath(name) for name in (error.filename, error.filename2) if name is not None]
    where = " -> ".join(map(str, names))
    said = f"{where}: {error.strerror or error}" if where else str(error.strerror or error)
    advice = _ADVICE.get(error.errno or 0)
    return f"{said}; {advice}" if advice else said


_ADVICE = {
    errno.ENOSPC: "free some space there, or name another directory",
    errno.EDQUOT: "free some space there, or name another directory",
    errno.EROFS: "name a writable directory",
    errno.EACCES: "change the permissions, or name another path",
    errno.EPERM: "change the permissions, or name another path",
    errno.ENOENT: "create the directory, or name another path",
    errno.ENOTDIR: "a part of the path is a file, not a directory: name another path",
    errno.EISDIR: "the path is a directory: name a file",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fieldwatch-trainer")
def commands() -> None:
    """Train networks on recordings of normal operation and build bundles for gateways."""


class Tell:
    """Prints progress lines: none with -q; with -v, each has the seconds since the start."""

    def __init__(self, quiet: bool, verbose: bool) -> None:
        self.quiet = quiet
        self._verbose = verbose
        self._began_s = time.monotonic()

    def __call__(self, line: str, *, error: bool = False) -> None:
        """Print a line, to stderr if ``error``."""
        if not self.quiet:
            since = f"{time.monotonic() - self._began_s:7.1f} s  " if self._verbose else ""
            say(f"{since}{line}", error=error)


def _verbosity(command: Command) -> Command:
    """Add the options -q and -v to a command, which gets the argument ``tell``."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only results, no progress.")
    @click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Also print the time of each step, and TensorFlow's own messages.",
    )
    @functools.wraps(command)
    def wrapped(quiet: bool, verbose: bool, **rest: Any) -> int:
        if quiet and verbose:
            raise click.UsageError("-q and -v exclude each other")
        from trainer import quiet as native
        from trainer import room

        native.begin(show=verbose)
        room.check_address_space()
        return command(tell=Tell(quiet, verbose), **rest)

    return wrapped


@commands.command()
@click.argument("config", type=_File)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the bundle, the report and the metrics; overrides bundle.output.",
)
@click.option(
    "--tflite-python",
    type=_File,
    envvar="FIELDWATCH_TFLITE_PYTHON",
    help="A Python with tflite-runtime and pydantic, to check parity on that interpreter, too.",
)
@click.option(
    "--accept",
    is_flag=True,
    help="Write the bundle under its own name even if it fails a gate. The report says so.",
)
@_needs(DRAWING)
@_verbosity
def train(
    config: Path, output: Path | None, tflite_python: Path | None, accept: bool, tell: Tell
) -> int:
    """Train a bundle by CONFIG (TOML); write it with a report (HTML) and metrics (JSON).

    The training ends with a verdict. The table [gates] of the configuration sets its limits. A
    bundle that fails is written as NAME.failed.fieldwatch, and the exit code is 1. With a table
    [registry], the training is a run in the registry, and a good bundle is registered.
    """
    tell(f"reading {config}")  # before the imports, which take seconds
    from trainer import config as configuration

    file = configuration.read(config)
    made = _trained_here(file, output or file.output, tflite_python, tell, accept)
    for line in made.lines:
        tell(line)
    for warning in made.warnings:
        say(f"warning: {warning}", error=True)
    say(made.summary)
    say(f"{made.path}")
    say(f"{made.report}")
    return 0 if made.passed else 1


def _trained_here(
    file: ConfigFile, output: Path, tflite_python: Path | None, tell: Tell, accept: bool
) -> Outcome:
    """Train, and record it in the registry of the configuration, if it has one."""
    from trainer import train as training

    if file.config.registry is None:
        return training.train(file, output, tflite_python, tell, accept)
    from trainer.registry import training as recorded
    from trainer.registry.registry import Registry

    registry = Registry(file.config.registry, file.path.parent)
    return recorded.train(registry, file, output, tflite_python, tell, accept).outcome


def _quiet(command: Command) -> Command:
    """Add the option -q to a command, which gets the argument ``tell``."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only results, no progress.")
    @functools.wraps(command)
    def wrapped(quiet: bool, **rest: Any) -> int:
        return command(tell=Tell(quiet, verbose=False), **rest)

    return wrapped


@commands.command()
@click.argument("config", type=_File)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@_quiet
def check(config: Path, as_json: bool, tell: Tell) -> int:
    """Read CONFIG and its recordings, and say what a training would use. Train nothing.

    Everything is checked that can be known before a training: settings, recordings, labels, the
    lengths of the parts, and that no part repeats another. CONFIG may be that of a fleet, too.
    """
    from trainer import config as configuration
    from trainer import prepared
    from trainer.fleet import config as fleets

    if fleets.is_fleet(config):
        from trainer.fleet import run as runs
        from trainer.fleet.stream import CheckWork

        fleet = fleets.read(config)
        works = {
            name: CheckWork(stream, runs.log_path(fleet, f"check.{name}"))
            for name, stream in fleet.streams.items()
        }
        checked = runs.Simple(fleet, "check", works, runs.Options())
        return _follow_fleet(checked, as_json, tell)
    file = configuration.read(config)
    found = prepared.prepare_data(file, lambda line: tell(line, error=as_json))
    if as_json:
        say_json(found.metrics())
        return 0
    for name, part in found.used.parts.items():
        say(f"{name}: {part.rows} rows from {part.first} to {part.last}")
    say(f"digest of the data: {found.used.digest}")
    say(f"{config}: a training can begin")
    return 0


def _fleet_options(command: Command) -> Command:
    """Add the options of a run over a fleet."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the result for programs."),
        click.option(
            "--only", multiple=True, metavar="NAME", help="Only this stream; repeat for more."
        ),
        click.option(
            "--scheduler",
            help="Address of a Dask scheduler, such as tcp://10.0.0.5:8786, whose workers do it.",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(1, 1024),
            help="Worker processes here, instead of fleet.jobs.",
        ),
    ):
        command = option(command)
    return command


@commands.command()
@click.argument("fleet", type=_File)
@_fleet_options
@click.option("--again", is_flag=True, help="Train all streams, even those that are done.")
@click.option(
    "--tflite-python",
    type=_File,
    envvar="FIELDWATCH_TFLITE_PYTHON",
    help="A Python with tflite-runtime, to check parity on that interpreter, too.",
)
@_needs(TRAINING)
@_verbosity
def batch(
    fleet: Path,
    jobs: int | None,
    scheduler: str | None,
    only: tuple[str, ...],
    as_json: bool,
    again: bool,
    tflite_python: Path | None,
    tell: Tell,
) -> int:
    """Train a bundle for each stream of FLEET (TOML), and say plainly what failed.

    A stream is done if its bundle was trained on these data with these settings; another run does
    only the rest. Each stream has its log, and OUTPUT/batch.json has the whole result. The exit
    code is 1 if a stream failed, or its bundle fails a gate.
    """
    from trainer.fleet import config as fleets
    from trainer.fleet import run as runs

    options = runs.Options(jobs, scheduler, only, again, tflite_python)
    return _follow_fleet(runs.Training(fleets.read(fleet), options), as_json, tell)


@commands.command()
@click.argument("fleet", type=_File)
@_fleet_options
@click.option(
    "--since",
    help="Begin of the new data, such as 2026-11-01T00:00:00Z.  [default: the end of what the"
    " bundle was trained, calibrated and tested on]",
)
@_quiet
def validate(
    fleet: Path,
    jobs: int | None,
    scheduler: str | None,
    only: tuple[str, ...],
    as_json: bool,
    since: str | None,
    tell: Tell,
) -> int:
    """Score new data of each stream of FLEET with its bundle. Train nothing.

    The limits are those of the tables [gates]. The exit code is 1 if a bundle exceeds one, or a
    stream has no bundle or no new data.
    """
    from trainer.fleet import config as fleets
    from trainer.fleet import run as runs
    from trainer.fleet.validate import plan

    file = fleets.read(fleet)
    works = plan(file, runs.chosen(file, only), since)
    validation = runs.Simple(file, "validate", works, runs.Options(jobs, scheduler))
    return _follow_fleet(validation, as_json, tell)


@commands.command()
@click.argument("fleet", type=_File)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def status(fleet: Path, as_json: bool) -> int:
    """Say of each stream of FLEET: its bundle, how old it is, its figures, and the last run."""
    from trainer.fleet import config as fleets
    from trainer.fleet import status as states

    found = states.of(fleets.read(fleet))
    if as_json:
        say_json([each.document() for each in found])
        return 0
    for line in states.lines(found):
        say(line)
    return 0


def _follow_fleet(going: FleetWorks, as_json: bool, tell: Tell) -> int:
    """Show a run over a fleet while it goes on, and its result; return the exit code."""
    from trainer.fleet import records, summary
    from trainer.fleet.overview import Overview
    from trainer.fleet.run import document

    terminal = sys.stderr if sys.stderr.isatty() and not tell.quiet else None
    overview = Overview(going.total, terminal, functools.partial(tell, error=True))
    try:
        with contextlib.closing(going.go()) as happenings:
            for happening in happenings:
                overview.take(happening)
    except KeyboardInterrupt:
        say("stopped; what is done stays done: to continue, run it again", error=True)
        raise
    finally:
        overview.close()
    result = document(going.run)
    records.keep_result(going.run.file.output, going.run.what, result)
    if as_json:
        say_json(result)
    else:
        for line in summary.lines(going.run):
            say(line)
    return 0 if going.run.passed else 1


@commands.command()
@click.argument("config", type=_File)
@click.option("--output", type=_File, help="File for the report.  [default: NAME.data.html]")
@_needs(DRAWING)
@_quiet
def data(config: Path, output: Path | None, tell: Tell) -> int:
    """Write a report (HTML) about the recordings of CONFIG: what is there, and what is unusable.

    It shows coverage, gaps, ranges, distributions, correlations, spectra, and what the preparation
    changes. The exit code is 1 if a training would be refused; the report says why.
    """
    from trainer import config as configuration
    from trainer import data_report, destination, examine

    file = configuration.read(config)
    path = output or file.output / f"{file.config.bundle.name}.data.html"
    destination.check_directory(path.parent, (path.name,))
    found = examine.examine(file, tell)
    path.parent.mkdir(parents=True, exist_ok=True)
    data_report.write(found, path)
    for line in found.refused:
        say_error("refused", line)
    say(data_report.summary(found))
    say(f"{path}")
    return 1 if found.refused else 0


@commands.command()
@click.argument("bundle", type=_File)
@click.option(
    "--data",
    type=_Directory,
    default=".",
    help="Directory that the paths of the configuration are relative to.  [default: this one]",
)
@click.option(
    "--tflite-python",
    type=_File,
    envvar="FIELDWATCH_TFLITE_PYTHON",
    help="A Python with tflite-runtime, if the training had one.",
)
@click.option(
    "--tolerance",
    type=Number(min=0),
    help="Largest difference of a known answer that still agrees.  [default: that of the bundle]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@_verbosity
def reproduce(
    bundle: Path,
    data: Path,
    tflite_python: Path | None,
    tolerance: float | None,
    as_json: bool,
    tell: Tell,
) -> int:
    """Train BUNDLE again by the configuration in it, and say whether the result agrees.

    The recordings must be those of the training: otherwise nothing is trained, and the command says
    what differs. It compares the networks, the scores of the known answers and the metrics. The
    exit code is 0 if they agree, and 1 if not.
    """
    from trainer import reproduce as again

    def progress(line: str) -> None:
        tell(line, error=as_json)

    found = again.reproduce(bundle, data, tflite_python, tolerance, progress)
    if as_json:
        say_json(found.document())
    else:
        for line in found.lines():
            say(line)
    return 0 if found.agrees else 1


@commands.command()
@click.argument("config", type=_File)
@click.option("--output", type=_Directory, help="Directory for the study; overrides bundle.output.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@_verbosity
def tune(config: Path, output: Path | None, as_json: bool, tell: Tell) -> int:
    """Search better settings in the ranges of CONFIG; write them as a new configuration.

    The table [tune] names the settings. Each trial trains with other values and is compared on the
    validation data alone. A search that was interrupted goes on where it stopped. The result is
    NAME.tuned.toml beside CONFIG: train with it. With a table [registry], the search is a run in
    the registry, and so is each trial beneath it.
    """
    require("tune", ("optuna",), extra="tune")
    from trainer import config as configuration
    from trainer import tune as search

    def progress(line: str) -> None:
        tell(line, error=as_json)

    file = configuration.read(config)
    found = search.tune(file, output or file.output, progress, _search_record(file))
    if as_json:
        say_json(found.document())
        return 0
    for name, value in found.settings.items():
        say(f"{name} = {json.dumps(value)}")
    if not found.settings:
        say("no trial was better than the configuration itself")
    say(found.text)
    say(f"{found.path}")
    return 0


def _search_record(file: ConfigFile) -> Record:
    """Return what records a search in the registry of a configuration, if it has one."""
    from trainer import tune as search

    if file.config.registry is None:
        return search.unrecorded
    from trainer.registry import study
    from trainer.registry.registry import Registry

    return functools.partial(study.record, Registry(file.config.registry, file.path.parent))


@commands.command()
@click.argument("data", type=click.Path(path_type=Path), nargs=-1)
@click.option("--url", help="SQLAlchemy's URL of a database, without a password.")
@click.option("--query", help="The SELECT statement to ask it.")
@click.option("--password-env", help="Environment variable with the database's password.")
@click.option("--password-file", help="File with that password, relative to the configuration.")
@click.option("--time-column", help="Column of the times.  [default: guessed]")
@click.option("--clock-column", help="Column of the time of day, if the other has only the date.")
@click.option("--time-format", help="As data.time_format, such as '%d.%m.%Y %H:%M:%S'.")
@click.option("--time-zone", help="Time zone of times without an offset, such as Europe/Berlin.")
@click.option(
    "--row-period-s",
    type=Number(0, min_open=True),
    help="Seconds from row to row, if arrays or Parquet files have no times.",
)
@click.option(
    "--output",
    type=_File,
    default="training.toml",
    show_default=True,
    help="The configuration to write.",
)
@click.option("--force", is_flag=True, help="Replace the configuration if it exists.")
def init(
    data: tuple[Path, ...],
    url: str | None,
    query: str | None,
    password_env: str | None,
    password_file: str | None,
    output: Path,
    force: bool,
    **settings: Any,
) -> int:
    """Look at DATA (CSV, Parquet, .npy, .npz, a query, a folder); write a configuration for train.

    A folder stands for the Parquet files below it, such as those of a collector.

    All DATA are recordings of one machine, of the same form. The command shows what it guessed,
    what it left out and why, and what it could not guess. Read and correct the configuration.
    """
    from trainer.survey import run as survey

    if (url is None) != (query is None):
        raise click.UsageError("--url and --query belong together")
    if url is None and not data:
        raise click.UsageError("DATA is missing: name files, or give --url and --query")
    given = {"name": "query", "url": url, "query": query}
    given |= {"password_env": password_env, "password_file": password_file}
    queries = [] if url is None else [survey.query_of(given)]
    known = {key: value for key, value in settings.items() if value is not None}
    made = survey.propose(data, queries, output, known, force, say)
    _tell_proposal(made)
    return 0


def _tell_proposal(made: Proposal) -> None:
    """Print what was guessed, what was left out, and what is not sure."""
    settings = made.found.settings
    times = " with ".join(settings[k] for k in ("time_column", "clock_column") if k in settings)
    if times:
        zone = f", zone {settings['time_zone']}" if "time_zone" in settings else ""
        form = settings.get("time_format", "elapsed")
        said = "Unix time or RFC 3339" if form == "elapsed" else form
        say(f"times: {times} ({said}{zone})")
    if "decimal" in settings:
        say(f"decimal sign: {settings['decimal']}")
    if made.measured.period_s is not None:
        say(f"period: {made.measured.period_s:g} s")
    for channel in made.found.channels:
        if (figures := made.measured.channels.get(channel.name)) is not None:
            unit = f" {channel.unit}" if channel.unit else ""
            say(f"channel {channel.name}: {figures.low:g} to {figures.high:g}{unit}")
    for column, why in (made.found.left_out | made.measured.left_out).items():
        say(f"left out {column!r}: {why}")
    for line in made.unsure:
        say("not sure: ", line)
    say(f"{made.path}: read it and correct it, then: fieldwatch-trainer train {made.path}")


@commands.command()
@click.option("--markdown", is_flag=True, help="Print a reference in Markdown instead.")
@click.option("--fleet", is_flag=True, help="The schema of a fleet, for `batch`.")
def schema(markdown: bool, fleet: bool) -> int:
    """Print the JSON schema of a training's or a fleet's configuration, for editors."""
    from models import reference
    from trainer.config import Config
    from trainer.fleet import config as fleets

    if fleet:
        if markdown:
            raise click.UsageError("--fleet and --markdown exclude each other")
        say_json(fleets.schema())
    elif markdown:
        for line in reference.markdown(Config):
            say(line)
    else:
        about = "The configuration of one training."
        say_json(reference.schema(Config, "Fieldwatch trainer", about))
    return 0


@commands.command()
@click.argument("bundle", type=_File)
@click.argument("recordings", type=_File, nargs=-1)
@click.option(
    "--labels", type=_File, help="CSV file with the faults of a single recording: start,end,kind."
)
@time_column_options
@layout_options
@click.option(
    "--bad-share-max",
    type=Number(0, 1),
    help="Refuse a recording if a larger share of its rows, or of a column's cells, cannot be read."
    "  [default: 0.1]",
)
@click.option("--channel-column", help="Column of the channels' names, in the long form.")
@click.option("--value-column", help="Column of the values, in the long form.")
@click.option(
    "--row-period-s",
    type=Number(0, min_open=True),
    help="Seconds from row to row, of arrays and Parquet files without times.",
)
@click.option(
    "--grace-s",
    type=Number(min=0),
    default=60.0,
    show_default=True,
    help="Seconds after a fault's end in which an event still counts as found.",
)
@click.option(
    "--trained-on",
    type=_File,
    multiple=True,
    help="A recording that the bundle was trained on; repeat this for all of them. The command"
    " computes the metrics of their test part again, and compares them with the bundle's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def evaluate(
    bundle: Path,
    recordings: tuple[Path, ...],
    labels: Path | None,
    time_column: str | None,
    clock_column: str | None,
    layout: Layout,
    bad_share_max: float | None,
    channel_column: str | None,
    value_column: str | None,
    row_period_s: float | None,
    grace_s: float,
    trained_on: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Score RECORDINGS with a sealed BUNDLE, and compare its events with labels.

    RECORDINGS are CSV files, also .csv.gz, Parquet files or arrays, as for the training.

    The labels of X.csv are in X.labels.csv beside it. A recording without labels counts as free of
    faults. --trained-on checks the metrics in the bundle: if the command cannot reproduce them, the
    exit code is 1.
    """
    from trainer import evaluate as evaluation

    if not recordings and not trained_on:
        raise click.UsageError("RECORDINGS or --trained-on is missing")
    if labels is not None and len(recordings) != 1:
        raise click.UsageError("--labels needs exactly one recording")
    if bad_share_max is not None:
        layout = layout._replace(bad_share_max=bad_share_max)
    if (channel_column is None) != (value_column is None):
        raise click.UsageError("--channel-column and --value-column belong together")
    if channel_column is not None and value_column is not None:
        from models.formats.recording import Long

        layout = layout._replace(long=Long(channel_column, value_column))
    layout = layout._replace(row_period_s=row_period_s)
    metrics = evaluation.evaluate(
        bundle, recordings, labels, time_column, grace_s, trained_on, layout, clock_column
    )
    if as_json:
        say_json(metrics)
    else:
        _print_metrics(metrics)
    return 0 if metrics.get("as_sealed", True) else 1


@commands.command()
@click.argument("key", type=_File)
def keygen(key: Path) -> int:
    """Create a key pair to sign bundles. Keep KEY secret; copy KEY.pub to the gateways."""
    from models.keys import new_key

    say(f"{key} (secret), {new_key(key, 'bundle')} (for gateways)")
    return 0


@commands.command()
@click.argument("bundle", type=_File)
@click.option("--key", type=_File, required=True, help="The secret key, made by keygen.")
def sign(bundle: Path, key: Path) -> int:
    """Sign a sealed BUNDLE in place. Its digest does not change."""
    from models import bundle as bundles
    from models import signing

    read = bundles.read(bundle)
    comment = f"{read.manifest.name} version {read.manifest.version}"
    signature = signing.sign(read.manifest_bytes, key, comment)
    bundles.write_signed(bundle, read, signature)
    say(f"{bundle}: signed, {comment}, digest {read.digest}")
    return 0


commands.add_command(registry_commands.register)
commands.add_command(registry_commands.registry)
commands.add_command(registry_commands.ui)


@commands.group()
def benchmark() -> None:
    """Train and evaluate the detectors, and simple ones for comparison, on public data sets."""


def _benchmark_options(command: Command) -> Command:
    options = (
        click.option("--data", type=_Directory, required=True, help="The downloaded data set."),
        click.option("--channels", help="Only these, e.g. A-1,P-2.  [default: all]"),
        click.option("--config", type=_File, help="TOML file, instead of the built-in ones."),
        click.option(
            "--seeds",
            help="Seeds of the networks, e.g. 1,2,3, with a table each.  [default: fit.seed]",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(min=1),
            default=os.cpu_count() or 1,
            help="Channels trained in parallel.  [default: number of processors]",
        ),
        click.option(
            "--work",
            type=_Directory,
            help="Directory of finished channels.  [default: ./fieldwatch-benchmark-NAME]",
        ),
        click.option("--json", "json_path", type=_File, help="File for all figures, as JSON."),
        click.option(
            "--report", type=_File, help="File for the report.  [default: report.html in --work]"
        ),
        click.option(
            "--tflite-python",
            type=_File,
            envvar="FIELDWATCH_TFLITE_PYTHON",
            help="A Python with tflite-runtime, to check the quantization on it too.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


_OF_DETECTORS: Final[Mapping[str, str]] = {
    "nasa": "NASA's telemetry of SMAP and MSL, as published with Telemanom.",
    "skab": "The Skoltech Anomaly Benchmark; its channels are files, e.g. valve1/0.",
    "ims": "Bearings run to failure (IMS); its channels are bearings, e.g. 1st_test/3.",
    "cmapss": "Turbofan engines run to failure (C-MAPSS FD001), one network for all.",
}


def _add_benchmark(name: str, about: str) -> None:
    """Add the command of a benchmark that trains detectors."""

    @benchmark.command(name, help=f"{about}\n\nAn interrupted run continues where it stopped.")
    @_benchmark_options
    @_needs(TRAINING)
    @_verbosity
    def command(**options: Any) -> int:
        return _benchmark(name, **options)


for _name, _about in _OF_DETECTORS.items():
    _add_benchmark(_name, _about)


@benchmark.command()
@click.option("--data", type=_Directory, required=True, help="The downloaded data set.")
@click.option("--json", "json_path", type=_File, help="File for all figures, as JSON.")
@_verbosity
def nab(data: Path, json_path: Path | None, tell: Tell) -> int:
    """The Numenta Anomaly Benchmark: streams without a bundle, by NAB's own scorer."""
    from trainer import destination
    from trainer.benchmark import nab as benchmarked

    destination.check_file(json_path)
    tell(f"reading {data}", error=True)
    document = benchmarked.run(data)
    for line in benchmarked.lines(document):
        say(line)
    if json_path is not None:
        json_path.write_text(json.dumps(document, indent=2) + "\n")
    return 0


@benchmark.command()
@click.option("--data", type=_File, required=True, help="ETTh1.csv, or a file of the same layout.")
@click.option(
    "--horizons",
    default="96,192,336,720",
    show_default=True,
    help="Horizons in steps, with a network each.",
)
@click.option("--config", type=_File, help="TOML file, instead of the built-in one.")
@click.option("--seed", type=click.IntRange(0), help="Seed, instead of the configuration's.")
@click.option("--json", "json_path", type=_File, help="File for all figures, as JSON.")
@click.option(
    "--report",
    type=_File,
    default="fieldwatch-benchmark-ett.html",
    show_default=True,
    help="File for the report.",
)
@click.option(
    "--tflite-python",
    type=_File,
    envvar="FIELDWATCH_TFLITE_PYTHON",
    help="A Python with tflite-runtime, to check the quantization on it too.",
)
@_needs(TRAINING)
@_verbosity
def ett(
    data: Path,
    horizons: str,
    config: Path | None,
    seed: int | None,
    json_path: Path | None,
    report: Path,
    tflite_python: Path | None,
    tell: Tell,
) -> int:
    """Electricity-transformer temperature: forecasts and their intervals."""
    from trainer import destination
    from trainer.benchmark import forecast_report, forecasting
    from trainer.datasets import ett as files

    wanted = _whole_numbers("--horizons", horizons, "96,192")
    destination.check_file(json_path)
    destination.check_file(report)
    settings, digest = forecasting.read_config(config, seed)
    run = forecasting.EttBenchmark(files.read(data), settings, digest)
    outcomes = []
    for outcome in run.run(wanted, tflite_python, lambda line: tell(line, error=True)):
        outcomes.append(outcome)
        for line in forecasting.table([outcome]):
            say(line)
    document = run.document(outcomes)
    forecast_report.write(document, outcomes, run.channels, report)
    if json_path is not None:
        json_path.write_text(json.dumps(document, indent=2) + "\n")
    return 0


@benchmark.command(name="all")
@click.option(
    "--data",
    type=_Directory,
    required=True,
    help="A folder of data sets: nasa_smap, skab, ims, cmapss, nab, ett; some may be missing.",
)
@click.option("--seeds", default="1", show_default=True, help="Seeds of the networks, e.g. 1,2,3.")
@click.option(
    "--horizons", default="96,192,336,720", show_default=True, help="Horizons of ETT, in steps."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    help="Channels trained in parallel.  [default: number of processors]",
)
@click.option(
    "--work",
    type=_Directory,
    default="fieldwatch-benchmark-all",
    show_default=True,
    help="Directory of finished channels.",
)
@click.option("--json", "json_path", type=_File, help="File for all figures, as JSON.")
@click.option("--report", type=_File, help="File for the report.  [default: report.html in --work]")
@click.option(
    "--tflite-python",
    type=_File,
    envvar="FIELDWATCH_TFLITE_PYTHON",
    help="A Python with tflite-runtime, to check the quantization on it too.",
)
@_needs(TRAINING)
@_verbosity
def every(
    data: Path,
    seeds: str,
    horizons: str,
    jobs: int,
    work: Path,
    json_path: Path | None,
    report: Path | None,
    tflite_python: Path | None,
    tell: Tell,
) -> int:
    """All data sets of a folder, in one table; those that are missing are named.

    An interrupted run continues where it stopped; forecasts are made again.
    """
    from trainer import destination
    from trainer.benchmark import suite
    from trainer.benchmark.cases import BENCHMARKS
    from trainer.datasets import ett as ett_files

    numbers, wanted = _seeds(seeds), _whole_numbers("--horizons", horizons, "96,192")
    destination.check_directory(work)
    destination.check_file(json_path)
    destination.check_file(report)
    found = suite.find(data)
    tell(f"reading {data}", error=True)  # all of it: what is wrong is found before the training
    plain = [suite.of_plain(each, folder) for each, folder in found.plain]
    series = {path: ett_files.read(path) for path in found.forecasts}
    planned = {
        folder: _planned(BENCHMARKS[name], folder, numbers, work, tflite_python)
        for name, folder in found.detectors
    }
    measured = [*_trained(planned, jobs, tell), *plain]
    for path, read in series.items():
        tell(f"{path.name}: {suite.FORECASTS}", error=True)
        documents = [_forecasts(read, wanted, seed, tflite_python, tell) for seed in numbers]
        measured.append(suite.of_forecasts(path.stem, documents))
    suite.write(measured, found.missing, report or work / "report.html")
    if json_path is not None:
        json_path.write_text(json.dumps(suite.document(measured, found.missing), indent=2) + "\n")
    for line in suite.lines(measured, found.missing):
        say(line)
    return _say_failed(run for of_seeds in planned.values() for run in of_seeds.values())


def _trained(planned: Mapping[Path, Mapping[int, Run]], jobs: int, tell: Tell) -> list[Measured]:
    """Finish the runs of each folder; return its results."""
    from trainer.benchmark import runs, suite

    measured = []
    for folder, of_seeds in planned.items():
        first = next(iter(of_seeds.values()))
        tell(f"{folder.name}: {first.benchmark.name}", error=True)
        _finish(of_seeds, jobs, tell)
        measured.append(suite.of_detectors(folder.name, runs.all_documents(of_seeds), first))
    return measured


def _planned(
    chosen: Benchmark, folder: Path, seeds: list[int], work: Path, tflite_python: Path | None
) -> dict[int, Run]:
    """Return the runs of a benchmark on all of a folder, one per seed."""
    from trainer.benchmark import runs

    settings, names = chosen.settings(None), chosen.chosen(folder, [])
    place = work / folder.name
    return runs.plan_seeds(chosen, folder, names, settings, seeds, place, tflite_python)


def _forecasts(
    file: EttFile, horizons: list[int], seed: int, tflite_python: Path | None, tell: Tell
) -> dict[str, Any]:
    """Return the figures of the forecasting benchmark on one file."""
    from trainer.benchmark import forecasting

    settings, digest = forecasting.read_config(None, seed)
    run = forecasting.EttBenchmark(file, settings, digest)
    return run.document(list(run.run(horizons, tflite_python, lambda line: tell(line, error=True))))


def _whole_numbers(option: str, text: str, example: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text!r}: not a list such as {example}") from None


def _benchmark(
    name: str,
    data: Path,
    channels: str | None,
    config: Path | None,
    seeds: str | None,
    jobs: int,
    work: Path | None,
    json_path: Path | None,
    report: Path | None,
    tflite_python: Path | None,
    tell: Tell,
) -> int:
    from trainer import destination
    from trainer.benchmark import report as page
    from trainer.benchmark import runs, tables
    from trainer.benchmark.cases import BENCHMARKS
    from trainer.benchmark.counts import vus_pr_missing

    if missing := vus_pr_missing():
        say(missing, error=True)
    chosen, work = BENCHMARKS[name], work or Path(f"fieldwatch-benchmark-{name}")
    destination.check_directory(work)
    destination.check_file(json_path)
    destination.check_file(report)
    settings = chosen.settings(config)
    numbers = _seeds(seeds) or [settings.config.fit.seed]
    names = chosen.chosen(data, channels.split(",") if channels else [])
    beside = runs.beside(chosen, data)  # a file that is wrong is found before the training
    planned = runs.plan_seeds(chosen, data, names, settings, numbers, work, tflite_python)
    _finish(planned, jobs, tell)
    document = runs.all_documents(planned, beside)
    page.write(document, planned[numbers[0]], report or work / "report.html")
    if json_path is not None:
        json_path.write_text(json.dumps(document, indent=2) + "\n")
    for line in tables.seeds(document):
        say(line)
    return _say_failed(planned.values())


def _finish(planned: Mapping[int, Run], jobs: int, tell: Tell) -> None:
    """Do what is to do of each seed."""
    for run in planned.values():
        if run.outcomes:
            tell(f"taken from {run.work.path}, unchanged: {', '.join(run.outcomes)}", error=True)
        _show_progress(run, jobs, tell)


def _say_failed(planned: Iterable[Run]) -> int:
    """Name the channels that failed; return the exit code."""
    failed = {name: message for run in planned for name, message in run.failed.items()}
    for name, message in failed.items():
        say(f"fieldwatch-trainer: {name} failed: {message}", error=True)
    return 1 if failed else 0


def _seeds(text: str | None) -> list[int]:
    """Return the seeds of ``--seeds``, each once; none if it was not given."""
    seeds = list(dict.fromkeys(_whole_numbers("--seeds", text, "1,2,3"))) if text else []
    if any(seed < 0 for seed in seeds):
        raise click.UsageError(f"--seeds {text!r}: a seed is 0 or more")
    return seeds


def _show_progress(run: Run, jobs: int, tell: Tell) -> None:
    """Run the channels. Show a progress bar on a terminal, and a line per channel elsewhere."""
    try:
        with contextlib.closing(run.go_on(jobs)) as ends:
            if sys.stderr.isatty() and not tell.quiet:
                _show_bar(ends, len(run.tasks))
            else:
                _show_lines(ends, len(run.tasks), tell)
    except KeyboardInterrupt:
        say(
            f"stopped; finished channels are kept in {run.work.path}; to continue, run it again",
            error=True,
        )
        raise


def _show_bar(ends: Iterator[Finished], total: int) -> None:
    with click.progressbar(
        length=total,
        file=sys.stderr,
        show_pos=True,
        item_show_func=_item,
    ) as bar:
        for finished in ends:
            bar.update(1, finished.name)


def _item(name: str | None) -> str:
    return printable(name or "")


def _show_lines(ends: Iterator[Finished], total: int, tell: Tell) -> None:
    for number, finished in enumerate(ends, 1):
        tell(f"{number}/{total} {finished.name}: {finished.error or 'done'}", error=True)


def _print_metrics(metrics: dict[str, Any]) -> None:
    if metrics["recordings"]:
        say(f"{'recording':24}{'hours':>8}{'faults':>8}{'found':>7}{'false':>7}{'highest':>9}")
    for row in metrics["recordings"]:
        say(
            f"{row['name']:24}{shown(row['hours'], '.3g'):>8}{row['faults']:8}{row['found']:7}"
            f"{row['false_events']:7} {shown(row['score_max'], '.2f', absent='none'):>8}"
        )
    labelled = metrics["labelled"]
    for kind, row in labelled["kinds"].items():
        delay = row["delay_s_median"]
        late = "" if delay is None else f", median delay {delay:.1f} s"
        say(f"{kind}: {row['found']} of {row['labels']} found{late}")
    for name in ("precision", "recall", "f1"):
        if labelled[name] is not None:
            say(f"{name} {shown(labelled[name], '.3f')}")
    if "as_sealed" in metrics:
        same = "the same metrics as" if metrics["as_sealed"] else "OTHER METRICS than"
        say(f"test part: {same} in the bundle (evaluated digest {metrics['evaluated_digest']})")
