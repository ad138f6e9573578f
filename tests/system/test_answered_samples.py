"""Samples that central ops asks for: ring, answer, broker, collector, Parquet, trainer."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from click.testing import CliRunner

from agent.collector.overview import overview
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, csv_line
from agent.mqtt.client import Client
from agent.mqtt.signer import CONTEXT
from models.errors import StoreError
from models.keys import new_key, read_secret
from models.signed import signed
from models.times import iso_time
from tests.agent_rig import START_S, StartAgent, scored
from tests.collector_process import CollectorProcess
from tests.conftest import ROOT, WAIT_S_MAX, RealBroker, wait_until
from tests.serial_line import Line
from tests.system.test_commands import ANSWER, Central, Commanded
from trainer import config, prepared
from trainer.cli import commands
from trainer.datasets import Recording

ROWS = 600
NAMES = [channel.name for channel in CHANNELS]


def agent(*words: object) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "agent", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def trained_on(data: Path, name: str) -> Recording:
    """Return what a training reads after ``fieldwatch-trainer init``."""
    output = data.parent / f"{name}.toml"
    told = CliRunner().invoke(commands, ["init", str(data), "--output", str(output)])
    assert told.exit_code == 0, told.output
    (source,) = prepared.sources(config.read(output), lambda _: None)
    return source.recording


def stored(directory: Path) -> int:
    return sum(int(one["samples"]) for one in overview(directory, None, 0)["samples"])


def collects(directory: Path) -> bool:
    """Whether a message of the gateway has come."""
    try:
        return overview(directory, None, 0)["gateways"] != []
    except StoreError:  # there is no database yet
        return False


def refused(directory: Path) -> Mapping[str, int]:
    return {one["cause"]: one["count"] for one in overview(directory, None, 0)["refused"]}


def test_what_central_ops_asks_for_is_what_the_trainer_reads(
    tmp_path: Path, line: Line, start_agent: StartAgent, broker: RealBroker
) -> None:
    enrolled, central = tmp_path / "enrolled", tmp_path / "central"
    enrolled.mkdir()
    secret = tmp_path / "gw-1.key"
    shutil.copy(new_key(secret, "gateway", "plant/gw-1"), enrolled)
    gateway = Commanded(tmp_path, line, start_agent, broker.port, "", f'sign = "{secret}"\n')
    gateway.trust(tmp_path, "operate", "anna")
    sent = [csv_line(START_S + at * PERIOD_S, row) for at, row in enumerate(Pump(1).run(ROWS), 3)]
    for at in range(100, 130):  # the second channel is missing for a while
        cells = sent[at].split(",")
        sent[at] = ",".join([*cells[:2], "", *cells[3:]])
    line.write("".join(f"{one}\n" for one in sent).encode())
    wait_until(lambda: scored(tmp_path) >= ROWS + 3, "the samples")
    more = ["--samples", "--keys", str(enrolled), "--require-signatures"]
    collector = CollectorProcess(broker.port, central, more=more)
    ops = Central(broker.port)
    anybody = Client(client_id="anybody", protocol=paho.MQTTv311)
    anybody.connect("127.0.0.1", broker.port)
    anybody.loop_start()
    try:
        wait_until(lambda: collects(central), "the collector")
        to = ["command", "--site", "plant", "--gateway", "gw-1", "--host", "127.0.0.1"]
        to += ["--port", broker.port, "--key", tmp_path / "operate-anna.key", "--json"]
        middle_s = START_S + 30
        around = ["--before", 20, "--after", 20, "--points", 2000]
        first = json.loads(agent(*to, "samples", "pump", "--at", middle_s, *around))
        agent(*to, "samples", "pump", "--at", middle_s + 15, *around)  # half of it again
        means = json.loads(agent(*to, "samples", "pump", "--at", START_S + 5, "--points", 20))
        agent(*to, "note", "pump#1.1", "no samples at all")
        wait_until(lambda: len(ops.answers) >= 4, "the answers")
        whole = json.dumps(ops.answers[0]).encode()
        forged: dict[str, Any] = json.loads(whole)
        forged.pop("signature")
        key = read_secret(secret, "gateway")
        cut = json.dumps({"ok": True, "result": {"stream": "pump", "samples": True}}).encode()
        ops.close()  # it reads whole answers only
        for body in (whole[:-30], json.dumps(forged).encode(), signed(cut, ANSWER, CONTEXT, key)):
            anybody.publish(ANSWER, body, 1).wait_for_publish(WAIT_S_MAX)
        wait_until(lambda: sum(refused(central).values()) == 3, "the refusals")
        collector.send_signal(signal.SIGTERM)
        assert collector.ended(WAIT_S_MAX) == 0
    finally:
        ops.close()
        anybody.disconnect()
        anybody.loop_stop()
        collector.end()
    assert first["samples"] is True
    assert "quality" in first
    assert means["samples"] is False
    assert refused(central) == {"unsigned": 2, "implausible": 1}
    count = round(55 / PERIOD_S) + 1
    assert stored(central) == count
    folder = central / "samples/gateway=gw-1/stream=pump"
    collected = trained_on(folder, "collected")
    begin, end = middle_s - 20, middle_s + 35
    span = ["--from", iso_time(begin), "--to", iso_time(end)]
    agent("export", "--config", gateway.config, "--stream", "pump", *span, tmp_path / "pump.csv")
    exported = trained_on(tmp_path / "pump.csv", "exported")
    assert len(exported.readings.times) == count
    assert collected.readings.times.tolist() == exported.readings.times.tolist()
    assert collected.readings.values.tobytes() == exported.readings.values.tobytes()
    assert np.isnan(collected.readings.values).any()
