"""One sealed file that holds all that changes a score.

A bundle is an uncompressed zip: ``manifest.json`` first, then the parts that the manifest lists
with their sizes and sha256. The **digest** of a bundle is the sha256 of its manifest's bytes: it
covers every part through the manifest's own list, and stays the same when a signature is added.
``README.md`` beside this file is the normative description.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import BundleCorrupt, BundleMissing, FamilyUnfit
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

SIGNATURE = "manifest.json.minisig"
FILE_SIZE_BYTES_MAX = 64 * 2**20

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same inputs give the same file


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and whose parts match their digests."""

    manifest: Manifest
    manifest_bytes: bytes
    parts: Mapping[str, bytes]
    signature: bytes | None
    source: str

    @property
    def digest(self) -> str:
        """sha256 of the manifest's bytes, as hexadecimal digits."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    @property
    def evaluated_digest(self) -> str:
        """What ``digest`` was before the metrics were known; see ``models.manifest``."""
        return evaluated_digest(self.manifest_bytes)

    @property
    def evaluated(self) -> bool:
        """Whether the metrics say that they are of this bundle; checked where it was read."""
        return self.manifest.metrics.get(EVALUATED) == self.evaluated_digest

    @property
    def telemanom(self) -> TelemanomManifest:
        """The manifest of a bundle of this family.

        Raises:
            FamilyUnfit: it is of another one.

        """
        if not isinstance(self.manifest, TelemanomManifest):
            raise FamilyUnfit(
                f"{self.source}: this takes a bundle of the family {TELEMANOM}; this one is of the"
                f" family {self.manifest.detector}"
            )
        return self.manifest

    @property
    def network(self) -> bytes:
        """The ``.tflite`` file of a bundle of the family telemanom."""
        return self.parts[NETWORK]


def file_part(data: bytes) -> FilePart:
    """Size and digest of a part, for the manifest."""
    return FilePart(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write(
    path: Path, manifest: Manifest, parts: Mapping[str, bytes], signature: bytes | None
) -> None:
    """Write a new bundle to ``path`` as a whole or not at all.

    ``manifest.files`` must be the ``file_part`` of each of ``parts``.
    """
    _check_parts(str(path), manifest, parts)
    _write(path, manifest.to_bytes(), parts, signature)


def write_signed(path: Path, bundle: Bundle, signature: bytes) -> None:
    """Write ``bundle`` to ``path`` with a signature; its manifest stays as it is, byte for byte."""
    _write(path, bundle.manifest_bytes, bundle.parts, signature)


def _write(
    path: Path, manifest: bytes, parts: Mapping[str, bytes], signature: bytes | None
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        entries = {MANIFEST: manifest} | dict(sorted(parts.items()))
        if signature is not None:
            entries[SIGNATURE] = signature
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the name without the bytes
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, manifest_of: Callable[[str, bytes], Manifest] = manifest_of) -> Bundle:
    """Read a bundle and check every part against the manifest.

    ``manifest_of`` does what the function of this name does, perhaps elsewhere.

    Raises:
        BundleMissing: no file there.
        BundleCorrupt: truncated, altered, or not a bundle.
        BundleTooNew: written by a newer version of this software.
        FamilyUnknown: nothing that is installed knows its family.

    """
    try:
        size = path.stat().st_size
        if size > FILE_SIZE_BYTES_MAX:
            raise BundleCorrupt(f"{path}: {size} bytes is more than a bundle may have")
        data = path.read_bytes()
    except FileNotFoundError:
        raise BundleMissing(f"{path}: no such bundle; copy it there or mend the path") from None
    except OSError as error:
        raise BundleMissing(f"{path}: cannot be read: {error.strerror}") from error
    entries = _entries(str(path), data)
    signature = entries.pop(SIGNATURE, None)
    manifest_bytes = entries.pop(MANIFEST, None)
    if manifest_bytes is None:
        raise BundleCorrupt(f"{path}: not a bundle: no {MANIFEST} in it")
    manifest = manifest_of(str(path), manifest_bytes)
    _check_parts(str(path), manifest, entries)
    return Bundle(manifest, manifest_bytes, entries, signature, str(path))


def _entries(source: str, data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > FILE_SIZE_BYTES_MAX:
                raise BundleCorrupt(f"{source}: the parts are larger than a bundle may be")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise BundleCorrupt(f"{source}: a part is compressed, which no bundle's is")
            if len({info.filename for info in infos}) != len(infos):
                raise BundleCorrupt(f"{source}: a part occurs twice")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        # zipfile raises all of these on damaged input, depending on where the damage is
        raise BundleCorrupt(
            f"{source}: truncated or altered ({error}); fetch the bundle again"
        ) from error


def _check_parts(source: str, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    if parts.keys() != manifest.files.keys():
        odd = sorted(parts.keys() ^ manifest.files.keys())
        raise BundleCorrupt(f"{source}: parts and manifest differ: {', '.join(odd)}")
    for needed in manifest.parts_needed:
        if needed not in parts:
            raise BundleCorrupt(f"{source}: {needed} is missing")
    for name, data in parts.items():
        if file_part(data) != manifest.files[name]:
            raise BundleCorrupt(f"{source}: {name} was altered (sha256 differs); fetch it again")
