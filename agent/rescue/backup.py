"""``fieldwatch-agent backup``: all that makes this gateway in one archive, while the agent runs."""

from __future__ import annotations

import contextlib
import grp
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.config.location import store_directory
from agent.rescue.archive import Archive, now, writing
from agent.rescue.belongings import CREDENTIALS, Belonging, absent, belongings, settings
from agent.store.copies import NAMES, versions
from agent.store.sqlite import bytes_on_disk, snapshot
from models import __version__
from models.errors import ConfigError, StoreError

KIND: Final = "fieldwatch-backup"
_RESTORE: Final = "sudo systemctl stop fieldwatch-agent; sudo fieldwatch-agent restore"
_MB: Final = 1e6
_RESERVE_BYTES: Final = 2**24


def default_name(config_file: Path, kind: str = "") -> str:
    """Return a name for an archive: of its kind and of the gateway, and with the time."""
    name: object = "gateway"
    with contextlib.suppress(ConfigError):  # who makes the archive says what is wrong
        name = dict(settings(config_file)).get(("gateway", "name"), name)
    safe = "".join(letter for letter in str(name) if letter.isalnum() or letter in "-_")
    return f"fieldwatch-{kind}{safe}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar.gz"


def backup(
    config_file: Path, path: Path, with_secrets: bool, credentials: Path = CREDENTIALS
) -> dict[str, Any]:
    """Write the archive; return its manifest.

    The databases are copied as of one moment each, ``fieldwatch.db`` first: its memory of samples
    must not be newer than the samples.

    Raises:
        ConfigError: the configuration is not readable, or not TOML.
        StoreError: a file cannot be read, or there is no room for the archive.

    """
    store = store_directory(config_file)
    found = versions(store)
    _refuse_without_room(path, store)
    files = belongings(config_file, credentials)
    chosen = [one for one in files if with_secrets or not one.secret]
    with (
        tempfile.TemporaryDirectory(prefix=".fieldwatch-backup-", dir=path.parent) as scratch,
        writing(path) as archive,
    ):
        for name in NAMES:
            if name in found:
                copy = Path(scratch, name)
                snapshot(store / name, copy)
                facts = _facts(Belonging("store", name, store / name, False))
                archive.add(f"store/{name}", copy, **facts)
                copy.unlink()
        for one in chosen:
            archive.add(f"{one.at}/{one.path.lstrip('/')}", one.source, **_facts(one))
        return _sealed(archive, config_file, found, [one for one in files if one not in chosen])


def _sealed(
    archive: Archive, config_file: Path, found: Mapping[str, int], left_out: list[Belonging]
) -> dict[str, Any]:
    given = dict(settings(config_file))
    return archive.seal(
        KIND,
        {
            "made": now(),
            "version": __version__,
            "site": given.get(("gateway", "site")),
            "gateway": given.get(("gateway", "name")),
            "config_file": str(config_file.absolute()),
            "store_directory": str(store_directory(config_file)),
            "tables": dict(found),
            "left_out": [str(one.source) for one in left_out],
            "restore": _RESTORE,
            "absent": [str(path) for path in absent(config_file)],
        },
    )


def _refuse_without_room(path: Path, store: Path) -> None:
    sizes = [bytes_on_disk(store / name) for name in NAMES]
    needed = sum(sizes) + max(sizes) + _RESERVE_BYTES
    try:
        free = shutil.disk_usage(path.absolute().parent).free
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    if free < needed:
        raise StoreError(
            f"{path}: a backup may need up to {needed / _MB:.0f} MB here, and {free / _MB:.0f} MB"
            " are free. Name a file on another disk"
        )


def _facts(one: Belonging) -> dict[str, Any]:
    """Return where a file belongs, and whose it is."""
    found = one.source.stat()
    return {
        "at": one.at,
        "path": one.path,
        "mode": found.st_mode & 0o777,
        "owner": _name_of(found.st_uid, found.st_gid),
        "secret": one.secret,
    }


def _name_of(user: int, group: int) -> list[str]:
    try:
        return [pwd.getpwuid(user).pw_name, grp.getgrgid(group).gr_name]
    except KeyError:
        return []


def lines(path: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a backup has, and how to restore it, for people."""
    files = manifest["files"]
    total = sum(one["bytes"] for one in files)
    gateway = manifest["gateway"]
    yield f"{path}: gateway {gateway}, {len(files)} files, {total / _MB:.1f} MB unpacked"
    for one in files:
        secret = "  SECRET" if one["secret"] else ""
        yield f"  {one['bytes']:>12}  {one['name']}{secret}"
    if any(one["secret"] for one in files):
        yield "It has secrets: whoever reads it can act as this gateway. Keep it like a key."
    for left in manifest["left_out"]:
        yield f"Left out, because it is secret: {left} (--with-secrets takes it)"
    for gone in manifest["absent"]:
        yield f"Named in the configuration, but not there: {gone}"
    yield f"To restore it: {manifest['restore']} {path}"
