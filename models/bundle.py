"""One sealed file that holds everything that changes a score.

A bundle is an uncompressed zip: ``manifest.json`` first, then the parts that the manifest lists
with their sizes and sha256. The **digest** of a bundle is the sha256 of its manifest's bytes: it
covers every part through the manifest's own list, and stays the same when a signature is added.
``README.md`` beside this file is the normative description.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from models.archive import SIGNATURE, Archive, check_sizes
from models.errors import BundleCorrupt, FamilyUnfit
from models.files import replace
from models.manifest import (
    EVALUATED,
    MANIFEST,
    NETWORK,
    TELEMANOM,
    FilePart,
    Manifest,
    TelemanomManifest,
    evaluated_digest,
    manifest_of,
)

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same inputs give the same file


class Seal(NamedTuple):
    """What says who made a bundle, as it lies in the file."""

    manifest_bytes: bytes
    signature: bytes | None
    source: str

    @property
    def digest(self) -> str:
        """That of the bundle."""
        return _digest(self.manifest_bytes)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and whose parts match their digests."""

    manifest: Manifest
    manifest_bytes: bytes  # as in the file; the digest and the signature are of these
    parts: Mapping[str, bytes]  # by their name in the file
    signature: bytes | None  # a minisign signature; None: not signed
    source: str  # the path, or another name for messages

    @property
    def digest(self) -> str:
        """The sha256 of the manifest's bytes, 64 hexadecimal digits."""
        return _digest(self.manifest_bytes)

    @property
    def evaluated_digest(self) -> str:
        """The ``digest`` before the metrics were added; see ``models.manifest``."""
        return evaluated_digest(self.manifest_bytes)

    @property
    def evaluated(self) -> bool:
        """Whether the metrics name the bundle that they belong to. ``read`` checks the name."""
        return self.manifest.metrics.get(EVALUATED) == self.evaluated_digest

    @property
    def telemanom(self) -> TelemanomManifest:
        """The manifest of a bundle of the family ``telemanom``.

        Raises:
            FamilyUnfit: the bundle is of another family.

        """
        if not isinstance(self.manifest, TelemanomManifest):
            raise FamilyUnfit(
                f"{self.source}: this takes a bundle of the family {TELEMANOM}; this one is of the"
                f" family {self.manifest.detector}"
            )
        return self.manifest

    @property
    def network(self) -> bytes:
        """The ``.tflite`` file of a bundle of the family ``telemanom``."""
        return self.parts[NETWORK]


def _digest(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()


def file_part(data: bytes) -> FilePart:
    """Return the size and the sha256 of a part, for the manifest."""
    return FilePart(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write(
    path: Path, manifest: Manifest, parts: Mapping[str, bytes], signature: bytes | None
) -> None:
    """Write a new bundle to ``path``, as a whole or not at all.

    Args:
        path: of the file; an existing one is replaced.
        manifest: its ``files`` must be the ``file_part`` of each of ``parts``.
        parts: by their name in the file.
        signature: of the manifest's bytes; None: not signed.

    Raises:
        BundleCorrupt: ``manifest.files`` and ``parts`` do not match.
        OSError: the file cannot be written.

    """
    _check_names(str(path), manifest, parts)
    _check_parts(str(path), manifest, parts)
    _write(path, manifest.to_bytes(), parts, signature)


def write_copy(path: Path, bundle: Bundle) -> None:
    """Write ``bundle`` as it was read to ``path``, with its signature if it has one.

    Raises:
        OSError: the file cannot be written.

    """
    _write(path, bundle.manifest_bytes, bundle.parts, bundle.signature)


def write_signed(path: Path, bundle: Bundle, signature: bytes) -> None:
    """Write ``bundle`` with a signature to ``path``. Its manifest's bytes do not change.

    Raises:
        OSError: the file cannot be written.

    """
    _write(path, bundle.manifest_bytes, bundle.parts, signature)


def _write(
    path: Path, manifest: bytes, parts: Mapping[str, bytes], signature: bytes | None
) -> None:
    entries = {MANIFEST: manifest} | dict(sorted(parts.items()))
    if signature is not None:
        entries[SIGNATURE] = signature
    check_sizes(str(path), {name: len(data) for name, data in entries.items()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    replace(path, buffer.getvalue())


def read(
    path: Path,
    manifest_of: Callable[[str, bytes], Manifest] = manifest_of,
    believe: Callable[[Seal], object] = lambda seal: None,
) -> Bundle:
    """Read a bundle and check every part against the manifest.

    Args:
        path: of the file.
        manifest_of: replaces ``models.manifest.manifest_of``, to parse in another process.
        believe: sees who made the bundle before anything in it is parsed or any other part is
            read; raises what it wants to refuse the bundle with.

    Raises:
        BundleMissing: the file does not exist or cannot be read.
        BundleCorrupt: the file is truncated, altered, or not a bundle.
        BundleTooNew: a newer version of this software wrote it.
        FamilyUnknown: no installed package knows its family.

    """
    source = str(path)
    with Archive(path) as archive:
        seal = _seal(source, archive)
        believe(seal)
        manifest = manifest_of(source, seal.manifest_bytes)
        names = [name for name in archive.names if name not in (MANIFEST, SIGNATURE)]
        _check_names(source, manifest, names)
        parts = {name: archive.read(name) for name in names}
    _check_parts(source, manifest, parts)
    return Bundle(manifest, seal.manifest_bytes, parts, seal.signature, source)


def _seal(source: str, archive: Archive) -> Seal:
    if MANIFEST not in archive.names:
        raise BundleCorrupt(f"{source}: not a bundle: no {MANIFEST} in it")
    signature = archive.read(SIGNATURE) if SIGNATURE in archive.names else None
    return Seal(archive.read(MANIFEST), signature, source)


def _check_names(source: str, manifest: Manifest, names: Collection[str]) -> None:
    if odd := sorted(manifest.files.keys() ^ set(names)):
        raise BundleCorrupt(f"{source}: parts and manifest differ: {', '.join(odd)}")
    for needed in manifest.parts_needed:
        if needed not in names:
            raise BundleCorrupt(f"{source}: {needed} is missing")


def _check_parts(source: str, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    for name, data in parts.items():
        if file_part(data) != manifest.files[name]:
            raise BundleCorrupt(f"{source}: {name} was altered (sha256 differs); fetch it again")
