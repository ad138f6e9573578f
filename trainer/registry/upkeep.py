"""Keeps a registry whole: deletes versions with their files, and finds what does not fit."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from models.errors import ConfigError
from trainer.datasets import file_digest
from trainer.registry.errors import InUse, RegistryError
from trainer.registry.records import CHAMPION, FOLDER, PROCESS, Version
from trainer.registry.registry import Registry
from trainer.registry.runs import process

if TYPE_CHECKING:
    from mlflow.entities import Run as FoundRun

_RUN: Final = re.compile(r"[0-9a-f]{32}")  # MLflow's id, and the name of the folder

Kind = Literal["missing", "altered", "orphan", "unfinished", "moved"]


class Finding(NamedTuple):
    """Something in a registry that does not fit."""

    kind: Kind
    what: str  # for people
    uri: str  # where the files are
    run: str = ""  # id of the run that they belong to, if there is one

    @property
    def removable(self) -> bool:
        """Whether it belongs to no version, so that it may be removed."""
        return self.kind in ("orphan", "unfinished")


def delete(registry: Registry, version: Version, force: bool = False) -> None:
    """Delete a version with its run and all their files.

    The entry goes first, so that there is never a version without files.

    Args:
        registry: of the version.
        version: to delete.
        force: delete the champion, too.

    Raises:
        InUse: it is the champion.

    """
    if CHAMPION in version.aliases and not force:
        raise InUse(f"{version.name} is the champion: promote another one first, or use --force")
    store = registry.store
    with store.writing():
        store.client.delete_model_version(version.stream, str(version.number))
    store.remove(version.uri)
    with store.writing():
        store.client.delete_run(version.run)


def verify(registry: Registry) -> Iterator[Finding]:
    """Yield what does not fit: files against their digests, entries against files.

    Orphans are files without a version: of a registration that was cut short, of a deletion that
    was, or of no run at all. A run is unfinished if its process on this machine is gone. Of a
    registry that was moved, no more is said than that.
    """
    if (moved := _moved(registry)) is not None:
        yield moved
        return
    versions = registry.search()
    for version in versions:
        yield from _of_version(registry, version)
    registered = {version.run for version in versions}
    for run in registry.store.runs(deleted=True):
        if run.info.run_id not in registered:
            yield from _of_run(registry, run)
    yield from _strays(registry)


def remove(registry: Registry, finding: Finding) -> None:
    """Remove an orphan's files, or end an unfinished run; other findings are left alone."""
    if not finding.removable:
        return
    registry.store.remove(finding.uri, FOLDER if finding.kind == "unfinished" else None)
    if finding.kind == "unfinished":
        with registry.store.writing():
            registry.store.client.set_terminated(finding.run, "KILLED")


class Relocation(NamedTuple):
    """Where the files of a registry were said to be, and where they are; as URIs."""

    old: str
    new: str


def relocate(registry: Registry) -> Relocation | None:
    """Write into a registry that was moved where its files are now; None: it is there already.

    The files must lie where a new registry with these settings would have them.

    Raises:
        RegistryError: a bundle is not there; nothing is changed.
        ConfigError: the registry is a server, or a database without ``registry.artifacts``.

    """
    store = registry.store
    old, new = store.root, store.artifacts
    if new is None:
        raise ConfigError(f"{store.where}: registry.artifacts does not say where the files are")
    if old == new:
        return None
    for version in registry.search():
        uri = version.uri.replace(old, new, 1)
        if f"{FOLDER}/{version.bundle}" not in store.listed(uri, FOLDER):
            raise RegistryError(f"{version.name}: its bundle is not below {uri}: move it there")
    store.move(old, new)
    return Relocation(old, new)


def _moved(registry: Registry) -> Finding | None:
    """Return what says that the folder of the files is elsewhere now; None: it is not."""
    old, new = registry.store.root, registry.store.artifacts
    if new is None or old == new or _is_folder(old) is not False or not _is_folder(new):
        return None
    what = f"its files were at {old}, and are at {new}: run `fieldwatch-trainer registry relocate`"
    return Finding("moved", what, new)


def _is_folder(uri: str) -> bool | None:
    """Whether a URI is a folder that exists; None: it is not on this machine."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)).is_dir() if parts.scheme == "file" else None


def _of_version(registry: Registry, version: Version) -> Iterator[Finding]:
    there = set(registry.store.listed(version.uri))
    with tempfile.TemporaryDirectory() as folder:
        for name, digest in version.files.items():
            what = f"{version.name}: {name}"
            if name not in there:
                yield Finding("missing", what, version.uri, version.run)
                continue
            path = registry.store.download(version.uri, name, Path(folder))
            if file_digest(path) != digest:
                yield Finding("altered", what, version.uri, version.run)


def _of_run(registry: Registry, run: FoundRun) -> Iterator[Finding]:
    """Yield what a run without a version has left."""
    info, uri = run.info, str(run.info.artifact_uri)
    name = f"run {info.run_id} of {info.run_name}"
    if info.lifecycle_stage == "deleted":
        if registry.store.listed(uri):
            yield Finding("orphan", f"{name} is deleted, and has files", uri, info.run_id)
    elif info.status == "RUNNING":
        if _is_gone(run.data.tags.get(PROCESS, "")):
            yield Finding("unfinished", f"{name}: its process is gone", uri, info.run_id)
    elif registry.store.listed(uri, FOLDER):
        below = f"{uri}/{FOLDER}"
        yield Finding("orphan", f"{name} has a bundle, and no version", below, info.run_id)


def _strays(registry: Registry) -> Iterator[Finding]:
    """Yield folders of no run."""
    store, root = registry.store, registry.store.root
    for name in store.folders(root):
        if _RUN.fullmatch(name) and not _is_run(registry, name):
            yield Finding("orphan", f"files of no run: {name}", f"{root}/{name}")


def _is_run(registry: Registry, name: str) -> bool:
    """Whether there is such a run, of any experiment."""
    from mlflow.exceptions import MlflowException

    try:
        registry.store.client.get_run(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise RegistryError(f"{registry.store.where}: {error}") from error
    return True


def _is_gone(tag: str) -> bool:
    """Whether a process of this machine, as a tag names it, does not run any more."""
    host, _, rest = tag.partition(" ")
    pid = rest.partition(" ")[0]
    here = process().partition(" ")[0]
    return host == here and pid.isdecimal() and process(int(pid)) != tag
