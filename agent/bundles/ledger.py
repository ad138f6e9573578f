"""Remembers which bundles this gateway has tried, which ran, and which may run again.

The directory ``bundles`` beside the database contains:

    ran.json               networks that passed a trial, the highest version of each name that ran,
                           and the bundles that each stream ran last and before that
    DIGEST.fieldwatch      a copy of each of those; other copies are removed
    NAME.downgrade         a person's permission to run this version and later ones again

A file is complete on the disk before it gets its name. If it cannot be written, the agent continues
with what it has in memory, and logs this.
"""

from __future__ import annotations

import json
import logging
import pwd
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from models import bundle as bundles
from models.archive import SIGNATURE, Archive
from models.bundle import Bundle
from models.errors import BundleError, ConfigError, StoreError
from models.files import PARTIAL, open_file, read_file, replace

_LOG = logging.getLogger(__name__)

DIRECTORY: Final = "bundles"  # beside the database
_RAN: Final = "ran.json"
_COPY: Final = ".fieldwatch"
_DOWNGRADE: Final = ".downgrade"
_BYTES_MAX: Final = 2**20  # of the file
_NUMBER_BYTES_MAX: Final = 20
_TRIED_MAX: Final = 200  # networks, the newest


@dataclass(slots=True)
class _Ran:
    """The file's content."""

    tried: list[str] = field(default_factory=list)  # oldest first
    floors: dict[str, int] = field(default_factory=dict)  # version, by the bundle's name
    streams: dict[str, str] = field(default_factory=dict)  # digest, by the stream's name
    before: dict[str, str] = field(default_factory=dict)  # what a stream ran before it, likewise

    @classmethod
    def of(cls, document: Any) -> _Ran:
        """Return the content of a document; raise ValueError if an agent did not write it."""
        if isinstance(document, dict):
            document = {"before": {}, **document}  # an older version did not write it
        match document:
            case {
                "tried": list(tried),
                "floors": dict(floors),
                "streams": dict(streams),
                "before": dict(before),
            }:
                texts = [*tried, *floors, *streams, *streams.values(), *before, *before.values()]
                if all(type(text) is str for text in texts) and all(
                    type(version) is int for version in floors.values()
                ):
                    return cls(tried, floors, streams, before)
        raise ValueError("not in the format that an agent writes")


class Ledger:
    """The directory; any thread may use it, and one process writes to it."""

    def __init__(self, store_directory: Path) -> None:
        self.directory = store_directory / DIRECTORY
        self._lock = threading.Lock()
        self._ran = self._read()
        # name and version of the signed bundles that run, by the stream's name
        self._running: dict[str, tuple[str, int]] = {}

    def _read(self) -> _Ran:
        path = self.directory / _RAN
        try:
            return _Ran.of(json.loads(read_file(path, _BYTES_MAX)))
        except FileNotFoundError:
            return _Ran()
        except OSError as error:
            why = error.strerror
        except (ValueError, RecursionError) as error:
            why = str(error)
        _LOG.error("%s cannot be read (%s): the record of which bundles ran is lost", path, why)
        return _Ran()

    def tried(self, key: str) -> bool:
        """Whether a network has passed its trial here."""
        return key in self._ran.tried

    def note_tried(self, key: str) -> None:
        """Remember that a network has passed its trial."""
        with self._lock:
            self._ran.tried = [*(one for one in self._ran.tried if one != key), key][-_TRIED_MAX:]
            self._write()

    def floor(self, name: str) -> int:
        """Return the lowest version of a bundle of this name that may run."""
        version = self._ran.floors.get(name)
        if version is None:
            return 0
        allowed = self._allowed(name)
        return version if allowed is None else min(version, allowed)

    def _allowed(self, name: str) -> int | None:
        """Return the lowest version of this name that a person has allowed to run again."""
        path = self.directory / f"{name}{_DOWNGRADE}"
        try:
            return int(read_file(path, _NUMBER_BYTES_MAX))
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror
        except ValueError:
            why = "not a number"
        _LOG.error("%s cannot be read, so no downgrade is allowed: %s", path, why)
        return None

    def copy_of_previous(self, stream: str) -> Path | None:
        """Return the copy of the bundle that a stream ran last; None: none."""
        return next(self._copies(self._ran.streams.get(stream)), None)

    def copy_of(self, digest: str) -> Path | None:
        """Return the copy of a bundle; None: there is none any more."""
        return next(self._copies(digest), None)

    def copy_of_other(self, stream: str, digest: str) -> Path | None:
        """Return the copy of the newest bundle that a stream ran, but for one; None: none."""
        ran = (self._ran.streams.get(stream), self._ran.before.get(stream))
        return next(self._copies(*(one for one in ran if one != digest)), None)

    def _copies(self, *digests: str | None) -> Iterator[Path]:
        """Yield the copies that there are."""
        paths = (self._copy(digest) for digest in digests if digest is not None)
        return (path for path in paths if path.exists())

    def _copy(self, digest: str) -> Path:
        return self.directory / f"{digest}{_COPY}"

    def note_running(
        self, running: Mapping[str, Bundle], streams: Collection[str], signed: bool
    ) -> None:
        """Record the running bundles, keep copies of them, and remove copies that are not needed.

        Args:
            running: the bundle of each stream whose bundle has changed.
            streams: all with a configured bundle; those not in ``running`` keep their last one.
            signed: whether signatures are verified, so that versions can be trusted.

        """
        with self._lock:
            before, ran = json.dumps(self._document()), self._ran
            copies = {bundle.digest: bundle for bundle in running.values()}
            kept = {digest for digest, bundle in copies.items() if self._keep(bundle)}
            ran.before = {
                name: digest for name, digest in ran.before.items() if name in streams
            } | {
                name: ran.streams[name]
                for name, one in running.items()
                if one.digest in kept and ran.streams.get(name, one.digest) != one.digest
            }
            ran.streams = {
                name: digest
                for name, digest in ran.streams.items()
                if name in streams and (name not in running or running[name].digest not in kept)
            } | {name: one.digest for name, one in running.items() if one.digest in kept}
            self._running = {
                name: version
                for name, version in self._running.items()
                if name in streams and name not in running
            } | {
                name: (bundle.manifest.name, bundle.manifest.version)
                for name, bundle in running.items()
                if bundle.signature is not None
            }
            if signed:
                for name, version in _lowest(self._running.values()).items():
                    self._set_floor(name, version)
            if json.dumps(self._document()) != before:
                self._write()
            self._clean()

    def _set_floor(self, name: str, version: int) -> None:
        """Make the running version the lowest of its name; lower it only if a person allowed it."""
        before = self._ran.floors.get(name, 0)
        if version > before:
            self._ran.floors[name] = version
        elif version < before:
            path = self.directory / f"{name}{_DOWNGRADE}"
            _LOG.warning(
                "bundle %s: version %d runs again instead of version %d, as allowed by %s",
                *(name, version, before, _owner(path)),
            )
            self._ran.floors[name] = version
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                _LOG.error("%s still allows this; it cannot be removed: %s", path, error.strerror)

    def _keep(self, bundle: Bundle) -> bool:
        """Write a copy of a bundle to the disk; return whether a copy exists."""
        path = self._copy(bundle.digest)
        if _is_copy(path, bundle):
            return True
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            bundles.write_copy(path, bundle)
        except OSError as error:
            _LOG.error(
                "no copy of %s can be kept, so no stream can fall back to it: %s",
                bundle.source,
                error.strerror,
            )
            return False
        return True

    def _clean(self) -> None:
        """Remove copies that no stream needs, and partial files left by a power cut."""
        digests = {*self._ran.streams.values(), *self._ran.before.values()}
        needed = {self._copy(digest).name for digest in digests}
        try:
            for path in self.directory.iterdir():
                ours = path.name.endswith((_COPY, PARTIAL)) and _DOWNGRADE not in path.name
                if ours and path.name not in needed:
                    path.unlink()
        except FileNotFoundError:  # nothing ever ran
            return
        except OSError as error:
            _LOG.warning("%s cannot be cleaned up: %s", self.directory, error.strerror)

    def _document(self) -> dict[str, Any]:
        return asdict(self._ran)

    def _write(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            replace(self.directory / _RAN, json.dumps(self._document()).encode(), 0o600)
        except OSError as error:
            _LOG.error("%s cannot be written: %s", self.directory / _RAN, error.strerror)


def _lowest(running: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the lowest version of each name: not all streams need the newest."""
    versions: dict[str, int] = {}
    for name, version in running:
        versions[name] = min(version, versions.get(name, version))
    return versions


def allow_downgrade(store_directory: Path, name: str, version: int) -> int:
    """Allow bundles of this name from this version on to run again; the agent may run or not.

    Returns the lowest version that could run before.

    Raises:
        ConfigError: they can run anyway.
        StoreError: the permission cannot be written, or ``ran.json`` cannot be read.

    """
    floor = _readable(store_directory).floor(name)
    if version >= floor:
        why = f"the lowest is {floor}" if floor else "no signed version has run here"
        raise ConfigError(f"{name}: version {version} can run anyway: {why}")
    path = store_directory / DIRECTORY / f"{name}{_DOWNGRADE}"
    try:
        replace(path, f"{version}\n".encode(), 0o644)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    return floor


def copy_of(store_directory: Path, digest: str) -> Path | None:
    """Return the copy of the bundle with this digest; None: there is none any more.

    Raises:
        StoreError: ``ran.json`` cannot be read.

    """
    return _readable(store_directory).copy_of(digest)


def copy_of_other(store_directory: Path, stream: str, digest: str) -> Path | None:
    """Return the copy of the newest bundle that a stream ran, but for the one with this digest.

    Raises:
        StoreError: ``ran.json`` cannot be read.

    """
    return _readable(store_directory).copy_of_other(stream, digest)


def _readable(store_directory: Path) -> Ledger:
    """Return the ledger for a command, which takes none that it cannot read for an empty one."""
    ran = store_directory / DIRECTORY / _RAN
    try:
        open_file(ran).close()
    except FileNotFoundError:  # nothing ran
        pass
    except OSError as error:
        raise StoreError(f"{ran}: cannot be read: {error.strerror}; run this as root") from error
    return Ledger(store_directory)


def _is_copy(path: Path, bundle: Bundle) -> bool:
    """Whether there is a complete file with this bundle's manifest and signature."""
    try:
        with Archive(path) as archive:
            signature = archive.read(SIGNATURE) if SIGNATURE in archive.names else None
    except BundleError:
        return False
    return signature == bundle.signature


def _owner(path: Path) -> str:
    """Return the name of the user who wrote a file."""
    try:
        uid = path.stat().st_uid
        return pwd.getpwuid(uid).pw_name
    except OSError:
        return "somebody"
    except KeyError:
        return f"user {uid}"
