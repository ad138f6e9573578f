"""The command ``fieldwatch-trainer``: reads arguments, calls the room that does the work, prints.

Exit codes: 0 done, 1 a benchmark's channel failed or a bundle's figures are not its own, 2 wrong
usage, 65 recordings or bundle refused, 69 the extra is not installed, 78 configuration, 130
interrupted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from models import __version__, console
from models.console import say, say_error, say_json, say_lines
from models.errors import FieldwatchError
from models.printable import printable

if TYPE_CHECKING:
    from trainer.benchmark.runs import Run
    from trainer.benchmark.workers import Finished

EXTRA = ("tensorflow", "matplotlib")
EXTRA_MISSING_EXIT_CODE = 69

_File = click.Path(path_type=Path, dir_okay=False)
_Directory = click.Path(path_type=Path, file_okay=False)


def main() -> NoReturn:
    """Run the command line; errors of ours end in one line and their exit code."""
    console.begin()
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        say(
            f"fieldwatch-trainer: {', '.join(missing)} is not installed: the trainer needs its"
            " extra, on a server rather than on a gateway: pip install 'fieldwatch[trainer]'",
            error=True,
        )
        sys.exit(EXTRA_MISSING_EXIT_CODE)
    try:
        sys.exit(commands(standalone_mode=False))
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            say_lines(error.ctx.get_usage(), error=True)
            say(f"Try '{error.ctx.command_path} --help' for help.", error=True)
        say(f"Error: {error.format_message()}", error=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except FieldwatchError as error:
        say_error("fieldwatch-trainer", str(error))
        sys.exit(error.exit_code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fieldwatch-trainer")
def commands() -> None:
    """Train networks on recordings of normal operation, and make the bundles gateways run."""


@commands.command()
@click.argument("config", type=_File)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for what is made, instead of bundle.output.",
)
@click.option(
    "--tflite-python",
    type=_File,
    envvar="FIELDWATCH_TFLITE_PYTHON",
    help="A Python that has tflite-runtime (and pydantic), to prove parity on it too.",
)
def train(config: Path, output: Path | None, tflite_python: Path | None) -> int:
    """Train what CONFIG (TOML) describes: bundle, report (HTML) and metrics (JSON)."""
    from trainer import config as configuration
    from trainer import train as training

    file = configuration.read(config)
    bundle = training.train(file, output or file.output, tflite_python, say)
    say(f"{bundle}")
    say(f"{bundle.with_suffix('.report.html')}")
    return 0


@commands.command()
@click.argument("bundle", type=_File)
@click.argument("recordings", type=_File, nargs=-1)
@click.option("--labels", type=_File, help="Faults of the one recording given: start,end,kind.")
@click.option("--time-column", default="time", show_default=True)
@click.option(
    "--grace-s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="An event this long after a fault's end is still the fault's.",
)
@click.option(
    "--trained-on",
    type=_File,
    multiple=True,
    help="A recording that the bundle was trained on. Give all of them: the figures of their test"
    " part are compared with those in the bundle.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def evaluate(
    bundle: Path,
    recordings: tuple[Path, ...],
    labels: Path | None,
    time_column: str,
    grace_s: float,
    trained_on: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Score RECORDINGS (CSV) with a sealed BUNDLE and compare its events with labels.

    Labels lie beside X.csv as X.labels.csv; a recording without them is taken to be free of
    faults. With --trained-on it also shows that the figures in the bundle are the bundle's own;
    the exit code is 1 where they are not.
    """
    from trainer import evaluate as evaluation

    if not recordings and not trained_on:
        raise click.UsageError("give RECORDINGS, or --trained-on, or both")
    if labels is not None and len(recordings) != 1:
        raise click.UsageError("--labels goes with one recording")
    metrics = evaluation.evaluate(bundle, recordings, labels, time_column, grace_s, trained_on)
    if as_json:
        say_json(metrics)
    else:
        _print_metrics(metrics)
    return 0 if metrics.get("as_sealed", True) else 1


@commands.command()
@click.argument("key", type=_File)
def keygen(key: Path) -> int:
    """Make a key pair to sign bundles with: KEY stays secret, KEY.pub goes to the gateways."""
    from models import signing

    say(f"{key} (secret), {signing.new_key(key)} (for gateways)")
    return 0


@commands.command()
@click.argument("bundle", type=_File)
@click.option("--key", type=_File, required=True, help="The secret key that keygen made.")
def sign(bundle: Path, key: Path) -> int:
    """Sign a sealed BUNDLE in place; its digest stays as it is."""
    from models import bundle as bundles
    from models import signing

    read = bundles.read(bundle)
    comment = f"{read.manifest.name} version {read.manifest.version}"
    signature = signing.sign(read.manifest_bytes, key, comment)
    bundles.write_signed(bundle, read, signature)
    say(f"{bundle}: signed, {comment}, digest {read.digest}")
    return 0


@commands.group()
def benchmark() -> None:
    """Train and judge the detectors on public recordings, beside simple ones."""


def _benchmark_options(command: Callable[..., int]) -> Callable[..., int]:
    options = (
        click.option("--data", type=_Directory, required=True, help="The data set, as downloaded."),
        click.option("--channels", help="Only these, e.g. A-1,P-2.  [default: all]"),
        click.option("--config", type=_File, help="Instead of the configuration that ships."),
        click.option(
            "--jobs",
            type=click.IntRange(min=1),
            default=os.cpu_count() or 1,
            help="Channels at a time.  [default: as many as processors]",
        ),
        click.option(
            "--work",
            type=_Directory,
            help="Where finished channels are kept.  [default: ./fieldwatch-benchmark-NAME]",
        ),
        click.option("--json", "json_path", type=_File, help="Write all figures there."),
        click.option("--report", type=_File, help="HTML.  [default: report.html in --work]"),
        click.option(
            "--tflite-python",
            type=_File,
            envvar="FIELDWATCH_TFLITE_PYTHON",
            help="A Python that has tflite-runtime, to choose the quantization on it too.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@benchmark.command()
@_benchmark_options
def nasa(**options: Any) -> int:
    """NASA's telemetry of SMAP and MSL, as published with Telemanom.

    A run that was interrupted goes on where it stopped.
    """
    return _benchmark("nasa", **options)


@benchmark.command()
@_benchmark_options
def skab(**options: Any) -> int:
    """The Skoltech Anomaly Benchmark; its channels are files, e.g. valve1/0.

    A run that was interrupted goes on where it stopped.
    """
    return _benchmark("skab", **options)


@benchmark.command()
@click.option("--data", type=_File, required=True, help="ETTh1.csv, or another of its layout.")
@click.option(
    "--horizons", default="96,192,336,720", show_default=True, help="Steps, one network each."
)
@click.option("--config", type=_File, help="Instead of the configuration that ships.")
@click.option("--seed", type=click.IntRange(0), help="Instead of the configuration's.")
@click.option("--json", "json_path", type=_File, help="Write all figures there.")
@click.option(
    "--report", type=_File, default="fieldwatch-benchmark-ett.html", show_default=True, help="HTML."
)
@click.option(
    "--tflite-python",
    type=_File,
    envvar="FIELDWATCH_TFLITE_PYTHON",
    help="A Python that has tflite-runtime, to choose the quantization on it too.",
)
def ett(
    data: Path,
    horizons: str,
    config: Path | None,
    seed: int | None,
    json_path: Path | None,
    report: Path,
    tflite_python: Path | None,
) -> int:
    """Electricity-transformer temperature: forecasts and their intervals."""
    from trainer.benchmark import forecast_report, forecasting
    from trainer.datasets import ett as files

    wanted = _whole_numbers("--horizons", horizons)
    settings, digest = forecasting.read_config(config, seed)
    run = forecasting.EttBenchmark(files.read(data), settings, digest)
    outcomes = []
    for outcome in run.run(wanted, tflite_python, lambda line: say(line, error=True)):
        outcomes.append(outcome)
        for line in forecasting.table([outcome]):
            say(line)
    document = run.document(outcomes)
    forecast_report.write(document, outcomes, run.channels, report)
    if json_path is not None:
        json_path.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text!r}: whole numbers with commas between") from None


def _benchmark(
    name: str,
    data: Path,
    channels: str | None,
    config: Path | None,
    jobs: int,
    work: Path | None,
    json_path: Path | None,
    report: Path | None,
    tflite_python: Path | None,
) -> int:
    from trainer.benchmark import report as page
    from trainer.benchmark import runs, tables
    from trainer.benchmark.cases import BENCHMARKS
    from trainer.benchmark.counts import vus_pr_missing
    from trainer.benchmark.outcome import WorkDirectory

    if missing := vus_pr_missing():
        say(missing, error=True)
    chosen, kept = BENCHMARKS[name], WorkDirectory(work or Path(f"fieldwatch-benchmark-{name}"))
    names = chosen.chosen(data, channels.split(",") if channels else [])
    run = runs.plan(chosen, data, names, chosen.settings(config), kept, tflite_python)
    if run.outcomes:
        say(f"from {kept.path}, unchanged: {', '.join(run.outcomes)}", error=True)
    _show_progress(run, jobs)
    document = run.document()
    page.write(document, run.in_order(), kept, report or kept.path / "report.html")
    if json_path is not None:
        json_path.write_text(json.dumps(document, indent=2) + "\n")
    for line in tables.lines(document):
        say(line)
    for failed, message in run.failed.items():
        say(f"fieldwatch-trainer: {failed} failed: {message}", error=True)
    return 1 if run.failed else 0


def _show_progress(run: Run, jobs: int) -> None:
    """Do the run's channels: a bar for people, a line for each channel elsewhere."""
    show = _show_bar if sys.stderr.isatty() else _show_lines
    try:
        with contextlib.closing(run.go_on(jobs)) as ends:
            show(ends, len(run.tasks))
    except KeyboardInterrupt:
        say(f"stopped; what is done is kept in {run.work.path}: run it again", error=True)
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


def _show_lines(ends: Iterator[Finished], total: int) -> None:
    for number, finished in enumerate(ends, 1):
        say(f"{number}/{total} {finished.name}: {finished.error or 'done'}", error=True)


def _print_metrics(metrics: dict[str, Any]) -> None:
    say(f"{'recording':24}{'hours':>8}{'faults':>8}{'found':>7}{'false':>7}{'highest':>9}")
    for row in metrics["recordings"]:
        say(
            f"{row['name']:24}{row['hours']:8.2f}{row['faults']:8}{row['found']:7}"
            f"{row['false_events']:7}{row['score_max']:9.2f}"
        )
    labelled = metrics["labelled"]
    for kind, row in labelled["kinds"].items():
        delay = row["delay_s_median"]
        late = "" if delay is None else f", after {delay:.1f} s (median)"
        say(f"{kind}: {row['found']} of {row['labels']} found{late}")
    for name in ("precision", "recall", "f1"):
        if labelled[name] is not None:
            say(f"{name} {labelled[name]:.3f}")
    if "as_sealed" in metrics:
        same = "the same figures as" if metrics["as_sealed"] else "OTHER FIGURES than"
        say(f"test part: {same} in the bundle (evaluated as {metrics['evaluated_digest']})")
