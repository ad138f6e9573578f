"""The command as a person calls it, small: what it says is complete and consistent."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from agent.bench.report import table
from tests.conftest import ROOT, mosquitto

KEYS = {
    "readings_per_s",
    "us_per_reading",
    "cpu_s_per_million_readings",
    "stages",
    "bare",
    "ratio_to_bare",
    "ratio_to_windowed",
    "ratio_to_stepped_window",
    "windowed",
    "commit_ms_p50",
    "commit_ms_p99",
    "rss_mb",
    "bytes_written_per_1000",
    "cold_start_s",
    "uplink",
    "pty",
    "settings",
    "interpreter",
    "machine",
}
STAGES = ["parse", "align", "score", "detect", "alarms", "commit", "loop", "uplink"]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    program, environment = mosquitto()
    return subprocess.run(
        [sys.executable, "-m", "agent", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment | {"FIELDWATCH_MOSQUITTO": program},
    )


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    ended = call("--streams", 2, "--seconds", 0.5, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_the_document_is_whole(document: dict[str, Any]) -> None:
    assert document.keys() == KEYS
    assert list(document["stages"]) == STAGES
    assert list(document["bare"]) == ["parse", "score", "commit", "uplink", "sum"]
    assert document["settings"]["streams"] == 2
    assert document["settings"]["layers"] == [80, 80]
    assert document["settings"]["lines_dropped"] == 0


def test_every_figure_is_one(document: dict[str, Any]) -> None:
    for name in KEYS - {"settings", "interpreter", "machine", "pty"}:
        value = document[name]
        for part, figure in (value if isinstance(value, dict) else {name: value}).items():
            assert 0 < figure < 1e9, f"{name} {part}"


def test_the_sums_and_ratios_agree(document: dict[str, Any]) -> None:
    us, stages, bare = document["us_per_reading"], document["stages"], dict(document["bare"])
    total = bare.pop("sum")
    assert sum(stages.values()) == pytest.approx(us, rel=0.02)
    assert sum(bare.values()) == pytest.approx(total, rel=0.02)
    assert document["ratio_to_bare"] == pytest.approx(us / total, rel=0.02)
    assert document["readings_per_s"] == pytest.approx(1e6 / us, rel=0.02)
    assert document["commit_ms_p50"] <= document["commit_ms_p99"]
    windowed = document["windowed"]["us_per_sample"]
    assert document["ratio_to_windowed"] == pytest.approx(
        windowed / (8 * stages["score"]), rel=0.02
    )


def test_a_person_reads_the_same_figures(document: dict[str, Any]) -> None:
    text = "\n".join(table(document))
    for stage in STAGES:
        assert f"  {stage} " in text
    assert f"{document['readings_per_s']:,}" in text
    assert f"{document['cold_start_s']:g} s" in text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--layers", "13"), 78, "'80,80'"),
        (("--channels", 9), 78, "8 channels"),
        (("--layers", "eighty"), 2, "give numbers separated by commas"),
    ],
)
def test_a_network_that_is_not_there_is_refused(
    arguments: tuple[object, ...], code: int, says: str
) -> None:
    ended = call(*arguments)
    assert ended.returncode == code
    assert says in ended.stderr
