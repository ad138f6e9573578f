"""The collector's samples: each chunk once, first in the database, then in Parquet files.

    chunk ─commit─> table chunks (then it is acknowledged) ─an hour or a megabyte─> Parquet

A file holds many chunks, so that a year has not a million files. What is in the database is on the
disk, so an acknowledged chunk survives a power cut at any moment: a file is written again, under
the same name, until its chunks are deleted from the database.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.collector import parquet
from agent.collector.answers import Answered
from agent.collector.quarantine import DAMAGED, Entry, Quarantine
from agent.collector.reading import SAMPLES, Chunk, Refused, Source, document_of
from agent.collector.tidying import Keeping, Tidying
from agent.dialects.dialect import SAMPLES_FOLLOW
from agent.dialects.samples import CONTENT_BYTES_MAX, Samples, content_bytes, packed, unpacked
from agent.dialects.topics import gateway_topic
from agent.store.sqlite import Connection, errors_of, transaction
from agent.uplink.acknowledgements import SAMPLES_MAX
from models.errors import StoreError
from models.printable import printable

BYTES_MAX: Final = 64 * 2**20  # of chunks that are in no file yet
SHARE: Final = 8  # they have this fraction (1/8) of the database's limit
FILE_S: Final = 3600.0  # a file is written at least this often
_FILE_BYTES: Final = 2**20  # or with this many bytes of chunks
_CONTENT_BYTES_MAX: Final = 16 * 2**20  # in memory for a file
_WAITING_BYTES_MAX: Final = 8 * 2**20  # between two commits
_RETRY_S: Final = 60.0  # after a file could not be written
_RECENT_MAX: Final = 10_000  # gateways whose last chunks are remembered
_SIZE: Final = "length(about) + length(data) + 200"
_OF: Final = "site = ? AND gateway = ? AND epoch = ?"


class _Of(NamedTuple):
    """A stream in one life of its gateway's ring."""

    source: Source  # with the epoch of the ring
    stream: str


class _Known(NamedTuple):
    """What is stored of a stream."""

    through: int  # number of its last sample
    newest_s: float  # the highest time, Unix seconds
    samples: int
    missed: int


class _Recent(NamedTuple):
    """The newest chunks of a gateway."""

    ring: str  # epoch of the ring
    numbers: deque[int]  # of their last samples


class Shelved:
    """The samples of a site's gateways; everything is written with the collector's commit.

    Args:
        path: of the database.
        database: its connection.
        site: of the gateways.
        bytes_max: the limit of the database's size; None: without one.
        keeping: how much of the files is kept.
        quarantine: for chunks that were damaged in the database.

    """

    def __init__(
        self,
        path: Path,
        database: Connection,
        site: str,
        bytes_max: int | None,
        keeping: Keeping,
        quarantine: Quarantine,
    ) -> None:
        self._path, self._database, self._site = path, database, site
        self._quarantine = quarantine
        self.bytes_max = BYTES_MAX if bytes_max is None else min(bytes_max // SHARE, BYTES_MAX)
        self._tidying = Tidying(path.parent / parquet.FOLDER, keeping)
        self._known: dict[_Of, _Known] = {}
        self._waiting: list[tuple[_Of, str, bytes]] = []
        self._waiting_bytes = 0
        self._recent: dict[Source, _Recent] = {}
        self._next_try_s = 0.0  # monotonic
        self.repeated = 0  # samples that were in a file already
        self._damaged: list[Entry] = []  # chunks in the quarantine
        self._staged: dict[_Of, tuple[int, float]] = {  # bytes, and arrival of the oldest
            _Of(Source(gateway, epoch), stream): (size, oldest)
            for gateway, epoch, stream, size, oldest in database.execute(
                f"SELECT gateway, epoch, stream, sum({_SIZE}), min(received) FROM chunks"  # noqa: S608
                " WHERE site = ? GROUP BY gateway, epoch, stream",
                [site],
            )
        }

    @property
    def size_bytes(self) -> int:
        """The space of the chunks in the database."""
        return sum(size for size, _ in self._staged.values())

    @property
    def is_full(self) -> bool:
        """Whether so much waits in memory that a commit must come first."""
        return self._waiting_bytes >= _WAITING_BYTES_MAX

    def take(self, chunk: Chunk) -> int:
        """Take in a chunk with the next commit, without the samples that are stored already.

        Return how many were not.

        Raises:
            Refused: there is no room, or its numbers belong to other samples.
            StoreError: the database cannot be read.

        """
        of = _Of(chunk.ring, chunk.stream)
        known = self._look_up(of)
        last = int(chunk.samples.numbers[-1])
        if last <= known.through:
            if float(chunk.samples.times[0]) > known.newest_s:
                raise Refused("implausible", "its numbers belong to earlier samples")
            self._note(chunk, last)
            return 0
        about, data, samples = chunk.about, chunk.data, chunk.samples
        if int(samples.numbers[0]) <= known.through:  # a part is stored
            samples = samples.after(known.through)
            about, data = packed(samples)
        self._wait(of, about, data)
        self._known[of] = _Known(
            last,
            max(known.newest_s, float(samples.times.max())),
            known.samples + len(samples.times),
            max(known.missed, chunk.missed),
        )
        self._note(chunk, last)
        return len(samples.times)

    def take_answer(self, answered: Answered) -> None:
        """Take in samples of an answered request with the next commit.

        Which of them are known is seen when they are written to a file.

        Raises:
            Refused: there is no room.
            StoreError: the database cannot be read.

        """
        samples = answered.samples
        of = _Of(Source(answered.gateway, parquet.ANSWERED), answered.stream)
        known = self._look_up(of)
        self._wait(of, *packed(samples))
        self._known[of] = known._replace(
            through=max(known.through, int(samples.numbers[-1])),
            newest_s=max(known.newest_s, float(samples.times[-1])),
        )

    def _wait(self, of: _Of, about: Mapping[str, Any], data: bytes) -> None:
        """Keep a chunk for the next commit."""
        text = json.dumps(about, separators=(",", ":"))
        if self.size_bytes + self._waiting_bytes + len(text) + len(data) > self.bytes_max:
            raise Refused("no_room", "too many samples wait for being written to files")
        self._waiting.append((of, text, data))
        self._waiting_bytes += len(text) + len(data) + 200

    def _look_up(self, of: _Of) -> _Known:
        known = self._known.get(of)
        if known is None:
            with errors_of(self._path):
                row = self._database.execute(
                    f"SELECT through, newest, samples, missed FROM sampled WHERE {_OF}"  # noqa: S608
                    " AND stream = ?",
                    [self._site, *of.source, of.stream],
                ).fetchone()
            known = self._known[of] = _Known(*row) if row else _Known(0, -1e300, 0, 0)
        return known

    def _note(self, chunk: Chunk, last: int) -> None:
        recent = self._recent.pop(chunk.source, None)
        if recent is None or recent.ring != chunk.ring.epoch:
            recent = _Recent(chunk.ring.epoch, deque(maxlen=SAMPLES_MAX))
        recent.numbers.append(last)
        self._recent[chunk.source] = recent
        if len(self._recent) > _RECENT_MAX:
            del self._recent[next(iter(self._recent))]

    def recent(self, source: Source) -> dict[str, Any]:
        """Return what an acknowledgement says of samples: the newest chunks of the newest ring."""
        found = self._recent.get(source)
        if found is None:
            return {}
        ring = {} if found.ring == source.epoch else {"ring": found.ring}
        return {"samples": list(found.numbers)} | ring

    def write(self) -> None:
        """Write what was taken in, within the caller's transaction."""
        now_s = time.time()
        self._database.executemany(
            "INSERT INTO chunks (site, gateway, epoch, stream, about, data, received)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (self._site, *of.source, of.stream, about, data, now_s)
                for of, about, data in self._waiting
            ],
        )
        for of in dict.fromkeys(of for of, _, _ in self._waiting):
            self._database.execute(
                "INSERT OR REPLACE INTO sampled VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [self._site, *of.source, of.stream, *self._known[of], now_s],
            )

    def written(self) -> None:
        """Follow the commit of what was written."""
        now_s = time.time()
        for of, about, data in self._waiting:
            size, oldest = self._staged.get(of, (0, now_s))
            self._staged[of] = size + len(about) + len(data) + 200, oldest
        self._waiting, self._waiting_bytes = [], 0
        if len(self._known) > _RECENT_MAX:
            self._known = {}

    def file_some(self, all_of_it: bool = False) -> int:
        """Write the chunks of one stream to files if that is due; return how many samples.

        Args:
            all_of_it: it is due.

        Raises:
            StoreError: a file or the database cannot be written; the chunks stay, and a later call
                tries again.

        """
        now = time.monotonic()
        if now < self._next_try_s:
            return 0
        of = next(iter(self._staged), None) if all_of_it else self._due(time.time())
        if of is None:
            return 0
        self._next_try_s = now + _RETRY_S  # if it fails
        count = self._file(of)
        self._next_try_s = 0.0
        return count

    def _due(self, now_s: float) -> _Of | None:
        for of, (size, oldest) in self._staged.items():
            if size >= _FILE_BYTES or not oldest <= now_s < oldest + FILE_S:
                return of
        if 2 * self.size_bytes > self.bytes_max:
            return max(self._staged, key=lambda of: self._staged[of])
        return None

    def _file(self, of: _Of) -> int:
        with errors_of(self._path):
            rows = self._database.execute(
                # as bytes: a text that is not UTF-8 is damage of one chunk, not of the database
                f"SELECT id, CAST(about AS BLOB), CAST(data AS BLOB) FROM chunks"  # noqa: S608
                f" WHERE {_OF} AND stream = ? ORDER BY id",
                [self._site, *of.source, of.stream],
            )
            samples: list[Samples] = []
            damaged: list[Entry] = []
            last, size = 0, 0
            for number, about, data in rows:
                if size > _CONTENT_BYTES_MAX - CONTENT_BYTES_MAX:
                    break
                try:
                    samples.append(unpacked(document_of(about), data))
                    size += content_bytes(len(samples[-1].times), len(samples[-1].channels))
                except (ValueError, RecursionError) as error:
                    damaged.append(self._entry(of, str(error), about + SAMPLES_FOLLOW + data))
                    size += damaged[-1].size_bytes
                last = number
        count = sum(len(some.times) for some in samples)
        repeated = parquet.write(self._path.parent, of.source, of.stream, samples)
        self._forget_in_files(of, last, count - repeated, damaged)
        if of.source.epoch == parquet.ANSWERED and (known := self._known.get(of)) is not None:
            self._known[of] = known._replace(samples=known.samples + count - repeated)
        self.repeated += repeated
        return count

    def _entry(self, of: _Of, why: str, body: bytes) -> Entry:
        topic = gateway_topic(self._site, of.source.gateway, f"{SAMPLES}/{of.stream}")
        reason = f"damaged in {self._path.name}, and in no file: {printable(why)}"
        return Entry(of.source.gateway, DAMAGED, reason, topic, body)

    def _forget_in_files(self, of: _Of, last: int, filed: int, damaged: Sequence[Entry]) -> None:
        """Delete the chunks up to one; the damaged ones move to the quarantine with that."""
        try:
            with transaction(self._database, self._path):
                self._quarantine.file(damaged)
                left = self._forget(of, last, filed)
        except StoreError:
            self._quarantine.read_sizes()
            raise
        if left[0] is None:
            del self._staged[of]
        else:
            self._staged[of] = left
        self._damaged += damaged

    def damaged(self) -> list[Entry]:
        """Return the chunks that were damaged in the database since the last call."""
        damaged, self._damaged = self._damaged, []
        return damaged

    def _forget(self, of: _Of, last: int, filed: int) -> Any:
        """Delete the chunks up to one, within the caller's transaction.

        Return size and arrival of those that are left.
        """
        key = [self._site, *of.source, of.stream]
        self._database.execute(
            f"DELETE FROM chunks WHERE {_OF} AND stream = ? AND id <= ?",  # noqa: S608
            [*key, last],
        )
        if of.source.epoch == parquet.ANSWERED:  # only now it is known how many are new
            self._database.execute(
                f"UPDATE sampled SET samples = samples + ? WHERE {_OF} AND stream = ?",  # noqa: S608
                [filed, *key],
            )
        return self._database.execute(
            f"SELECT sum({_SIZE}), min(received) FROM chunks WHERE {_OF} AND stream = ?",  # noqa: S608
            key,
        ).fetchone()

    def drop_old(self) -> int:
        """Delete the files of the oldest days if they are too old or too many; return how many."""
        return self._tidying.look()
