"""The forms of a message on its way: each is read back as the JSON that it was."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import load as configuration
from agent.config.broker import Compression, DialectName
from agent.dialects.cbor import from_json
from agent.dialects.cloudevents import CloudEvents
from agent.dialects.kinds import dialect_of
from agent.dialects.received import decoded
from agent.mqtt.client import Client
from agent.mqtt.payload import BYTES_MAX, EXPANDED_BYTES_MIN, Payload
from agent.store.reader import Reader
from agent.store.record import Origin, Outgoing
from models.errors import ConfigError
from tests.conftest import ROOT, RealBroker, wait_until
from tests.uplink_rig import Collecting, Gateway

FORMS: list[tuple[DialectName, Compression]] = [
    ("json", "none"),
    ("cbor", "none"),
    ("json", "zstd"),
    ("cbor", "zstd"),
]
SUMMARY = Outgoing(
    "summary",
    "pump",
    1.7e9,
    {"n": 300, "share_anomalous": None, "flow": {"mean": 90.067, "std": 0.231036, "missing": 0}},
)
ORIGIN = Origin("plant", "gw-1", "0" * 16)
RECORD = SUMMARY.numbered(7, "synced")
BODY = CloudEvents(ORIGIN).record(RECORD).body
CBOR = from_json(BODY)
names = st.text(max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(document=st.dictionaries(names, values, max_size=5))
def test_every_form_is_read_back_as_it_was(document: dict[str, Any]) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    for form in body, from_json(body):
        assert decoded(form) == body
        assert decoded(zstd(form)) == body


def test_the_first_byte_tells_the_form() -> None:
    bodies = {form: sent(*form) for form in FORMS}
    first = {form: body[0] for form, body in bodies.items()}
    assert first["json", "none"] == ord("{")
    assert 0xA0 <= first["cbor", "none"] <= 0xBB
    assert first["json", "zstd"] == first["cbor", "zstd"] == 0x28
    sizes = [len(body) for body in bodies.values()]
    assert sizes[0] > max(sizes[1:])


NOISE = random.Random(1).randbytes(BYTES_MAX // 90)


def zstd(body: bytes) -> bytes:
    return Payload(compression="zstd").encode(body)


def sent(name: DialectName, compression: Compression) -> bytes:
    """Return the record as it is sent."""
    dialect = dialect_of(name, ORIGIN)
    return Payload(dialect.content_type, compression).encode(dialect.record(RECORD).body)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (CBOR[:-1], "not a CBOR message"),
        (CBOR + b"\0", "bytes after"),
        (b"\xa1\x61a\x41x", "not a CBOR message"),  # bytes, which JSON does not have
        (b"\xa1\x61a\xfb\x7f\xf8\0\0\0\0\0\0", "not JSON compliant"),
        (b"\xa1\x61a\xd8\x1c\x81\x01", "not a CBOR message"),  # a tag: a reference
        (b"\xa1\x61a" * 1000 + b"\xf6", "not a CBOR message"),  # deep
        (b"\xbb" + b"\xff" * 8, "not a CBOR message"),  # of 2^64 entries
        (zstd(b" " * (BYTES_MAX + 1)), "more than 65536 bytes when decompressed"),
        (zstd(b" " * (BYTES_MAX + 1) + NOISE), f"more than {BYTES_MAX} bytes when decompressed"),
        (zstd(b"{" + b" " * EXPANDED_BYTES_MIN), "more than 65536 bytes when decompressed"),
        (zstd(b"\xa1\x61a\x79\xff\x00" + b"\0" * 0xFF00), "more than 65536 bytes as JSON"),
        (b"{" + b" " * BYTES_MAX, f"more than {BYTES_MAX} bytes"),
        (b"\xa1\x61a\x7a\0\x0f\0\0" + b"\0" * 0xF0000, f"more than {BYTES_MAX} bytes"),
        (b"\xa1\x61a\x9a\xff\xff\xff\xff", "not a CBOR message"),  # a list of 2^32
        (b"\xa1\x61a\x7b\0\0\1\0\0\0\0\0", "not a CBOR message"),  # a text of 2^40 bytes
        (b"\xa1\x61a\x9f\x01\xff", "not a CBOR message"),  # no length
        (b"\xa1\x61a\x7f\x61a\xff", "not a CBOR message"),
        (b"\xa1\x61a\xc2\x42\xff\xff", "not a CBOR message"),  # a tag: a number of any size
        (b"\x28\xb5\x2f\xfd\x00\xa0" + zstd(BODY)[6:], "damaged"),  # a window of 1 GB
        (zstd(BODY)[:7] + b"\x07" + zstd(BODY)[8:], "damaged"),  # a kind of block there is not
    ],
)
def test_what_is_damaged_or_too_much_is_refused(bad: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decoded(bad)


def test_what_is_refused_takes_little_memory() -> None:
    """What a message says of its sizes is not believed."""
    code = """
import sys
from agent.health.measured import rss_max_mb, rss_mb
from agent.dialects.received import decoded
from agent.mqtt.payload import Payload
bombs = [Payload(compression="zstd").encode(b" " * 200_000_000)]
bombs += [b"\\xa1\\x61a" + head + b"\\xff" * 4 for head in (b"\\x9a", b"\\xba", b"\\x5a", b"\\x7a")]
before = rss_max_mb()
for bomb in bombs * 3:
    try:
        sys.exit(f"taken: {decoded(bomb)[:100]}")
    except ValueError:
        pass
print(rss_max_mb() - before)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert float(ended.stdout) < 20


def test_a_long_message_of_ours_is_taken_in_all_forms() -> None:
    stream = {"counters": dict.fromkeys("abcdefghijklmnopqrst", 0), "last_sample": None}
    streams = {f"stream-{number}": stream for number in range(1000)}
    record = Outgoing("health", None, 1.7e9, {"streams": streams}).numbered(1, "synced")
    body = CloudEvents(ORIGIN).record(record).body
    for form in body, from_json(body):
        assert decoded(form) == body
        assert decoded(zstd(form)) == body


@pytest.mark.parametrize(("form", "compression"), FORMS)
def test_the_collector_reads_all_forms(
    tmp_path: Path,
    broker: RealBroker,
    gateway: Callable[..., Gateway],
    collecting: Callable[..., Collecting],
    form: DialectName,
    compression: Compression,
) -> None:
    central = collecting(broker.port)
    one = gateway(broker.port, acknowledgement="central", dialect=form, compression=compression)
    one.put(20)
    dialect = CloudEvents(one.store.origin)
    with Reader(tmp_path) as reader:
        kept = {row.seq: dialect.record(row).body for row in reader.outbox(["summary"], 0, 100)}
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "the collector to have all")
    assert {message.seq: message.body for message in central.messages} == kept
    assert central.collector.counters["rejected"] == 0


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_mqtt_5_says_what_form_it_is_and_what_waits_goes_in_the_form_that_is_set(
    broker: RealBroker, tmp_path: Path, gateway: Callable[..., Gateway], protocol: str
) -> None:
    received: list[paho.MQTTMessage] = []
    ops = Client(client_id="ops", protocol=paho.MQTTv5)
    ops.on_message = lambda _, __, message: received.append(message)
    ops.connect("127.0.0.1", broker.port)
    ops.subscribe("fieldwatch/v1/#", 1)
    ops.loop_start()
    before = Gateway(tmp_path, 1)
    before.put(3)
    before.store.close()
    one = gateway(broker.port, dialect="cbor", compression="zstd", protocol=protocol)
    one.uplink.start()
    wait_until(lambda: one.delete_acknowledged() == 0, "the messages")
    wait_until(lambda: len(received) == 4, "them at ops")
    ops.disconnect()
    ops.loop_stop()
    ops.on_message = None
    summaries = [message for message in received if "/summary/" in message.topic]
    (status,) = [message for message in received if message.topic.endswith("/status")]
    assert json.loads(status.payload)["data"] == {"state": "online"}  # plain, for everybody
    for message in summaries:
        assert message.payload.startswith(b"\x28\xb5\x2f\xfd")
        assert json.loads(decoded(message.payload))["type"] == "fieldwatch.summary.v1"
        if protocol == "5":
            assert message.properties.ContentType == "application/cbor"
            assert message.properties.UserProperty == [("content-encoding", "zstd")]


@pytest.mark.parametrize(
    ("setting", "extra"), [('dialect = "cbor"', "cbor"), ('compression = "zstd"', "zstd")]
)
def test_a_form_that_is_not_installed_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, extra: str
) -> None:
    example = (ROOT / "systemd" / "agent.toml").read_text()
    file = tmp_path / "agent.toml"
    file.write_text(example.replace("[mqtt]\n", f"[mqtt]\n{setting}\n"))
    configuration.load(file)
    monkeypatch.setattr("agent.config.broker.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as error:
        configuration.load(file)
    assert f"mqtt.{setting.split()[0]}" in str(error.value)
    assert f"fieldwatch[{extra}]" in str(error.value)


def test_nothing_of_it_is_loaded_where_messages_are_plain_json() -> None:
    code = (
        "import sys, agent.daemon, agent.collector.run; from agent.mqtt import payload;"
        "from agent.dialects import kinds, received; from agent.store.record import Origin;"
        "kinds.dialect_of('json', Origin('plant', 'gw-1', 'e'));"
        "payload.Payload(); received.decoded(b'{}');"
        "print(sorted({'cbor2', 'zstandard'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ended.stdout.strip() == "[]"
