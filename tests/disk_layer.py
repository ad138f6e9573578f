"""A layer between SQLite and the files, in this process: it keeps a journal, and it can fail.

SQLite reaches files through a table of functions (its VFS). This puts functions of its own in the
place of four of the default VFS's, in the SQLite that Python's ``sqlite3`` uses, by ``ctypes``: no
compiler, no root. The store, its statements and SQLite itself are the real ones.

As a program it runs the agent with a disk that fails as a file says, which may change any time:
``python -m tests.disk_layer FAULT_FILE run --config …``.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import sys
from collections.abc import Callable
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


class Layer:
    """The layer; one in a process, for good."""

    def __init__(self, journal: list[Op] | None = None, fault: Callable[[], str] = str) -> None:
        self._journal = journal
        self._fault = fault
        self._methods: dict[int, _Methods] = {}  # by address of the original
        self._paths: dict[int, str] = {}  # by address of the open file
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._vfs = library.sqlite3_vfs_find(None).contents
        self._open = cast(self._vfs.open, _Open)
        self._delete = cast(self._vfs.delete, _Delete)
        self._vfs.open = self._keep(_Open(self._opened))
        self._vfs.delete = self._keep(_Delete(self._deleted))

    def _keep(self, function: Any) -> int | None:
        _kept.append(function)
        return cast(function, c_void_p).value

    def _note(self, op: Op) -> None:
        if self._journal is not None and not op.path.endswith("-shm"):
            self._journal.append(op)

    def _fails(self, what: str) -> int:
        return FAULTS[self._fault()].get(what, _OK)

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        path = _text(name)
        new = bool(flags & _OPEN_CREATE) and not Path(path).exists()
        code = self._fails("open") or self._open(vfs, name, file, flags, out)
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
                return self._fails("read") or read(file, into, count, offset)

            def writes(file: int, data: int, count: int, offset: int) -> int:
                code = self._fails("write") or write(file, data, count, offset)
                if code == _OK:
                    held = ctypes.string_at(data, count)
                    self._note(Op("write", self._paths[file], offset, held))
                return code

            def truncates(file: int, size: int) -> int:
                code = self._fails("write") or truncate(file, size)
                if code == _OK:
                    self._note(Op("truncate", self._paths[file], size))
                return code

            def syncs(file: int, flags: int) -> int:
                code = self._fails("sync") or sync(file, flags)
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


def _fault_in(file: Path) -> Callable[[], str]:
    def fault() -> str:
        try:
            return file.read_text().strip()
        except OSError:
            return ""

    return fault


def main() -> int:
    Layer(fault=_fault_in(Path(sys.argv[1])))
    del sys.argv[1]
    from agent.cli import main as agent

    agent()
    return 0


if __name__ == "__main__":
    sys.exit(main())
