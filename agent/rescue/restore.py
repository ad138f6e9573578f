"""``fieldwatch-agent restore``: puts a backup in place, as a whole.

The archive is read completely before anything is touched. Each new file is written beside its
place and synced, and the databases among them are checked. Then all of them take their places in
one ``switch``; what was there is kept beside it, with the suffix ``.before-restore-TIME``.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.config.layers import DROP_INS
from agent.rescue.archive import ArchiveDamaged, check, read
from agent.rescue.backup import KIND
from agent.rescue.belongings import place_of
from agent.rescue.interrupted import complete, journal_of
from agent.store.copies import NAMES, begin_ring, check_copy, continue_numbers
from agent.store.migrations import READINGS, RECORDS
from agent.store.obstacles import BESIDE
from agent.store.sqlite import LOCK, current_version, lock, locked, open_for_writing
from agent.store.switch import Move, as_owner, switch, unused
from models.errors import DataError, StoreError
from models.files import sync_directory

_NEW: Final = ".restoring"  # ends the name of a file until it takes its place
_ASIDE: Final = ".before-restore-"
_RESERVE_BYTES: Final = 2**24
_MB: Final = 1e6
_CHANGED: Final = "{}: it has changed since it was checked. Nothing was restored"


class Step(NamedTuple):
    """A file of the backup, and its place here."""

    name: str  # in the archive
    place: Path
    facts: Mapping[str, Any]
    change: str  # new, replaced, same

    @property
    def new(self) -> Path:
        """Where it is until it takes its place."""
        return self.place.with_name(f".{self.place.name}{_NEW}")


class Plan(NamedTuple):
    """What a restore does."""

    manifest: Mapping[str, Any]
    store: Path
    steps: Sequence[Step]
    stays: Sequence[Path]  # parts of the configuration here that the backup does not have


class Restored(NamedTuple):
    """What a restore did."""

    plan: Plan
    aside: Sequence[Path]  # what was there before
    epoch_goes_on: bool


def plan(path: Path, config_file: Path, store: Path | None = None) -> Plan:
    """Read a whole backup; return what a restore of it does here. Nothing is changed.

    ``store``: the database's directory; None: where the backup's configuration has it.

    Raises:
        ArchiveDamaged: the backup is incomplete or altered.
        DataError: it cannot be read, or a newer version of this software wrote it.

    """
    manifest = check(path, KIND)
    for name, version in manifest["tables"].items():
        if version > current_version(name):
            raise DataError(
                f"{path}: its {name} has tables of version {version}, and this software supports up"
                f" to {current_version(name)}. Install version {manifest['version']} or later"
            )
    directory = config_file.parent.absolute()
    target = store or _store(manifest, directory)
    names = {Path(manifest["config_file"]).name: config_file.name}
    steps = []
    for one in manifest["files"]:
        _refuse_unsafe(path, one)
        relative = names.get(one["path"], one["path"])
        place = place_of(one["at"], relative, directory, target)
        steps.append(Step(one["name"], place, one, _change(place, one["sha256"])))
    drop_ins = {step.place for step in steps}
    stays = [one for one in sorted((directory / DROP_INS).glob("*.toml")) if one not in drop_ins]
    return Plan(manifest, target, steps, stays)


def _store(manifest: Mapping[str, Any], directory: Path) -> Path:
    """Return the database's directory; one within the configuration's moves with it."""
    was, store = Path(manifest["config_file"]).parent, Path(manifest["store_directory"])
    return directory / store.relative_to(was) if store.is_relative_to(was) else store


def _refuse_unsafe(path: Path, one: Mapping[str, Any]) -> None:
    where = Path(one["path"])
    if ".." in where.parts or where.is_absolute() != (one["at"] == "elsewhere"):
        raise ArchiveDamaged(f"{path}: {one['name']} in it belongs to no place of a gateway")


def _change(place: Path, digest: str) -> str:
    try:
        with place.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            return "same" if found == digest else "replaced"
    except FileNotFoundError:
        return "new"
    except OSError:  # restore itself says why
        return "replaced"


def refuse_running(store: Path) -> None:
    """Refuse while an agent uses the database.

    Raises:
        StoreError: one does.

    """
    if locked(store / LOCK):
        raise StoreError(
            f"an agent runs with {store}. Nothing has changed. Stop it first: sudo systemctl stop"
            " fieldwatch-agent"
        )


def restore(path: Path, wanted: Plan, config_file: Path) -> Restored:
    """Do what a plan says: all of it, or nothing.

    Raises:
        StoreError: an agent runs, there is no room, or a file cannot be written.
        ArchiveDamaged: the archive has changed since the plan was made.

    """
    refuse_running(wanted.store)
    journal = journal_of(config_file)
    steps = [step for step in wanted.steps if step.change != "same"]
    stamp = unused(lambda stamp: any(_aside(step, stamp).exists() for step in steps))
    with _errors(config_file), contextlib.ExitStack() as cleaning:
        complete(config_file)
        _make_store(wanted)
        with as_owner(wanted.store):
            cleaning.enter_context(lock(wanted.store / LOCK))
        _refuse_without_room(steps)
        for step in steps:
            cleaning.callback(_discard, step, journal)
        _unpack(path, {step.name: step for step in steps})
        goes_on = _fit(wanted.store, steps)
        moves = [move for step in steps for move in _moves(step, stamp)]
        switch(journal, moves)
    aside = [move.aside for move in moves if move.aside.exists()]
    return Restored(wanted, aside, goes_on)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = " Use sudo." if isinstance(error, PermissionError) else ""
        raise StoreError(
            f"{error.filename or path}: cannot be written: {error.strerror or error}.{advice}"
        ) from error


def _make_store(wanted: Plan) -> None:
    if wanted.store.exists():
        return
    wanted.store.mkdir(mode=0o750, parents=True)
    owners = [step.facts["owner"] for step in wanted.steps if step.facts["at"] == "store"]
    _give(wanted.store, owners[0] if owners else [])


def _refuse_without_room(steps: Sequence[Step]) -> None:
    needed: Counter[int] = Counter()
    where: dict[int, Path] = {}
    for step in steps:
        parent = next(one for one in step.place.parents if one.exists())
        device = parent.stat().st_dev
        needed[device] += 2 * step.facts["bytes"]  # a database may need to be migrated
        where[device] = parent
    for device, bytes_needed in needed.items():
        free = shutil.disk_usage(where[device]).free
        if free < bytes_needed + _RESERVE_BYTES:
            raise StoreError(
                f"{where[device]}: the backup needs up to {bytes_needed / _MB:.0f} MB here, and"
                f" {free / _MB:.0f} MB are free. Nothing has changed"
            )


def _unpack(path: Path, steps: Mapping[str, Step]) -> None:
    """Write the new files beside their places."""
    written: set[str] = set()

    def take(name: str, data: Iterator[bytes]) -> None:
        if (step := steps.get(name)) is not None:
            with _errors(step.place):  # of this disk, and not of the archive's
                _write(path, step, data)
            written.add(name)

    read(path, take)
    if written != steps.keys():
        raise ArchiveDamaged(_CHANGED.format(path))


def _write(path: Path, step: Step, data: Iterator[bytes]) -> None:
    digest = hashlib.sha256()
    parent = next(one for one in step.place.parents if one.exists())
    with as_owner(parent):
        _make_folders(step)
    with as_owner(step.place.parent):
        step.new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(step.new, flags, 0o600), "wb") as file:
            for part in data:
                digest.update(part)
                file.write(part)
            file.flush()
            if step.facts["at"] != "store":  # there as_owner sees to it
                _give(file.fileno(), step.facts["owner"])
            os.fchmod(file.fileno(), step.facts["mode"])
            os.fsync(file.fileno())
        sync_directory(step.place.parent)
    if digest.hexdigest() != step.facts["sha256"]:
        raise ArchiveDamaged(_CHANGED.format(path))


def _make_folders(step: Step) -> None:
    """Make the folders of a file; the agent's user must be able to enter those of root."""
    folders = (step.place.parent, *step.place.parents[1:])
    for folder in reversed([one for one in folders if not one.exists()]):
        folder.mkdir()
        folder.chmod(0o750 if step.facts["at"] == "store" else 0o755)


def _give(file: Path | int, owner: Sequence[str]) -> None:
    """Give a file to its owner on the old gateway, if we may and there is such a user here."""
    if os.geteuid() != 0 or not owner:
        return
    try:
        user, group = owner
        os.chown(file, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError:  # check warns of a file that the agent cannot read
        pass


def _fit(store: Path, steps: Sequence[Step]) -> bool:
    """Check and migrate the new databases, and let the numbers of messages continue."""
    databases = {step.place.name: step.new for step in steps if step.facts["path"] in NAMES}
    goes_on = True
    with as_owner(store):
        for name, new in databases.items():
            check_copy(new)
            open_for_writing(new, "FULL", name).close()
            if name == RECORDS:
                known = store / RECORDS
                try:
                    goes_on = continue_numbers(new, known if known.exists() else None)
                except StoreError:  # what is here is damaged, or older than its numbers
                    goes_on = continue_numbers(new, None)
            if name == READINGS:
                begin_ring(new)
            for suffix in BESIDE:
                new.with_name(new.name + suffix).unlink(missing_ok=True)
    return goes_on


def _aside(step: Step, stamp: str) -> Path:
    return step.place.with_name(f"{step.place.name}{_ASIDE}{stamp}")


def _moves(step: Step, stamp: str) -> Iterator[Move]:
    aside = _aside(step, stamp)
    if step.facts["at"] == "store" and step.facts["path"] in NAMES:
        for suffix in BESIDE:  # never the log of the old file beside the new one
            log = step.place.with_name(step.place.name + suffix)
            yield Move(None, log, aside.with_name(aside.name + suffix))
    yield Move(step.new, step.place, aside)


def _discard(step: Step, journal: Path) -> None:
    """Delete a new file, unless the switch has begun: then it is needed to complete that."""
    if journal.exists():
        return
    with contextlib.suppress(OSError), as_owner(step.place.parent):
        for suffix in ("", *BESIDE):
            step.new.with_name(step.new.name + suffix).unlink(missing_ok=True)


def lines(path: Path, wanted: Plan) -> Iterator[str]:
    """Yield what a restore does, for people."""
    manifest = wanted.manifest
    yield (
        f"{path}: gateway {manifest['gateway']}, made {manifest['made']} by version"
        f" {manifest['version']}; all {len(manifest['files'])} files are intact"
    )
    for step in wanted.steps:
        yield f"  {step.change:<9} {step.place}"
    for stay in wanted.stays:
        yield f"  stays     {stay} (it is not in the backup, and overrides what is)"
    for left in manifest["left_out"]:
        yield f"Not in the backup, because it is secret: {left}. Bring it back yourself"


def done(outcome: Restored) -> Iterator[str]:
    """Yield what a restore did, for people."""
    for one in outcome.aside:
        yield f"kept      {one}"
    if not outcome.epoch_goes_on:
        yield (
            "Messages are numbered from 1 in a new epoch, because the last number is not known"
            " here. Central ops may receive those that were waiting a second time"
        )
    yield "restored. Test it, then start it: sudo -u fieldwatch fieldwatch-agent check"


def document(wanted: Plan, outcome: Restored | None) -> dict[str, Any]:
    """Return the same for programs; ``outcome`` is None if nothing was done."""
    return {
        "gateway": wanted.manifest["gateway"],
        "made": wanted.manifest["made"],
        "files": [{"place": str(one.place), "change": one.change} for one in wanted.steps],
        "stays": [str(one) for one in wanted.stays],
        "restored": outcome is not None,
        "kept": [] if outcome is None else [str(one) for one in outcome.aside],
        "epoch_goes_on": None if outcome is None else outcome.epoch_goes_on,
    }
