"""The command ``forecast``: the agent's own forecast, and what if its history were another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from agent.commands.forecast import Setting, parse_setting
from agent.inputs.plant import CHANNELS
from models import bundle as bundles
from models.bundle import Bundle
from models.manifest import FORECASTER, KNOWN_ANSWERS
from tests.conftest import ROOT, ZOO_BUNDLE
from tests.forecast_rig import (
    COUPLED,
    LIMITS,
    NAMES,
    RISE_STEPS,
    STEP_SAMPLES,
    Gateway,
    configure,
    rising,
)

MakeBundle = Callable[..., Bundle]
STEPS = RISE_STEPS + 6
SHIFTED = {"rate": 0.05, "leads_steps": [1, 3, 6, 12], "offsets": np.zeros((7, 8, 4)).tolist()}


UNITS = [(channel.name, channel.unit) for channel in CHANNELS]


def call(config: Path, *arguments: str) -> Result:
    words = ["forecast", "--config", str(config), "--stream", "pump", *arguments]
    return CliRunner().invoke(commands, words)


def found(config: Path, *arguments: str) -> dict[str, Any]:
    result = call(config, *arguments, "--json")
    assert result.exception is None, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


def printed(config: Path, *arguments: str) -> list[str]:
    """For people, but the line below that no agent runs."""
    *lines, told = call(config, *arguments).output.splitlines()
    assert told.startswith("NOT WATCHING")
    return lines


def ended(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As a process: what it prints on its error output, and its code."""
    words = ["forecast", "--config", str(config), "--stream", "pump", *arguments]
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.fixture
def without_forecaster(tmp_path: Path, zoo_bundle: Bundle) -> Path:
    """The reference bundle's detector alone, whatever else the bundle has."""
    parts = {name: data for name, data in zoo_bundle.parts.items() if name != FORECASTER}
    known = json.loads(parts[KNOWN_ANSWERS])
    known.pop("forecast", None)
    parts[KNOWN_ANSWERS] = json.dumps(known).encode()
    files = {name: bundles.file_part(data) for name, data in parts.items()}
    changes = {"forecaster": None, "files": files, "metrics": {}}
    path = tmp_path / "detector.fieldwatch"
    bundles.write(path, zoo_bundle.manifest.model_copy(update=changes), parts, None)
    return path


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, forecasting_bundle: MakeBundle
) -> tuple[Path, dict[str, Any]]:
    """A configuration with a history, and what the agent itself said of it last."""
    directory = tmp_path_factory.mktemp("agent")
    config = configure(directory, forecasting_bundle(intervals=SHIFTED))
    gateway = Gateway(config)
    rows = rising(STEPS)
    for begin in range(0, len(rows), 7):  # in odd pieces, as they come
        gateway.feed(rows[begin : begin + 7], begin)
    document = gateway.stream.document()["forecast"]
    gateway.close()
    return config, document


def test_it_is_the_agents_own_forecast(watched: tuple[Path, dict[str, Any]]) -> None:
    config, agents = watched
    made = found(config)["forecast"]
    assert made["made"] == agents["last_forecast"]
    assert made["limits"] == agents["limits"]
    assert agents["limits"][0]["probability"] > 0.2
    assert made["imputed_values"] == 0


def test_it_uses_the_intervals_as_the_agent_has_moved_them(
    watched: tuple[Path, dict[str, Any]], tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    config, _ = watched
    gateway = Gateway(other := configure(tmp_path, forecasting_bundle()))  # never moves them
    gateway.feed(rising(STEPS))
    gateway.close()
    moved, still = (found(one)["forecast"]["channels"] for one in (config, other))
    assert moved["flow"]["quantiles"]["0.5"] == still["flow"]["quantiles"]["0.5"]
    high = [one["bearing_temperature"]["quantiles"]["0.9"][-1] for one in (moved, still)]
    assert high[0] > high[1]  # the values were above them while it rose


def test_times_begin_one_step_after_the_last(watched: tuple[Path, dict[str, Any]]) -> None:
    made = found(watched[0], "--horizon", "3")["forecast"]
    assert made["made"] == "2023-11-14T22:14:06.000Z"
    assert made["times"] == [f"2023-11-14T22:14:0{second}.000Z" for second in (7, 8, 9)]
    quantiles = made["channels"]["flow"]["quantiles"]
    assert {len(values) for values in quantiles.values()} == {3}
    assert made["intervals"]["80"] == ["0.1", "0.9"]


def test_a_hypothetical_value_changes_its_channel_alone(
    watched: tuple[Path, dict[str, Any]],
) -> None:
    document = found(watched[0], "--set", "flow=80")
    made, supposed = document["forecast"]["channels"], document["hypothetical"]["channels"]
    assert document["set"] == [{"channel": "flow", "adds": False, "value": 80.0}]
    assert document["hold_s"] == 6.0  # the bundle's patch
    assert supposed["flow"]["last"] == 80.0
    assert supposed["flow"]["quantiles"]["0.5"] == pytest.approx([80.0] * 12, abs=1e-3)
    width = supposed["flow"]["quantiles"]["0.9"][-1] - supposed["flow"]["quantiles"]["0.1"][-1]
    assert width > 2.0  # the steps before are as they were, so the change is seen as one
    assert {name: made[name] for name in NAMES if name != "flow"} == {
        name: supposed[name] for name in NAMES if name != "flow"
    }
    assert document["forecast"]["limits"] == document["hypothetical"]["limits"]


def test_a_hypothetical_rise_brings_the_limit_nearer(
    watched: tuple[Path, dict[str, Any]],
) -> None:
    document = found(watched[0], "--set", "bearing_temperature+=2", "--hold", "1")
    assert document["hold_s"] == 1.0
    assert document["forecast"]["limits"][0]["median_s"] is None
    assert document["hypothetical"]["limits"][0]["median_s"] == 0.0
    before = document["forecast"]["channels"]["bearing_temperature"]["last"]
    after = document["hypothetical"]["channels"]["bearing_temperature"]["last"]
    assert after == pytest.approx(before + 2.0, abs=1e-3)


@pytest.fixture(scope="module")
def coupled(tmp_path_factory: pytest.TempPathFactory, forecasting_bundle: MakeBundle) -> Path:
    """A configuration with a history; the temperature follows the flow, which people set."""
    config = configure(tmp_path_factory.mktemp("coupled"), forecasting_bundle(coupling=COUPLED))
    gateway = Gateway(config)
    gateway.feed(rising(STEPS))
    gateway.close()
    return config


def test_a_plan_moves_the_channels_that_depend_on_it(coupled: Path) -> None:
    document = found(coupled, "--plan", "flow+=10")
    made, supposed = document["forecast"]["channels"], document["hypothetical"]["channels"]
    assert document["plan"] == [{"channel": "flow", "adds": True, "value": 10.0}]
    flow = made["flow"]["quantiles"]["0.5"]
    assert supposed["flow"]["quantiles"]["0.1"] == pytest.approx([v + 10 for v in flow], abs=1e-2)
    before = made["bearing_temperature"]["quantiles"]
    after = supposed["bearing_temperature"]["quantiles"]
    assert all(a > b + 1 for a, b in zip(after["0.5"], before["0.5"], strict=True))
    wide = [high - low for low, high in zip(after["0.1"], after["0.9"], strict=True)]
    same = [high - low for low, high in zip(before["0.1"], before["0.9"], strict=True)]
    assert wide == pytest.approx(same, abs=1e-2)
    assert made["voltage"] == supposed["voltage"]


def test_a_plan_may_be_shorter_than_the_horizon(coupled: Path) -> None:
    whole, part = (
        found(coupled, "--plan", "flow=80", *more)["hypothetical"]
        for more in ((), ("--horizon", "3"))
    )
    assert part["times"] == whole["times"][:3]
    for name in NAMES:
        short = part["channels"][name]["quantiles"]["0.5"]
        assert short == whole["channels"][name]["quantiles"]["0.5"][:3]


def test_people_see_what_follows_a_plan(coupled: Path) -> None:
    lines = printed(coupled, "--plan", "flow=80")
    assert lines[1] == "what if: flow = 80 from now on"
    assert lines[2] == "the other channels follow as they did in the recordings of the training"
    begin = next(row for row, line in enumerate(lines) if line.startswith("bearing_temperature, "))
    assert " what if " in lines[begin + 1]


@pytest.mark.parametrize("channel", ["flwo", "voltage", "nothing"])
def test_a_plan_of_another_channel_is_refused_with_those_that_can_be_planned(
    coupled: Path, channel: str
) -> None:
    refused = ended(coupled, "--plan", f"{channel}=80")
    assert refused.returncode == 78
    assert f"--plan {channel}: no such channel can be planned" in refused.stderr
    assert refused.stderr.rstrip().endswith("; allowed are flow")


def test_people_get_a_table_and_the_limits(watched: tuple[Path, dict[str, Any]]) -> None:
    lines = printed(watched[0])
    assert lines[0] == "pump: forecast from 2023-11-14T22:14:06.000Z, times are UTC"
    begin = next(row for row, line in enumerate(lines) if line.startswith("flow, m3/h; last "))
    assert lines[begin + 1].split() == "at median 80 % within 95 % within".split()
    rows = [line.split() for line in lines[begin + 2 : begin + 8]]
    assert [row[0][17:19] for row in rows] == ["08", "10", "12", "14", "16", "18"]
    assert all(float(row[5]) < float(row[2]) < float(row[1]) < float(row[4]) for row in rows)
    assert lines[begin + 8] == ""
    assert lines[-1].startswith(
        "bearing_temperature may rise above 60 degC (critical limit), chance "
    )


def test_what_if_is_printed_beside_it(watched: tuple[Path, dict[str, Any]]) -> None:
    lines = printed(watched[0], "--set", "flow=80")
    assert lines[1] == "what if: flow = 80 for the last 6 s"
    assert lines[2].startswith("each channel is forecast from its own past only")
    begin = next(row for row, line in enumerate(lines) if line.startswith("flow, "))
    assert " what if " in lines[begin + 1]
    assert lines[begin + 2].split()[8] == "80"
    voltage = next(row for row, line in enumerate(lines) if line.startswith("voltage, "))
    assert "what if" not in lines[voltage + 1]
    assert lines[-1].startswith("bearing_temperature may rise")  # as it was
    more = printed(watched[0], "--set", "bearing_temperature+=2")
    assert more[-1] == "what if: bearing_temperature is above 60 degC (critical limit)"


def test_beyond_the_trained_horizon_only_where_asked_for(
    watched: tuple[Path, dict[str, Any]],
) -> None:
    refused = ended(watched[0], "--horizon", "20")
    assert refused.returncode == 78
    assert "--horizon 20: this bundle forecasts 12 steps of 1 s" in refused.stderr
    made = found(watched[0], "--horizon", "20", "--recursive")["forecast"]
    assert (len(made["times"]), made["trained_steps"]) == (20, 12)
    lines = printed(watched[0], "--horizon", "20", "--recursive")
    begin = next(row for row, line in enumerate(lines) if line.startswith("flow, "))
    marked = [line.endswith("recursive, not calibrated") for line in lines[begin + 2 : begin + 8]]
    assert marked == [False, False, False, True, True, True]
    assert lines[-1].endswith("beyond the trained horizon recursive, not calibrated")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--set", "flwo=80"], 78, "--set flwo: no such channel is forecast; did you mean 'flow'?"),
        (["--plan", "flow=80"], 78, "--plan flow: this bundle cannot be asked so: name the"),
        (["--plan", "flow"], 2, "'flow': must be"),
        (["--set", "flow=much"], 2, "'flow=much': must be CHANNEL=NUMBER or CHANNEL+=NUMBER"),
        (["--set", "flow"], 2, "'flow': must be"),
        (["--set", "flow=inf"], 2, "'flow=inf': must be"),
        (["--stream", "pumpe"], 78, "no stream 'pumpe'; did you mean 'pump'?"),
        (["--stream", "x"], 78, "no stream 'x'; there are pump"),
        (["--horizon", "0"], 2, "--horizon"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    watched: tuple[Path, dict[str, Any]], arguments: list[str], code: int, says: str
) -> None:
    outcome = ended(watched[0], *arguments)
    assert outcome.returncode == code
    assert says in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_setting_is_read() -> None:
    assert parse_setting("flow=80") == Setting("flow", False, 80.0)
    assert parse_setting("flow += -5.5") == Setting("flow", True, -5.5)
    assert parse_setting("a.b-c=-1e3") == Setting("a.b-c", False, -1000.0)


@pytest.mark.parametrize(
    ("steps", "lost", "says"),
    [
        (0, 0, "no forecast: short history: 0 of 24 steps of 1 s are there"),
        (10, 0, "no forecast: short history: 10 of 24 steps of 1 s are there"),
        (STEPS, 6, "no forecast: missing values: 5 steps in a row are missing, 4 may be"),
        (STEPS, 10, "no forecast: missing values: flow has no value in 9 of 24 steps"),
    ],
)
def test_without_a_history_there_is_no_forecast_and_the_reason_is_given(
    tmp_path: Path, forecasting_bundle: MakeBundle, steps: int, lost: int, says: str
) -> None:
    gateway = Gateway(config := configure(tmp_path, forecasting_bundle()))
    rows = rising(steps)[1:]
    # the aligner holds the last value for two samples, so the first of the steps lost has some
    rows[(steps - 12) * STEP_SAMPLES :, NAMES.index("flow")][: lost * STEP_SAMPLES] = np.nan
    gateway.feed(rows, 1)
    gateway.close()
    outcome = ended(config)
    assert (outcome.returncode, outcome.stdout) == (65, "")
    assert says in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_few_missing_values_are_filled_in_and_that_is_said(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    gateway = Gateway(config := configure(tmp_path, forecasting_bundle()))
    rows = rising(STEPS)
    rows[-30:-15, NAMES.index("flow")] = np.nan  # three steps, and the aligner holds into one
    gateway.feed(rows)
    gateway.close()
    assert found(config)["forecast"]["imputed_values"] == 2
    assert "2 missing values of the history were filled in" in call(config).output


def test_a_stream_without_a_bundle_is_forecast_too(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    config = configure(tmp_path, forecasting_bundle())
    text = config.read_text()
    line = next(line for line in text.splitlines() if line.startswith("bundle = "))
    channels = ", ".join(f'{{ name = "{name}", unit = "{unit}" }}' for name, unit in UNITS)
    table = f"baseline = {{ period_s = 0.2, season_s = 60.0, channels = [{channels}] }}"
    config.write_text(text.replace(line, table))
    gateway = Gateway(config)
    rows = rising(160)
    rows[:, NAMES.index("bearing_temperature")] = np.linspace(40.0, 59.5, len(rows))
    gateway.feed(rows)
    agents = gateway.stream.document()["forecast"]
    gateway.close()
    document = found(config)
    assert document["interpreter"] == "no network"
    made = document["forecast"]
    assert made["made"] == agents["last_forecast"]
    assert made["limits"] == agents["limits"]
    assert agents["limits"][0]["probability"] > 0.5  # 60 degC, in the minute that is forecast
    assert made["channels"].keys() == set(NAMES)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (f'bundle = "{ZOO_BUNDLE}"', "this bundle has no forecaster"),
        (
            "[streams.baseline]\nperiod_s = 0.2\ndeviations_max = 6.0\n"
            '[[streams.baseline.channels]]\nname = "flow"\nunit = "m3/h"',
            "its baseline makes no forecasts",
        ),
    ],
)
def test_a_stream_that_is_not_forecast_says_so(
    tmp_path: Path,
    forecasting_bundle: MakeBundle,
    without_forecaster: Path,
    stream: str,
    says: str,
) -> None:
    config = configure(tmp_path, forecasting_bundle(), "")
    text = config.read_text()
    line = next(line for line in text.splitlines() if line.startswith("bundle = "))
    config.write_text(text.replace(line, stream.replace(str(ZOO_BUNDLE), str(without_forecaster))))
    outcome = ended(config)
    assert outcome.returncode == 78
    assert says in outcome.stderr


def test_check_finds_limits_that_do_not_fit_the_bundle(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    limits = LIMITS.replace("bearing_temperature", "bearing_temprature")
    config = configure(tmp_path, forecasting_bundle(), limits)
    outcome = CliRunner().invoke(commands, ["check", "--config", str(config), "--json"])
    findings = {finding["what"]: finding for finding in json.loads(outcome.output)}
    assert not findings["stream pump"]["ok"]
    assert findings["stream pump"]["exit_code"] == 78
    assert "did you mean 'bearing_temperature'?" in findings["stream pump"]["detail"]
