"""A disk that fails when a test says so, and works again: in this process, or under an agent.

``Disk`` is what tests use. ``Layer`` is how it is done: SQLite reaches files through a table of
functions (its VFS). The layer puts functions of its own in the place of some of the default VFS's,
in the SQLite that Python's ``sqlite3`` uses, by ``ctypes``: no compiler, no root. The store, its
statements and SQLite itself are the real ones. It can also keep a journal of what was done.

As a program it runs the agent on such a disk: ``python -m tests.disk FAULT_FILE run --config …``.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p, cast
from pathlib import Path
from typing import Any, NamedTuple

_OK, _IOERR, _FULL, _CANTOPEN = 0, 10, 13, 14
_IOERR_WRITE, _IOERR_FSYNC, _IOERR_READ = _IOERR | 3 << 8, _IOERR | 4 << 8, _IOERR | 1 << 8
_OPEN_CREATE = 0x4

# a name is passed on as the pointer that it is: SQLite keeps it
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Close = CFUNCTYPE(c_int, c_void_p)
_Read = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(Structure):  # sqlite3_vfs, its beginning
    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("path_max", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
    )


class _Methods(Structure):  # sqlite3_io_methods; the rest is copied as it is
    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("rest", c_void_p * 13),
    )


class Op(NamedTuple):
    """Something that was done to a file, or a remark in between."""

    what: str  # open, write, truncate, sync, delete, remark
    path: str
    offset: int = 0  # of a write; the size of a truncation; 1: a deletion that is synced
    data: Any = b""


# what a system call would answer -> what SQLite makes of it (unixWrite, unixOpen)
FAULTS = {
    "": {},
    "full": {"write": _FULL},  # ENOSPC
    "io": {"write": _IOERR_WRITE, "sync": _IOERR_FSYNC, "read": _IOERR_READ, "open": _CANTOPEN},
    "sync": {"sync": _IOERR_FSYNC},  # EIO of fsync only
    "readonly": {"write": _IOERR_WRITE, "open": _CANTOPEN},  # EROFS on what is open
    "permission": {"write": _IOERR_WRITE, "open": _CANTOPEN},  # EPERM
}


_kept: list[Any] = []  # what C points to, for good


class Disk:
    """What the disk does, which may change at any time; a file tells other processes, too."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.program = [sys.executable, "-m", "tests.disk", str(file)]  # the agent, on this disk

    def fails(self, fault: str, name: str = "") -> None:
        """Fail from now on as ``FAULTS`` says; only files whose name begins with ``name``."""
        said = self._file.with_suffix(".new")
        said.write_text(f"{fault} {name}")
        said.rename(self._file)

    def works(self) -> None:
        """Work again: there is room, the permission is back."""
        self._file.unlink(missing_ok=True)

    def fault(self, path: str) -> str:
        """Return how a file fails; nothing if it works."""
        try:
            fault, _, name = self._file.read_text().partition(" ")
        except FileNotFoundError:
            return ""
        return fault if Path(path).name.startswith(name) else ""

    @contextmanager
    def here(self) -> Iterator[Layer]:
        """Be the disk of the databases that this process opens meanwhile."""
        layer = Layer(fault=self.fault)
        try:
            yield layer
        finally:
            self.works()
            layer.close()


def _works(path: str) -> str:
    return ""


class Layer:
    """The layer; a process has one at a time."""

    def __init__(
        self, journal: list[Op] | None = None, fault: Callable[[str], str] = _works
    ) -> None:
        self._journal = journal
        self._fault = fault
        self.bytes_read = 0
        self._methods: dict[int, _Methods] = {}  # by address of the original
        self._paths: dict[int, str] = {}  # by address of the open file
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._vfs = library.sqlite3_vfs_find(None).contents
        self._true = self._vfs.open, self._vfs.delete
        self._open = cast(self._vfs.open, _Open)
        self._delete = cast(self._vfs.delete, _Delete)
        self._vfs.open = self._keep(_Open(self._opened))
        self._vfs.delete = self._keep(_Delete(self._deleted))

    def close(self) -> None:
        """Leave files alone that are opened from now on."""
        self._vfs.open, self._vfs.delete = self._true

    def _keep(self, function: Any) -> int | None:
        _kept.append(function)
        return cast(function, c_void_p).value

    def _note(self, op: Op) -> None:
        if self._journal is not None and not op.path.endswith("-shm"):
            self._journal.append(op)

    def _fails(self, what: str, path: str) -> int:
        return FAULTS[self._fault(path)].get(what, _OK)

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        path = _text(name)
        new = bool(flags & _OPEN_CREATE) and not Path(path).exists()
        code = self._fails("open", path) or self._open(vfs, name, file, flags, out)
        if code == _OK:
            self._paths[file] = path
            pointer = cast(file, POINTER(c_void_p))
            pointer[0] = ctypes.addressof(self._wrapped(pointer[0]))
            if new:
                self._note(Op("open", path))
        return code

    def _wrapped(self, original: int) -> _Methods:
        """Return the functions of a kind of file, with ours among them."""
        if original not in self._methods:
            true = _Methods.from_address(original)
            ours = _Methods.from_buffer_copy(true)
            read, write = cast(true.read, _Read), cast(true.write, _Write)
            truncate, sync = cast(true.truncate, _Truncate), cast(true.sync, _Sync)

            def reads(file: int, into: int, count: int, offset: int) -> int:
                self.bytes_read += count
                return self._fails("read", self._paths[file]) or read(file, into, count, offset)

            def writes(file: int, data: int, count: int, offset: int) -> int:
                code = self._fails("write", self._paths[file]) or write(file, data, count, offset)
                if code == _OK:
                    held = ctypes.string_at(data, count)
                    self._note(Op("write", self._paths[file], offset, held))
                return code

            def truncates(file: int, size: int) -> int:
                code = self._fails("write", self._paths[file]) or truncate(file, size)
                if code == _OK:
                    self._note(Op("truncate", self._paths[file], size))
                return code

            def syncs(file: int, flags: int) -> int:
                code = self._fails("sync", self._paths[file]) or sync(file, flags)
                if code == _OK:
                    self._note(Op("sync", self._paths[file]))
                return code

            ours.read, ours.write = self._keep(_Read(reads)), self._keep(_Write(writes))
            ours.truncate, ours.sync = self._keep(_Truncate(truncates)), self._keep(_Sync(syncs))
            self._methods[original] = ours
        return self._methods[original]

    def _deleted(self, vfs: int, name: int, synced: int) -> int:
        code = self._delete(vfs, name, synced)
        if code == _OK:
            self._note(Op("delete", _text(name), synced))
        return code


def _text(name: int | None) -> str:
    return os.fsdecode(ctypes.string_at(name)) if name else ""


def main() -> int:
    Layer(fault=Disk(Path(sys.argv.pop(1))).fault)
    from agent.cli import main as agent

    agent()
    return 0


if __name__ == "__main__":
    sys.exit(main())
