"""Sets aside messages that repeatedly crash the agent, so that none can cause a crash loop.

    the process ends without a clean stop
      └> the next process is careful: it handles each redelivered message alone and commits it, and
         writes its digest to the disk before
           └> the process ends ``ENDS_MAX`` times with the same message in work: that message is set
              aside, counted and acknowledged, and the others continue

The same holds for a message that another thread was handling when it ended: the uplink's thread, or
one of an MQTT input. The loop is not affected then. Without a crash the agent writes these notes
only at its start and stop. A committed message is cleared, and its crashes are forgotten, so power
cuts lose no good message. A read of many lines is first handled as a whole, and line by line only
after the whole crashed the agent.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from agent.defects.notes import Notes
from agent.guard import Guard
from agent.inputs.source import Chunk
from agent.journal import INPUT
from agent.parsing.measurement import Measurement, Raw, as_bytes
from models import __version__
from models.printable import printable
from models.times import iso_time

_LOG = logging.getLogger(__name__)

ENDS_MAX: Final = 3  # crashes while the same message was handled alone
NOTES: Final = "in-hand"  # a file beside the database
KEPT: Final = "set-aside"  # a directory beside the database, with copies of messages set aside
KEPT_MAX: Final = 20  # copies, the newest
KEPT_BYTES_MAX: Final = 65_536  # of each copy
_ORIGIN_MAX: Final = 100  # characters
_EXCERPT_MAX: Final = 120  # characters
_TOLD_MAX: Final = 5  # entries in a status
_SUSPECTS_MAX: Final = 100
_GUARDED: Final = "link "  # prefix of the digest of another thread's message
_READ: Final = "read "  # prefix of the digest of a read's first line, which stands for all lines


class Quarantine:
    """Tracks messages in work at crashes, and those set aside; for the loop's thread."""

    def __init__(self, directory: Path, headed: Collection[str]) -> None:
        """Set up; ``headed`` are inputs whose reads each begin with a header."""
        self._directory, self._headed = directory, headed
        self.guard = Guard()  # for the other threads
        self.careful = False  # whether the last process ended without a clean stop
        self.at_rest = True  # whether no message is suspected or in work
        self.count = 0  # messages set aside now, or skipped because they were set aside before
        self._ends: dict[str, int] = {}  # by digest
        self._aside: list[dict[str, Any]] = []  # oldest first
        self._known: dict[str, dict[str, Any]] = {}  # entries that are skipped when received again
        self._hand: str | None = None
        self._passed: list[str] = []  # digests of finished messages that may not be committed yet
        self._noted: str | None = None  # digest of the message in work, as on the disk
        self._notes: Notes | None = None
        self._trouble = False  # whether a disk failure has been logged

    def open(self) -> None:
        """Determine how the last process ended, and note that this one runs."""
        try:
            self._notes = Notes(self._directory / NOTES)
        except OSError as error:
            self._complain(error)
            return
        found = self._notes.read()
        self.careful = bool(found.get("running", False))
        self.count = int(found.get("count", 0))
        self._aside = list(found.get("aside", []))
        if found.get("version") == __version__:  # another version may have fixed the defect
            self._ends = dict(found.get("ends", {}))
        if self.careful and (hand := found.get("hand")):
            self._blame(hand)
        self._instruct()
        self._known = {one["digest"]: one for one in self._aside if one["version"] == __version__}
        self.at_rest = not (self.careful or self._known or self.guard.refused)
        if self.careful:
            _LOG.warning("the agent did not stop cleanly: repeated messages are handled one by one")
        self._write()

    def _instruct(self) -> None:
        """Make the other threads skip messages that ended one of them too often."""
        guarded = {
            key.removeprefix(_GUARDED): ends
            for key, ends in self._ends.items()
            if key.startswith(_GUARDED)
        }
        refused = frozenset(key for key, ends in guarded.items() if ends >= ENDS_MAX)
        self.guard.refused, self.guard.suspects = refused, frozenset(guarded.keys() - refused)
        if refused:
            _LOG.error("messages to skip because they ended a thread before: %d", len(refused))

    def _blame(self, digest: str) -> None:
        """Count a crash against the message in work; keep the newest counts."""
        self._ends[digest] = self._ends.pop(digest, 0) + 1
        for old in list(self._ends)[:-_SUSPECTS_MAX]:
            del self._ends[old]

    def cleared(self, chunk: Chunk) -> Chunk:
        """Return a chunk without the parts that are set aside."""
        if chunk.refused:
            if not self._passed_over(chunk, chunk.lines):
                self._set_aside(chunk, chunk.lines, _digest(chunk, chunk.lines))
            return chunk._replace(lines=[])
        if not any(one["input"] == chunk.input_name for one in self._known.values()):
            return chunk
        units = list(self._units(chunk))
        good = [unit for unit in units if not self._passed_over(chunk, unit)]
        return chunk if len(good) == len(units) else self._joined(chunk, good)

    def parts(self, chunk: Chunk) -> Iterator[tuple[str, Chunk]]:
        """Yield the parts of a chunk to handle alone, with digests for ``hold`` and ``passed``.

        The last one has the token; if everything is set aside, it has no lines.
        """
        units = list(self._units(chunk))
        first = _READ + _digest(chunk, units[0] if units else [])
        if len(units) > 1 and first not in self._ends:
            yield first, self.cleared(chunk)
            return
        good = [unit for unit in units if not self._suspect(chunk, unit)]
        for unit in good[:-1]:
            yield _digest(chunk, unit), self._joined(chunk, [unit])._replace(token=0)
        yield _digest(chunk, good[-1] if good else []), self._joined(chunk, good[-1:])
        self._ends.pop(first, None)

    def _units(self, chunk: Chunk) -> Iterator[Sequence[Raw]]:
        """Yield the smallest units: a row; for some inputs the header with the lines below it."""
        if chunk.input_name not in self._headed:
            yield from ([row] for row in chunk.rows)
            return
        head = chunk.lines[:1]
        yield head
        yield from ([*head, line] for line in chunk.lines[1:])

    def _joined(self, chunk: Chunk, units: Sequence[Sequence[Raw]]) -> Chunk:
        head = chunk.lines[:1] if chunk.input_name in self._headed and units else []
        rows = [row for unit in units for row in unit[len(head) :]]
        return chunk._replace(
            lines=[*head, *(row for row in rows if isinstance(row, bytes))],
            measurements=[row for row in rows if isinstance(row, Measurement)],
        )

    def _suspect(self, chunk: Chunk, unit: Sequence[Raw]) -> bool:
        """Whether a unit is set aside, already or as of now."""
        if self._passed_over(chunk, unit):
            return True
        digest = _digest(chunk, unit)
        if self._ends.get(digest, 0) < ENDS_MAX:
            return False
        self._set_aside(chunk, unit, digest)
        return True

    def _passed_over(self, chunk: Chunk, unit: Sequence[Raw]) -> bool:
        """Whether a unit is set aside, or the header above it."""
        found = not self._known.keys().isdisjoint((_digest(chunk, unit), _digest(chunk, unit[:1])))
        self.count += found
        return found

    def _set_aside(self, chunk: Chunk, unit: Sequence[Raw], digest: str) -> None:
        data = b"\n".join(map(as_bytes, unit))
        entry = {
            "digest": digest,
            "input": chunk.input_name,
            "origin": printable(chunk.origin, _ORIGIN_MAX),
            "time": iso_time(chunk.arrived_s),
            "bytes": len(data),
            "excerpt": printable(as_bytes(unit[-1]), _EXCERPT_MAX),
            "version": __version__,
        }
        _LOG.error(
            "message set aside, because the agent ended %d times while it handled it: %s%s%s",
            self._ends.pop(digest, ENDS_MAX),
            entry["origin"],
            ": " if entry["origin"] else "",
            entry["excerpt"],
            extra={INPUT: chunk.input_name},
        )
        self.count += 1
        self._aside.append(entry)
        self._known[digest] = entry
        self.at_rest = False
        entry["kept"] = self._keep(digest, data)
        while len(self._aside) > KEPT_MAX:
            oldest = self._aside.pop(0)["digest"]
            self._known.pop(oldest, None)
            with contextlib.suppress(OSError):
                (self._directory / KEPT / oldest).unlink()
        self._write()

    def _keep(self, digest: str, data: bytes) -> bool:
        """Keep a copy for debugging; return whether the copy is complete."""
        copy = self._directory / KEPT / digest
        try:
            copy.parent.mkdir(mode=0o700, exist_ok=True)
            copy.write_bytes(data[:KEPT_BYTES_MAX])
        except OSError as error:  # a full disk: only the excerpt remains
            _LOG.error("cannot keep a copy of the message that was set aside: %s", error)
            with contextlib.suppress(OSError):
                copy.unlink()
            return False
        return True

    def hold(self, digest: str) -> None:
        """Write the digest of the message in work to the disk."""
        self._hand = digest
        self._write()

    def passed(self, digest: str, committed: bool = True) -> None:
        """Record that a message is finished; once it is committed, its crashes are forgotten."""
        self._hand = None
        self._passed.append(digest)
        if committed:
            self._forget()

    def _forget(self) -> bool:
        """Forget the crashes of finished messages, now committed; return whether there were any."""
        had = [digest for digest in self._passed if self._ends.pop(digest, None)]
        self._passed.clear()
        return bool(had)

    def settle(self, committed: bool = True) -> None:
        """Clear the message in work and the suspicions on the disk, if there are any."""
        forgotten = committed and self._forget()
        if forgotten or (self._hand is None and self._noted is not None):
            self._write()

    def close(self, clean: bool = True) -> None:
        """Write that the process stops cleanly, or that a defect has ended a thread."""
        for digest in self.guard.innocent:
            self._ends.pop(_GUARDED + digest, None)
        if self.guard.ended_with is not None:
            self._blame(_GUARDED + self.guard.ended_with)
        if self._notes is not None:
            self._hand = None
            self._write(running=not clean)
            self._notes.close()

    def _write(self, running: bool = True) -> None:
        if self._notes is None:
            return
        document = {
            "running": running,
            "version": __version__,
            "count": self.count,
            "hand": self._hand,
            "ends": self._ends,
            "aside": self._aside,
        }
        try:
            self._notes.write(document)
        except OSError as error:
            self._complain(error)
        else:
            self._noted, self._trouble = self._hand, False

    def _complain(self, error: OSError) -> None:
        if not self._trouble:
            _LOG.error(
                "cannot write the message in work to %s, continuing without: %s",
                self._directory / NOTES,
                error.strerror or error,
            )
        self._trouble = True

    def document(self) -> dict[str, Any]:
        """Return the messages set aside, for ``status``."""
        told = self._aside[-_TOLD_MAX:]
        return {"count": self.count, "ends": ENDS_MAX, "careful": self.careful, "last": told}


def _digest(chunk: Chunk, unit: Sequence[Raw]) -> str:
    rows = map(as_bytes, unit)
    return hashlib.sha256(b"\n".join((chunk.input_name.encode(), *rows))).hexdigest()
