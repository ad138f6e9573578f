"""The commands ``backup``, ``restore``, ``support`` and ``rollback``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from agent.commands.options import config_option, json_option
from models.console import say, say_json

_UMASK = (
    0o027  # as the unit's, whatever that of the person is: the agent's group reads what it stores
)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_FILE, required=False)
@config_option
@click.option(
    "--with-secrets",
    is_flag=True,
    help="Include passwords, keys, tokens and the users of the page. Keep the archive like a key.",
)
@json_option
def backup(file: Path | None, config_file: Path, with_secrets: bool, as_json: bool) -> int:
    """Write configuration, databases and bundles to one archive, also while the agent runs.

    FILE is the archive.  [default: fieldwatch-GATEWAY-TIME.tar.gz in this directory]

    Without --with-secrets, the archive has no secrets, and the command names what it leaves out.
    """
    from agent.rescue import backup as backups

    path = file or Path(backups.default_name(config_file))
    manifest = backups.backup(config_file, path, with_secrets)
    if as_json:
        say_json({"file": str(path), **manifest})
        return 0
    for line in backups.lines(path, manifest):
        say(line)
    return 0


@click.command()
@click.argument("file", type=_FILE, required=False)
@config_option
@click.option("--dry-run", is_flag=True, help="Only check the archive, and show the changes.")
@click.option("--yes", is_flag=True, help="Do not ask before the files are replaced.")
@click.option(
    "--complete", is_flag=True, help="Complete a restore that a power cut interrupted; no FILE."
)
@json_option
def restore(
    file: Path | None, config_file: Path, dry_run: bool, yes: bool, complete: bool, as_json: bool
) -> int:
    """Put a backup in place: all of it, or nothing. The agent must not run.

    The archive is read completely first. What was there before is kept, with another name.
    """
    from agent.rescue import interrupted
    from agent.rescue import restore as restores

    os.umask(_UMASK)

    if (file is None) != complete:
        raise click.UsageError("give the archive FILE, or --complete")
    if file is None:
        done = interrupted.complete(config_file)
        say("the restore is complete" if done else "no restore was interrupted")
        return 0
    wanted = restores.plan(file, config_file)
    if not as_json:
        for line in restores.lines(file, wanted):
            say(line)
    if not dry_run:
        restores.refuse_running(wanted.store)
        _ask(yes)
    outcome = None if dry_run else restores.restore(file, wanted, config_file)
    if as_json:
        say_json(restores.document(wanted, outcome))
    elif outcome is not None:
        for line in restores.done(outcome):
            say(line)
    return 0


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked: add --yes, or --dry-run")
    click.confirm("Replace these files?", abort=True, err=True)


@click.command()
@click.argument("file", type=_FILE, required=False)
@config_option
@json_option
def support(file: Path | None, config_file: Path, as_json: bool) -> int:
    """Write an archive for a bug report, without passwords, keys, tokens and hashes.

    FILE is the archive.  [default: fieldwatch-support-GATEWAY-TIME.tar.gz in this directory]

    It has the configuration, the state, recent alarms with their notes, and the last lines of the
    journal. Read it before you send it: names of machines and people stay in it.
    """
    from agent.rescue import support as supports
    from agent.rescue.backup import default_name

    path = file or Path(default_name(config_file, "support-"))
    manifest = supports.support(config_file, path)
    if as_json:
        say_json({"file": str(path), **manifest})
        return 0
    for line in supports.lines(path, manifest):
        say(line)
    return 0


@click.command()
@config_option
@click.option(
    "--environment",
    type=click.Path(path_type=Path),
    default=Path("/opt/fieldwatch"),
    show_default=True,
    help="The link to the environment that runs; the former one is behind ENVIRONMENT.previous.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@json_option
def rollback(config_file: Path, environment: Path, dry_run: bool, as_json: bool) -> int:
    """Go back to the environment and the databases from before the last upgrade.

    The agent must not run. The newer databases are kept aside, and their rows are imported where
    the former version can read them. systemd does this by itself if the agent fails to start
    after an upgrade.
    """
    from agent.rescue import rollback as rollbacks

    os.umask(_UMASK)
    outcome = rollbacks.rollback(config_file, environment, dry_run)
    if as_json:
        say_json(outcome._asdict())
        return 0
    for line in rollbacks.lines(outcome):
        say(line)
    return 0
