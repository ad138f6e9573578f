"""Reads the zip file of a bundle as untrusted input, beginning with its directory.

Anyone who can place a file on a gateway controls every byte of it. So sizes and counts are checked
against their limits before the data they describe are read. Each byte of the file must belong to a
part, its name or the directory, so that the signature covers everything in the file.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from models.errors import BundleCorrupt, BundleMissing
from models.files import NotAFile, open_file
from models.manifest import KNOWN_ANSWERS, MANIFEST, TRAINING

SIGNATURE: Final = "manifest.json.minisig"
FILE_SIZE_BYTES_MAX: Final = 64 * 2**20
PARTS_MAX: Final = 64
_DIRECTORY_BYTES_MAX: Final = 2**16
# for parts that are parsed: JSON takes more than twenty times its size in memory
_SIZES_BYTES_MAX: Final = {
    MANIFEST: 2**20,
    SIGNATURE: 2**14,
    KNOWN_ANSWERS: 8 * 2**20,
    TRAINING: 2**20,
}

_END: Final = struct.Struct("<4s4H2LH")  # end of the directory: the last bytes of a zip
_END_64: Final = struct.Struct("<4sLQL")  # precedes it, and would override it
_LOCAL: Final = struct.Struct("<26x2H")  # header of a part: lengths of name and extra field

_DAMAGE: Final = (  # raised on damaged input, depending on the place of the damage
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError),
    struct.error,
)


class Archive:
    """An open bundle, whose directory has been checked; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open a bundle.

        Raises:
            BundleMissing: no file exists there, or it is not a regular file.
            BundleCorrupt: not a zip file, truncated, or not in the form of a bundle.

        """
        self._path = path
        with _damage_named(path):
            self._file = open_file(path)
            try:
                self.names = self._opened()  # of all parts, with manifest and signature
            except BaseException:
                self._file.close()
                raise

    def _opened(self) -> list[str]:
        place = _directory(str(self._path), self._file)
        self._zip = zipfile.ZipFile(self._file)
        infos = self._zip.infolist()
        _check_infos(str(self._path), infos)
        _check_whole(self._file, infos, place)
        return [info.filename for info in infos]

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def read(self, name: str) -> bytes:
        """Return the content of one of ``names``.

        Raises:
            BundleCorrupt: the part is damaged.

        """
        with _damage_named(self._path):
            return self._zip.read(name)


def check_sizes(source: str, sizes: Mapping[str, int]) -> None:
    """Raise BundleCorrupt if the number or the sizes of the parts, in bytes, exceed the limits."""
    if len(sizes) > PARTS_MAX:
        raise BundleCorrupt(f"{source}: {len(sizes)} parts are more than a bundle may have")
    if sum(sizes.values()) > FILE_SIZE_BYTES_MAX:
        raise BundleCorrupt(f"{source}: the parts are larger than a bundle may be")
    for name, size_max in _SIZES_BYTES_MAX.items():
        if (size := sizes.get(name, 0)) > size_max:
            raise BundleCorrupt(f"{source}: {name}: {size} bytes are more than {size_max}")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BundleMissing(f"{path}: no such bundle; copy it there or correct the path") from None
    except NotAFile as error:
        raise BundleMissing(f"{error}; put a bundle there or correct the path") from None
    except OSError as error:
        raise BundleMissing(f"{path}: cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        raise BundleCorrupt(
            f"{path}: truncated or altered ({error}); fetch the bundle again"
        ) from error


def _directory(source: str, file: BinaryIO) -> int:
    """Return the offset of the directory, after checking its length and that it ends the file."""
    size = file.seek(0, 2)
    if size > FILE_SIZE_BYTES_MAX:
        raise BundleCorrupt(f"{source}: {size} bytes are more than a bundle may have")
    file.seek(max(0, size - _END.size - _END_64.size))
    tail = file.read()
    if len(tail) < _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    mark, *_, length, place, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\x05\x06" or comment or tail.startswith(b"PK\x06\x07"):
        raise zipfile.BadZipFile("no end, or bytes after it that belong to no part")
    if place + length + _END.size != size:
        raise zipfile.BadZipFile("missing bytes, or bytes that belong to no part")
    if length > _DIRECTORY_BYTES_MAX:
        raise BundleCorrupt(f"{source}: its directory is longer than a bundle's may be")
    return int(place)


def _check_infos(source: str, infos: list[zipfile.ZipInfo]) -> None:
    sizes = {info.filename: info.file_size for info in infos}
    check_sizes(source, sizes)
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise BundleCorrupt(f"{source}: a part is compressed, which is not allowed in a bundle")
    if len(sizes) != len(infos):
        raise BundleCorrupt(f"{source}: a part occurs twice")


def _check_whole(file: BinaryIO, infos: list[zipfile.ZipInfo], place: int) -> None:
    """Refuse gaps between the parts, and overlaps; ``place``: offset of the directory."""
    starts = sorted(info.header_offset for info in infos)
    ends = {_end(file, info) for info in infos}
    if [0, *sorted(ends)] != [*starts, place]:
        raise zipfile.BadZipFile("bytes that belong to no part, or to two")


def _end(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return the end offset of a part, from its local header."""
    if info.compress_size != info.file_size:
        raise zipfile.BadZipFile("wrong size of a part")
    file.seek(info.header_offset)
    name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    return int(info.header_offset) + _LOCAL.size + int(name) + int(extra) + info.file_size
