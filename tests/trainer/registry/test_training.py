"""A training is recorded while it goes on, and its lineage is known before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry_rig import opened
from tests.trainer.conftest import CONFIG, machine, write_recording
from tests.trainer.test_cli import run
from trainer import config
from trainer.config import Config
from trainer.prepared import prepare_data
from trainer.registry import training
from trainer.registry.identity import lineage_digest

TEXT = CONFIG.partition("[forecast]")[0].replace("epochs = 20", "epochs = 2")


def write_project(directory: Path, more: str = "") -> Path:
    write_recording(directory / "normal.csv", *machine(4000, seed=1))
    path = directory / "tiny.toml"
    path.write_text(TEXT + more)
    return path


def test_train_records_itself_and_registers_a_good_bundle(
    tmp_path: Path,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_project(tmp_path, "[registry]\n")
    registry = opened(tmp_path, template)
    assert run(monkeypatch, "train", path, "--accept", "--output", tmp_path / "made") == 0
    assert "registered: tiny version 1" in capsys.readouterr().out
    (version,) = registry.versions("tiny")
    client = registry.store.client
    for name in ("loss", "validation_loss", "epoch_s"):
        points = client.get_metric_history(version.run, f"train/detector.{name}")
        assert [point.step for point in points] == [1, 2]
    found = client.get_run(version.run)
    assert found.info.status == "FINISHED"
    assert found.data.params["fit.epochs"] == "2"
    assert "test/forecast.power.mae" in version.metrics
    assert set(version.files) == {
        "bundle/MLmodel",
        "bundle/tiny.fieldwatch",
        "tiny.metrics.json",
        "tiny.report.html",
    }
    file = config.read(path)
    digest = lineage_digest(file.config, prepare_data(file, lambda line: None).used.digest)
    assert registry.trained("tiny", digest) == version


@pytest.mark.proof
def test_the_curve_of_the_forecaster_can_be_seen_while_it_is_trained(
    tmp_path: Path, template: Path
) -> None:
    path = write_project(tmp_path)
    forecast = CONFIG[CONFIG.index("[forecast]") : CONFIG.index("[evaluate]")]
    path.write_text(f"{TEXT}{forecast}")
    registry = opened(tmp_path, template)
    client, seen = registry.store.client, list[tuple[str, list[int]]]()

    def say(line: str) -> None:
        if line.startswith("forecaster epoch"):
            (going,) = client.search_runs([registry.store.experiment])
            (name,) = (
                name for name in going.data.metrics if "forecaster" in name and "valid" in name
            )
            points = client.get_metric_history(going.info.run_id, name)
            seen.append((going.info.status, [point.step for point in points]))

    training.train(registry, config.read(path), tmp_path / "made", None, say)
    assert seen == [("RUNNING", [1]), ("RUNNING", [1, 2]), ("RUNNING", [1, 2, 3])]


def test_a_bundle_that_fails_its_gates_has_a_run_and_no_version(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_project(tmp_path, "[registry]\n[gates]\ntail_factor_max = 1e-9\n")
    registry = opened(tmp_path, template)
    assert run(monkeypatch, "train", path, "-q") == 1
    assert registry.versions("tiny") == []
    (found,) = registry.store.client.search_runs([registry.store.experiment])
    assert found.data.tags["fieldwatch.verdict"] == "failed"
    assert registry.store.listed(found.info.artifact_uri) == ["tiny.failed.report.html"]


@pytest.mark.parametrize(
    ("table", "key", "value", "same"),
    [
        ("bundle", "version", 7, True),
        ("bundle", "output", "elsewhere", True),
        ("data", "files", ["part-1.csv", "part-2.csv"], True),
        ("fit", "progress_epochs", 5, True),
        ("fit", "epochs", 60, True),  # the default, written out
        ("fit", "epochs", 61, False),
        ("fit", "seed", 2, False),
        ("split", "gap_samples", 50, False),
    ],
)
def test_the_lineage_follows_from_data_and_settings_and_not_from_names(
    table: str, key: str, value: object, same: bool
) -> None:
    document: dict[str, dict[str, object]] = {
        "bundle": {"name": "tiny"},
        "data": {"files": ["normal.csv"], "channels": [{"name": "load"}]},
        "sampling": {"period_s": 1.0},
    }
    before = lineage_digest(Config.model_validate(document), "a" * 64)
    assert lineage_digest(Config.model_validate(document), "b" * 64) != before
    document.setdefault(table, {})[key] = value
    after = lineage_digest(Config.model_validate(document), "a" * 64)
    assert (after == before) == same
