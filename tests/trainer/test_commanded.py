"""A set point that is not scored: trained, sealed, and asked on a gateway what if it changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from agent.inputs.plant import PERIOD_S
from agent.page import drawn
from models import bundle as bundles
from models.bundle import Bundle
from models.errors import BundleCorrupt
from models.families import detector_of
from models.known_answers import check, largest_difference
from models.manifest import KNOWN_ANSWERS
from models.messages import Float32
from tests.database import make_files
from tests.forecast_rig import Gateway
from trainer import config, train

CONTEXT, HORIZON = 40, 16
ROWS = 3800
CONFIG = """
[bundle]
name = "oven"

[data]
files = ["normal.csv"]

[[data.channels]]
name = "setpoint"
unit = "degC"
scored = false

[[data.channels]]
name = "temperature"
unit = "degC"

[[data.channels]]
name = "door"
scored = false

[sampling]
period_s = 0.2
warm_up_samples = 20

[split]
train = 0.4
calibrate = 0.3
test = 0.3

[network]
layers = [4]

[fit]
epochs = 1

[smoothing]
spans_samples = [10]

[parity]
quantizations = ["dynamic-range-int8"]

[forecast]
context_steps = 40
horizon_steps = 16

[forecast.choice]
network = false

[forecast.coupling]
plannable = ["setpoint", "door"]
penalties = [0.001]

[forecast.network]
patch_steps = 8

[forecast.parity]
quantizations = ["dynamic-range-int8"]
"""


def oven(asked: Any, seed: int) -> Float32:
    """Return set point, temperature and an idle door, (n, 3); the temperature lags by 5 samples."""
    random = np.random.default_rng(seed)
    now, found = asked[0], []
    for wanted in asked:
        now += (wanted - now) / 5
        found.append(now + random.normal(0, 0.2))
    door = random.random(len(asked) // 30 + 1).round().repeat(30)[: len(asked)]
    return np.stack([asked, found, door], axis=1).astype(np.float32)


class Oven(NamedTuple):
    """A gateway whose oven has been at 60 degC."""

    config: Path
    bundle: Bundle
    said: list[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Oven:
    directory = tmp_path_factory.mktemp("oven")
    random = np.random.default_rng(1)
    asked = np.repeat(random.uniform(40, 80, ROWS), random.integers(10, 40, ROWS))[:ROWS]
    rows = oven(asked, seed=1)
    times = 1_700_000_000.0 + np.arange(ROWS) * PERIOD_S
    lines = ["time,setpoint,temperature,door"]
    lines += [
        f"{time:.3f},{','.join(f'{value:.4f}' for value in row)}"
        for time, row in zip(times, rows, strict=True)
    ]
    (directory / "normal.csv").write_text("\n".join(lines) + "\n")
    (directory / "oven.toml").write_text(CONFIG)
    said: list[str] = []
    train.train(config.read(directory / "oven.toml"), directory, None, said.append)
    make_files(directory / "data")
    agents = directory / "agent.toml"
    agents.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[[streams]]
name = "pump"
bundle = "{directory / "oven.fieldwatch"}"
[[inputs]]
name = "line"
port = "/dev/does-not-exist"
stream = "pump"
columns = ["time", "setpoint", "temperature", "door"]
""")
    gateway = Gateway(agents)
    gateway.feed(oven(np.full(CONTEXT + 1, 60.0), seed=2))
    gateway.close()
    return Oven(agents, bundles.read(directory / "oven.fieldwatch"), said)


def call(one: Oven, *arguments: str) -> Result:
    words = ["forecast", "--config", str(one.config), "--stream", "pump", *arguments]
    return CliRunner().invoke(commands, words)


def found(one: Oven, *arguments: str) -> dict[str, Any]:
    result = call(one, *arguments, "--json")
    assert result.exception is None, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


def medians(document: dict[str, Any], which: str) -> list[float]:
    quantiles = document[which]["channels"]["temperature"]["quantiles"]
    return [float(value) for value in quantiles["0.5"]]


def test_the_set_point_ships_and_the_door_does_not(trained: Oven) -> None:
    part = trained.bundle.manifest.forecaster
    assert part is not None and part.commands is not None
    assert part.commands.channels == [0] and part.commands.plannable == [0]
    told = trained.bundle.manifest.metrics["forecaster"]["commands"]
    assert told["plan"]["chosen"] == ["setpoint"]
    assert not told["plan"]["alone"]["door"]["ships"]
    report = (trained.config.parent / "oven.report.html").read_text()
    assert "<h3>Commands</h3>" in report and "what it will be" in report
    assert any("command setpoint, what it will be: gains" in line for line in trained.said)


def test_the_gateway_computes_what_the_trainer_did(trained: Oven) -> None:
    detector, bundle = detector_of(trained.bundle), trained.bundle
    assert largest_difference(detector, bundle) <= 1
    answers = json.loads(bundle.parts[KNOWN_ANSWERS])
    assert np.shape(answers["forecast"]["context"]) == (CONTEXT, 2)  # and the set point
    answers["forecast"]["context"] = [row[:1] for row in answers["forecast"]["context"]]
    parts = dict(bundle.parts) | {KNOWN_ANSWERS: json.dumps(answers).encode()}
    with pytest.raises(BundleCorrupt, match="forecast of the wrong shape"):
        check(detector, dataclasses.replace(bundle, parts=parts))


def test_another_set_point_changes_the_forecast_of_the_temperature(trained: Oven) -> None:
    document = found(trained, "--plan", "setpoint=70")
    assert document["plannable"] == ["setpoint"]
    assert document["commands"] == {"setpoint": {"unit": "degC", "last": 60.0}}
    stays = medians(found(trained, "--plan", "setpoint=60"), "hypothetical")
    moved = np.array(medians(document, "hypothetical")) - np.array(stays)
    assert 8 < moved[-1] < 12
    assert moved[0] < 4 < moved[6]
    assert medians(document, "forecast") == medians(found(trained), "forecast")
    more = found(trained, "--plan", "setpoint+=10", "--horizon", "6")
    assert medians(more, "hypothetical") == medians(document, "hypothetical")[:6]


def test_the_past_of_the_set_point_may_be_supposed_too(trained: Oven) -> None:
    document = found(trained, "--set", "setpoint=70", "--hold", "5", "--plan", "setpoint+=0")
    assert document["set"] == [{"channel": "setpoint", "adds": False, "value": 70.0}]
    assert medians(document, "hypothetical")[-1] > medians(document, "forecast")[-1] + 2
    refused = call(trained, "--set", "door=1").exception
    assert "no such channel is forecast" in str(refused)  # and it is no input either


@pytest.mark.parametrize("channel", ["door", "setpiont", "temperature"])
def test_what_cannot_be_planned_is_refused_with_what_can(trained: Oven, channel: str) -> None:
    result = call(trained, "--plan", f"{channel}=1")
    assert result.exception is not None
    assert f"--plan {channel}: no such channel can be planned" in str(result.exception)
    assert "setpoint" in str(result.exception)


def test_the_page_offers_the_set_point(trained: Oven) -> None:
    document = drawn.forecast(trained.config, "pump", plans=["setpoint=70"])
    assert document["plannable"] == ["setpoint"]
    assert document["commands"] == [{"name": "setpoint", "unit": "degC", "last": 60.0}]
    assert document["titles"]["setpoint"] == "setpoint"
    assert [one["name"] for one in document["channels"]] == ["temperature"]
