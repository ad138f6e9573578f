"""Whatever a bundle, a store or a recording holds, a command prints lines of plain text."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.cli import main
from agent.collector.books import Collected
from agent.collector.run import Collector
from agent.commands.life import NOT_WATCHING
from agent.config.broker import MqttTable
from agent.inputs import plant
from agent.mqtt.connection import Received
from agent.store.batch import Batch
from agent.store.salvage import Report
from agent.store.writer import Store
from models import bundle as bundles
from models import signing
from models.bundle import Bundle
from models.keys import new_key
from models.messages import Samples
from tests.conftest import ROOT
from tests.forecast_rig import RISE_STEPS, Gateway, configure, rising
from tests.hostile import HOSTILE, SHOWN, Printed, assert_harmless, printed

STEPS = RISE_STEPS + 6
UNIT = "\x1b[2J\n\u202e$x$\x9b"  # 16 characters at most; a bundle has no surrogates
UNIT_SHOWN = r"\x1b[2J\n\u202e$x$\x9b"
UTF_8_HOSTILE = HOSTILE.replace("\ud800", "°C 温")


def call(*words: object, encoding: str = "utf-8") -> Printed:
    return printed(main, "fieldwatch-agent", [str(word) for word in words], encoding)


@pytest.fixture(scope="module")
def hostile_bundle(
    forecasting_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The reference bundle, with all texts that may be any as nobody should write them."""
    made = forecasting_bundle()
    manifest = made.manifest
    channels = [one.model_copy(update={"unit": UNIT}) for one in manifest.channels]
    lineage = manifest.lineage.model_copy(
        update={"data_files": [UTF_8_HOSTILE], "software": {UTF_8_HOSTILE: UTF_8_HOSTILE}}
    )
    network = manifest.network.model_copy(update={"quantization": UTF_8_HOSTILE})
    changes = {
        "created": UTF_8_HOSTILE,
        "channels": channels,
        "lineage": lineage,
        "network": network,
        "metrics": {UTF_8_HOSTILE: [UTF_8_HOSTILE, {UTF_8_HOSTILE: UTF_8_HOSTILE}]},
    }
    path = tmp_path_factory.mktemp("bundles") / "hostile.fieldwatch"
    changed = manifest.model_copy(update=changes)
    new_key(path.with_name("any.key"))
    comment = UTF_8_HOSTILE.replace("\n", "")  # a line end would end it
    signature = signing.sign(changed.to_bytes(), path.with_name("any.key"), comment)
    bundles.write(path, changed, made.parts, signature)
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fault, with a column of a hostile name."""
    path = tmp_path_factory.mktemp("recordings") / "pump.csv"
    plant.simulate(path, 0.08, 21, [plant.Fault("cavitation", 120.0, 30.0)])
    header, *rows = path.read_text().splitlines()
    column = UTF_8_HOSTILE.replace("\n", "")
    path.write_text(
        "".join(f"{row}\n" for row in [f"{header},{column}", *(f"{r},x" for r in rows)])
    )
    return path


@pytest.fixture(scope="module")
def config(hostile_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway with that bundle, whose store has a status and alarms of such texts."""
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "data").mkdir()
    path = directory / "agent.toml"
    path.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[mqtt]
host = "127.0.0.1"
port = 1
[[streams]]
name = "pump"
bundle = "{hostile_bundle}"
[[inputs]]
name = "line"
port = "/dev/\\u001b[2J\\n\\u202e"
stream = "pump"
columns = ["time", "\\u001b[2J\\n\\u202e"]
""")
    store = Store(directory / "data", "plant", "gw-1", 100, 100)
    store.open()
    store.commit(Batch(alarms=[alarm(1, "closed"), alarm(2, "opened")]), "synced")
    store.readings.history.describe({"pump": (UTF_8_HOSTILE, f"{UTF_8_HOSTILE}2")})
    samples = Samples(1.7e9 + np.arange(200.0), np.ones((200, 2), np.float32))
    samples.values[:, 1] = -0.0
    samples.values[50:100] = np.nan
    store.commit(Batch(samples=[("pump", samples, np.ones(200, np.float32))]), "synced")
    store.commit(Batch(status=lambda: json.dumps(hostile_status())), "synced")
    store.close()
    return path


def alarm(number: int, state: str) -> dict[str, Any]:
    return {
        "stream": UTF_8_HOSTILE,
        "number": number,
        "kind": "anomaly",
        "state": state,
        "onset": "2026-01-01T00:00:00.000Z",
        "opened": "2026-01-01T00:00:00.000Z",
        "closed": HOSTILE if state == "closed" else None,
        "score": 2.0,
        "probability": 0.001,
        "severity": "high",
        "action": HOSTILE,
        "channels": [
            {"channel": HOSTILE, "unit": HOSTILE, "score": 2.0, "observed": 1.0, "expected": 2.0},
            {"channel": "p", "unit": "", "score": -0.01, "observed": -0.0, "expected": math.nan},
        ],
        "quality": {HOSTILE: HOSTILE},
        "limit": None,
    }


def hostile_status() -> dict[str, Any]:
    """The status of a real agent with hostile texts in place of all its own, and of some keys."""
    pages = (ROOT / "docs" / "messages.md").read_text()
    examples = map(json.loads, re.findall(r"```json\n(.*?)```", pages, re.DOTALL))
    (health,) = (one["data"] for one in examples if one["type"] == "fieldwatch.health.v1")
    document: dict[str, Any] = poisoned(health)
    for source in document["inputs"].values():
        source["rejects"] = [
            {"time": 0.0, "cause": HOSTILE, "excerpt": HOSTILE, "channel": HOSTILE}
        ]
        source["connected"] = False
        source["rejected"] = {HOSTILE: 3}
    for stream in document["streams"].values():
        stream["open_alarms"] = [alarm(2, "opened")]
        stream["quality"] = {HOSTILE: HOSTILE}
        stream |= {"refused": {"bundle": HOSTILE, "why": HOSTILE}, "stands_in": "baseline"}
        for judged in stream["forecast"]["accuracy"].values():
            judged |= {"mae": math.nan, "coverage_80": -0.0}
    document["machine"]["cpu_temperature_c"] = -0.2
    document["inputs"] = dict.fromkeys([HOSTILE], *document["inputs"].values())
    document["streams"] = dict.fromkeys([HOSTILE], *document["streams"].values())
    document["uplink"] |= {"failures": 1, "last_error": HOSTILE, "held": [HOSTILE], "parked": 1}
    document["uplink"] |= {"central": hostile_central(), "expired": 1}
    damage: Report = {"time": HOSTILE, "file": HOSTILE, "lost": {HOSTILE: 1}, "saved": {HOSTILE: 1}}
    document["store"]["damage"] = [damage]
    document["configuration"] = {
        "file": HOSTILE,
        "loaded": HOSTILE,
        "refused": HOSTILE,
        "needs_restart": [HOSTILE],
    }
    return document


def hostile_central() -> dict[str, Any]:
    return {
        "state": HOSTILE,
        "through_seq": None,
        "unconfirmed": 1,
        "resent": 1,
        "rejected": {HOSTILE: 1},
        "trust": {"unsigned": False, "keys": [HOSTILE], "problem": HOSTILE},
    }


def poisoned(value: Any) -> Any:
    match value:
        case dict():
            return {key: poisoned(inner) for key, inner in value.items()}
        case list():
            return [poisoned(inner) for inner in value]
        case str() if not value[:4].isdigit():  # times are read
            return HOSTILE
    return value


PAST = ("--from", "2023-11-14T22:13:00Z", "--to", "2023-11-14T22:18:00Z")  # of the samples


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize(
    "words",
    [
        ("alarms",),
        ("alarms", "--open"),
        ("alarms", "--json"),
        ("alarms", "--utc"),
        ("alarms", "show", "1"),
        ("alarms", "show", "2"),
        ("alarms", "show", "2", "--json"),
        ("alarms", "show", HOSTILE),
        ("alarms", "ack", "2"),
        ("alarms", "ack", HOSTILE),
        ("alarms", "note", "1", HOSTILE),
        ("alarms", "labels"),
        ("alarms", "labels", "--stream", HOSTILE, "--csv"),
        ("state", "--json"),
        ("status",),
        ("status", "--json"),
        ("status", "--prometheus"),
        ("check",),
        ("check", "--json"),
        ("check", "--origins"),
        ("check", "--origins", "--json"),
        ("forecast", "--stream", "pump"),
        ("forecast", "--stream", HOSTILE),
        ("forecast", "--stream", "pump", "--set", HOSTILE),
        ("probe", "--input", HOSTILE),
        ("history", "--stream", "pump", *PAST),
        ("history", "--stream", "pump", *PAST, "--json"),
        ("history", "--stream", "pump", *PAST, "--csv"),
        ("history", "--stream", "pump", *PAST, "--channel", HOSTILE),
        ("history", "--stream", HOSTILE, *PAST),
        ("history", "--stream", "pump", "--from", HOSTILE),
        ("export", "--stream", "pump", os.devnull),
        ("export", "--stream", HOSTILE, os.devnull),
        ("export", "--stream", "pump", "--from", HOSTILE, os.devnull),
        ("values",),
        ("values", "--json"),
        ("values", "--stream", HOSTILE),
        ("keys", "list"),
        ("state",),
        ("reload",),
        ("flush",),
    ],
)
def test_commands_about_a_gateway(config: Path, words: tuple[str, ...], encoding: str) -> None:
    told = call(*words, "--config", config, encoding=encoding)
    assert_harmless(told, as_json="--json" in words)


def test_what_is_seen_of_it(config: Path) -> None:
    assert f"\n  {SHOWN[:10]}" in call("alarms", "show", "2", "--config", config).out
    assert f"{SHOWN} ({SHOWN}): {SHOWN}" in call("status", "--config", config).out
    metrics = call("status", "--prometheus", "--config", config).out
    assert f'input="{SHOWN}"'.replace("\\", "\\\\") in metrics
    first, _ = json.loads(call("alarms", "--json", "--config", config).out)["alarms"]
    assert first["action"] == HOSTILE.replace("\ud800", "\\ud800")
    assert first["stream"] == UTF_8_HOSTILE


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("as_json", [False, True])
def test_commands_about_a_bundle(
    hostile_bundle: Path, recording: Path, encoding: str, as_json: bool
) -> None:
    more = ["--json"] if as_json else []
    inspected = call("bundle", "inspect", hostile_bundle, *more, encoding=encoding)
    replayed = call("replay", recording, "--bundle", hostile_bundle, *more, encoding=encoding)
    for told in (inspected, replayed):
        assert told.code == 0
        assert_harmless(told, as_json)
    assert "cavitation" not in replayed.out  # what it is called, the bundle can't know
    assert replayed.out.count("anomaly") >= 1
    if not as_json:
        assert UNIT_SHOWN in inspected.out
        assert UNIT_SHOWN in replayed.out


def test_a_bundle_with_half_a_pair_of_surrogates_is_refused(
    hostile_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.fieldwatch"
    with zipfile.ZipFile(hostile_bundle) as there, zipfile.ZipFile(path, "w") as made:
        for name in there.namelist():
            data = there.read(name)
            if name == bundles.MANIFEST:
                data = data.replace(json.dumps(UNIT)[1:-1].encode(), b"\\ud800")
            made.writestr(name, data)
    told = call("bundle", "inspect", path)
    assert told.code == 65
    assert_harmless(told)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    "words",
    [
        ("bundle", "inspect", HOSTILE),
        ("bundle", "verify", HOSTILE, "--keys", HOSTILE),
        ("replay", HOSTILE, "--bundle", HOSTILE),
        ("check", "--config", HOSTILE),
        ("status", "--config", HOSTILE),
        ("allow-downgrade", HOSTILE, "--to", "1", "--config", HOSTILE),
        ("probe", "file", HOSTILE, "--seconds", "0.1"),
        ("probe", "file", HOSTILE, "--seconds", "0.1", "--json"),
        ("probe", "serial", HOSTILE, "--seconds", "0.1"),
        ("collected", HOSTILE),
        ("collect", "out", "--site", "s", "--host", "h", "--port", HOSTILE),
        ("collect", "out", "--site", "s", "--host", "h", "--keys", HOSTILE),
        ("keys", "new", "gateway", "a.key", "--name", HOSTILE),
        ("keys", "new", HOSTILE, "a.key"),
        ("keys", "new", "bundle", f"{HOSTILE}/x"),
        ("keys", "list", "--keys", HOSTILE),
        ("keys", "revoke", HOSTILE, "--why", HOSTILE, "--keys", HOSTILE),
        ("keys", "revoke", HOSTILE, "--why", HOSTILE, "--keys", "."),
        ("keys", "revoke", "0123456789abcdef", "--why", HOSTILE, "--keys", "."),
        ("simulate", f"{HOSTILE}/x"),
        (HOSTILE,),
        ("status", HOSTILE),
        ("--help",),
        ("probe", "--help"),
        ("schema", "--markdown"),
        ("schema",),
    ],
)
def test_words_of_the_command_line(
    words: tuple[str, ...], encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = tuple(word.replace("\ud800", "\udcff") for word in words)  # a byte that is no UTF-8
    assert_harmless(call(*words, encoding=encoding), words == ("schema",) or "--json" in words)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("more", [(), ("--json",), ("--cause", HOSTILE.replace("\ud800", "x"))])
def test_what_a_collector_has(tmp_path: Path, more: tuple[str, ...], encoding: str) -> None:
    collector = Collector(MqttTable(host="h"), "plant", tmp_path)
    with Collected(tmp_path, "plant") as collected:
        for topic in ("fieldwatch/v1/plant/gw-1/health", UTF_8_HOSTILE):
            for body in (HOSTILE.encode(errors="replace"), b"\xff\x1b[2J", b"{}"):
                collector.take(Received(topic, body, 1, False), collected)
        collected.commit()
    told = call("collected", tmp_path, *more, encoding=encoding)
    assert told.code == (2 if "--cause" in more else NOT_WATCHING)
    assert_harmless(told, as_json="--json" in more)
    assert "forged" in told.out + told.err


def test_an_older_bundle_is_allowed(config: Path) -> None:
    told = call("allow-downgrade", HOSTILE.replace("\ud800", ""), "--to", "1", "--config", config)
    assert told.code == 78
    assert "version 1 can run anyway" in told.err
    assert_harmless(told)


def probe(file: Path, lines: list[str], *more: str, encoding: str = "utf-8") -> Printed:
    file.write_text("".join(f"{line}\n" for line in lines))
    return call("probe", "file", file, "--seconds", "0.1", *more, encoding=encoding)


LINES = {
    "json": [json.dumps({"flow": 40 + n, HOSTILE: n, "b\x1b\u2028": n}) for n in range(20)],
    "nested json": [json.dumps({"a": {"flow": 40 + n, HOSTILE: n, "\x9b": n}}) for n in range(20)],
    "csv": ["time,flow,p\x1b[2J\u202e", *(f"{1.7e9 + n},{n},{n}" for n in range(20))],
    "pairs": [f"flow={n}\x1b[2J p\u202e={n} \U0010ffff" for n in range(20)],
    "nothing known": [f"\x1b[2J{n}\u2028" for n in range(20)],
}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("kind", LINES)
def test_a_probe_of_a_file(tmp_path: Path, kind: str, as_json: bool, encoding: str) -> None:
    more = ["--json"] if as_json else []
    told = probe(tmp_path / "lines", LINES[kind], *more, encoding=encoding)
    assert told.code == (65 if kind == "nothing known" else 0)
    assert_harmless(told, as_json)


@pytest.mark.parametrize("kind", ["json", "nested json", "csv"])
def test_what_is_proposed_is_read_by_the_agent(tmp_path: Path, kind: str) -> None:
    """A key is named in the configuration by its escapes, but for one that is no text."""
    found = json.loads(probe(tmp_path / "lines", LINES[kind], "--json").out)
    assert "flow" in found["stream"]
    config = tmp_path / "agent.toml"
    head = '[gateway]\nsite = "s"\nname = "g"\n[store]\ndirectory = "data"\n'
    config.write_text(head + found["stream"] + found["proposal"])
    told = call("check", "--config", config)
    assert_harmless(told)
    assert "ok    configuration" in told.out


def test_a_forecast_names_its_units(hostile_bundle: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, bundles.read(hostile_bundle), stream="")
    gateway = Gateway(config)
    gateway.feed(rising(STEPS))
    gateway.close()
    for encoding in ("utf-8", "ascii"):
        told = call("forecast", "--stream", "pump", "--config", config, encoding=encoding)
        assert told.code == NOT_WATCHING
        assert_harmless(told)
        assert UNIT_SHOWN in told.out
