"""Mutated lines, bundles, configurations and acknowledgements: no crash, and all is counted.

As many cases as ``FIELDWATCH_TEST_FUZZ`` times the usual; ``make soak`` sets it.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import config as configuration
from agent.central import Central
from agent.config import InputTable
from agent.envelope import Outgoing, acknowledged_topic
from agent.health import rss_mb
from agent.inputs.checksum import checked, signed
from agent.inputs.lines import Framer, LineParser
from agent.store import Batch, Reader, Store
from models import bundle as bundles
from models import known_answers
from models.bundle import Channel
from models.errors import BundleError, ConfigError
from models.pipeline import Pipeline
from tests.conftest import ROOT, ZOO_BUNDLE

TIMES = int(os.environ.get("FIELDWATCH_TEST_FUZZ", "1"))
FRAMES = 20_000 * TIMES  # per format
FILES = 400 * TIMES
LINE_BYTES_MAX = 200
RSS_GROWTH_MAX_MB = 40.0
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
    *(b"-0", b":", b"2023-11-14T22:13:20Z", b"time,flow,pressure,level", b"flow,pressure,level,x"),
]
WHOLE_LINE = ("not_utf8", "too_long", "bad_checksum", "malformed", "truncated", "bad_time")


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


def frames(original: bytes, chance: random.Random) -> Iterator[bytes]:
    """Chunks of lines as a port gives them, some of them whole, cut anywhere."""
    for _ in range(0, FRAMES, 20):
        lines = [
            original if chance.random() < 0.3 else mutated(original, chance) for _ in range(20)
        ]
        block = b"\n".join(lines) + b"\n"
        cut = chance.randrange(len(block))
        yield block[:cut]
        yield block[cut:]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_line_is_a_row_or_counted(kind: str) -> None:
    settings, original = FORMATS[kind]
    table = {"name": "a", "stream": "s", "line_bytes_max": LINE_BYTES_MAX, "rejects_kept": 3}
    parser, single = (
        LineParser(InputTable.model_validate(table | settings), CHANNELS) for _ in range(2)
    )
    framer = Framer(LINE_BYTES_MAX)
    before = rss_mb()
    lines_in = rows_out = passed_over = 0
    for data in frames(original, random.Random(SEED)):
        lines = framer.push(data)
        got = parser.parse(lines, 1.7e9)
        one_by_one = [single.parse([line], 1.7e9) for line in lines]
        values = [row.values for row in one_by_one] or [np.empty((0, 3), np.float32)]
        np.testing.assert_array_equal(got.values, np.concatenate(values))
        assert ((got.values >= -1000) & (got.values <= 1000) | np.isnan(got.values)).all()
        assert np.isfinite(got.times).all()
        lines_in, rows_out = lines_in + len(lines), rows_out + len(got.times)
        passed_over += sum(silent(line, settings) for line in lines)
    assert parser.counters == single.counters
    lost = lines_in - rows_out - sum(parser.counters[cause] for cause in WHOLE_LINE)
    if parser.counters["unknown_channel"] == 0:
        assert lost == passed_over
    else:  # the cause also counts a key that is no channel of a line that is used
        assert passed_over <= lost <= passed_over + parser.counters["unknown_channel"]
    assert rows_out > 0.2 * lines_in
    assert len(parser.rejects()) <= 3 * 9
    assert rss_mb() - before < RSS_GROWTH_MAX_MB


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


def test_a_mutated_bundle_is_refused_or_the_same(tmp_path: Path) -> None:
    """Whatever byte of the file is changed; also inside of members, past the outer checks."""
    original, chance = ZOO_BUNDLE.read_bytes(), random.Random(SEED)
    digest, file = bundles.read(ZOO_BUNDLE).digest, tmp_path / "mutated.fieldwatch"
    refused = 0
    for _ in range(FILES):
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
    for _ in range(min(FILES, 4000) // 4):
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
    for _ in range(FILES):
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
        for _ in range(10 * FILES):
            before = sum(central.rejected.values())
            central.heard(topic, mutated(json.dumps(good).encode(), chance), outbox)
            followed += sum(central.rejected.values()) == before
            assert central.through_seq is None or 0 <= central.through_seq <= 20
            assert not central.has(21)
    store.close()
    assert sum(central.rejected.values()) + followed == 10 * FILES
    assert central.rejected["malformed"]
    assert central.rejected["foreign_epoch"]
