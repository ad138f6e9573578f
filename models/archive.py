"""The zip around a bundle, read with distrust: its directory first, and of that no more than fits.

Whoever can put a file on a gateway chooses every byte of it. So sizes and counts are held against
their limits before anything that they speak of is read, and each byte of the file belongs to one
part, its name or the directory: what is signed is all that there is.
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
from models.manifest import KNOWN_ANSWERS, MANIFEST

SIGNATURE: Final = "manifest.json.minisig"
FILE_SIZE_BYTES_MAX: Final = 64 * 2**20
PARTS_MAX: Final = 64
_DIRECTORY_BYTES_MAX: Final = 2**16
# of what is parsed: JSON takes more than twenty times its size in memory
_SIZES_BYTES_MAX: Final = {MANIFEST: 2**20, SIGNATURE: 2**14, KNOWN_ANSWERS: 8 * 2**20}

_END: Final = struct.Struct("<4s4H2LH")  # of the directory: the last bytes of a zip
_END_64: Final = struct.Struct("<4sLQL")  # stands before it, and would overrule it
_LOCAL: Final = struct.Struct("<26x2H")  # what is before a part: lengths of name and extra

_DAMAGE: Final = (  # all of these are raised on damaged input, depending on where the damage is
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError),
    struct.error,
)


class Archive:
    """An open bundle, whose directory has been checked; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open a bundle.

        Raises:
            BundleMissing: no file there, or what is there is no file.
            BundleCorrupt: no zip, truncated, or not as a bundle's is.

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
        """Return one of ``names``.

        Raises:
            BundleCorrupt: it is damaged.

        """
        with _damage_named(self._path):
            return self._zip.read(name)


def check_sizes(source: str, sizes: Mapping[str, int]) -> None:
    """Raise BundleCorrupt where a bundle with parts of these sizes, in bytes, is none."""
    if len(sizes) > PARTS_MAX:
        raise BundleCorrupt(f"{source}: {len(sizes)} parts is more than a bundle may have")
    if sum(sizes.values()) > FILE_SIZE_BYTES_MAX:
        raise BundleCorrupt(f"{source}: the parts are larger than a bundle may be")
    for name, size_max in _SIZES_BYTES_MAX.items():
        if (size := sizes.get(name, 0)) > size_max:
            raise BundleCorrupt(f"{source}: {name}: {size} bytes is more than {size_max}")


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
    """Return where the directory begins, which ends the file, and is not too long to be read."""
    size = file.seek(0, 2)
    if size > FILE_SIZE_BYTES_MAX:
        raise BundleCorrupt(f"{source}: {size} bytes is more than a bundle may have")
    file.seek(max(0, size - _END.size - _END_64.size))
    tail = file.read()
    if len(tail) < _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    mark, *_, length, place, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\x05\x06" or comment or tail.startswith(b"PK\x06\x07"):
        raise zipfile.BadZipFile("its end is of no part, or missing")
    if place + length + _END.size != size:
        raise zipfile.BadZipFile("bytes that are of no part, or missing")
    if length > _DIRECTORY_BYTES_MAX:
        raise BundleCorrupt(f"{source}: its directory is longer than that of a bundle may be")
    return int(place)


def _check_infos(source: str, infos: list[zipfile.ZipInfo]) -> None:
    sizes = {info.filename: info.file_size for info in infos}
    check_sizes(source, sizes)
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise BundleCorrupt(f"{source}: a part is compressed, which no bundle's is")
    if len(sizes) != len(infos):
        raise BundleCorrupt(f"{source}: a part occurs twice")


def _check_whole(file: BinaryIO, infos: list[zipfile.ZipInfo], place: int) -> None:
    """Refuse bytes between the parts, or that two of them share; ``place``: of the directory."""
    starts = sorted(info.header_offset for info in infos)
    ends = {_end(file, info) for info in infos}
    if [0, *sorted(ends)] != [*starts, place]:
        raise zipfile.BadZipFile("bytes that are of no part, or of two")


def _end(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where a part ends, by what stands before it."""
    if info.compress_size != info.file_size:
        raise zipfile.BadZipFile("the size of a part")
    file.seek(info.header_offset)
    name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    return int(info.header_offset) + _LOCAL.size + int(name) + int(extra) + info.file_size
