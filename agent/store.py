"""What the gateway saw, said and still has to say, in SQLite.

Two files in one directory. ``fieldwatch.db`` has what must survive a power cut (alarms, the
outbox, the streams' state): every commit is on the disk before it is over (synchronous=FULL).
``readings.db`` has the ring of samples and the status: consistent after a power cut, but the
last commits may be gone (NORMAL). One read-write connection per file, the loop's; everyone else
reads through ``Reader``, which can neither write nor checkpoint.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agent.compaction import compact
from agent.envelope import Envelope, Outgoing
from agent.schema import (
    LOCK,
    Connection,
    Synchronous,
    bytes_used,
    errors_of,
    give_back,
    lock,
    open_for_reading,
    open_for_writing,
    transaction,
)
from agent.schema import READINGS as READINGS
from agent.schema import RECORDS as RECORDS
from models.errors import StoreError

if TYPE_CHECKING:
    from models.messages import Float32, Samples

# evicted in this order when the outbox is full; alarms go only when nothing else is left
_ROWS_DROPPED = 1000  # at a time, so that a commit does not take long
_EVICTION = ("health", "summary", "alarm")
_CROWDED = 0.75  # of the outbox's cap; above it, summaries are merged


@dataclass(slots=True)
class Batch:
    """What one commit holds; the loop fills it."""

    samples: list[tuple[str, Samples, Float32]] = field(default_factory=list)  # with the scores
    alarms: list[dict[str, Any]] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)
    state: dict[str, dict[str, bytes]] = field(default_factory=dict)  # stream -> part -> data
    acked: list[int] = field(default_factory=list)
    status: Callable[[], str] | None = None  # asked once the rest is written, so that it counts it

    def rows(self) -> int:
        """Return how many samples it holds."""
        return sum(len(samples.times) for _, samples, _ in self.samples)

    def shed_samples(self, rows_max: int) -> int:
        """Drop the oldest samples beyond ``rows_max``; return how many. Nothing else is dropped."""
        rows, dropped = self.rows(), 0
        while rows - dropped > rows_max:
            dropped += len(self.samples.pop(0)[1].times)
        return dropped


@dataclass(slots=True)
class _Totals:
    """What the tables add up to, so that nobody has to count; as of the last commit."""

    last_seq: int
    outbox_rows: int
    evicted: dict[str, int]  # kind -> messages
    merged: int  # summaries that others have taken in


class Store:
    """The read-write side; one thread of one process uses it."""

    def __init__(
        self,
        directory: Path,
        site: str,
        gateway: str,
        outbox_rows_max: int,
        ring_rows_max: int,
        *,
        alarm_rows_max: int = 100_000,
        bytes_max: int = 2**30,
    ) -> None:
        self.directory = directory
        self._site, self._gateway = site, gateway
        self._outbox_rows_max, self._ring_rows_max = outbox_rows_max, ring_rows_max
        self._alarm_rows_max, self._bytes_max = alarm_rows_max, bytes_max
        self._samples_evicted = 0  # for the size, since the start
        self._compacted_through = 0  # seq where the next merging begins
        self.set_aside: list[Path] = []  # damaged files found at the opening

    def limit(
        self, outbox_rows_max: int, ring_rows_max: int, alarm_rows_max: int, bytes_max: int
    ) -> None:
        """Set new caps; what is too much goes with the next commits."""
        self._outbox_rows_max, self._ring_rows_max = outbox_rows_max, ring_rows_max
        self._alarm_rows_max, self._bytes_max = alarm_rows_max, bytes_max

    def open(self) -> None:
        """Open both files, making or mending them as needed.

        Raises:
            StoreError: the directory cannot be used, or another agent uses it.

        """
        with contextlib.ExitStack() as opening:
            with errors_of(self.directory):
                opening.enter_context(lock(self.directory / LOCK))
            self._records = self._opened(RECORDS, "FULL", opening)
            self._readings = self._opened(READINGS, "NORMAL", opening)
            with errors_of(self.directory):
                self._read_totals()
            self._closing = opening.pop_all()

    def _opened(
        self, name: str, synchronous: Synchronous, opening: contextlib.ExitStack
    ) -> Connection:
        connection, aside = open_for_writing(self.directory / name, synchronous)
        if aside is not None:
            self.set_aside.append(aside)
        return opening.enter_context(contextlib.closing(connection))

    def _read_totals(self) -> None:
        meta = dict(self._records.execute("SELECT key, value FROM meta").fetchall())
        (outbox_rows,) = self._records.execute("SELECT count(*) FROM outbox").fetchone()
        evicted = {kind: int(meta.get(f"evicted_{kind}", 0)) for kind in _EVICTION}
        self._totals = _Totals(
            int(meta["last_seq"]), outbox_rows, evicted, int(meta.get("merged", 0))
        )
        self.envelope = Envelope(self._site, self._gateway, str(meta["epoch"]))
        newest = self._readings.execute(
            "SELECT number + rows FROM samples ORDER BY number DESC LIMIT 1"
        ).fetchone()
        self._next_sample: int = newest[0] if newest else 1
        self._ring_rows = self._next_sample - self._oldest_sample(self._next_sample)

    def _oldest_sample(self, next_sample: int) -> int:
        (oldest,) = self._readings.execute("SELECT min(number) FROM samples").fetchone()
        return next_sample if oldest is None else int(oldest)

    def commit(self, batch: Batch, clock: str) -> None:
        """Write the batch and empty it of what was written.

        The samples first: what a kill leaves stored without the streams' memory of it is scored
        again at the next start; a memory of samples that are not there would never miss them.

        ``clock`` is the quality of the gateway's clock, for the messages.

        Raises:
            StoreError: disk full, read-only, I/O error; what is left in the batch was not
                written and can be committed again.

        """
        trouble: StoreError | None = None
        try:
            self._commit_samples(batch)
        except StoreError as error:  # does not hold back alarms
            trouble = error
        self._commit_records(batch, clock)
        if trouble is not None:
            raise trouble
        self._commit_status(batch)
        for connection in (self._records, self._readings):
            give_back(connection)

    def _commit_records(self, batch: Batch, clock: str) -> None:
        totals = replace(self._totals, evicted=dict(self._totals.evicted))
        with transaction(self._records, self.directory / RECORDS):
            self._write_alarms(batch.alarms)
            self._records.executemany(
                "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
                (
                    (stream, part, data)
                    for stream, parts in batch.state.items()
                    for part, data in parts.items()
                ),
            )
            self._delete_acknowledged(batch.acked, totals)
            self._write_messages(batch.messages, clock, totals)
        self._totals = totals
        batch.alarms, batch.messages, batch.state, batch.acked = [], [], {}, []

    def _write_alarms(self, alarms: list[dict[str, Any]]) -> None:
        if not alarms:
            return
        self._records.executemany(
            """INSERT INTO alarms (stream, number, state, document) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET state = excluded.state, document = excluded.document""",
            [(a["stream"], a["number"], a["state"], json.dumps(a)) for a in alarms],
        )
        # ids count up, so this needs no counting of rows; what is open stays
        self._records.execute(
            """DELETE FROM alarms
            WHERE id <= (SELECT max(id) FROM alarms) - ? AND state = 'closed'""",
            [self._alarm_rows_max],
        )

    def _delete_acknowledged(self, acked: list[int], totals: _Totals) -> None:
        deleted = self._records.executemany(
            "DELETE FROM outbox WHERE seq = ?", ((seq,) for seq in acked)
        )
        totals.outbox_rows -= deleted.rowcount

    def _write_messages(self, messages: list[Outgoing], clock: str, totals: _Totals) -> None:
        if not messages:
            return
        self._records.executemany(
            "INSERT INTO outbox VALUES (?, ?, ?, ?)", self._numbered(messages, clock, totals)
        )
        self._compact(totals)
        self._evict(totals)
        self._records.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", [totals.last_seq])

    def _numbered(
        self, messages: list[Outgoing], clock: str, totals: _Totals
    ) -> Iterator[tuple[int, str, str, bytes]]:
        for message in messages:
            totals.last_seq += 1
            totals.outbox_rows += 1
            yield (
                totals.last_seq,
                message.kind,
                self.envelope.topic(message.kind, message.stream),
                self.envelope.numbered(message, totals.last_seq, clock),
            )

    def _compact(self, totals: _Totals) -> None:
        """Merge some summaries where the outbox is crowded: that costs detail, no message."""
        if totals.outbox_rows <= _CROWDED * self._outbox_rows_max:
            return
        done = compact(self._records, self.envelope, totals.last_seq, self._compacted_through)
        self._compacted_through, totals.last_seq = done.after, done.last_seq
        totals.outbox_rows -= done.merged - done.written
        totals.merged += done.merged - done.written
        self._records.execute("INSERT OR REPLACE INTO meta VALUES ('merged', ?)", [totals.merged])

    def _evict(self, totals: _Totals) -> None:
        """Keep the outbox to its cap: health first, then summaries, oldest first; all counted."""
        for kind in _EVICTION:
            excess = totals.outbox_rows - self._outbox_rows_max
            if excess > 0:
                self._drop(kind, excess, totals)
        for kind in _EVICTION:  # samples go first, with their own commits
            while self._too_large() and not self._ring_rows:
                if not self._drop(kind, _ROWS_DROPPED, totals):
                    break

    def _drop(self, kind: str, rows_max: int, totals: _Totals) -> int:
        """Drop the oldest messages of a kind; return how many."""
        gone = self._records.execute(
            """DELETE FROM outbox WHERE seq IN
            (SELECT seq FROM outbox WHERE kind = ? ORDER BY seq LIMIT ?)""",
            [kind, rows_max],
        ).rowcount
        if gone:
            totals.outbox_rows -= gone
            totals.evicted[kind] += gone
            self._records.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [f"evicted_{kind}", totals.evicted[kind]],
            )
        return gone

    def _too_large(self) -> bool:
        return sum(map(bytes_used, (self._records, self._readings))) > self._bytes_max

    def _commit_samples(self, batch: Batch) -> None:
        before = self._next_sample, self._ring_rows
        try:
            with transaction(self._readings, self.directory / READINGS):
                self._write_samples(batch.samples)
                evicted = self._evict_samples()
        except StoreError:
            self._next_sample, self._ring_rows = before
            raise
        self._samples_evicted += evicted
        batch.samples = []

    def _commit_status(self, batch: Batch) -> None:
        if batch.status is not None:
            with transaction(self._readings, self.directory / READINGS):
                self._readings.execute(
                    "INSERT OR REPLACE INTO status VALUES (1, ?)", [batch.status()]
                )
        batch.status = None

    def _evict_samples(self) -> int:
        """Drop the oldest samples while the store is too large, some a commit; return how many."""
        before = self._ring_rows
        if self._ring_rows and self._too_large():
            self._readings.execute(
                """DELETE FROM samples WHERE number IN
                (SELECT number FROM samples ORDER BY number LIMIT ?)""",
                [_ROWS_DROPPED],
            )
            self._ring_rows = self._next_sample - self._oldest_sample(self._next_sample)
        return before - self._ring_rows

    def _write_samples(self, chunks: list[tuple[str, Samples, Float32]]) -> None:
        if not chunks:
            return
        for stream, samples, score in chunks:
            rows = len(samples.times)
            self._readings.execute(
                "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?)",
                (
                    self._next_sample,
                    rows,
                    stream,
                    samples.times.tobytes(),
                    samples.values.tobytes(),
                    score.tobytes(),
                ),
            )
            self._next_sample += rows
        self._readings.execute(
            "DELETE FROM samples WHERE number < ?", [self._next_sample - self._ring_rows_max]
        )
        self._ring_rows = self._next_sample - self._oldest_sample(self._next_sample)

    def state(self, stream: str) -> dict[str, bytes]:
        """Return the parts of a stream's state that were committed last."""
        return dict(self._select("SELECT part, data FROM state WHERE stream = ?", stream))

    @property
    def next_sample(self) -> int:
        """Number that the next sample will have, over all streams."""
        return self._next_sample

    def samples_from(self, stream: str, number: int) -> list[tuple[bytes, bytes]]:
        """Return times (f8) and values (f4) of a stream's samples from this number on, in order."""
        with errors_of(self.directory / READINGS):
            return self._readings.execute(
                "SELECT times, readings FROM samples WHERE stream = ? AND number >= ?"
                " ORDER BY number",
                [stream, number],
            ).fetchall()

    def forget_state(self, stream: str) -> None:
        """Drop a stream's state: it belongs to another bundle."""
        with transaction(self._records, self.directory / RECORDS):
            self._records.execute("DELETE FROM state WHERE stream = ?", [stream])

    def open_alarms(self, stream: str) -> list[dict[str, Any]]:
        """Return the stream's alarms that are open."""
        rows = self._select(
            "SELECT document FROM alarms WHERE state = 'opened' AND stream = ? ORDER BY id", stream
        )
        return [json.loads(document) for (document,) in rows]

    def last_alarm_number(self, stream: str) -> int:
        """Return the number of the stream's newest alarm; 0 before the first."""
        ((number,),) = self._select("SELECT max(number) FROM alarms WHERE stream = ?", stream)
        return number or 0

    def _select(self, statement: str, stream: str) -> list[Any]:
        with errors_of(self.directory / RECORDS):
            return self._records.execute(statement, [stream]).fetchall()

    @property
    def last_seq(self) -> int:
        """Highest number given to a message that is committed."""
        return self._totals.last_seq

    def document(self) -> dict[str, Any]:
        """Say how full it is, for ``status``."""
        return {
            "epoch": self.envelope.epoch,
            "last_seq": self._totals.last_seq,
            "outbox_rows": self._totals.outbox_rows,
            "ring_rows": self._ring_rows,
            "evicted": dict(self._totals.evicted),
            "samples_evicted": self._samples_evicted,
            "bytes": sum(map(bytes_used, (self._records, self._readings))),
            "merged": self._totals.merged,
            "set_aside": [path.name for path in self.set_aside],
        }

    def close(self) -> None:
        """Close both files and let others in."""
        self._closing.close()


class Reader:
    """The read-only side: for ``status``, ``alarms``, the uplink and the demo; for one thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> Self:
        """Return itself; files are opened when first asked."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was opened."""
        for connection in self._connections.values():
            connection.close()

    def alarms(self, limit: int, open_only: bool = False) -> list[dict[str, Any]]:
        """Return the newest alarms, oldest of them first."""
        rows = self._query(
            RECORDS,
            f"""SELECT document FROM alarms {"WHERE state = 'opened'" if open_only else ""}
            ORDER BY id DESC LIMIT ?""",  # noqa: S608 - no input in it
            [limit],
        )
        return [json.loads(document) for (document,) in reversed(rows)]

    def status(self) -> dict[str, Any]:
        """Return the agent's last status.

        Raises:
            StoreError: there is no database, or it has no status yet.

        """
        rows = self._query(READINGS, "SELECT document FROM status", [])
        if not rows:
            raise StoreError(f"{self._directory}: no status yet; is the agent running?")
        document: dict[str, Any] = json.loads(rows[0][0])
        return document

    def newest_samples(self, stream: str, rows: int) -> list[tuple[bytes, bytes, bytes]]:
        """Return times (f8), values (f4) and scores (f4) of the newest samples, oldest first.

        In the chunks they were stored in; the first may begin earlier than asked for.
        """
        chunks = self._query(
            READINGS,
            """SELECT times, readings, scores FROM (
                SELECT *, sum(rows) OVER (ORDER BY number DESC) - rows AS newer FROM (
                    SELECT * FROM samples WHERE stream = ? ORDER BY number DESC LIMIT ?))
            WHERE newer < ? ORDER BY number""",
            [stream, rows, rows],
        )
        return chunks

    def outbox(
        self, kinds: Sequence[str], after: int, limit: int, held: Sequence[str] = ()
    ) -> list[tuple[int, str, bytes]]:
        """Return seq, topic and body of the next messages of these kinds, in order.

        Topics that are ``held`` are passed over.
        """
        return self._query(
            RECORDS,
            f"""SELECT seq, topic, body FROM outbox WHERE kind IN ({_marks(kinds)}) AND seq > ?
            AND topic NOT IN ({_marks(held)}) ORDER BY seq LIMIT ?""",  # noqa: S608
            [*kinds, after, *held, limit],
        )

    def waiting(self, first: int, last: int) -> list[int]:
        """Return which numbers from ``first`` to ``last`` are in the outbox."""
        rows = self._query(
            RECORDS, "SELECT seq FROM outbox WHERE seq BETWEEN ? AND ? ORDER BY seq", [first, last]
        )
        return [seq for (seq,) in rows]

    def waiting_above(self, low: int, limit: int) -> tuple[list[int], int]:
        """Return the next numbers in the outbox above ``low``, and up to where that is all of them.

        The end is the highest number given so far, where there are fewer than ``limit``.
        """
        rows = self._query(
            RECORDS,
            """SELECT seq, (SELECT value FROM meta WHERE key = 'last_seq') FROM (
                SELECT seq FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?)
            UNION ALL SELECT NULL, value FROM meta WHERE key = 'last_seq'""",
            [low, limit],
        )
        seqs = [seq for seq, _ in rows if seq is not None]
        return seqs, seqs[-1] if len(seqs) == limit else int(rows[-1][1])

    def state(self, stream: str) -> dict[str, bytes]:
        """Return the parts of a stream's state that were committed last."""
        rows = self._query(RECORDS, "SELECT part, data FROM state WHERE stream = ?", [stream])
        return dict(rows)

    def meta(self, key: str) -> Any:
        """Return the epoch, or another value that belongs to the whole database."""
        ((value,),) = self._query(RECORDS, "SELECT value FROM meta WHERE key = ?", [key])
        return value

    def outbox_rows(self) -> int:
        """Return how many messages wait."""
        ((count,),) = self._query(RECORDS, "SELECT count(*) FROM outbox", [])
        return int(count)

    def _query(self, name: str, statement: str, values: Sequence[Any]) -> list[Any]:
        with errors_of(self._directory / name):
            if name in self._connections:
                return self._connections[name].execute(statement, values).fetchall()
            connection, lasting = open_for_reading(self._directory / name)
            if lasting:
                self._connections[name] = connection
                return connection.execute(statement, values).fetchall()
            with contextlib.closing(connection):
                return connection.execute(statement, values).fetchall()


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
