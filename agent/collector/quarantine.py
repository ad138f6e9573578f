"""The quarantine: refused messages, further bodies of one number, and damaged chunks.

A person can look at them.

Its space is bounded. Each gateway has a share per cause, and the whole has a share of the database.
If a share is full, its oldest entries are deleted. So a flood displaces only entries of its kind.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, get_args

from agent.collector.reading import Cause, Source
from agent.store.sqlite import Connection

BYTES_MAX: Final = 64 * 2**20  # the whole quarantine
SHARE: Final = 16  # the quarantine has this fraction (1/16) of the database's limit
CAUSE_BYTES_MAX: Final = 2**20  # per gateway and cause; this much of a flood shows enough
_CAUSES: Final = 16  # at least this many pairs of gateway and cause fill the quarantine
_BODIES_MAX: Final = 8  # of one number, besides the stored message
_KEPT_BYTES_MAX: Final = 2**16  # of the body of a refused message
_WAITING_BYTES_MAX: Final = 2**24  # between commits (0.2 s); further messages are only counted
_FREED_ROWS: Final = 10  # deleted at a time

CONFLICT: Final = "conflict"
CORRECTED: Final = "corrected"
DAMAGED: Final = "damaged"  # samples that cannot be read back from the database
CAUSES: Final = (*get_args(Cause), CONFLICT, CORRECTED, DAMAGED)

_SIZE: Final = "(length(body) + length(topic) + length(reason) + 300)"  # with its index entries
_NUMBER: Final = "site = ? AND gateway = ? AND epoch = ? AND seq = ?"


class Entry(NamedTuple):
    """A message that was not accepted."""

    gateway: str  # empty if the topic names no gateway
    cause: str
    reason: str
    topic: str
    body: bytes
    epoch: str | None = None  # with seq: the number that an accepted message already has
    seq: int | None = None

    @property
    def size_bytes(self) -> int:
        """The entry's space on the disk, computed as in ``_SIZE``."""
        return len(self.body) + len(self.topic.encode()) + len(self.reason.encode()) + 300


class Quarantine:
    """The entries of a site; they are written with the collector's commit."""

    def __init__(self, database: Connection, site: str, bytes_max: int | None) -> None:
        self._database = database
        self._site = site
        self.bytes_max = BYTES_MAX if bytes_max is None else min(bytes_max // SHARE, BYTES_MAX)
        self._cause_bytes_max = min(self.bytes_max // _CAUSES, CAUSE_BYTES_MAX)
        self._waiting: list[Entry] = []
        self._waiting_bytes = 0
        self._counts: Counter[str] = Counter()  # since the last commit
        self.read_sizes()

    def read_sizes(self) -> None:
        """Read what is on the disk; call it if a transaction with ``file`` failed."""
        sizes = self._database.execute(
            f"SELECT gateway, cause, sum{_SIZE} FROM quarantine WHERE site = ?"  # noqa: S608
            " GROUP BY gateway, cause",
            [self._site],
        )
        self._sizes = {(gateway, cause): int(size) for gateway, cause, size in sizes}

    @property
    def size_bytes(self) -> int:
        """The space of all entries on the disk."""
        return sum(self._sizes.values())

    def add(self, entry: Entry) -> None:
        """Count a message by its cause, and keep it with the next commit."""
        self._counts[entry.cause] += 1
        if entry.seq is None:
            entry = entry._replace(body=entry.body[:_KEPT_BYTES_MAX])
        size = entry.size_bytes
        if size <= self._cause_bytes_max and self._waiting_bytes + size <= _WAITING_BYTES_MAX:
            self._waiting.append(entry)
            self._waiting_bytes += size

    def bodies(self, source: Source, seq: int) -> list[bytes]:
        """Return all further bodies of a number, for any cause."""
        found = self._database.execute(
            f"SELECT body FROM quarantine WHERE {_NUMBER}",  # noqa: S608
            [self._site, *source, seq],
        )
        number = (source.gateway, source.epoch, seq)
        waiting = [e.body for e in self._waiting if (e.gateway, e.epoch, e.seq) == number]
        return [*(body for (body,) in found), *waiting]

    def add_body(self, entry: Entry, source: Source, seq: int) -> None:
        """Add a further body of a number; if it already has ``_BODIES_MAX``, only count it."""
        if len(self.bodies(source, seq)) < _BODIES_MAX:
            self.add(entry._replace(epoch=source.epoch, seq=seq))
        else:
            self._counts[entry.cause] += 1

    def write(self) -> None:
        """Write the added entries, within the caller's transaction."""
        self._file(self._waiting, self._counts)
        self._waiting, self._waiting_bytes, self._counts = [], 0, Counter()

    def file(self, entries: Sequence[Entry]) -> None:
        """Write entries at once, within the caller's transaction, whatever waits for a commit.

        What they say is nowhere else. So a body is kept whole, up to the share of its cause.
        """
        longest = self._cause_bytes_max // 2
        kept = [entry._replace(body=entry.body[:longest]) for entry in entries]
        self._file(kept, Counter(entry.cause for entry in entries))

    def _file(self, entries: Sequence[Entry], counts: Mapping[str, int]) -> None:
        now_s = time.time()
        self._database.executemany(
            "INSERT INTO quarantine (site, gateway, cause, reason, topic, body, epoch, seq,"
            " received) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(self._site, *entry, now_s) for entry in entries],
        )
        self._database.executemany(
            "INSERT INTO refused VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET count = count + excluded.count, last = excluded.last",
            [(self._site, cause, count, now_s) for cause, count in counts.items()],
        )
        for entry in entries:
            of = entry.gateway, entry.cause
            self._sizes[of] = self._sizes.get(of, 0) + entry.size_bytes
        for of in {(entry.gateway, entry.cause) for entry in entries}:
            while self._sizes.get(of, 0) > self._cause_bytes_max:
                self._free("gateway = ? AND cause = ?", of)
        while self.size_bytes > self.bytes_max:
            self._free("TRUE", ())

    def drop_older(self, before_s: float) -> None:
        """Delete entries from before a time (Unix seconds), within the caller's transaction."""
        while self._free("received < ?", (before_s,)):
            pass

    def _free(self, which: str, values: tuple[object, ...]) -> bool:
        """Delete the oldest of these entries; return whether there were any."""
        rows = self._database.execute(
            f"SELECT id, gateway, cause, {_SIZE} FROM quarantine"  # noqa: S608
            f" WHERE site = ? AND {which} ORDER BY id LIMIT ?",
            [self._site, *values, _FREED_ROWS],
        ).fetchall()
        for number, gateway, cause, size in rows:
            self._database.execute("DELETE FROM quarantine WHERE id = ?", [number])
            self._sizes[gateway, cause] -= size
            if self._sizes[gateway, cause] <= 0:
                del self._sizes[gateway, cause]
        return bool(rows)
