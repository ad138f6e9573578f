"""An archive: a compressed tar of files, and a manifest with the SHA-256 of each as its last file.

The manifest has a checksum of its own. ``check`` reads the whole archive before anybody uses it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from models.errors import DataError, StoreError
from models.files import descriptor_of, replacing
from models.times import iso_time

MANIFEST: Final = "manifest.json"
FORMAT_VERSION: Final = 1
_MODE: Final = 0o600  # of the archive
MANIFEST_BYTES_MAX: Final = 2**24
_READ_BYTES: Final = 2**18
_GZIP_LEVEL: Final = 1  # a gateway is slow, and measured values compress badly


class ArchiveDamaged(DataError):
    """The archive is incomplete, altered, or not one of ours."""


class Member(NamedTuple):
    """A file of an archive."""

    name: str
    bytes: int
    sha256: str
    facts: Mapping[str, Any]  # what its kind of archive says of it


class Archive:
    """An archive that is being written."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members: list[Member] = []

    def add(self, name: str, file: Path, **facts: Any) -> None:
        """Add a file."""
        with os.fdopen(descriptor_of(str(file)), "rb") as opened:
            self._add(name, opened, os.fstat(opened.fileno()).st_size, facts)

    def add_text(self, name: str, text: str, **facts: Any) -> None:
        """Add a text as a file."""
        data = text.encode(errors="backslashreplace")
        self._add(name, io.BytesIO(data), len(data), facts)

    def _add(self, name: str, file: IO[bytes], size: int, facts: Mapping[str, Any]) -> None:
        digest = _Hashing(file, size)
        self._tar.addfile(_info(name, size), digest)
        self.members.append(Member(name, size, digest.hexdigest(), facts))

    def seal(self, kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest; return it.

        Raises:
            StoreError: there are too many files.

        """
        files = [
            {"name": one.name, "bytes": one.bytes, "sha256": one.sha256} | dict(one.facts)
            for one in self.members
        ]
        manifest = {"format": kind, "format_version": FORMAT_VERSION, **facts, "files": files}
        data = json.dumps({"sha256": _digest(manifest), **manifest}, indent=1).encode()
        if len(data) > MANIFEST_BYTES_MAX:
            raise StoreError(
                f"{len(files)} files are too many for an archive: their list has {len(data)} bytes,"
                f" and {MANIFEST_BYTES_MAX} are the most"
            )
        self._tar.addfile(_info(MANIFEST, len(data)), io.BytesIO(data))
        return manifest


class _Hashing(io.RawIOBase):
    """A file whose digest is computed while it is read; a shorter one than expected is an error."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left, self._sha = file, size, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._sha.update(data)
        return data

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[Archive]:
    """Write an archive, whole or not at all; only our user may read it.

    Raises:
        StoreError: it cannot be written, or a file of it cannot be read.

    """
    try:
        with (
            replacing(path, _MODE) as file,
            gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            yield Archive(tar)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"{error.filename or path}: cannot be read or written: {why}") from error


def check(path: Path, kind: str) -> dict[str, Any]:
    """Read a whole archive, and return its manifest.

    Raises:
        ArchiveDamaged: it is incomplete or altered, or of another kind.
        DataError: it cannot be read, or a newer version of this software wrote it.

    """
    found: dict[str, str] = {}
    manifest: dict[str, Any] = {}

    def take(name: str, data: Iterator[bytes]) -> None:
        if name == MANIFEST:
            manifest.update(_manifest(path, _whole(path, data)))
            return
        sha = hashlib.sha256()
        for part in data:
            sha.update(part)
        found[name] = sha.hexdigest()

    read(path, take)
    if manifest.get("format") != kind:
        raise ArchiveDamaged(
            f"{path}: is not a {kind}, or is incomplete: it has no manifest of one"
        )
    if manifest["format_version"] > FORMAT_VERSION:
        raise DataError(f"{path}: a newer version of this software wrote it; install that version")
    listed = {one["name"]: one["sha256"] for one in manifest["files"]}
    wrong = sorted(name for name in listed | found if listed.get(name) != found.get(name))
    if wrong:
        raise ArchiveDamaged(f"{path}: is damaged: {', '.join(wrong)} is not as its manifest says")
    return manifest


def read(path: Path, take: Callable[[str, Iterator[bytes]], None]) -> None:
    """Give each file of an archive to ``take``: its name, and its bytes in parts.

    Raises:
        ArchiveDamaged: it is incomplete, or not an archive.
        DataError: it cannot be read.

    """
    try:
        with os.fdopen(descriptor_of(str(path)), "rb") as file:
            _read(path, file, take)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveDamaged(f"{path}: is incomplete, damaged or no archive: {error}") from error
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror}") from error


def _read(path: Path, file: IO[bytes], take: Callable[[str, Iterator[bytes]], None]) -> None:
    with gzip.GzipFile(fileobj=file) as packed:
        with tarfile.open(fileobj=packed, mode="r|") as tar:
            for member in tar:
                opened = tar.extractfile(member) if member.isfile() else None
                if opened is None:
                    raise ArchiveDamaged(f"{path}: {member.name} in it is not a file")
                take(member.name, _parts(opened))
        while packed.read(_READ_BYTES):  # up to the end, which has a checksum
            pass


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    while data := file.read(_READ_BYTES):
        yield data


def _whole(path: Path, data: Iterator[bytes]) -> bytes:
    """Return the bytes of a manifest, which are in memory."""
    found = bytearray()
    for part in data:
        found += part
        if len(found) > MANIFEST_BYTES_MAX:
            raise ArchiveDamaged(
                f"{path}: its manifest has more than {MANIFEST_BYTES_MAX} bytes, which no archive"
                " of this software has"
            )
    return bytes(found)


def _manifest(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveDamaged(f"{path}: its manifest is damaged") from error
    if not isinstance(document, dict) or document.pop("sha256", None) != _digest(document):
        raise ArchiveDamaged(f"{path}: its manifest is damaged")
    found: dict[str, Any] = document
    return found


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, _MODE, int(time.time())
    return info


def now() -> str:
    """Return the present time, for a manifest."""
    return iso_time(time.time())
