"""The command ``history``: table, chart, JSON and CSV, without an agent that runs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.commands.history import parse_time, time_range
from agent.store.batch import Batch
from agent.store.writer import Store
from models.errors import ConfigError
from models.messages import Samples

START_S = 1_790_000_400.0
FROM, TO = "2026-09-21T14:20:00Z", "2026-09-21T14:40:00+00:00"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    store = Store(tmp_path / "store", "plant", "gw-1", 100, 10_000)
    (tmp_path / "store").mkdir()
    store.readings.history.describe({"pump": ["pressure", "flow"]})
    store.open()
    times = START_S + np.arange(900.0)
    values = np.stack([np.arange(900), np.full(900, np.nan)], axis=1).astype(np.float32)
    scores = np.linspace(0, 1.5, 900).astype(np.float32)
    store.commit(Batch(samples=[("pump", Samples(times, values), scores)]), "synced")
    store.close()
    file = tmp_path / "agent.toml"
    file.write_text('[store]\ndirectory = "store"\n')
    return file


def run(config: Path, *words: str) -> str:
    found = CliRunner().invoke(
        commands,
        ["history", f"--config={config}", "--stream=pump", f"--from={FROM}", f"--to={TO}", *words],
        catch_exceptions=False,
    )
    assert found.exit_code == 0, found.output
    return found.stdout


def test_json_and_csv_say_the_same(config: Path) -> None:
    document = json.loads(run(config, "--json", "--points", "20"))
    assert (document["level"], document["channels"]) == ("samples", ["pressure", "flow"])
    assert [point["samples"] for point in document["points"]] == [60] * 15
    first = document["points"][0]
    assert first["time"] == "2026-09-21T14:20:00.000Z"
    assert first["channels"]["pressure"] == {"count": 60, "min": 0, "mean": 29.5, "max": 59}
    assert first["channels"]["flow"] == {"count": 0, "min": None, "mean": None, "max": None}
    rows = list(csv.DictReader(io.StringIO(run(config, "--csv", "--points", "20"))))
    assert len(rows) == 15
    assert (rows[0]["pressure.mean"], rows[0]["flow.mean"]) == ("29.5", "")
    assert float(rows[14]["score_max"]) == 1.5


def test_a_person_sees_a_chart_or_the_table_of_a_channel(config: Path) -> None:
    head, pressure, flow, score, told = run(config, "--points", "20").splitlines()
    assert told.startswith("NOT WATCHING")
    assert "15 points of 60 s, from samples" in head
    assert pressure.split()[-1] == "▁▁▂▂▃▃▄▅▅▆▆▇▇██"
    assert flow.split() == ["flow", "-", "to", "-"]
    assert score.startswith("score (1 is the threshold)")
    _, head, *rows, _ = run(config, "--points", "20", "--channel", "pressure").splitlines()
    assert head.split() == ["time", "samples", "min", "mean", "max", "score"]
    assert rows[1].split() == ["2026-09-21T14:21:00.000Z", "60", "60", "89.5", "119", "0.19855"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stream", "pumb"], "did you mean 'pump'"),
        (["--stream", "x"], "there is no history of stream 'x'; there are pump$"),
        (["--stream", "pump", "--channel", "x"], "there are pressure, flow"),
    ],
)
def test_what_there_is_not_is_named(config: Path, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CliRunner().invoke(
            commands, ["history", "--config", str(config), *words], catch_exceptions=False
        )


def test_times_are_moments_or_a_while_ago() -> None:
    assert parse_time("-3h", 10_800.0) == 0
    assert parse_time("-1.5d", 129_600.0) == 0
    assert parse_time("1970-01-01T01:00:00+01:00", 5.0) == 0
    assert parse_time("1970-01-01T00:01", 5.0) == 60
    assert time_range(None, None, 1.0, 7200.0) == (3600.0, 7200.0)
    assert time_range("-2h", "-1h", 24.0, 7200.0) == (0.0, 3600.0)
    for text in ("", "3h", "-3", "yesterday", "-3hh", "9999999-01-01"):
        with pytest.raises(ValueError, match="must be a time"):
            parse_time(text, 0.0)
    with pytest.raises(ValueError, match="after the beginning"):
        time_range("-1h", "-2h", 24.0, 7200.0)
