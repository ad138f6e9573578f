"""The verdict: which figures a bundle may have, and what becomes of one that has others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from models import bundle as bundles
from tests.trainer.conftest import CONFIG, Trained, machine, write_recording
from tests.trainer.test_cli import run
from trainer import gates
from trainer.config import GatesTable, ParityTable

PARITY = {
    "change": "quantization",
    "network": "int8",
    "runtime": "some runtime 1.0",
    "difference": 0.19,
}
TAIL = {"predicted": [0.1, 0.01, 0.001], "observed": [0.2, 0.09, 0.5], "samples": 2000}


def figures(**changes: Any) -> dict[str, Any]:
    good = {
        "normal": {"events_per_day": 1.0},
        "tail": TAIL,
        "parity": [PARITY],
        "forecaster": {"accuracy": {"quantized": {"coverage_80": 0.9}}},
    }
    return good | changes


def failed(metrics: dict[str, Any]) -> list[str]:
    found = gates.judge(metrics, GatesTable(), ParityTable())
    return [gate.what for gate in found if not gate.passed]


def test_figures_within_the_limits_pass() -> None:
    assert failed(figures()) == []
    assert failed({"normal": {"events_per_day": 0.0}, "parity": []}) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"normal": {"events_per_day": 1.1}}, "false events per day"),
        ({"normal": {"events_per_day": None}}, "false events per day"),  # nothing was scored
        # 20 should exceed, 220 do; of the two that should exceed the rarest level, 1000 do
        ({"tail": TAIL | {"observed": [0.2, 0.11, 0.5]}}, "high scores in normal operation"),
        ({"tail": TAIL | {"samples": 50}}, "high scores in normal operation"),
        ({"parity": [PARITY | {"difference": 0.21}]}, "change of a score by quantization"),
        ({"parity": [PARITY | {"difference": float("nan")}]}, "change of a score by quantization"),
        (
            {"parity": [PARITY | {"change": "interpreter", "difference": 0.03}]},
            "change of a score by interpreter",
        ),
        ({"forecaster": {"accuracy": {"quantized": {"coverage_80": 0.6}}}}, "share of values in"),
        ({"forecaster": {"accuracy": {"quantized": {"coverage_80": 0.96}}}}, "share of values in"),
        ({"forecaster": {"accuracy": {"quantized": {}}}}, "share of values in"),
    ],
)
def test_a_figure_beyond_its_limit_fails(changes: dict[str, Any], what: str) -> None:
    [name] = failed(figures(**changes))
    assert name.startswith(what)


def test_a_good_bundle_says_that_it_passes(trained: Trained) -> None:
    verdict = trained.bundle.manifest.metrics["verdict"]
    assert verdict["passed"]
    assert not verdict["accepted"]
    assert len(verdict["gates"]) == 4
    assert trained.outcome.summary.startswith("The bundle passes all gates. ")
    line = "false events per day of normal operation: 0 (at most 1): passes"
    assert line in trained.outcome.lines
    assert "The bundle passes all gates." in trained.path.with_suffix(".report.html").read_text()


def test_a_poor_bundle_is_not_written_under_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Normal operation with a step in its test part that the training never saw."""
    times, values = machine(3800, seed=1)
    for begin in range(2900, 3700, 200):
        values[begin : begin + 50, 1] += 5.0
    write_recording(tmp_path / "normal.csv", times, values)
    text = CONFIG.partition("[forecast]")[0].replace("epochs = 20", "epochs = 4")
    path = tmp_path / "tiny.toml"
    path.write_text(f'{text}[parity]\nquantizations = ["float32"]\n')
    (tmp_path / "tiny.fieldwatch").write_text("of an earlier training")
    assert run(monkeypatch, "train", path) == 1
    shown = capsys.readouterr().out
    assert "(at most 1): fails: use recordings" in shown
    assert "The bundle fails: false events per day of normal operation" in shown
    assert (tmp_path / "tiny.fieldwatch").read_text() == "of an earlier training"
    made = tmp_path / "tiny.failed.fieldwatch"
    assert f"{made}\n" in shown
    assert not bundles.read(made).manifest.metrics["verdict"]["passed"]
    page = made.with_suffix(".report.html").read_text()
    assert "<td>fails</td>" in page
    assert "The bundle fails: false events per day" in page
    assert run(monkeypatch, "train", path, "--accept", "-q") == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"fails: false events per day .*: [\d.]+ \(at most 1\).*A person has accepted", shown
    )
    assert len(shown.splitlines()) == 3  # the verdict and two files
    kept = json.loads((tmp_path / "tiny.metrics.json").read_text())["verdict"]
    assert (kept["passed"], kept["accepted"]) == (False, True)
    assert bundles.read(tmp_path / "tiny.fieldwatch").manifest.name == "tiny"
    assert not list(tmp_path.glob("tiny.failed*"))  # of the earlier training
