"""The command ``values``: what a person sees of a stream now, with and without a bundle."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.commands.life import NOT_WATCHING
from agent.commands.values import describe, values
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, csv_line
from agent.store.batch import Batch
from agent.store.writer import Store
from models.errors import ConfigError
from models.messages import GOOD, HELD, MISSING, Samples
from tests.conftest import ROOT, ZOO_BUNDLE, RealAgent, wait_until

PUMP = [channel.name for channel in CHANNELS]


def run(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "values", "--config", str(config), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )


def configure(directory: Path) -> Path:
    (directory / "data").mkdir()
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[streams]]
name = "tank"
[streams.baseline]
period_s = 1.0
warm_up_samples = 20
channels = [
  {{ name = "level", unit = "m", low = 0.0, high = 10.0 }},
  {{ name = "a_temperature_with_a_long_name_of_its_own", unit = "degC" }},
]
[[inputs]]
name = "pump-rows"
type = "file"
path = "pump.csv"
begin = "start"
stream = "pump"
columns = {["time", *PUMP]}
[[inputs]]
name = "tank-rows"
type = "file"
path = "tank.csv"
begin = "start"
stream = "tank"
columns = ["time", "level", "a_temperature_with_a_long_name_of_its_own"]
""")
    return config


def stream(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in document["streams"] if one["stream"] == name)
    return dict(found)


def test_a_running_agent_shows_the_newest_of_a_bundle_and_of_a_baseline(
    tmp_path: Path, start_agent: Callable[[Path], RealAgent]
) -> None:
    config = configure(tmp_path)
    begin_s = time.time() - 120
    with (tmp_path / "pump.csv").open("w") as rows:
        for step, row in enumerate(Pump(1).run(300)):
            rows.write(f"{csv_line(begin_s + step * PERIOD_S, row).strip()}\n")
    with (tmp_path / "tank.csv").open("w") as rows_of_tank:
        for second in range(60):
            level = 99.0 if second > 50 else 4.0 + second % 3 / 8  # the last ones are too high
            rows_of_tank.write(f"{begin_s + second},{level},{20 + second % 5}\n")
    agent = start_agent(config)

    def now() -> dict[str, Any]:
        told = run(config, "--json")
        return json.loads(told.stdout) if told.returncode == 0 else {"streams": []}

    def complete() -> bool:
        found = {one["stream"]: one for one in now()["streams"]}
        return len(found) == 2 and all(one["score"] is not None for one in found.values())

    wait_until(complete, "scores of both")
    document = now()
    assert document["agent"]["watching"]
    of_pump, of_tank = stream(document, "pump"), stream(document, "tank")
    assert of_pump["threshold"] == of_tank["threshold"] == 1
    flow = next(one for one in of_pump["channels"] if one["channel"] == "flow")
    assert (flow["unit"], flow["quality"]) == ("m3/h", "good")
    assert 20 < flow["value"] < 120
    assert 0 <= flow["age_s"] < 3600
    level, temperature = of_tank["channels"]
    assert (level["unit"], temperature["unit"]) == ("m", "degC")
    assert 4.0 <= level["value"] <= 4.25, "the newest that was measured"
    assert level["quality"] in ("held", "missing")
    assert level["rejected"].startswith("out_of_range")
    assert temperature["quality"] == "good"
    assert level["age_s"] > temperature["age_s"]

    told = run(config, "--stream", "tank")
    assert told.returncode == 0
    assert "tank: score " in told.stdout
    assert "(threshold 1)" in told.stdout
    assert "pump" not in told.stdout
    assert "rejected: out_of_range" in told.stdout
    assert "a_temperature_with_a_long_n…" in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 80
    agent.kill()
    told = run(config)
    assert told.returncode == NOT_WATCHING
    assert "NOT WATCHING" in told.stdout


def test_what_is_missing_since_the_start_and_unwatched_streams_are_told(tmp_path: Path) -> None:
    config = configure(tmp_path)
    store = Store(tmp_path / "data", "plant", "gw-1", 1000, 1000)
    store.open()
    store.readings.history.describe({"tank": ("level", "other")})
    rows = np.full((3, 2), np.nan, np.float32)
    rows[:2, 0] = 4.5, 4.5
    quality = np.array([[GOOD, MISSING], [HELD, MISSING], [MISSING, MISSING]], np.uint8)
    samples = Samples(1000.0 + np.arange(3), rows, quality)
    store.commit(Batch(samples=[("tank", samples, np.full(3, np.nan, np.float32))]), "synced")
    bare = {"bundle": "b", "open_alarms": [{}], "watched": True}
    lost = {"connected": False, "last_error": "no such device", "rejects": []}
    status = {
        "running": True,
        "updated": "2026-01-01T00:00:00Z",
        "streams": {"tank": bare, "pump": bare | {"watched": False}, "new": bare},
        "inputs": {"tank-rows": lost},
    }
    store.commit(Batch(status=lambda: json.dumps(status)), "synced")
    document = values(config, now_s=1010.0)
    level, other = stream(document, "tank")["channels"]
    assert (level["value"], level["age_s"], level["quality"]) == (4.5, 10.0, "missing")
    assert (other["value"], other["age_s"], other["unit"]) == (None, None, None)
    text = "\n".join(describe(document))
    assert "tank: score - (threshold 1), 8 s ago, ALARMS OPEN: 1" in text
    assert "input tank-rows is not connected: no such device" in text
    assert "no value, now missing" in text
    assert "pump: NOT WATCHED" in text
    assert "new: no sample yet" in text
    with pytest.raises(ConfigError, match="did you mean 'tank'"):
        values(config, ["tnak"])
    with pytest.raises(ConfigError, match="no such stream; there are tank, pump"):
        values(config, ["x"])
    store.readings.history.describe({"tank": ("other",)})  # another detector, with fewer channels
    later = Samples(np.array([1003.0]), np.array([[7.0]], np.float32))
    store.commit(Batch(samples=[("tank", later, np.full(1, 0.5, np.float32))]), "synced")
    config.write_text("[store]\ndirectory = 'data'\n")  # no longer whole: no units
    found = stream(values(config), "tank")
    (only,) = found["channels"]
    assert (only["channel"], only["value"], only["unit"]) == ("other", 7.0, None)
    assert found["score"] == 0.5
    store.close()
