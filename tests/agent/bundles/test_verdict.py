"""A bundle that failed its training is warned of, wherever a person looks at it first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.bundles.verdict import objection
from agent.cli import commands
from models import bundle as bundles
from tests.bundle_rig import flow_bundle

FAILED = {
    "passed": False,
    "accepted": False,
    "gates": [
        {"what": "false events per day of normal operation", "passed": False},
        {"what": "high scores in normal operation, observed / predicted", "passed": True},
    ],
}
SAYS = "the bundle failed its training: false events per day of normal operation. Train it again"


def bundle_with(directory: Path, verdict: dict[str, Any]) -> Path:
    """Write a bundle whose training ended so; return its path."""
    path = directory / "flow.fieldwatch"
    made = flow_bundle(path)
    manifest = made.manifest.model_copy(update={"metrics": {"verdict": verdict}})
    bundles.write(path, manifest, made.parts, None)
    return path


@pytest.mark.parametrize(
    ("verdict", "warned"),
    [(FAILED, True), (FAILED | {"accepted": True}, False), ({"passed": True}, False)],
)
def test_check_and_verify_warn_of_it(tmp_path: Path, verdict: dict[str, Any], warned: bool) -> None:
    bundle = bundle_with(tmp_path, verdict)
    config = tmp_path / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[[streams]]
name = "pump"
bundle = "{bundle}"
[[inputs]]
name = "line"
type = "file"
path = "values.csv"
stream = "pump"
columns = ["time", "flow"]
""")
    (tmp_path / "data").mkdir()
    (tmp_path / "values.csv").write_text("")
    words = ["check", "--config", str(config)]
    asked = CliRunner().invoke(commands, words)
    assert asked.exit_code == 0, asked.output
    assert (f"WARN  stream pump: {SAYS}" in asked.output) is warned
    findings = json.loads(CliRunner().invoke(commands, [*words, "--json"]).output)
    assert any(SAYS in str(finding) for finding in findings) is warned
    verified = CliRunner().invoke(commands, ["bundle", "verify", str(bundle)])
    assert verified.exit_code == 0, verified.output
    assert (f"warning: {SAYS}" in verified.output) is warned


@pytest.mark.parametrize(
    "verdict", [None, "no", [], {"passed": None}, {"passed": False, "accepted": True, "gates": 1}]
)
def test_metrics_of_any_other_form_draw_no_objection(verdict: object) -> None:
    assert objection({"verdict": verdict}) is None
    assert objection({}) is None


def test_a_verdict_without_its_gates_is_an_objection() -> None:
    assert objection({"verdict": {"passed": False, "gates": [1, {}]}}) is not None
