"""What a power cut leaves: disks rebuilt from the journal of ``tests.disk``.

A writer commits through the store and has every write, truncation, sync and deletion below SQLite
written down. A cut at any point of that journal leaves of each file what was synced, and of what
was written since any part, in sectors of 512 bytes. Names of files that were made or deleted since
the directory was synced may be there or not.
"""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.store.batch import THROUGH, Batch
from agent.store.reader import Reader
from agent.store.record import Kind, Outgoing
from agent.store.writer import Store
from models.messages import Samples
from tests.conftest import ROOT
from tests.disk import Layer, Op

SECTOR = 512
SAVED_EACH = 10  # commits: the defaults are a commit a second, and the memory each 10 s


@dataclass
class File:
    """A file as it is in memory, and as it is on the disk."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Op] = field(default_factory=list)  # writes and truncations
    named: bool = False  # whether its name is on the disk

    def sync(self) -> None:
        for op in self.since:
            apply(self.synced, op)
        self.since.clear()

    def after_a_cut(self, moment: random.Random) -> bytes:
        share = moment.choice([0.0, 0.5, 0.9, 1.0])
        data = bytearray(self.synced)
        for op in self.since:
            if op.what == "truncate":
                if moment.random() < share:
                    apply(data, op)
                continue
            for begin in range(0, len(op.data), SECTOR - op.offset % SECTOR or SECTOR):
                end = begin + SECTOR
                if moment.random() < share:
                    apply(data, Op("write", op.path, op.offset + begin, op.data[begin:end]))
        return bytes(data)


def apply(data: bytearray, op: Op) -> None:
    if op.what == "truncate":
        del data[op.offset :]
        data.extend(bytes(op.offset - len(data)))
        return
    data.extend(bytes(max(0, op.offset - len(data))))
    data[op.offset : op.offset + len(op.data)] = op.data


@dataclass
class Said:
    """What the writer knew when the power went."""

    last_seq: int = 0
    alarm: int = 0
    samples: int = 0
    acknowledged: int = 0  # all numbers up to it, by central ops
    deleted: int = 0
    saved: int = 0  # samples that the stream's memory knows of


class Disk:
    """The files of a directory over the journal."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self._deleted: dict[str, File] = {}  # their names may come back
        self.said = Said()

    def do(self, op: Op) -> None:
        name = Path(op.path).name
        match op.what:
            case "open":
                self.files[name] = File()
            case "write" | "truncate":
                self.files.setdefault(name, File()).since.append(op)
            case "sync":
                self.files[name].sync()
                self._sync_names()  # SQLite syncs the directory with a new log or journal
            case "delete":
                file = self.files.pop(name, None)
                if file is not None and file.named:
                    self._deleted[name] = file
            case "remark":
                self.said = op.data

    def _sync_names(self) -> None:
        for file in self.files.values():
            file.named = True
        self._deleted.clear()

    def cut(self, directory: Path, moment: random.Random) -> None:
        """Write what a cut leaves into ``directory``."""
        directory.mkdir()
        for name, file in self._deleted.items():
            if moment.random() < 0.5:
                (directory / name).write_bytes(file.after_a_cut(moment))
        for name, file in self.files.items():
            if file.named or moment.random() < 0.5:
                (directory / name).write_bytes(file.after_a_cut(moment))


class Finding(AssertionError):
    """A cut that cost more than it may."""


def opened(directory: Path) -> Store:
    store = Store(directory, "plant", "gw-1", 10**5, 4000)
    store.open()
    return store


def write(directory: Path, commits: int, seed: int) -> list[Op]:
    """Commit as an agent does, with a restart; return the journal."""
    journal: list[Op] = []
    Layer(journal)
    directory.mkdir()
    moment = random.Random(seed)
    said = Said()
    store = opened(directory)
    for number in range(commits):
        if number == commits // 2:
            store.close()
            store = opened(directory)
        said = _commit(store, said, moment, remember=number % SAVED_EACH == 0)
        journal.append(Op("remark", "", data=said))
    store.close()
    return journal


def _commit(store: Store, said: Said, moment: random.Random, remember: bool) -> Said:
    # a sensor may be silent when the memory is saved: what came before is to be synced all the same
    count = 0 if remember and moment.random() < 0.5 else moment.randrange(1, 40)
    times = said.samples + np.arange(count, dtype=np.float64)
    chunk = Samples(times, np.ones((count, 8), np.float32))
    kinds: list[Kind] = ["summary"] * moment.randrange(3)
    alarms = []
    if moment.random() < 0.2:
        alarms = [{"stream": "pump", "number": said.alarm + 1, "state": "opened"}]
        kinds.append("alarm")
    acked = list(range(said.deleted + 1, said.acknowledged + 1))
    samples = said.samples + count
    memory = {
        "head": str(samples).encode() * 300,
        THROUGH: str(store.readings.next_sample + count).encode(),
    }
    batch = Batch(
        samples=[("pump", chunk, np.ones(count, np.float32))] if count else [],
        messages=[Outgoing(kind, "pump", 1.7e9, {"text": "x" * 500}) for kind in kinds],
        alarms=alarms,
        state={"pump": memory} if remember else {},
        acked=acked,
        status=lambda: json.dumps({"samples": samples}),
    )
    store.commit(batch, "synced")
    return Said(
        last_seq=store.last_seq,
        alarm=said.alarm + len(alarms),
        samples=samples,
        acknowledged=moment.randrange(said.acknowledged, store.last_seq + 1),
        deleted=said.acknowledged,
        saved=samples if remember else said.saved,
    )


@dataclass
class Cost:
    """What cuts cost, over all of them."""

    cuts: int = 0
    samples_max: int = 0  # that were committed, and are gone
    commits_max: int = 0


def check(directory: Path, said: Said, epoch: str, remarks: list[Said], cost: Cost) -> None:
    """Open what a cut left with our own code; say where it lacks what was said."""
    cost.cuts += 1
    store = opened(directory)
    try:
        if store.set_aside:
            raise Finding(f"a power cut was taken for damage: {store.document()['damage']}")
        if said.last_seq and store.origin.epoch != epoch:
            raise Finding("another epoch")
        if store.last_seq < said.last_seq or store.records.last_alarm_number("pump") < said.alarm:
            raise Finding(f"number {store.last_seq}, and {said.last_seq} was committed")
        memory = store.records.state("pump")
        remembered = len(memory.get("head", b"")) // 300
        if remembered < len(str(said.saved)) * bool(said.saved):
            raise Finding("the stream's memory is gone")
        with Reader(directory) as reader:
            waiting = [one.seq for one in reader.outbox(["alarm", "summary"], 0, 10**6)]
            chunks = reader.newest_samples("pump", 10**6)
        if any(seq <= said.deleted for seq in waiting):
            raise Finding("what was acknowledged and deleted is back")
        # what is acknowledged may be deleted by the commit that was cut
        if set(range(said.acknowledged + 1, said.last_seq + 1)) - set(waiting):
            raise Finding("a message is gone that nobody acknowledged")
        kept = np.concatenate([np.frombuffer(times) for times, *_ in chunks] or [np.empty(0)])
        if len(kept) and not np.array_equal(kept, kept[0] + np.arange(len(kept))):
            raise Finding("the ring has a hole")
        newest = int(kept[-1]) + 1 if len(kept) else 0
        if newest < said.saved or store.readings.next_sample < int(memory.get(THROUGH, b"0")):
            raise Finding("the stream's memory knows of samples that are gone")
        cost.samples_max = max(cost.samples_max, said.samples - newest)
        lost = sum(newest < one.samples <= said.samples for one in remarks)
        cost.commits_max = max(cost.commits_max, lost)
        store.commit(Batch(messages=[Outgoing("alarm", "pump", 0.0, {})]), "synced")
    finally:
        store.close()


def journal_of(live: Path, commits: int, seed: int) -> list[Op]:
    """Write in a process of its own, as the layer stays; return the journal."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.power_cut", str(live), str(commits), str(seed)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
    )
    journal: list[Op] = pickle.loads(ended.stdout)
    return journal


def cut_journal(journal: list[Op], live: Path, directory: Path, cuts: int, seed: int) -> Cost:
    """Cut at random points; half of them just before a sync, where most is at stake."""
    moment = random.Random(seed)
    syncs = [at for at, op in enumerate(journal) if op.what == "sync"] or [len(journal)]
    points = sorted(
        moment.choice(syncs) if moment.random() < 0.5 else moment.randrange(len(journal))
        for _ in range(cuts)
    )
    remarks = [op.data for op in journal if op.what == "remark"]
    with Reader(live) as reader:
        epoch = str(reader.meta("epoch"))
    disk, cost, at = Disk(), Cost(), 0
    for number, point in enumerate(points):
        for op in journal[at:point]:
            disk.do(op)
        at = point
        target = directory / f"cut-{number}"
        disk.cut(target, moment)
        try:
            check(target, disk.said, epoch, remarks, cost)
        except Finding as finding:
            raise Finding(f"cut {number}, at {point} of {len(journal)}: {finding}") from None
    return cost


if __name__ == "__main__":
    from tests.power_cut import write as write_here  # so that what is pickled has its true name

    operations = write_here(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.buffer.write(pickle.dumps(operations))
