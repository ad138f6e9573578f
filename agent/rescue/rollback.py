"""``fieldwatch-agent rollback``: back to the environment and the databases before an upgrade.

``/opt/fieldwatch`` is a link to the environment that runs, and ``/opt/fieldwatch.previous`` one to
the former environment. Whoever installs makes both links; nothing else here depends on the way of
installing. The databases go first: if the power is cut between the two, the new version starts
again, and fails again. Only then the link changes, at one moment.

The databases stay as they are if the former version can use them. Otherwise it gets the copy from
before the upgrade, with all rows of the newer databases that fit its tables. The newer databases
are kept.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent.config.location import store_directory
from agent.store.copies import (
    GOING_BACK,
    NAMES,
    begin_ring,
    carry_over,
    continue_numbers,
    copy_for,
    versions,
)
from agent.store.migrations import READINGS, RECORDS
from agent.store.obstacles import BESIDE
from agent.store.sqlite import LOCK, bytes_on_disk, errors_of, lock, snapshot
from agent.store.switch import Move, as_owner, finish, switch, unused
from models.errors import FieldwatchError, StoreError

PREVIOUS: Final = ".previous"
FAILED: Final = ".failed"
TRIAL: Final = ".trial"  # there while the environment is new; it counts failures
_STAGE: Final = "going-back"
_ASIDE: Final = "after-upgrade-"
_RESERVE_BYTES: Final = 2**24
_SECONDS_MAX: Final = 600
_FACTS: Final = (
    "import json; from agent.store.migrations import MIGRATIONS; from models import __version__;"
    " print(json.dumps([__version__, {name: len(each) for name, each in MIGRATIONS.items()}]))"
)


class NoWayBack(FieldwatchError):
    """There is no former environment, or it does not run."""

    exit_code = 69


class Outcome(NamedTuple):
    """What a rollback did, or would do; ready for JSON with ``_asdict``."""

    environment: str  # the former one, which runs from now on
    version: str  # of its software
    failed: str  # the environment that it replaces, which is kept
    databases: str  # kept, imported, copy, or new
    aside: str | None  # the newer databases, which are kept
    why_not_imported: str | None
    dry_run: bool


class _Former(NamedTuple):
    environment: Path
    version: str
    tables: Mapping[str, int]


def rollback(config_file: Path, link: Path, dry_run: bool = False) -> Outcome:
    """Go back; the agent does not run.

    Raises:
        ConfigError: the configuration does not say where the databases are.
        NoWayBack: there is no former environment, or it does not run.
        StoreError: an agent runs, or the databases cannot be changed.

    """
    former = _former(link)
    store = store_directory(config_file)
    try:
        with as_owner(store), errors_of(store):
            databases, aside, why = _databases_back(store, former, dry_run)
    except FileNotFoundError:  # no agent has run yet
        databases, aside, why = "kept", None, None
    failed = link.resolve()
    if not dry_run:
        _environment_back(link, former.environment)
    return Outcome(
        str(former.environment),
        former.version,
        str(failed),
        databases,
        None if aside is None else str(aside),
        why,
        dry_run,
    )


def _former(link: Path) -> _Former:
    previous = link.with_name(link.name + PREVIOUS)
    if not previous.exists():
        raise NoWayBack(
            f"{previous}: there is no former environment. Install the former version: its wheel,"
            " with scripts/install-gateway"
        )
    environment = previous.resolve()
    return _Former(environment, *json.loads(_run(environment, "-c", _FACTS)))


def _run(environment: Path, *words: str) -> str:
    """Run the Python of an environment; return what it prints."""
    python = environment / "bin" / "python"
    try:
        ended = subprocess.run(  # noqa: S603 - an environment that ran before
            [python, "-I", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS_MAX,
            cwd="/",
        )
    except OSError as error:
        raise NoWayBack(f"{python}: does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NoWayBack(f"{python}: does not end") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "it says nothing").splitlines()[-1]
        raise NoWayBack(f"{python}: fails: {last}") from error
    return ended.stdout


def _databases_back(
    store: Path, former: _Former, dry_run: bool
) -> tuple[str, Path | None, str | None]:
    """Give the former version databases that it can use; return how, and where the newer are."""
    with lock(store / LOCK):
        if not dry_run:
            finish(store / GOING_BACK)
        present = versions(store)
        if all(present[name] <= former.tables[name] for name in present):
            return "kept", None, None
        if dry_run:
            return ("copy" if copy_for(store, former.tables) else "new"), None, None
        stage = store / _STAGE
        how, why = _staged(store, stage, former)
        stamp = unused(lambda stamp: (store / f"{_ASIDE}{stamp}").exists())
        aside = store / f"{_ASIDE}{stamp}"
        aside.mkdir(mode=0o750)
        switch(store / GOING_BACK, [*_moves(store, stage, aside)])
        shutil.rmtree(stage)
    return how, aside, why


def _moves(store: Path, stage: Path, aside: Path) -> Iterator[Move]:
    for name in NAMES:
        for suffix in BESIDE:  # never the log of the old file beside the new one
            yield Move(None, store / (name + suffix), aside / (name + suffix))
        yield Move(stage / name, store / name, aside / name)


def _staged(store: Path, stage: Path, former: _Former) -> tuple[str, str | None]:
    """Make the databases for the former version; return how, and why there was no import."""
    how = _base(store, stage, former)
    try:
        _refuse_without_room(store)
        for name in NAMES:
            carry_over(stage / name, store / name)
        _prepare(stage, former)  # it must be able to open them
        return "imported", None
    except (StoreError, NoWayBack) as error:
        why = str(error)
    _base(store, stage, former)
    known = store / RECORDS
    try:
        continue_numbers(stage / RECORDS, known)
    except StoreError:  # what is there is damaged
        continue_numbers(stage / RECORDS, None)
    begin_ring(stage / READINGS)
    _prepare(stage, former)
    return how, why


def _base(store: Path, stage: Path, former: _Former) -> str:
    """Begin with the copy from before the upgrade, or with empty databases of that version."""
    if stage.exists():
        shutil.rmtree(stage)
    stage.mkdir(mode=0o750)
    copy = copy_for(store, former.tables)
    for name in NAMES:
        if copy is not None and copy.has(name):
            snapshot(copy.directory / name, stage / name)
    if not all((stage / name).exists() for name in NAMES):
        _prepare(stage, former)
    return "new" if copy is None else "copy"


def _prepare(stage: Path, former: _Former) -> None:
    """Let the former version create what is absent, and open and check all."""
    _run(former.environment, "-m", "agent.store.maintenance", str(stage))
    (stage / LOCK).unlink(missing_ok=True)


def _refuse_without_room(store: Path) -> None:
    needed = 2 * sum(bytes_on_disk(store / name) for name in NAMES) + _RESERVE_BYTES
    free = shutil.disk_usage(store).free
    if free < needed:
        raise StoreError(
            f"the disk has too little room: {free} bytes are free, {needed} are needed"
        )


def _environment_back(link: Path, environment: Path) -> None:
    """Let the link point at the former environment, at one moment; keep the failed one."""
    previous, failed, trial = (
        link.with_name(link.name + suffix) for suffix in (PREVIOUS, FAILED, TRIAL)
    )
    new = link.with_name(f"{link.name}.new")
    try:
        for old in (failed, new):
            old.unlink(missing_ok=True)
        failed.symlink_to(link.resolve())
        new.symlink_to(environment)
        new.replace(link)
        for old in (previous, trial):
            old.unlink(missing_ok=True)
    except OSError as error:
        advice = ". Use sudo" if isinstance(error, PermissionError) else ""
        raise NoWayBack(f"{link}: cannot be changed: {error.strerror}{advice}") from error


def lines(outcome: Outcome) -> Iterator[str]:
    """Yield what was done, and what is lost by it, for people."""
    would = "would go" if outcome.dry_run else "went"
    yield f"{would} back to version {outcome.version} in {outcome.environment}"
    if outcome.databases == "kept":
        yield "databases: nothing is lost; both versions use the same tables"
        return
    told = {
        "imported": "all that came after the upgrade was imported; nothing is lost but what only"
        " the newer version stores",
        "copy": "back to the copy from before the upgrade; alarms, samples and messages that came"
        " after it are not in it",
        "new": "there is no copy from before the upgrade, so they are new and empty",
    }
    yield f"databases: {told[outcome.databases]}"
    if outcome.why_not_imported is not None:
        yield f"what came after the upgrade could not be imported: {outcome.why_not_imported}"
    if outcome.aside is not None:
        yield f"the newer databases are kept in {outcome.aside}"
