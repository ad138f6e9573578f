"""The command ``fieldwatch-agent``: reads arguments, calls the code that does the work, prints.

Each command imports its modules when it runs, so that ``status`` and ``alarms`` start at once on a
small gateway. Exit codes: 0 done, 1 failure at run time, 2 wrong usage, 3 done, but no agent
watches, 65 bundle or data refused, 69 something is missing, such as a running agent, 70 a defect,
74 database, 75 try again, 77 not allowed, 78 configuration, 130 interrupted. With ``--json`` an
error is a document, too.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from agent.commands.alarms.commands import alarms
from agent.commands.command import command
from agent.commands.labels import labels
from agent.commands.options import (
    broker_options,
    config_option,
    interpreter_option,
    json_option,
)
from agent.commands.probe.commands import probe
from agent.page.commands import page
from agent.rescue.commands import backup, restore, rollback, support
from agent.setup.commands import setup
from models import __version__, console
from models.console import Colored, say, say_error, say_json, say_lines
from models.errors import DataError, FieldwatchError
from models.keys import ROLES
from models.options import Number, layout_options, time_column_options
from models.printable import json_text
from models.shown import shown

if TYPE_CHECKING:
    from agent.collector.reading import Message
    from agent.commands.check import Setting
    from models.formats.recording import Layout

# a copy of agent.inputs.plant's, so that --help does not load numpy; a test compares both
FAULTS = (
    "bearing_wear",
    "cavitation",
    "seal_leak",
    "blocked_valve",
    "stuck_sensor",
    "spike",
    "loss_of_signal",
    "cooling_loss",
)
_PRIVATE = 0o027  # bits removed from a file's mode
INTERRUPTED = 130  # as in a shell: 128 + SIGINT

_FILE = click.Path(path_type=Path)
_MARKS = {
    "ok": Colored("ok  ", "green"),
    "warn": Colored("WARN", "yellow"),
    "unknown": Colored("?   ", "yellow"),
}


def main() -> NoReturn:
    """Run the command line; print an expected error as one line, and exit with its code."""
    console.begin()
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
        say_error("fieldwatch-agent", str(error))
        _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader, such as head or less, has ended
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str, exit_code: int) -> NoReturn:
    """End a command; search for --json here, because the arguments may not have been parsed."""
    console.fail(message, exit_code, "--json" in sys.argv)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fieldwatch-agent")
def commands() -> None:
    """Score sensor streams on the gateway, store them in SQLite, and send them over MQTT."""


@commands.command()
@config_option
@click.option("-v", "--verbose", is_flag=True, help="Log debug messages, whatever log.level is.")
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
def run(config_file: Path, verbose: bool, quiet: bool) -> int:
    """Run the agent until SIGTERM. systemd starts this command."""
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    if verbose or quiet:  # a variable overrides all files, also at each reload
        os.environ["FIELDWATCH_LOG__LEVEL"] = "debug" if verbose else "warning"
    _keep_private()
    from agent import memory

    memory.begin()
    from agent.rescue.interrupted import complete

    complete(config_file)
    from agent.config.checker import Checker

    checker = Checker()
    checker.start()  # it loads its modules while this process loads its own
    from agent import daemon

    return daemon.run(config_file, checker)


commands.add_command(probe)


@commands.command()
@config_option
@click.option(
    "--origins", is_flag=True, help="Only show each setting in effect, and where it was set."
)
@click.option(
    "--as-other",
    metavar="USER",
    help="Another user of the broker. Test that this user can neither receive this gateway's"
    " messages nor send messages in its name.",
)
@click.option("--other-password-file", type=_FILE, help="File with that user's password.")
@click.option("--other-cert-file", type=_FILE, help="That user's certificate (PEM), if it has one.")
@click.option(
    "--other-key-file",
    type=_FILE,
    help="That certificate's key (PEM), if it is not in the same file.",
)
@json_option
def check(config_file: Path, origins: bool, as_json: bool, **other: Any) -> int:
    """Check configuration, bundles, ports, store, secrets and broker; say what to fix.

    The agent reads the configuration file, then conf.d/*.toml beside it in the order of their
    names, then variables such as FIELDWATCH_MQTT__PORT. Later settings override earlier ones.
    """
    from agent.commands import check as checks

    if origins:
        _print_settings(checks.settings(config_file), as_json)
        return 0
    access = checks.Access(
        other["as_other"],
        other["other_password_file"],
        other["other_cert_file"],
        other["other_key_file"],
    )
    findings = checks.check(config_file, access if any(access) else None)
    if as_json:
        say_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            mark = _MARKS[finding.mark] if finding.ok else Colored("FAIL", "red")
            first, *more = finding.detail.split("\n")
            say(mark, f"  {finding.what}: {first}")
            for line in more:
                say(f"      {line}")
    return next((finding.exit_code for finding in findings if not finding.ok), 0)


@commands.command()
@click.option("--markdown", is_flag=True, help="Print a reference in Markdown instead.")
def schema(markdown: bool) -> int:
    """Print the JSON schema of the configuration, for editors."""
    from agent.config import reference

    if markdown:
        for line in reference.markdown():
            say(line)
    else:
        say_json(reference.schema())
    return 0


@commands.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--bundle",
    "bundle_file",
    type=click.Path(path_type=Path),
    required=True,
    help="The bundle to score with.",
)
@interpreter_option
@time_column_options
@layout_options
@click.option(
    "--limits",
    "limits_file",
    type=click.Path(path_type=Path),
    help="Also check the limits of a stream in this configuration (agent.toml).",
)
@click.option("--stream", help="The stream of --limits; not needed if there is only one.")
@json_option
def replay(
    recording: Path,
    bundle_file: Path,
    interpreter: Any,
    time_column: str | None,
    clock_column: str | None,
    layout: Layout,
    limits_file: Path | None,
    stream: str | None,
    as_json: bool,
) -> int:
    """Score a recording (CSV with a header) at full speed; print the events.

    If no sample gets a score, the command fails and says why.
    """
    from agent.commands.replay import replay as replay_recording
    from agent.config import load as configuration

    if stream is not None and limits_file is None:
        raise click.UsageError("--stream needs --limits: it names a stream of that configuration")
    guarded = None if limits_file is None else configuration.load(limits_file).stream(stream)
    outcome = replay_recording(
        *(recording, bundle_file, interpreter, layout, guarded, time_column, clock_column)
    )
    if as_json:
        say_json(outcome)
        return 0
    for event in outcome["events"]:
        say(_alarm_line(event))
    say(
        f"{outcome['samples']} samples, {outcome['scored']} scored,"
        f" {len(outcome['events'])} events opened or closed,"
        f" {outcome['samples_per_s']:.0f} samples/s"
    )
    if outcome["rejected"]:
        say(f"rejected: {_counts(outcome['rejected'])}")
    if outcome["absent"]:
        absent = ", ".join(outcome["absent"])
        say(Colored("warning: ", "yellow"), f"the recording has no column for {absent}")
    return 0


commands.add_command(alarms)
commands.add_command(command)
commands.add_command(labels)
commands.add_command(page)
commands.add_command(setup)
for _rescue in (backup, restore, support, rollback):
    commands.add_command(_rescue)


@commands.command()
@config_option
@click.option("--prometheus", is_flag=True, help="Print Prometheus text.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write the Prometheus text to this file, for node-exporter's textfile collector.",
)
@json_option
def status(config_file: Path, prometheus: bool, output: Path | None, as_json: bool) -> int:
    """Show the agent's state: inputs, streams, alarms, link, counters.

    If no agent watches, the command says since when, and ends with exit code 3. With --prometheus,
    it sets the metric fieldwatch_up to 0 instead.
    """
    if output is not None and not prometheus:
        raise click.UsageError("--output needs --prometheus")
    from agent.commands.life import life
    from agent.config.location import store_directory
    from agent.health.status import describe
    from agent.store.reader import Reader

    with Reader(store_directory(config_file)) as reader:
        document = reader.status()
        found = life(reader)
    if prometheus:
        _give_metrics(document, found.watching, output)
        return 0
    document["agent"] = found._asdict()
    _tell(document, as_json, lambda document: describe(document, found.told()))
    return found.exit_code


@commands.command()
@config_option
@json_option
def state(config_file: Path, as_json: bool) -> int:
    """Show the running agent's present state; `status` shows the state that it stored last."""
    from agent.commands.running import ask_running
    from agent.control.client import NoAgent
    from agent.health.status import describe

    try:
        document = ask_running(config_file, "state")
    except NoAgent as error:
        raise NoAgent(f"{error}\n{_last_sign(config_file)}") from error
    _tell(document, as_json, describe)
    return 0


@commands.command()
@config_option
def flush(config_file: Path) -> int:
    """Make the running agent write everything that has arrived to the disk, and wait for it.

    Use this before you switch the power off.
    """
    from agent.commands.running import ask_running

    ask_running(config_file, "flush")
    say("stored: everything that had arrived is on the disk")
    return 0


@commands.command()
@config_option
def reload(config_file: Path) -> int:
    """Make the running agent read its configuration again; print the changes."""
    from agent.commands.running import ask_running

    outcome = ask_running(config_file, "reload")
    mended = outcome.get("mended", ())  # an agent older than this command does not return it
    if outcome["changed"] or not (outcome["exchanged"] or mended):
        say(f"changed: {', '.join(outcome['changed']) or 'nothing'}")
    for stream, detector in outcome["exchanged"].items():
        say(
            f"bundle of stream {stream}: now {detector['bundle']}"
            f" (digest {detector['bundle_digest']})"
        )
    for stream in mended:
        say(f"stream {stream}: its bundle is valid; the stream continues with it")
    if outcome["needs_restart"]:
        say(f"needs a restart: {'; '.join(outcome['needs_restart'])}")
    for stream, why in outcome["still_refused"].items():
        say(f"stream {stream}: bundle still refused: {why}")
    return 0


@commands.command()
@config_option
@click.option("--stream", required=True, help="The stream's name.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="CHANNEL=VALUE",
    help="Assume that the channel's last steps had this value. CHANNEL+=VALUE adds to them.",
)
@click.option(
    "--plan",
    "plans",
    multiple=True,
    metavar="CHANNEL=VALUE",
    help="Assume that the channel, such as a set point, has this value from now on; the others"
    " follow. CHANNEL+=VALUE adds to its forecast, or to the present value of a command.",
)
@click.option(
    "--hold",
    type=click.IntRange(1),
    metavar="STEPS",
    help="How many of the last steps --set changes.  [default: one patch of the network]",
)
@click.option(
    "--horizon",
    type=click.IntRange(1),
    metavar="STEPS",
    help="How many steps to forecast.  [default: as trained]",
)
@click.option(
    "--recursive",
    is_flag=True,
    help="Forecast beyond the trained horizon, from the forecast itself; this is less certain.",
)
@click.option(
    "--rivals",
    "compare",
    is_flag=True,
    help="Compare the forecast with the previous bundle, the last value and the season instead: how"
    " far each was off in the stored past.",
)
@json_option
def forecast(
    config_file: Path,
    stream: str,
    settings: tuple[str, ...],
    plans: tuple[str, ...],
    hold: int | None,
    horizon: int | None,
    recursive: bool,
    compare: bool,
    as_json: bool,
) -> int:
    """Forecast a stream from its stored history, or what if (--set, --plan).

    --set changes the stored history, --plan the future of a channel that people set.

    If no agent watches, the command says since when, and ends with exit code 3.
    """
    from agent.commands import forecast as forecasts
    from agent.commands.forecast_text import describe

    if compare:
        if settings or plans or hold or horizon or recursive:
            raise click.UsageError("--rivals goes with --stream, --config and --json only")
        return _rivals(config_file, stream, as_json)
    given = {}
    for option, texts in (("--set", settings), ("--plan", plans)):
        try:
            given[option] = [forecasts.parse_setting(text) for text in texts]
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=option) from error
    document = forecasts.forecast(
        config_file, stream, given["--set"], hold, horizon, recursive, given["--plan"]
    )
    _tell(document, as_json, describe)
    return _end(document, as_json)


def _rivals(config_file: Path, stream: str, as_json: bool) -> int:
    from agent.commands.rivals import rivals
    from agent.commands.rivals_text import describe

    document = rivals(config_file, stream)
    _tell(document, as_json, describe)
    return _end(document, as_json)


@commands.command()
@config_option
@click.option("--stream", required=True, help="The stream's name.")
@click.option(
    "--from", "from_text", metavar="TIME", help="Begin, such as 2026-11-29T08:00:00Z or -3h."
)
@click.option("--to", "to_text", metavar="TIME", help="End, in the same form.  [default: now]")
@click.option(
    "--hours",
    type=Number(0, min_open=True),
    default=24.0,
    show_default=True,
    help="Hours before the end, if there is no --from.",
)
@click.option(
    "--points",
    type=click.IntRange(1, 10_000),
    default=80,
    show_default=True,
    help="Largest number of points.",
)
@click.option("--channel", "channels", multiple=True, help="Only this channel; may be repeated.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
@json_option
def history(
    config_file: Path,
    stream: str,
    from_text: str | None,
    to_text: str | None,
    hours: float,
    points: int,
    channels: tuple[str, ...],
    as_csv: bool,
    as_json: bool,
) -> int:
    """Show a stream's history: minimum, mean and maximum of each channel, and the worst score.

    One channel is shown as a table, several as a chart with a line each. The agent need not run. If
    no agent watches, the command says since when. If the range reaches beyond that time, it ends
    with exit code 3.
    """
    from agent.commands import history as histories

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    try:
        from_s, to_s = histories.time_range(from_text, to_text, hours)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from, --to, --hours") from error
    document = histories.history(config_file, stream, from_s, to_s, points, channels)
    if as_json:
        say_json(document)
    elif as_csv:
        say_lines(histories.as_csv(document))
    else:
        for line in histories.describe(document, console.has_blocks()):
            say(line)
    return _end(document, as_json, to_s, as_csv)


@commands.command()
@config_option
@click.option("--stream", required=True, help="The stream's name.")
@click.option(
    "--from",
    "from_text",
    metavar="TIME",
    help="Begin, such as 2026-11-29T08:00:00Z or -3h.  [default: the oldest sample]",
)
@click.option("--to", "to_text", metavar="TIME", help="End, in the same form.  [default: now]")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(
    config_file: Path, stream: str, from_text: str | None, to_text: str | None, file: Path
) -> int:
    """Write a stream's stored samples to FILE (CSV, or .csv.gz), for fieldwatch-trainer.

    A value that was not measured is an empty cell; its quality says how the gateway filled it. The
    agent need not run, and may run. FILE is replaced when it is complete.
    """
    from agent.commands import export as exports

    try:
        made = exports.export(config_file, stream, from_text, to_text, file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from, --to") from error
    say(made.told())
    return 0


@commands.command()
@config_option
@click.option("--stream", "streams", multiple=True, help="Only this stream; may be repeated.")
@json_option
def values(config_file: Path, streams: tuple[str, ...], as_json: bool) -> int:
    """Show the newest measured value of each channel, its age, and each stream's score.

    "now held" means that the newest sample has no measured value of the channel. If no agent
    watches, the command says since when, and ends with exit code 3.
    """
    from agent.commands.values import describe
    from agent.commands.values import values as newest

    document = newest(config_file, streams)
    _tell(document, as_json, describe)
    return _end(document, as_json)


@commands.command("allow-downgrade")
@click.argument("name")
@click.option(
    "--to",
    "version",
    type=click.IntRange(1),
    required=True,
    help="The lowest version that may run.",
)
@config_option
def allow_downgrade(name: str, version: int, config_file: Path) -> int:
    """Let an older version of the bundle NAME run again; the agent may be stopped.

    If the agent checks signatures, it refuses a bundle older than one of the same name that has
    run. Call this as a user who may write to the store, such as the agent's user.
    """
    from agent.bundles import ledger
    from agent.config.location import store_directory

    before = ledger.allow_downgrade(store_directory(config_file), name, version)
    say(f"{name}: versions from {version} on may run again; before, the lowest was {before}")
    return 0


@commands.group()
def bundle() -> None:
    """Inspect and verify bundles."""


@bundle.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def inspect(file: Path, as_json: bool) -> int:
    """Show the contents of a bundle: channels, grid, thresholds, lineage, metrics."""
    from models import bundle as bundles
    from models import signing

    read = bundles.read(file)
    signer = signing.signer_of(read)
    manifest = read.manifest.model_dump(mode="json")
    if as_json:
        signed = {"signed": signer is not None, "signer": signer and signer._asdict()}
        evaluated = {"evaluated_digest": read.evaluated_digest, "evaluated": read.evaluated}
        say_json({"digest": read.digest} | signed | evaluated | manifest)
        return 0
    say(f"digest         {read.digest}")
    told = "the file that was evaluated" if read.evaluated else "not named in its metrics"
    say(f"evaluated      {read.evaluated_digest}: {told}")
    say(f"signed         {f'by {signer}; verify --keys checks it' if signer else 'no'}")
    long = {name: manifest.pop(name) for name in ("lineage", "metrics", "files")}
    _print_tree(manifest | long)  # these last
    return 0


@bundle.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--keys", type=click.Path(path_type=Path), help="Directory of trusted *.pub keys.")
@click.option(
    "--require-signature/--allow-unsigned",
    default=None,
    help="Refuse or allow a bundle without a signature.  [default: refuse it if --keys is given]",
)
@interpreter_option
def verify(file: Path, keys: Path | None, require_signature: bool | None, interpreter: Any) -> int:
    """Check a bundle as the gateway does before using it: signature, digests, known answers.

    The network is first tried in another process. This command does not check for a downgrade,
    because only a gateway knows which versions it has run.
    """
    from agent.bundles.load import load
    from agent.bundles.trial import try_out
    from agent.bundles.trust import told
    from agent.bundles.verdict import objection

    if require_signature and keys is None:
        raise click.UsageError("--require-signature needs --keys")
    loaded, pipeline = load(
        *(file, interpreter, keys, require_signature is not False),
        approve=lambda bundle: try_out(bundle, interpreter),
    )
    manifest = loaded.manifest
    say(f"{file}: good on {pipeline.runtime}")
    say(f"  {manifest.name} version {manifest.version}, digest {loaded.digest}")
    say(f"  {told(loaded, keys)}")
    if (said := objection(manifest.metrics)) is not None:
        say(Colored("  warning: ", "yellow"), said)
    return 0


@commands.group()
def keys() -> None:
    """Create, list and revoke the keys that sign bundles, messages and commands."""


_keys_option = click.option(
    "--keys",
    "directory",
    type=click.Path(path_type=Path),
    help="Directory of the public keys.  [default: keys.directory of the configuration]",
)


@keys.command()
@click.argument("role", type=click.Choice(ROLES))
@click.argument("key", type=click.Path(path_type=Path))
@click.option(
    "--name", default="", help="SITE/NAME for a gateway key; any name for the other roles."
)
def new(role: Any, key: Path, name: str) -> int:
    """Create a key pair. Keep the file KEY secret; copy KEY.pub to all who must trust it.

    A bundle key signs bundles. A collector key signs a collector's messages to gateways. A gateway
    key signs that gateway's messages. An operate key signs an operator's commands.
    """
    from models.keys import new_key

    public = new_key(key, role, name)
    say(f"{key} is secret: keep it here. Copy {public} to all who must trust it")
    return 0


@keys.command("list")
@config_option
@_keys_option
@json_option
def list_keys(config_file: Path, directory: Path | None, as_json: bool) -> int:
    """List the trusted keys: role, id, name, file, and the reason if a key is revoked."""
    from agent.commands import keys as key_commands

    document = key_commands.listed(key_commands.directory(config_file, directory))
    _tell(document, as_json, key_commands.describe)
    return 0


@keys.command()
@click.argument("key_id")
@click.option("--why", required=True, help="The reason, for people.")
@config_option
@_keys_option
def revoke(key_id: str, why: str, config_file: Path, directory: Path | None) -> int:
    """Revoke the key KEY_ID: add it to the file revoked in the directory of keys."""
    from agent.commands import keys as key_commands

    place = key_commands.directory(config_file, directory)
    say(key_commands.revoke(place, key_id, why))
    return 0


@commands.command()
@click.option(
    "--seconds",
    type=click.IntRange(20),  # the network warms up for ten, and then the fault begins
    default=60,
    show_default=True,
    help="How long the pump runs after the agent has started.",
)
@click.option(
    "--fault",
    type=click.Choice(FAULTS),
    default="cavitation",
    show_default=True,
    help="The fault to inject halfway. cooling_loss is a slow drift, so the pump runs faster.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the simulated pump.")
@click.option("--page", is_flag=True, help="Leave agent, pump and web page running until Ctrl-C.")
@json_option
def demo(seconds: int, fault: Any, seed: int, page: bool, as_json: bool) -> int:
    """Show the agent at work on a simulated pump: serial line, scores, alarm, SQLite, MQTT, page.

    The demo fails if the fault raises no alarm. bearing_wear and seal_leak grow slowly, and need
    some minutes (--seconds).
    """
    from agent.demo.run import check_found, run_demo

    if page and as_json:
        raise click.UsageError("--page and --json exclude each other")
    outcome = run_demo(seconds, fault, seed, show=not as_json, stay=page)
    if as_json:
        say_json(outcome)
    check_found(outcome)
    return 0


@commands.command()
@click.option(
    "--streams", type=click.IntRange(1), default=64, show_default=True, help="Number of streams."
)
@click.option(
    "--channels", type=click.IntRange(1), default=8, show_default=True, help="Channels per stream."
)
@click.option(
    "--rate",
    type=Number(0),
    default=0.0,
    show_default=True,
    help="Lines per second and stream; 0 means as fast as possible.",
)
@click.option(
    "--seconds",
    type=Number(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Duration of each of three runs.",
)
@click.option("--layers", default="80,80", show_default=True, help="LSTM cells of each layer.")
@json_option
def bench(
    streams: int, channels: int, rate: float, seconds: float, layers: str, as_json: bool
) -> int:
    """Measure the time per reading on this machine, by stage, and that of the bare libraries."""
    from agent.bench.report import table
    from agent.bench.run import bench as measure

    try:
        cells = [int(number) for number in layers.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            "give numbers separated by commas", param_hint="--layers"
        ) from error
    document = measure(streams, channels, rate, seconds, cells)
    _tell(document, as_json, table)
    return 0


@commands.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, readable=False))
@click.option(
    "--site", required=True, help="The gateways' site: gateway.site of their configuration."
)
@broker_options("The collector's")
@click.option(
    "--keys", type=click.Path(path_type=Path), help="Directory of the gateways' public keys."
)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="The collector's secret key, which signs its messages to the gateways.",
)
@click.option(
    "--require-signatures",
    is_flag=True,
    help="Refuse messages of gateways without a key in --keys. Gateways with a key must always"
    " sign.",
)
@click.option(
    "--days-max",
    type=Number(0, min_open=True),
    help="Delete messages older than this many days.",
)
@click.option(
    "--bytes-max",
    type=click.IntRange(2**20),
    default=10 * 2**30,
    help="Largest size of the database, without its log (8 MB). Above it, the oldest messages are"
    " deleted.  [default: 10 GiB]",
)
@click.option(
    "--samples",
    is_flag=True,
    help="Also collect the samples of gateways with mqtt.samples.enabled, as Parquet files in"
    " DIRECTORY/samples; needs the extra ingest.",
)
@click.option(
    "--samples-days-max",
    type=Number(0, min_open=True),
    help="Delete samples of days before this many.",
)
@click.option(
    "--samples-bytes-max",
    type=click.IntRange(2**20),
    default=50 * 2**30,
    help="Largest size of all files with samples. Above it, the oldest days are deleted."
    "  [default: 50 GiB]",
)
@json_option
def collect(
    directory: Path,
    site: str,
    days_max: float | None,
    bytes_max: int,
    keys: Path | None,
    key: Path | None,
    require_signatures: bool,
    samples: bool,
    samples_days_max: float | None,
    samples_bytes_max: int,
    as_json: bool,
    **broker: Any,
) -> int:
    """Store and acknowledge the messages of a site's gateways until SIGTERM; for central ops.

    DIRECTORY/collected.db gets each message once. Gateways with mqtt.acknowledgement = "central"
    delete a message only after that. With --json, the command also prints each new message.
    """
    from agent.collector.retention import Keeping
    from agent.collector.run import document, run
    from agent.collector.tidying import Keeping as SamplesKeeping
    from agent.commands.secrecy import readers

    def tell(message: Message) -> None:
        if as_json:
            say_json(document(message), indent=None)

    for file in (key, broker["password_file"], broker["tls_key_file"]):
        if file and (told := readers(Path(file), frozenset({0, os.getegid()}))):
            say(f"WARNING {told}", error=True)
    _keep_private()
    keeping = Keeping(days_max, bytes_max)
    kept = SamplesKeeping(samples_days_max, samples_bytes_max) if samples else None
    run(site, directory, broker, tell, keeping, keys, key, require_signatures, kept)
    return 0


@commands.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, readable=False))
@click.option(
    "--cause", help="Only quarantine entries with this cause: conflict, disagrees, unreadable, …"
)
@click.option(
    "--entries",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Print at most this many quarantine entries, the newest ones.",
)
@json_option
def collected(directory: Path, cause: str | None, entries: int, as_json: bool) -> int:
    """Print a collector's messages per gateway, and the messages that it did not accept.

    A collector does not accept a message that no gateway would write, or whose number belongs to
    another message. It counts these by cause, and keeps the newest in the quarantine. If no
    collector runs, the command says so, and ends with exit code 3.
    """
    from agent.collector.overview import UnknownCause, lines, not_collecting, overview
    from agent.commands.life import NOT_WATCHING

    try:
        document = overview(directory, cause, entries)
    except UnknownCause as error:
        raise click.BadParameter(str(error), param_hint="--cause") from error
    _tell(document, as_json, lines)
    if (told := not_collecting(document)) is None:
        return 0
    if not as_json:
        say(Colored(told, "red"))
    return NOT_WATCHING


@commands.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--hours",
    type=Number(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Length of the recording.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the simulated pump.")
@click.option(
    "--faults",
    is_flag=True,
    help="Inject one fault of each kind. For X.csv, the labels are written to X.labels.csv.",
)
def simulate(output: Path, hours: float, seed: int, faults: bool) -> int:
    """Write a recording of the simulated pump as CSV, to try out training and replay."""
    from agent.inputs import plant

    try:
        rows = plant.simulate(output, hours, seed, plant.one_of_each(hours, seed) if faults else ())
    except OSError as error:
        raise DataError(f"{output}: cannot be written: {error.strerror}") from error
    say(f"{output}: {rows} samples")
    return 0


def _keep_private() -> None:
    """Let only our user and group read new files, regardless of the umask."""
    os.umask(os.umask(_PRIVATE) | _PRIVATE)


def _tell(
    document: Mapping[str, Any],
    as_json: bool,
    lines: Callable[[Mapping[str, Any]], Iterable[str]],
) -> None:
    """Print a document: as JSON for programs, or in lines for people."""
    if as_json:
        say_json(document)
        return
    for line in lines(document):
        say(line)


def _give_metrics(document: Mapping[str, Any], up: bool, output: Path | None) -> None:
    from agent.health import prometheus

    metrics = prometheus.text(document, up)
    if output is None:
        say_lines(metrics.removesuffix("\n"))
    else:
        prometheus.write(metrics, output)


def _print_settings(settings: Iterable[Setting], as_json: bool) -> None:
    if as_json:
        say_json([setting._asdict() for setting in settings])
        return
    for key, value, source in settings:
        say(f"{key} = {json_text(value)}  # {source}")


def _end(
    document: Mapping[str, Any], as_json: bool, to_s: float = math.inf, to_stderr: bool = False
) -> int:
    """Print a notice if no agent watched until ``to_s``; return the exit code."""
    from agent.commands.life import Life

    life = Life(**document["agent"])
    if life.covers(to_s):
        return 0
    if not as_json and (told := life.told()) is not None:
        say(Colored(told, "red"), error=to_stderr)
    return life.exit_code


def _last_sign(config_file: Path) -> str:
    """Describe the last sign of an agent that does not answer."""
    from agent.commands.life import life
    from agent.config.location import store_directory
    from agent.store.reader import Reader

    with Reader(store_directory(config_file)) as reader:
        found = life(reader)
    return found.told() or f"An agent runs without a socket; its last status: {found.last_sign}"


def _alarm_line(alarm: Mapping[str, Any]) -> str | Colored:
    from agent.alarms.document import describe
    from agent.alarms.lifecycle import OPENED

    text = describe(alarm)
    return Colored(text, "red") if alarm["state"] == OPENED else text


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in sorted(counts.items()))


def _print_tree(node: Mapping[str, Any], indent: int = 0) -> None:
    for key, value in node.items():
        if isinstance(value, Mapping):
            say(f"{' ' * indent}{key}")
            _print_tree(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            say(f"{' ' * indent}{key}")
            for item in value:
                say(" " * (indent + 2) + ", ".join(f"{k} {_leaf(v)}" for k, v in item.items()))
        else:
            say(f"{' ' * indent}{key:<{max(1, 14 - indent)}} {_leaf(value)}")


def _leaf(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_leaf, value))}]"
    return shown(value, ".7g") if isinstance(value, float) else str(value)
