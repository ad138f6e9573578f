"""Mutated lines, bundles, configurations and MQTT payloads: no crash, no hang, and all is counted.

``make soak`` sets ``FIELDWATCH_TEST_FUZZ``: a million lines per format and 100,000 of the others.
A case that takes longer than ``CASE_S_MAX`` ends the run with a trace of where it hangs.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import pytest

from agent import config as configuration
from agent.central import Central
from agent.collected import Collected, Source
from agent.collector import Collector
from agent.config import InputTable, MqttTable
from agent.envelope import Envelope, Outgoing, acknowledged_topic
from agent.health import rss_mb
from agent.input_tables import MqttInputTable
from agent.inputs import Chunk, open_input
from agent.inputs.checksum import checked, signed
from agent.inputs.lines import Framer, LineParser
from agent.mqtt import Received
from agent.payload import Payload
from agent.store import Batch, Reader, Store
from models import bundle as bundles
from models import known_answers
from models.bundle import Channel
from models.errors import BundleError, ConfigError
from models.pipeline import Pipeline
from tests.conftest import ROOT, ZOO_BUNDLE, wait_until
from tests.scripted_broker import PUBLISH, SUBACK, ScriptedBroker, Session

LONG = "FIELDWATCH_TEST_FUZZ" in os.environ
FRAMES = 1_000_000 if LONG else 10_000  # per format
FILES = 100_000 if LONG else 200
PAYLOADS = 100_000 if LONG else 2000
NETWORKS = 1000 if LONG else 50
COMPARED = 8  # of so many blocks of lines, one is read line by line, too
LINE_BYTES_MAX = 200
RSS_GROWTH_MAX_MB = 40.0
CASE_S_MAX = 60.0
SEED = 6

NAMES = ["flow", "pressure", "level"]
CHANNELS = [
    Channel(name=name, unit="", center=0, scale=1, low=-1000.0, high=1000.0) for name in NAMES
]
REGEX = (
    r"\[(?P<time>[^\]]*)\] flow (?P<flow>\S*) m3/h, pressure (?P<pressure>[^ ]*)"
    r" ?(?:\(level (?P<level>[^)]*)\))?.*"
)
FORMATS: dict[str, tuple[dict[str, Any], bytes]] = {
    "csv": ({"columns": ["time", *NAMES]}, b"1700000000.25,1.5,-2.25,3e2"),
    "csv without time": ({"columns": [*NAMES, "-"]}, b"1.5,-2.25,300,abc"),
    "json": (
        {"format": "json", "time_key": "t", "ignore_keys": ["id"]},
        b'{"t": 1700000000.25, "flow": 1.5, "pressure": null, "level": -3, "id": "x"}',
    ),
    "json pointers": (
        {"format": "json", "time_key": "/t", "keys": {"flow": "/d/0", "level": "/e/f"}},
        b'{"t": 1700000000.25, "d": [1.5], "pressure": 2, "e": {"f": -3, "g": {}}}',
    ),
    "csv with decimal commas": (
        {"columns": ["time", *NAMES], "separator": ";", "decimal": ","},
        b"1700000000,25;1,5;-2,25;3e2",
    ),
    "csv with blanks and a checksum": (
        {"columns": ["time", *NAMES], "separator": " ", "checksum": "crc16-modbus"},
        signed(b"1700000000.25 1.5  -2.25 3e2", "crc16-modbus"),
    ),
    "keyvalue": (
        {"format": "keyvalue", "time_key": "t", "units": ["bar", "m"], "ignore_keys": ["id"]},
        b"t=1700000000.25 flow=1.5, pressure = -2.25bar;level: 3m id=x",
    ),
    "keyvalue with a checksum": (
        {"format": "keyvalue", "separator": ";", "checksum": "xor"},
        signed(b"$flow=1.5;pressure=;level=3", "xor"),
    ),
    "regex": (
        {"format": "regex", "pattern": REGEX},
        b"[2023-11-14T22:13:20Z] flow 1.5 m3/h, pressure -2.25 (level 3) ok",
    ),
}
PIECES = [
    *(b"", b",", b"\x00", b"\xff\xfe", b"\r", b"\n", b" ", b"nan", b"inf", b"-1e400", b"1_0"),
    *(b"{", b"}", b"[[[[", b'"', b"\\u0000", "٣".encode(), b"1" * 300, b"null", b"true", b"1e308"),
    *(
        b"-0",
        b":",
        b"\\ud800",
        b"2023-11-14T22:13:20Z",
        b"time,flow,pressure,level",
        b"flow,pressure,level,x",
    ),
]
TOPIC = "plant/pump"
WHOLE_LINE = ("not_utf8", "too_long", "bad_checksum", "malformed", "truncated", "bad_time")


@pytest.fixture(autouse=True)
def _memory_is_bounded() -> Iterator[None]:
    import_module("sqlite_utils")  # with all that it looks for, as much as is allowed here
    before = rss_mb()
    yield
    faulthandler.cancel_dump_traceback_later()
    assert rss_mb() - before < RSS_GROWTH_MAX_MB


T = TypeVar("T")


def each_in_time(cases: Iterable[T]) -> Iterator[T]:
    """Yield the cases; where one hangs, even in C, say where, and end."""
    for case in cases:
        faulthandler.dump_traceback_later(CASE_S_MAX, exit=True)
        yield case


def mutated(original: bytes, chance: random.Random) -> bytes:
    """One to four changes: a byte, a cut, a piece put in, a part twice."""
    data = bytearray(original)
    for _ in range(chance.randint(1, 4)):
        at, until = sorted(chance.choices(range(len(data) + 1), k=2))
        match chance.randrange(5):
            case 0 if data:
                data[min(at, len(data) - 1)] = chance.randrange(256)
            case 1:
                del data[at:until]
            case 2:
                data[at:at] = chance.choice(PIECES)
            case 3:
                data[at:until] = chance.choice(PIECES)
            case 4:
                data[at:at] = data[at:until][:400]
    return bytes(data)


def some_mutated(original: bytes, chance: random.Random) -> Iterator[bytes]:
    while True:
        yield original if chance.random() < 0.3 else mutated(original, chance)


def frames(original: bytes, chance: random.Random) -> Iterator[bytes]:
    """Chunks of lines as a port gives them, some of them whole, cut anywhere."""
    lines_of_it = some_mutated(original, chance)
    for _ in range(0, FRAMES, 20):
        lines = [next(lines_of_it) for _ in range(20)]
        block = b"\n".join(lines) + b"\n"
        cut = chance.randrange(len(block))
        yield block[:cut]
        yield block[cut:]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_line_is_a_row_or_counted(kind: str) -> None:
    settings, original = FORMATS[kind]
    table = {"name": "a", "stream": "s", "line_bytes_max": LINE_BYTES_MAX, "rejects_kept": 3}
    parser, block, single = (
        LineParser(InputTable.model_validate(table | settings), CHANNELS) for _ in range(3)
    )
    framer = Framer(LINE_BYTES_MAX)
    lines_in = rows_out = passed_over = 0
    for number, data in enumerate(each_in_time(frames(original, random.Random(SEED)))):
        lines = framer.push(data)
        got = parser.parse(lines, 1.7e9)
        if number % COMPARED == 0:
            again = block.parse(lines, 1.7e9)
            one_by_one = [single.parse([line], 1.7e9) for line in lines]
            values = [row.values for row in one_by_one] or [np.empty((0, 3), np.float32)]
            np.testing.assert_array_equal(got.values, np.concatenate(values))
            np.testing.assert_array_equal(got.values, again.values)
        assert ((got.values >= -1000) & (got.values <= 1000) | np.isnan(got.values)).all()
        assert np.isfinite(got.times).all()
        lines_in, rows_out = lines_in + len(lines), rows_out + len(got.times)
        passed_over += sum(silent(line, settings) for line in lines)
    assert block.counters == single.counters
    assert_counted(parser, settings, lines_in, rows_out, passed_over)


def assert_counted(
    parser: LineParser, settings: dict[str, Any], lines_in: int, rows_out: int, passed_over: int
) -> None:
    """Every line is a row, or has a cause, or is passed over: blank, or a header."""
    lost = lines_in - rows_out - sum(parser.counters[cause] for cause in WHOLE_LINE)
    if parser.counters["unknown_channel"] == 0:
        assert lost == passed_over
    else:  # the cause also counts a key that is no channel of a line that is used
        assert passed_over <= lost <= passed_over + parser.counters["unknown_channel"]
    assert rows_out > 0.2 * lines_in
    assert len(parser.rejects()) <= 3 * 9


def silent(line: bytes, settings: dict[str, Any]) -> bool:
    """Whether a line is passed over without being counted: blank, or the header."""
    if len(line) > LINE_BYTES_MAX:
        return False
    if "checksum" in settings and not line.isspace():
        body = checked(line, settings["checksum"])
        if body is None:
            return False
        line = body
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return False
    columns = settings.get("columns", [])
    separator = settings.get("separator", ",")
    fields = [field.strip() for field in text.split(None if separator == " " else separator)]
    header = bool(columns) and len(fields) == len(columns)
    header = header and all(
        column in ("-", field) for column, field in zip(columns, fields, strict=True)
    )
    return not text or text.isspace() or header


def test_every_message_of_an_mqtt_input_is_a_row_or_counted() -> None:
    settings, original = FORMATS["json pointers"]
    messages, chunks = some_mutated(original, random.Random(SEED)), list[Chunk]()
    table = {"name": "a", "stream": "s", "line_bytes_max": LINE_BYTES_MAX, "rejects_kept": 3}
    session: SimpleQueue[Session] = SimpleQueue()

    def on_subscribe(one: Session, packet: bytes) -> None:
        one.send(SUBACK, packet + b"\0\1")
        session.put(one)

    with ScriptedBroker(on_subscribe=on_subscribe) as scripted:
        broker = {"host": "127.0.0.1", "port": scripted.port, "protocol": "5"}
        given = table | settings | {"type": "mqtt", "topics": [TOPIC], "broker": broker}
        validated = MqttInputTable.model_validate(given)
        parser, source = LineParser(validated.lines, CHANNELS), open_input(validated)
        source.start(chunks.append)
        try:
            receiver = session.get(timeout=30)
            lines_in = rows_out = passed_over = 0
            for first in each_in_time(range(0, PAYLOADS, 500)):
                bodies = [next(messages) for _ in range(500)]
                packets = [published(body, 1 + n) for n, body in enumerate(bodies)]
                receiver.sock.sendall(b"".join(packets))
                wait_until(lambda: len(chunks) == 500, f"the messages from {first} on")
                for chunk in chunks:
                    rows_out += len(parser.parse(chunk.lines, 1.7e9).times)
                    lines_in += len(chunk.lines)
                    passed_over += sum(silent(line, settings) for line in chunk.lines)
                source.committed([chunk.token for chunk in chunks])
                chunks.clear()
        finally:
            source.stop()
    assert source.status().reconnects == 0
    assert_counted(parser, settings, lines_in, rows_out, passed_over)


def published(body: bytes, packet: int) -> bytes:
    """A PUBLISH of MQTT 5 at QoS 1, without properties."""
    rest = len(TOPIC).to_bytes(2, "big") + TOPIC.encode() + packet.to_bytes(2, "big") + b"\0" + body
    length = bytes([len(rest) & 127 | 128, len(rest) >> 7])
    return bytes([PUBLISH << 4 | 2]) + length + rest


def test_every_message_at_the_collector_is_new_or_a_repeat_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In all forms, mutated before they were encoded, or after that."""
    chance, envelope = random.Random(SEED), Envelope("plant", "gw-1", "0" * 16)
    forms = [Payload(*form) for form in product(("json", "cbor"), ("none", "zstd"))]
    caplog.set_level(logging.CRITICAL)  # it would keep what is logged of each gap
    topic, written, sources = envelope.topic("summary", "pump"), 0, set[Source]()
    collector = Collector(MqttTable(host="h"), "plant", tmp_path)
    taken = 0
    with Collected(tmp_path, "plant") as collected:
        for seq in each_in_time(range(1, PAYLOADS + 1)):
            merged = [[max(1, seq - 5), max(1, seq - 3)]] if seq % 7 == 6 else None
            message = Outgoing("summary", "pump", 1.7e9, {"n": 3, "merged": merged})
            body = envelope.numbered(message, seq, "synced")
            if seq % 11 == 0:
                body = envelope.gone([(max(1, seq - 9), seq)], 1.7e9, seq, "gone", "synced")
            if chance.random() < 0.3:
                body = mutated(body, chance)
            if valid_json(body):
                body = chance.choice(forms).encode(body)
            if chance.random() < 0.3:
                body = mutated(body, chance)
            before = collector.counters.total() - collector.counters["gone"]
            collector.take(Received(topic, body, 1, False), collected)
            counted = collector.counters.total() - collector.counters["gone"] - before
            taken += counted
            if seq % 1000 == 0:
                written += len(collected.commit())
                sources.update(collected.touched())
        written += len(collected.commit())
        for source in sources:
            assert json.loads(collected.acknowledgement(source))["epoch"] == source.epoch
    assert written == collector.counters["new"]
    assert 0.1 * PAYLOADS < collector.counters["rejected"] < 0.7 * PAYLOADS
    assert collector.counters["gone"] > 0
    assert 0.85 * PAYLOADS < taken <= PAYLOADS  # the others were gone messages


def valid_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def test_a_mutated_bundle_is_refused_or_the_same(tmp_path: Path) -> None:
    """Whatever byte of the file is changed; also inside of members, past the outer checks."""
    original, chance = ZOO_BUNDLE.read_bytes(), random.Random(SEED)
    digest, file = bundles.read(ZOO_BUNDLE).digest, tmp_path / "mutated.fieldwatch"
    refused = 0
    for _ in each_in_time(range(FILES)):
        data = bytearray(original)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        file.write_bytes(data)
        try:
            assert bundles.read(file).digest == digest
        except BundleError as error:
            assert "mutated.fieldwatch" in str(error)
            refused += 1
    assert refused > 0.9 * FILES


def test_a_mutated_manifest_or_network_is_refused(tmp_path: Path) -> None:
    bundle, chance = bundles.read(ZOO_BUNDLE), random.Random(SEED)
    refused = 0
    for _ in each_in_time(range(NETWORKS)):
        parts = dict(bundle.parts)
        name = chance.choice([bundles.NETWORK, bundles.KNOWN_ANSWERS])
        data = bytearray(parts[name])
        data[chance.randrange(min(64, len(data)))] ^= 1 << chance.randrange(8)
        parts[name] = bytes(data)
        files = {part: bundles.file_part(content) for part, content in parts.items()}
        manifest = bundle.manifest.model_copy(update={"files": files})
        file = tmp_path / "mutated.fieldwatch"
        try:
            bundles.write(file, manifest, parts, None)
            bundles.read(file)
            if name == bundles.KNOWN_ANSWERS:
                read = bundles.read(file)
                known_answers.check(Pipeline(read), read)
        except BundleError:
            refused += 1
    assert refused > 0


def test_a_mutated_configuration_is_loaded_or_refused_with_its_name(tmp_path: Path) -> None:
    original, chance = (ROOT / "systemd" / "agent.toml").read_bytes(), random.Random(SEED)
    lines = original.replace(b"\n# ", b"\n").split(b"\n")
    file, refused = tmp_path / "agent.toml", 0
    for _ in each_in_time(range(FILES)):
        changed = list(lines) if chance.random() < 0.3 else original.split(b"\n")
        at = chance.randrange(len(changed))
        changed[at] = mutated(changed[at], chance)
        file.write_bytes(b"\n".join(changed))
        try:
            configuration.load(file)
        except ConfigError as error:
            assert "agent.toml" in str(error)
            refused += 1
    assert 0 < refused < FILES


def test_a_mutated_acknowledgement_is_followed_or_counted(tmp_path: Path) -> None:
    chance, store = random.Random(SEED), Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    store.commit(Batch(messages=[Outgoing("alarm", "pump", 0.0, {})] * 20), "synced")
    central, topic = Central(store.envelope, 60.0), acknowledged_topic("plant", "gw-1")
    good = {"epoch": store.envelope.epoch, "through_seq": 5, "also": [[7, 9]]}
    followed = 0
    with Reader(tmp_path) as outbox:
        for _ in each_in_time(range(PAYLOADS)):
            before = sum(central.rejected.values())
            central.heard(topic, mutated(json.dumps(good).encode(), chance), outbox)
            followed += sum(central.rejected.values()) == before
            assert central.through_seq is None or 0 <= central.through_seq <= 20
            assert not central.has(21)
    store.close()
    assert sum(central.rejected.values()) + followed == PAYLOADS
    assert central.rejected["malformed"]
    assert central.rejected["foreign_epoch"]
