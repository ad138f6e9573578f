"""Replaces several files at once: after a power cut, either all are the old ones, or all the new.

The new files are complete on the disk, beside their places. A journal, written at one moment, says
what goes where; from then on the new files count. ``finish`` does what the journal says, and can
begin again after a power cut. Nothing is deleted: what was there gets another name.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from models.files import read_file, replace, sync_directory

_BYTES_MAX: Final = 2**22  # of a journal
_MODE: Final = 0o600


def unused(taken: Callable[[str], bool]) -> str:
    """Return the present second for names of what goes aside; with a number if it is ``taken``."""
    second = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = itertools.chain([second], (f"{second}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not taken(name))


class Move(NamedTuple):
    """One file: the old one goes aside, and the new one takes its place."""

    new: Path | None  # None: nothing takes its place
    place: Path
    aside: Path


def switch(journal: Path, moves: Sequence[Move]) -> None:
    """Make all moves, or none.

    Raises:
        OSError: if the journal exists, ``finish`` can complete it; else nothing has changed.

    """
    texts = [[None if path is None else str(path) for path in move] for move in moves]
    with as_owner(journal.parent):
        replace(journal, json.dumps(texts).encode(), _MODE)
    finish(journal)


def finish(journal: Path) -> bool:
    """Complete a switch that a power cut interrupted; return whether there was one.

    Raises:
        OSError: it cannot be completed; you can call this again.
        ValueError: the journal is not one of ours.

    """
    if not journal.exists():
        return False
    for new, place, aside in json.loads(read_file(journal, _BYTES_MAX)):
        _move(Move(None if new is None else Path(new), Path(place), Path(aside)))
    with as_owner(journal.parent):
        journal.unlink()
        sync_directory(journal.parent)
    return True


def _move(move: Move) -> None:
    with as_owner(move.place.parent):
        if move.new is not None and not os.path.lexists(move.new):
            return  # it was done before the power cut
        if os.path.lexists(move.place) and not os.path.lexists(move.aside):
            move.place.rename(move.aside)
        if move.new is not None:
            move.new.rename(move.place)
        sync_directory(move.place.parent)


@contextlib.contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Act as the owner of a directory meanwhile, if we are root.

    The owner decides what lies there: it could be a link to a file that only root may change. The
    process must have one thread, because the user is that of the whole process.
    """
    found = directory.lstat()  # not of what a link of the owner points at
    if found.st_uid == 0:
        found = directory.stat()
    if os.geteuid() != 0 or found.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([found.st_gid])
    os.setegid(found.st_gid)
    os.seteuid(found.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
