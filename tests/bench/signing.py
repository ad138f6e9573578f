"""What a signature costs: bytes and µs per message, on the gateway and at the collector.

``python -m tests.bench.signing``: signs and verifies messages of a stream of eight channels, and
files them with and without signatures. CPU time, the best of some runs: other processes, and the
disk, cost none of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from agent.collector.books import Collected
from agent.collector.enrolled import Enrolled
from agent.collector.run import Collector
from agent.config.broker import Compression, DialectName, MqttTable
from agent.dialects.cloudevents import CloudEvents
from agent.dialects.kinds import dialect_of
from agent.dialects.topics import gateway_topic
from agent.mqtt.connection import Received
from agent.mqtt.payload import Payload
from agent.mqtt.signer import Signer, read_signer
from agent.store.record import Origin, Outgoing, Record
from models.keys import new_key

MESSAGES: Final = 5000
RUNS: Final = 5
COMMIT: Final = 500  # messages
ORIGIN: Final = Origin("plant", "gw-1", "0" * 16)
FORMS: Final[tuple[tuple[DialectName, Compression], ...]] = (
    ("json", "none"),
    ("json", "zstd"),
    ("cbor", "none"),
    ("cbor", "zstd"),
)


def summaries() -> list[Record]:
    """Return messages of about 1.2 kB in JSON."""
    statistics = {"missing": 0, "min": 89.68, "mean": 90.067, "max": 90.58, "std": 0.231036}
    return [
        Outgoing(
            "summary",
            "pump",
            1.7e9 + 60 * seq,
            {
                **{"from": "2026-11-23T13:00:00.000Z", "to": "2026-11-23T13:01:00.000Z"},
                **{"last_sample": "2026-11-23T13:00:59.894Z", "n": 600, "scored": 600},
                **{"score_max": 0.4121, "share_anomalous": 0.0, "uncertain": 0},
                "channels": {f"channel_{n}": statistics | {"mean": seq / 7} for n in range(8)},
            },
            "4c" * 32,
            "telemanom",
        ).numbered(seq, "synced")
        for seq in range(1, MESSAGES + 1)
    ]


def us_each(work: Callable[[bytes], Any], bodies: Sequence[bytes]) -> float:
    """Return µs per message: the best of some runs."""
    best = min(_seconds(work, bodies) for _ in range(RUNS))
    return 1e6 * best / len(bodies)


def _seconds(work: Callable[[bytes], Any], bodies: Sequence[bytes]) -> float:
    begin = time.process_time()
    for body in bodies:
        work(body)
    return time.process_time() - begin


def filing_us(topic: str, bodies: Sequence[bytes], enrolled: Enrolled | None) -> float:
    """Return µs per message to take in and commit, on the disk of the temporary directory."""

    def once() -> float:
        with tempfile.TemporaryDirectory() as name:
            collector = Collector(MqttTable(host="h"), ORIGIN.site, Path(name), enrolled=enrolled)
            with Collected(Path(name), ORIGIN.site) as collected:
                begin = time.process_time()
                for at in range(0, len(bodies), COMMIT):
                    for body in bodies[at : at + COMMIT]:
                        collector.take(Received(topic, body, 1, False), collected)
                    collected.commit()
                took = time.process_time() - begin
            assert collector.counters == {"new": len(bodies)}, collector.counters
            return took

    return 1e6 * min(once() for _ in range(RUNS)) / len(bodies)


def measure() -> dict[str, Any]:
    """Return all figures."""
    records = summaries()
    topic = gateway_topic(ORIGIN.site, ORIGIN.gateway, "summary", "pump")
    plain = [CloudEvents(ORIGIN).record(record).body for record in records]
    with tempfile.TemporaryDirectory() as name:
        secret, enrolled_in = Path(name) / "gw.key", Path(name) / "keys"
        enrolled_in.mkdir()
        new_key(secret, "gateway", "plant/gw-1").rename(enrolled_in / "gw.pub")
        signer = read_signer(secret, "plant", "gw-1")
        enrolled = Enrolled(enrolled_in, "plant")
        signed = [signer.signed(topic, body) for body in plain]
        return {
            "bytes": {"+".join(form): _sizes(*form, signer, records[:100]) for form in FORMS},
            "gateway_sign_us": us_each(lambda body: signer.signed(topic, body), plain),
            "collector_verify_us": us_each(lambda body: enrolled.check(topic, body), signed),
            "collector_filing_us": {
                "unsigned": filing_us(topic, plain, None),
                "signed": filing_us(topic, signed, enrolled),
            },
        }


def _sizes(
    name: DialectName, compression: Compression, signer: Signer, records: Sequence[Record]
) -> list[float]:
    """Return the mean size of a message without and with a signature."""
    encode = Payload(compression=compression).encode
    dialects = [dialect_of(name, ORIGIN), dialect_of(name, ORIGIN, signer)]
    sizes = [[len(encode(one.record(record).body)) for record in records] for one in dialects]
    return [sum(one) / len(one) for one in sizes]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
