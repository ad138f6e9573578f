"""A search is a run of the registry, and each of its trials is one beneath it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.registry_rig import opened
from tests.trainer.registry.test_commands import WITHOUT
from tests.trainer.test_cli import run
from tests.trainer.test_tune import TUNED, module, project
from trainer import config
from trainer.prepared import prepare_data
from trainer.registry import study, upkeep
from trainer.registry.registry import Registry
from trainer.tune import Begun, End

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT, STATE, TRIAL = "mlflow.parentRunId", "fieldwatch.state", "fieldwatch.trial"
LOSS = "train/line.validation_loss"


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with a search, a registry, and a form that cannot learn."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    text = TUNED.replace('"bent"]', '"bent", "broken"]').replace(
        "first_trials = 3", "first_trials = 1"
    )
    return project(tmp_path, f"{text}\n[registry]\n")


@pytest.fixture
def registry(tmp_path: Path, template: Path) -> Registry:
    return opened(tmp_path, template)


def search(registry: Registry) -> tuple[Run, dict[int, Run]]:
    """Return the only search, and its trials by number."""
    found = list(registry.store.runs())
    (parent,) = (each for each in found if PARENT not in each.data.tags)
    trials = [each for each in found if each is not parent]
    assert {each.data.tags[PARENT] for each in trials} == {parent.info.run_id}
    by_number = {int(each.data.tags[TRIAL]): each for each in trials}
    assert len(by_number) == len(trials)
    return parent, by_number


def curve(registry: Registry, trial: Run) -> list[tuple[int, float]]:
    points = registry.store.client.get_metric_history(trial.info.run_id, LOSS)
    return [(point.step, point.value) for point in points]


def test_each_trial_is_a_run_beneath_its_search(
    ready: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "tune", ready, "--json", "-q") == 0
    found = json.loads(capsys.readouterr().out)
    parent, trials = search(registry)
    assert sorted(trials) == list(range(13))  # 0 is as configured
    digest = prepare_data(config.read(ready), lambda line: None).used.digest
    assert {each.data.tags["fieldwatch.data"] for each in (parent, *trials.values())} == {digest}
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["validation/loss"] == found["best"]
    assert json.loads(parent.data.tags["fieldwatch.best"]) == found["settings"]
    for trial in trials.values():
        assert trial.data.params.keys() == {
            "family.settings.rate",
            "family.settings.form",
            "fit.batch",
            "fit.seed",
        }
    complete, pruned, failed = (of(trials, state) for state in ("complete", "pruned", "failed"))
    assert len(complete) + len(pruned) + len(failed) == 13
    assert {trial.info.status for trial in complete} == {"FINISHED"}
    assert min(trial.data.metrics["validation/loss"] for trial in complete) == found["best"]
    for trial in complete:
        points = curve(registry, trial)
        assert [step for step, _ in points] == list(range(1, 11))
        assert trial.data.metrics["validation/loss"] == min(value for _, value in points)
        assert trial.data.metrics["validation/best_epoch"] == 10
    assert {trial.info.status for trial in pruned} == {"KILLED"}
    for trial in pruned:
        last = curve(registry, trial)[-1][0]
        assert 2 <= last < 10
        assert trial.data.tags["fieldwatch.pruned_epoch"] == str(last)
    assert {trial.info.status for trial in failed} == {"FAILED"}
    assert {trial.data.tags["fieldwatch.error"] for trial in failed} == {"this form cannot learn"}
    assert registry.search() == []  # trials are no versions


def of(trials: dict[int, Run], state: str) -> list[Run]:
    return [trial for trial in trials.values() if trial.data.tags[STATE] == state]


def test_a_search_that_goes_on_goes_on_with_its_run(
    ready: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.write_text(ready.read_text().replace("trials = 12", "trials = 3", 1))
    (ready.parent / "site" / "interrupt-2").touch()
    assert run(monkeypatch, "tune", ready, "-q") == 130
    parent, trials = search(registry)
    assert parent.info.status == "KILLED"
    assert [each.info.status for each in of(trials, "interrupted")] == ["KILLED"]
    assert trials[2].data.tags[STATE] == "interrupted"
    ready.write_text(ready.read_text().replace("trials = 3", "trials = 4", 1))
    assert run(monkeypatch, "tune", ready, "-q") == 0
    found = list(registry.store.runs())
    assert {each.info.status for each in found if PARENT not in each.data.tags} == {"FINISHED"}
    assert len(found) == 1 + 5 + 1


def called(ready: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python beside a configuration, with the package of its family."""
    path = os.pathsep.join([str(ROOT), str(ready.parent / "site")])
    return subprocess.run(
        [sys.executable, *words],
        cwd=ready.parent,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


DIE = "__import__('os').kill(__import__('os').getpid(), 9)"


def test_a_killed_search_leaves_no_run_running(
    ready: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = ready.parent / "site" / f"{module(ready.parent)}.py"
    family.write_text(family.read_text().replace("raise KeyboardInterrupt", DIE))
    ready.write_text(ready.read_text().replace("trials = 12", "trials = 3", 1))
    (ready.parent / "site" / "interrupt-2").touch()
    assert called(ready, "-m", "trainer", "tune", ready.name).returncode == -signal.SIGKILL
    parent, trials = search(registry)
    assert {parent.info.status, trials[2].info.status} == {"RUNNING"}
    left = {one.run for one in upkeep.verify(registry) if one.kind == "unfinished"}
    assert left == {parent.info.run_id, trials[2].info.run_id}  # verify --remove ends them
    assert run(monkeypatch, "tune", ready, "-q") == 0  # and so does a search that goes on
    found = list(registry.store.runs())
    assert [each.info.run_id for each in found if PARENT not in each.data.tags] == [
        parent.info.run_id
    ]
    assert "RUNNING" not in {each.info.status for each in found}
    (lost,) = (each for each in found if each.data.tags.get(STATE) == "interrupted")
    assert (lost.info.run_id, lost.info.status) == (trials[2].info.run_id, "KILLED")


DIE_BEFORE_THE_END = """
import os, sys
from pathlib import Path
from trainer import config
from trainer.registry import study
from trainer.registry.registry import Registry
from trainer.tune import Begun
file = config.read(Path("tiny.toml"))
registry = Registry(file.config.registry, Path())
with study.record(registry, Begun("ab", "c" * 64, file.config, {})) as search:
    with search.trial(1, {"fit.batch": 10}, file.config):
        os.kill(os.getpid(), 9)
"""


def test_a_trial_whose_end_only_the_study_knows_gets_it(ready: Path, registry: Registry) -> None:
    assert called(ready, "-c", DIE_BEFORE_THE_END).returncode == -signal.SIGKILL
    file = config.read(ready)
    ended = {1: End.of("pruned", {1: 0.5, 2: 0.25, 3: 0.75})}
    with study.record(registry, Begun("ab", "c" * 64, file.config, ended)):
        _, trials = search(registry)
    assert trials[1].info.status == "KILLED"
    assert trials[1].data.tags[STATE] == "pruned"
    assert trials[1].data.tags["fieldwatch.pruned_epoch"] == "3"
    assert trials[1].data.metrics == {
        "validation/loss": 0.25,
        "validation/best_epoch": 2.0,
        "train/epochs": 3.0,
    }


def test_without_a_registry_no_search_needs_mlflow(ready: Path) -> None:
    text = ready.read_text().replace("[registry]\n", "")
    ready.write_text(text.replace("trials = 12", "trials = 2", 1))
    script = ready.parent / "without.py"
    script.write_text(WITHOUT)
    ended = called(ready, str(script), "tune", ready.name, "-q")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.proof
def test_a_registry_added_later_does_not_begin_the_search_anew(
    ready: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ready.read_text().replace("trials = 12", "trials = 3", 1)
    ready.write_text(text.replace("[registry]\n", ""))
    assert run(monkeypatch, "tune", ready, "-q") == 0
    ready.write_text(text.replace("trials = 3", "trials = 4", 1))
    assert run(monkeypatch, "tune", ready, "-q") == 0
    _, trials = search(registry)
    assert list(trials) == [4]
