"""The longest commits of a store at its cap: what holds up the loop, and for how long.

python -m tests.bench.stall [--bytes-max 256] [--outbox 100000] [--commits 3000] [--directory DIR]

The outbox is full and in part acknowledged meanwhile, as after an outage; samples are evicted for
the size; one commit in ten saves the memory of all streams.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent.store.batch import THROUGH, Batch
from agent.store.reader import Reader
from agent.store.record import Outgoing
from agent.store.writer import Store
from agent.uplink.sender import DELETED_MAX
from models.messages import Samples

STREAMS = 10
ROWS = 10  # of a stream in a commit
_CHANNELS = 8
_FILL = 1000  # messages a commit


def summary(number: int) -> Outgoing:
    channels = {
        f"channel-{one}": {"missing": 0, "min": 1.0, "mean": 2.5, "max": 3.25, "std": 0.125}
        for one in range(_CHANNELS)
    }
    start = f"2026-11-{1 + number // 86400 % 28:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}"
    data: dict[str, Any] = {
        "from": f"{start}:00.000Z", "to": f"{start}:59.000Z", "last_sample": f"{start}:59.000Z",
        "n": 60, "scored": 60, "score_max": 0.5, "share_anomalous": 0.0, "channels": channels,
    }  # fmt: skip
    return Outgoing("summary", f"pump-{number % STREAMS}", 1.7e9, data, "0" * 64, "telemanom")


def samples(number: int, rows: int) -> list[tuple[str, Samples, Any]]:
    times = number * rows + np.arange(rows, dtype=np.float64)
    values = np.random.default_rng(number).normal(size=(rows, _CHANNELS)).astype(np.float32)
    score = np.ones(rows, np.float32)
    return [(f"pump-{stream}", Samples(times, values), score) for stream in range(STREAMS)]


def fill(store: Store, outbox: int, bytes_max: int) -> None:
    for number in range(0, outbox, _FILL):
        messages = [summary(number + one) for one in range(_FILL)]
        store.commit(Batch(messages=messages), "synced")
    number = 0
    while store.document()["bytes"] < bytes_max and not store.document()["samples_evicted"]:
        store.commit(Batch(samples=samples(number, 500)), "synced")
        number += 1


def timed(store: Store, commits: int, acked: int) -> list[float]:
    """Return what each commit took, ms."""
    took = []
    with Reader(store.directory) as reader:
        for number in range(commits):
            batch = Batch(
                samples=samples(number, ROWS),
                messages=[summary(number * STREAMS + one) for one in range(STREAMS)],
                status=lambda: json.dumps({"text": "x" * 3000}),
            )
            if number % 10 == 0:
                batch.state = {
                    f"pump-{one}": {"head": os.urandom(4000), THROUGH: b"1"}
                    for one in range(STREAMS)
                }
            if acked and number % 4 == 1:
                rows = reader.outbox(["summary"], 0, acked)
                batch.acked = [one.seq for one in rows]
            began = time.perf_counter()
            store.commit(batch, "synced")
            took.append(1000 * (time.perf_counter() - began))
    return took


def measure(directory: Path, bytes_max: int, outbox: int, commits: int) -> dict[str, Any]:
    store = Store(
        directory, "plant", "gw-1", outbox, 10**7, bytes_max=bytes_max, alarm_rows_max=1000
    )
    store.open()
    fill(store, outbox, bytes_max)
    before = store.document()
    found = {}
    for what, acked in (("full", 0), ("acknowledged", DELETED_MAX)):
        took = np.array(timed(store, commits, acked))
        found[what] = {
            "commits": len(took),
            "ms_p50": round(float(np.percentile(took, 50)), 1),
            "ms_p99_9": round(float(np.percentile(took, 99.9)), 1),
            "ms_max": round(float(took.max()), 1),
            "over_100_ms": int((took > 100).sum()),
        }
    after = store.document()
    store.close()
    began = time.perf_counter()
    store.open()
    opening_s = time.perf_counter() - began
    store.close()
    return found | {
        "outbox_rows": before["outbox_rows"],
        "mb": round(before["bytes"] / 2**20, 1),
        "samples_evicted": after["samples_evicted"],
        "evicted": after["evicted"],
        "merged": after["merged"],
        "opening_s": round(opening_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes-max", type=int, default=256, help="MB")
    parser.add_argument("--outbox", type=int, default=100_000)
    parser.add_argument("--commits", type=int, default=3000)
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        found = measure(Path(name), given.bytes_max * 2**20, given.outbox, given.commits)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
