"""Text as nobody should send it, from all sides of a real agent: it goes on, and shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.cli import main
from agent.store.reader import Reader
from models.errors import StoreError
from tests.agent_rig import Ops
from tests.conftest import RealAgent, RealBroker, wait_until
from tests.database import make_files
from tests.hostile import HOSTILE, SHOWN, Printed, assert_harmless, printed
from tests.uplink_rig import Ops as Speaker

ACKNOWLEDGED = "fieldwatch/v1/plant/gw-1/acknowledged"
LINE = json.dumps({"flow": 51, HOSTILE: HOSTILE}).encode()
MESSAGES = 20


def configure(directory: Path, port: int) -> Path:
    make_files(directory / "data")
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[mqtt]
host = "127.0.0.1"
port = {port}
acknowledgement = "central"
unsigned_acknowledgements = true
[health]
interval_s = 1
[[streams]]
name = "pump"
[streams.baseline]
period_s = 0.5
channels = [{{ name = "flow", unit = "\\u001b[2J\\n$x$\\u202e" }}]
[[inputs]]
name = "bus"
type = "mqtt"
stream = "pump"
topics = ["machines/#"]
broker = {{ host = "127.0.0.1", port = {port} }}
format = "json"
[[inputs]]
name = "file"
type = "file"
path = "lines"
stream = "pump"
format = "json"
begin = "start"
poll_interval_s = 0.05
""")
    return config


def inputs(directory: Path) -> dict[str, Any]:
    with Reader(directory / "data") as reader:
        try:
            found: dict[str, Any] = reader.status()["inputs"]
        except StoreError:  # not yet
            return {"bus": {"connected": False, "lines": 0}, "file": {"lines": 0}}
        return found


def call(config: Path, *words: str) -> Printed:
    return printed(main, "fieldwatch-agent", [*words, "--config", str(config)], "utf-8")


def test_text_of_any_kind_from_all_sides(
    broker: RealBroker, start_agent: Callable[[Path], RealAgent], tmp_path: Path
) -> None:
    """Devices, files and the broker; a stop and a start find nothing that comes again."""
    config, ops = configure(tmp_path, broker.port), Ops(broker.port)
    speaker = Speaker(broker.port, "nothing", client_id="speaker")
    speaker.say(ACKNOWLEDGED, {"epoch": HOSTILE, "through_seq": 3, HOSTILE: HOSTILE})
    (tmp_path / "lines").write_bytes(b"".join(LINE + b"\n" for _ in range(MESSAGES)))
    agent = start_agent(config)
    wait_until(lambda: bool(inputs(tmp_path)["bus"]["connected"]), "the bus")
    wait_until(lambda: bool(inputs(tmp_path)["file"]["lines"] == MESSAGES), "the file")
    for _ in range(MESSAGES):
        speaker.say("machines/pump \u202e温", LINE)
    rejected = {"unknown_channel": MESSAGES}  # counted later than a line is
    wait_until(lambda: inputs(tmp_path)["bus"].get("rejected") == rejected, "the messages")
    wait_until(lambda: "foreign_epoch" in agent.log(), "the acknowledgement")
    wait_until(
        lambda: any(one["data"]["inputs"]["bus"]["lines"] for one in ops.of_kind("health")),
        "the health message",
    )
    for words in (("status",), ("status", "--json"), ("status", "--prometheus"), ("alarms",)):
        told = call(config, *words)
        assert told.code == 0
        assert_harmless(told, "--json" in words)
    assert f"unknown_channel ({SHOWN})" in call(config, "status").out
    assert inputs(tmp_path)["bus"]["rejected"] == rejected
    assert agent.stop() == 0
    agent.start()
    wait_until(lambda: agent.log().count("ready:") == 2, "the second start")
    wait_until(lambda: bool(inputs(tmp_path)["bus"]["connected"]), "the bus again")
    assert agent.stop() == 0
    assert all(line.isprintable() for line in agent.log().split("\n"))
    assert SHOWN in agent.log()
    for message in [*ops.of_kind("health"), *ops.of_kind("summary"), *ops.of_kind("status")]:
        json.dumps(message, ensure_ascii=False).encode()
    ops.close()
    speaker.close()
