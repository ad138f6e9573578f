"""Mutated lines, bundles, configurations and MQTT payloads: no crash, no hang, and all is counted.

``make soak`` sets ``FIELDWATCH_TEST_FUZZ``: a million lines per format and 100,000 of the others.
A case that takes longer than ``CASE_S_MAX`` ends the run with a trace of where it hangs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import math
import os
import random
import socket
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import pytest

from agent.collector.books import Collected
from agent.collector.reading import Source
from agent.collector.run import Collector, document
from agent.commands.probe.listen import Heard
from agent.commands.probe.measure import Arrival
from agent.commands.probe.report import lines as lines_of
from agent.commands.probe.run import document_of as described
from agent.config import load as configuration
from agent.config.broker import MqttTable
from agent.config.inputs import InputTable, MqttInputTable
from agent.control.protocol import Refused, parse_request, refused_line
from agent.dialects.cbor import from_json
from agent.dialects.cloudevents import CloudEvents
from agent.dialects.topics import acknowledged_topic, gateway_topic
from agent.health.measured import rss_mb
from agent.inputs.kinds import open_input
from agent.inputs.source import Chunk
from agent.journal import INPUT, JournalHandler
from agent.mqtt.bounded_socket import BoundedSocket
from agent.mqtt.connection import Received
from agent.mqtt.payload import Payload
from agent.parsing.checksum import checked, signed
from agent.parsing.lines import LineParser
from agent.parsing.measurement import Bad, Measurement
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.record import Origin, Outgoing
from agent.store.writer import Store
from agent.uplink.acknowledgements import Central
from agent.uplink.trust import Trust
from agent.uplink.words import CONTEXT, Words
from models import bundle as bundles
from models import known_answers
from models import signed as signatures
from models.errors import BundleError, ConfigError
from models.formats.lines import Framer
from models.formats.times import TIME_MAX
from models.keys import new_key, read_secret
from models.manifest import KNOWN_ANSWERS, MANIFEST, NETWORK, Channel
from models.pipeline import Pipeline
from models.printable import json_text, printable
from tests.agent.scoring.test_leaps import QUALITIES, Rig
from tests.agent.test_clock import HOUR_S, NOW_S
from tests.conftest import ROOT, WAIT_S_MAX, ZOO_BUNDLE, wait_until
from tests.hostile import hostile_text
from tests.scripted_broker import PUBLISH, SUBACK, ScriptedBroker, Session, fixed_header

LONG = "FIELDWATCH_TEST_FUZZ" in os.environ
FRAMES = 1_000_000 if LONG else 10_000  # per format
TIMELINES = 2000 if LONG else 40  # of some 100 rows
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
PIECES += [
    b'"\\ud800":1,',
    b'"\\u001b[2J\\n":1,',
    b"\xed\xa0\x80",
    b"\x1b[2J",
    "\u202e\u2028\x85".encode(),
]
TOPIC = "plant/pump"
WHOLE_LINE = (
    "not_utf8",
    "utf_16",
    "too_long",
    "bad_checksum",
    "malformed",
    "truncated",
    "bad_time",
)


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
        assert_printable(parser)
    assert block.counters == single.counters
    assert_counted(parser, settings, lines_in, rows_out, passed_over)


NUMBERS = (
    *(0.0, -0.0, 1.5, 999.9, 1000.1, -1e300, 1e39, 10**400, math.inf, math.nan, True),
    *(None, "7", b"7", [], {}, Bad("no answer"), Bad("\ud800\n", -1.0), np.float32(2), 1j),
)


def test_every_measurement_is_a_row_or_counted() -> None:
    names = [channel.name for channel in CHANNELS]
    table = {"name": "a", "stream": "s", "format": "readings", "columns": ["time", *names]}
    parser, block, single = (LineParser(InputTable.model_validate(table), CHANNELS) for _ in "123")
    chance, sent, used = random.Random(SEED), 0, 0
    for _ in each_in_time(range(0, FRAMES, 5)):
        rows = [some_measurement(names, chance) for _ in range(5)]
        got = parser.parse(rows, 1.7e9)
        alone = [single.parse([row], 1.7e9) for row in rows]
        np.testing.assert_array_equal(got.values, np.concatenate([one.values for one in alone]))
        clean = block.parse_clean(rows, None)
        if clean is not None:
            np.testing.assert_array_equal(got.values, clean.values)
        assert ((got.values >= -1000) & (got.values <= 1000) | np.isnan(got.values)).all()
        assert_printable(parser)
        sent += len(rows)
        used += len(got.times)
    assert sent == used + parser.counters["bad_time"]
    assert parser.counters == single.counters
    assert not block.counters
    assert {"bad_quality", "not_a_number", "not_finite", "out_of_range"} <= parser.counters.keys()


def some_measurement(names: Sequence[str], chance: random.Random) -> Measurement:
    """A good row, or one in which a value, a channel or the time is odd."""
    values: dict[Any, Any] = {name: chance.uniform(-900, 900) for name in names}
    if chance.random() < 0.5:
        values[chance.choice([*names, "other", "\ud800"])] = chance.choice(NUMBERS)
    if chance.random() < 0.1:
        del values[chance.choice(names)]
    time: Any = 1.7e9 if chance.random() < 0.9 else chance.choice(NUMBERS)
    return Measurement(values, time)


def test_times_of_any_kind_lose_no_row_uncounted_and_blind_no_other_input() -> None:
    """Of two inputs one has right times; the clock is kept, or not, and is set now and then."""
    chance = random.Random(SEED)
    for _ in each_in_time(range(TIMELINES)):
        rig, sent = Rig(chance.choice(QUALITIES), 2), 0
        for second in range(1, 41):
            rig.world.wait(1.0)
            if chance.random() < 0.05:
                rig.world.wall_s += chance.choice([-HOUR_S, HOUR_S, -1e8])
            if chance.random() < 0.05:
                rig.world.quality = chance.choice(QUALITIES)
            rig.clock.look()
            for _ in range(chance.randrange(4)):
                rig.bring((0, some_time(NOW_S + second, chance), 1.0))
                sent += 1
            rig.bring((1, NOW_S + second, 2.0))
            rig.intake.look(rig.batch)
        rig.world.wall_s, rig.world.quality = NOW_S + 40, "synced"
        rig.clock.look()
        rig.intake.look(rig.batch)  # nothing is held any more
        rig.fleet.flush(rig.batch)
        rejected = rig.parsers["i0"].counters
        assert rig.parsers["i1"].counters["in_future"] == 0
        assert rig.counters()["readings"] == sent + 40 - rejected.total()


def some_time(now_s: float, chance: random.Random) -> float:
    """Right, a little off, a leap, a border of the grid, or no time at all."""
    return chance.choice(
        [
            now_s,
            now_s - 0.5,
            now_s + chance.gauss(0, 5),
            now_s + chance.uniform(-3e9, 3e9),
            now_s + 10 ** chance.uniform(0, 9.5),
            TIME_MAX,
            math.inf,
            math.nan,
            -1e300,
        ]
    )


def assert_printable(parser: LineParser) -> None:
    for reject in parser.rejects():
        assert reject.excerpt.isprintable()
        assert reject.channel is None or reject.channel.isprintable()


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
            receiver = session.get(timeout=WAIT_S_MAX)
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


def test_whatever_a_broker_sends_is_passed_on_shortened_or_ends_the_connection() -> None:
    chance = random.Random(SEED)
    for _ in each_in_time(range(PAYLOADS)):
        sent = [packet_of(chance) for _ in range(chance.randrange(1, 6))]
        stream = b"".join(sent)
        broken = chance.random() < 0.3
        if broken:
            stream = mutated(stream, chance)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for side in (ours, theirs):
                side.settimeout(WAIT_S_MAX)
            theirs.sendall(stream)
            theirs.shutdown(socket.SHUT_WR)
            bounded = BoundedSocket(ours, 1000, chance.random() < 0.5, lambda: None)
            got = b""
            with contextlib.suppress(ConnectionAbortedError):
                while more := bounded.recv(chance.choice([1, 2, 100, 100_000])):
                    got += more
        if not broken and bounded.packets.trouble is None and all(len(one) <= 1000 for one in sent):
            assert got == stream
        assert len(got) <= len(stream) + 100 * len(sent)


def packet_of(chance: random.Random) -> bytes:
    first = chance.choice([0x20, 0x30, 0x31, 0x32, 0x33, 0x40, 0x90, 0xD0, chance.randrange(256)])
    size = chance.choice([0, 1, 2, 10, 127, 128, 900, 3000, 20_000])
    if first >> 4 == PUBLISH:
        topic = b"plant/" + b"x" * chance.randrange(10)
        return packet(first, len(topic).to_bytes(2, "big") + topic + b"\0\1" + bytes(size))
    return packet(first, chance.randbytes(min(size, 900)))


def packet(first: int, body: bytes) -> bytes:
    return fixed_header(first, len(body)) + body


def published(body: bytes, packet: int) -> bytes:
    """A PUBLISH of MQTT 5 at QoS 1, without properties."""
    rest = len(TOPIC).to_bytes(2, "big") + TOPIC.encode() + packet.to_bytes(2, "big") + b"\0" + body
    length = bytes([len(rest) & 127 | 128, len(rest) >> 7])
    return bytes([PUBLISH << 4 | 2]) + length + rest


def test_every_message_at_the_collector_is_new_or_a_repeat_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In all forms, mutated before they were encoded, or after that."""
    chance, dialect = random.Random(SEED), CloudEvents(Origin("plant", "gw-1", "0" * 16))
    zstd = Payload(compression="zstd").encode
    forms = [bytes, from_json, zstd, lambda body: zstd(from_json(body))]
    caplog.set_level(logging.CRITICAL)  # it would keep what is logged of each gap
    written, sources = 0, set[Source]()
    collector = Collector(MqttTable(host="h"), "plant", tmp_path)
    taken = 0
    with Collected(tmp_path, "plant") as collected:
        for seq in each_in_time(range(1, PAYLOADS + 1)):
            merged = [[max(1, seq - 5), max(1, seq - 3)]] if seq % 7 == 6 else None
            message = Outgoing("summary", "pump", 1.7e9, {"n": 3, "merged": merged})
            body = dialect.record(message.numbered(seq, "synced")).body
            if seq % 11 == 0:
                gone = [(max(1, seq - 9), seq)]
                body = dialect.gone(gone, 1.7e9, seq, "gone", "synced").body
            if chance.random() < 0.3:
                body = mutated(body, chance)
            if valid_json(body):
                body = chance.choice(forms)(body)
            if chance.random() < 0.3:
                body = mutated(body, chance)
            before = collector.counters.total() - collector.counters["gone"]
            kind = "gone" if seq % 11 == 0 else "summary"
            at = gateway_topic("plant", "gw-1", kind, None if kind == "gone" else "pump")
            collector.take(Received(at, body, 1, False), collected)
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
        name = chance.choice([NETWORK, KNOWN_ANSWERS])
        data = bytearray(parts[name])
        data[chance.randrange(min(64, len(data)))] ^= 1 << chance.randrange(8)
        parts[name] = bytes(data)
        files = {part: bundles.file_part(content) for part, content in parts.items()}
        manifest = bundle.manifest.model_copy(update={"files": files, "metrics": {}})
        file = tmp_path / "mutated.fieldwatch"
        try:
            bundles.write(file, manifest, parts, None)
            bundles.read(file)
            if name == KNOWN_ANSWERS:
                read = bundles.read(file)
                known_answers.check(Pipeline(read), read)
        except BundleError:
            refused += 1
    assert refused > 0


ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 2, 3, 10**30, 1e308, "", "x" * 300, [], {}, [[]], {"a": None}),
    *("telemanom", "hampel", "oracle", "../oracle", "\ud800", "0" * 64),
]


def test_a_manifest_with_odd_values_is_read_or_refused(tmp_path: Path) -> None:
    """Whatever its family says, and whatever its metrics say they are of."""
    bundle, chance = bundles.read(ZOO_BUNDLE), random.Random(SEED)
    file, refused = tmp_path / "mutated.fieldwatch", 0
    for _ in each_in_time(range(FILES)):
        document = json.loads(bundle.manifest_bytes) | {"metrics": {}}  # they are of the whole file
        if chance.random() < 0.3:
            document["metrics"] = {"evaluated_digest": chance.choice(ODD_VALUES)}
        if chance.random() < 0.3:
            document["detector"] = chance.choice(ODD_VALUES)
        table = document
        while isinstance(inner := table[name := chance.choice(list(table))], dict) and inner:
            table = inner
        table[name] = chance.choice(ODD_VALUES)
        entries = {MANIFEST: json.dumps(document).encode()} | dict(bundle.parts)
        with zipfile.ZipFile(file, "w") as archive:
            for member, data in entries.items():
                archive.writestr(member, data)
        try:
            bundles.read(file)
        except BundleError as error:
            assert "mutated.fieldwatch" in str(error)
            refused += 1
    assert 0 < refused < FILES


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


def believer(origin: Origin) -> Central:
    """A gateway's view of a collector that need not sign."""
    return Central(CloudEvents(origin), 60.0, Words(Trust(None), unsigned=True))


def test_a_mutated_acknowledgement_is_followed_or_counted(tmp_path: Path) -> None:
    chance, store = random.Random(SEED), Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    store.commit(Batch(messages=[Outgoing("alarm", "pump", 0.0, {})] * 20), "synced")
    central, topic = believer(store.origin), acknowledged_topic("plant", "gw-1")
    good = {"epoch": store.origin.epoch, "through_seq": 5, "also": [[7, 9]]}
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


def test_a_mutated_word_of_the_collector_is_not_its_word(tmp_path: Path) -> None:
    chance, store = random.Random(SEED), Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    store.commit(Batch(messages=[Outgoing("alarm", "pump", 0.0, {})] * 20), "synced")
    new_key(tmp_path / "central.key", "collector")
    key = read_secret(tmp_path / "central.key", "collector")
    topic = acknowledged_topic("plant", "gw-1")
    said = {"epoch": store.origin.epoch, "through_seq": 5, "also": [[7, 9]], "counter": 1}
    message = json.dumps(said, separators=(",", ":")).encode()
    good, followed = signatures.signed(message, topic, CONTEXT, key), 0
    central = Central(CloudEvents(store.origin), 60.0, Words(Trust(tmp_path), unsigned=False))
    with Reader(tmp_path) as outbox:
        central.connected(outbox)
        for _ in each_in_time(range(PAYLOADS)):
            body, before = mutated(good, chance), sum(central.rejected.values())
            central.heard(topic, body, outbox)
            taken = sum(central.rejected.values()) == before
            assert taken == (body == good)
            followed += taken
    store.close()
    assert central.rejected["unsigned"] > 0
    assert central.rejected["bad_signature"] > 0
    assert sum(central.rejected.values()) + followed == PAYLOADS


def meant(chance: random.Random) -> Any:
    """A value that JSON can have, of texts and numbers as nobody should send them."""
    match chance.randrange(8):
        case 0:
            return [meant(chance) for _ in range(chance.randrange(3))]
        case 1:
            return {hostile_text(chance): meant(chance) for _ in range(chance.randrange(3))}
        case 2 | 3 | 4:
            return hostile_text(chance)
    return chance.choice([0, 1, -1, 2**53, 2**63, 10**400, 1.5, -0.0, 1e308, 1e-308, True, None])


LINES_OF: dict[str, Callable[[random.Random], str]] = {
    "json": lambda chance: json.dumps(
        {"flow": 1, "t": 1.7e9, hostile_text(chance): meant(chance), "level": meant(chance)}
    ),
    "json pointers": lambda chance: json.dumps(
        {
            "t": chance.choice([1.7e9, meant(chance)]),
            "d": [1.5, meant(chance)],
            "e": {hostile_text(chance): meant(chance)},
        }
    ),
    "keyvalue": lambda chance: (
        f"flow=1.5 t=1700000000 {hostile_text(chance)}={hostile_text(chance)} level={meant(chance)}"
    ),
    "csv": lambda chance: f"1700000000.25,1.5,{hostile_text(chance)},{meant(chance)}",
    "regex": lambda chance: (
        f"[2023-11-14T22:13:20Z] flow {meant(chance)} m3/h, pressure -2.25"
        f" (level {hostile_text(chance)}) ok"
    ),
}


@pytest.mark.parametrize("kind", LINES_OF)
def test_whatever_a_device_means_the_rejects_can_be_shown(kind: str) -> None:
    chance = random.Random(SEED)
    table = {"name": "a", "stream": "s", "line_bytes_max": 500, "rejects_kept": 3}
    parser = LineParser(InputTable.model_validate(table | FORMATS[kind][0]), CHANNELS)
    rows = 0
    for _ in each_in_time(range(FRAMES // 10)):
        lines = [LINES_OF[kind](chance).encode(errors="surrogatepass") for _ in range(10)]
        rows += len(parser.parse(lines, 1.7e9).times)
        assert_printable(parser)
    assert rows
    assert parser.counters.total()


def test_whatever_is_meant_by_an_acknowledgement_is_logged_and_counted(tmp_path: Path) -> None:
    """Each is the first of its cause to its link, so that each is logged, to the journal."""
    chance, store = random.Random(SEED), Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    topic, rejected, entries = acknowledged_topic("plant", "gw-1"), 0, 0
    with (
        Reader(tmp_path) as outbox,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald,
        logged_to(tmp_path / "journald"),
    ):
        journald.bind(str(tmp_path / "journald"))
        for _ in each_in_time(range(PAYLOADS)):
            central = believer(store.origin)
            said = {"epoch": hostile_text(chance), "through_seq": 0, "also": meant(chance)}
            said |= {} if chance.random() < 0.5 else {"also": []}
            said |= {} if chance.random() < 0.8 else {hostile_text(chance): meant(chance)}
            central.heard(topic, json.dumps(said).encode(), outbox)
            if sum(central.rejected.values()):
                rejected += 1
                entry = journald.recv(100_000).decode()
                entries += entry.count("MESSAGE=")
                assert entry.replace("\n", "").isprintable()
            text = hostile_text(chance)
            logging.getLogger("agent.fuzz").warning("%s", text, extra={INPUT: text})
            assert journald.recv(100_000).decode().replace("\n", "").isprintable()
    store.close()
    assert entries == rejected == PAYLOADS


@contextlib.contextmanager
def logged_to(journald: Path) -> Iterator[None]:
    handler, root = JournalHandler(journald, logging.NullHandler()), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def test_whatever_is_meant_by_a_message_the_collector_keeps_and_prints_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance, kept = random.Random(SEED), 0
    caplog.set_level(logging.CRITICAL)
    collector = Collector(MqttTable(host="h"), "plant", tmp_path)
    with Collected(tmp_path, "plant") as collected:
        for seq in each_in_time(range(1, PAYLOADS + 1)):
            gateway = chance.choice(["gw-1", hostile_text(chance).replace("\ud800", "")])
            said = {"epoch": "e" * 16, "seq": seq, "data": {hostile_text(chance): meant(chance)}}
            said |= {} if chance.random() < 0.7 else {"epoch": hostile_text(chance)}
            said |= {"source": f"/plant/{gateway}", "type": "fieldwatch.health.v1"}
            said |= {"stream": None, "id": f"{gateway}/{said['epoch']}/{seq}"}
            said |= {} if chance.random() < 0.9 else {hostile_text(chance): meant(chance)}
            topic = f"fieldwatch/v1/plant/{gateway}/health"
            collector.take(Received(topic, json.dumps(said).encode(), 1, False), collected)
            if seq % 100 == 0:
                for message in collected.commit():
                    kept += 1
                    text = json_text(document(message))
                    assert text.isprintable()
                    json.dumps(json.loads(text), ensure_ascii=False).encode()
                for source in collected.touched():
                    collected.acknowledgement(source)
    assert kept
    assert collector.counters["rejected"]


def test_whatever_comes_a_probe_shows_it_and_proposes_what_can_be_read(tmp_path: Path) -> None:
    """The proposal is TOML, and its text is printable, whatever the keys and topics are."""
    chance, proposed = random.Random(SEED), 0
    for _ in each_in_time(range(FILES)):
        key, line = hostile_text(chance), LINES_OF[chance.choice(["json", "json pointers"])](chance)
        body = json.dumps(json.loads(line) | {key: 2.5}).encode()
        heard, source = Heard(1.0), hostile_text(chance).replace("\ud800", "").replace("\udfff", "")
        for _ in range(3):
            heard.add(Arrival(source, 1.0, body), lambda _: None)
        found = described(heard, {"type": "mqtt", "broker": {"host": "h"}}, "s", "mqtt")
        for text in lines_of(found):
            printable(text).encode()
        if found["proposal"]:
            proposed += 1
            assert found["proposal"].replace("\n", "").isprintable()
            (table,) = tomllib.loads(found["proposal"])["inputs"]
            assert table.get("topics", [""]) == [source]
    assert proposed > 0.5 * FILES


def test_a_mutated_command_is_one_or_refused_with_its_code() -> None:
    chance = random.Random(SEED)
    good = b'{"v": 1, "command": "label", "arguments": {"alarm": 7, "text": "seal \xc3\xa9"}}'
    codes = Counter[str]()
    for _ in each_in_time(range(PAYLOADS)):
        try:
            request = parse_request(mutated(good, chance))
        except Refused as refused:
            codes[refused.code] += 1
            json.loads(refused_line(refused))
        else:
            assert isinstance(request.command, str)
            codes["good"] += 1
    assert codes.keys() == {"good", "malformed", "version"}
