"""The whole way on a tiny machine: what is made, and what it is worth."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from models import known_answers
from models.bundle import Bundle
from models.errors import ConfigError, DataError, KnownAnswerMismatch
from models.pipeline import Pipeline
from tests.trainer.conftest import (
    CONFIG,
    REMAINING,
    Trained,
    machine,
    write_lives,
    write_recording,
)
from trainer import config, train
from trainer.config import ChoiceTable
from trainer.detector import score_tail
from trainer.forecast.evaluate import TOLD
from trainer.forecast.stack import Evidence, choose


def test_the_bundle_reproduces_its_known_answers(trained: Trained) -> None:
    bundle = trained.bundle
    assert known_answers.largest_difference(Pipeline(bundle), bundle) == 0.0
    events = json.loads(bundle.parts["known_answers.json"])["events"]
    assert any(event["kind"] == "anomaly" for event in events)


def test_the_manifest_says_where_it_comes_from(trained: Trained) -> None:
    manifest = trained.bundle.manifest
    assert manifest.channel_names == ("load", "power", "supply")
    assert manifest.lineage.data_files == ["normal.csv"]
    assert manifest.lineage.config_digest == trained.file.digest
    assert {"tensorflow", "keras", "numpy", "python"} <= manifest.lineage.software.keys()
    ends = [manifest.lineage.parts[part] for part in ("train", "calibrate", "test")]
    # the forecaster's context, 40 steps of 2 samples, lies between two parts
    assert [count for _, _, count in ends] == [1600, 1120, 1120]


def test_normal_operation_is_calm_and_the_fault_is_found(trained: Trained) -> None:
    metrics = trained.bundle.manifest.metrics
    assert metrics["normal"]["events"] == 0
    assert metrics["normal"]["score_max"] < 1
    assert metrics["labelled"]["true_positives"] == 1
    assert metrics["labelled"]["false_positives"] == 0
    overload = metrics["labelled"]["kinds"]["overload"]
    assert overload["found"] == 1
    assert 0 <= overload["delay_s_median"] < 15


def test_the_forecast_beats_the_last_value_on_what_moves(trained: Trained) -> None:
    forecast = trained.bundle.manifest.metrics["forecast"]
    for channel in ("load", "power"):
        assert forecast[channel]["mae"] < forecast[channel]["last_value_mae"]
    assert forecast["supply"]["last_value_mae"] == 0.0


def test_the_bundle_forecasts_and_says_how_well(trained: Trained) -> None:
    part, metrics = trained.bundle.manifest.forecaster, trained.bundle.manifest.metrics
    assert part is not None
    assert (part.step_samples, part.context_steps, part.horizon_steps) == (2, 40, 8)
    found = metrics["forecaster"]
    assert part.quantization == found["quantization"][0]["quantization"]
    accuracy = found["accuracy"]
    # the supply never moves, and is right for all; the load is a sine
    assert accuracy["quantized"]["mae"] < 0.6 * accuracy["last_value"]["mae"]
    assert abs(accuracy["quantized"]["mse"] / accuracy["float"]["mse"] - 1) < 0.02
    assert set(found["channels"]) == {"load", "power", "supply"}
    assert found["channels"]["load"]["coverage_80"] == pytest.approx(0.8, abs=0.1)
    text = trained.path.with_suffix(".report.html").read_text()
    assert "What is forecast, and how well" in text


def test_a_changed_forecaster_is_refused_by_the_known_answers(trained: Trained) -> None:
    bundle = trained.bundle
    assert bundle.manifest.forecaster is not None
    answers = json.loads(bundle.parts["known_answers.json"])
    answers["forecast"]["quantiles"][0][0][3] += 1.0
    changed = dict(bundle.parts) | {"known_answers.json": json.dumps(answers).encode()}
    altered = Bundle(bundle.manifest, bundle.manifest_bytes, changed, None, "altered")
    with pytest.raises(KnownAnswerMismatch, match="an answer differs"):
        known_answers.check(Pipeline(altered), altered)


def test_the_metrics_file_names_the_bundle(trained: Trained) -> None:
    bundle = trained.bundle
    document = json.loads(trained.path.with_suffix(".metrics.json").read_text())
    assert document.pop("digest") == bundle.digest
    assert document == bundle.manifest.metrics


def test_the_report_is_whole_and_needs_nothing_else(trained: Trained) -> None:
    page = trained.path.with_suffix(".report.html").read_text()
    assert trained.bundle.digest in page
    assert "overload" in page
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    # test part, faulty recording, forecasts, tail, training curve; then of the forecaster
    # coverage and error by lead time, and some fans
    assert len(images) == 5 + 2 + TOLD + 1
    for image in images:
        root = ElementTree.fromstring(base64.b64decode(image))
        assert root.tag.endswith("svg")
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_progress_is_told_epoch_by_epoch(trained: Trained) -> None:
    epochs = [line for line in trained.said if line.startswith("epoch")]
    assert 1 <= len(epochs) <= 20
    assert re.match(r"epoch +1/20 +loss \d\.\d+ +validation \d\.\d+ \* +\d+\.\d s", epochs[0])
    assert trained.said[0] == "reading normal.csv"
    assert trained.said.index("loading TensorFlow") < trained.said.index(epochs[0])


def test_what_could_not_be_read_costs_its_cells_and_is_counted(trained: Trained) -> None:
    assert "normal.csv: 4000 rows, 1 not a number, 1 truncated" in trained.said
    data = trained.bundle.manifest.metrics["data"]
    [row] = data["recordings"]
    assert (row["name"], row["rows"], row["out_of_range"]) == ("normal.csv", 4000, 0)
    assert row["rejected"] == {"not_a_number": 1, "truncated": 1}
    page = trained.path.with_suffix(".report.html").read_text()
    assert "1 not a number, 1 truncated" in page


def test_a_channel_that_never_changes_draws_a_remark(trained: Trained) -> None:
    [remark] = [line for line in trained.said if "always" in line]
    assert remark.startswith("supply is always 24 V in the training part, so the network learns")
    assert remark in trained.path.with_suffix(".report.html").read_text()


def test_a_calibration_that_is_too_short_for_a_severity_is_told(trained: Trained) -> None:
    manifest = trained.bundle.manifest
    assert manifest.tail is not None
    (warning,) = trained.outcome.warnings
    assert f"has {manifest.tail.samples} scores" in warning
    assert re.search(
        r"high from a score of \d+(\.\d+)? on, until you calibrate with at least 10,000", warning
    )
    assert f"Warning: {warning}." in trained.path.with_suffix(".report.html").read_text()
    enough = manifest.tail.model_copy(update={"samples": 10_000})
    assert not list(score_tail.warnings(manifest.model_copy(update={"tail": enough})))


def test_the_remaining_life_is_sealed_with_its_errors_on_machines_left_out(
    trained: Trained,
) -> None:
    manifest = trained.bundle.telemanom
    assert manifest.remaining is not None
    assert manifest.remaining.unit == "min"
    assert len(manifest.remaining.mean) == 2 * 3 + 1  # two spans of three channels, and the age
    metrics = manifest.metrics["remaining"]
    assert metrics["lives"] == 6
    assert metrics["rmse"] < 0.6 * metrics["rmse_constant"]
    report = trained.path.with_suffix(".report.html").read_text()
    assert "From 6 machines that ran until they failed." in report


def test_too_few_lives_are_refused_before_any_training(tmp_path: Path) -> None:
    write_recording(tmp_path / "normal.csv", *machine(4000, seed=1))
    write_lives(tmp_path / "lives")
    for name in ("12.csv", "13.csv", "14.csv"):
        (tmp_path / "lives" / name).unlink()
    text = CONFIG.replace('[evaluate]\nfiles = ["faulty.csv"]\n', "")
    (tmp_path / "tiny.toml").write_text(text + REMAINING)
    said: list[str] = []
    with pytest.raises(DataError, match=r"remaining.files: 3 recordings to failure, at least 4"):
        train.train(config.read(tmp_path / "tiny.toml"), tmp_path, None, said.append)
    assert not any(line.startswith("epoch") for line in said)


def test_what_no_bundle_may_have_is_refused_before_any_training(tmp_path: Path) -> None:
    write_recording(tmp_path / "normal.csv", *machine(4000, seed=1))
    text = CONFIG.replace('[evaluate]\nfiles = ["faulty.csv"]\n', "")
    (tmp_path / "tiny.toml").write_text(text + "[threshold]\nz_step = 0.001\n")
    said: list[str] = []
    with pytest.raises(
        ConfigError,
        match="a bundle cannot have these settings: threshold: z_min to z_max in steps of z_step",
    ):
        train.train(config.read(tmp_path / "tiny.toml"), tmp_path, None, said.append)
    assert not any(line.startswith("epoch") for line in said)


def test_values_out_of_range_are_counted_and_left_out(tmp_path: Path) -> None:
    times, values = machine(300, seed=3)
    values[10:14, 0] = 99.0
    write_recording(tmp_path / "normal.csv", times, values)
    (tmp_path / "tiny.toml").write_text(CONFIG)
    said: list[str] = []
    with pytest.raises(DataError, match="too little data"):
        train.train(config.read(tmp_path / "tiny.toml"), tmp_path, None, said.append)
    assert said == [
        "reading normal.csv",
        "normal.csv: 300 rows, 4 values out of range",
        "load: 0.7 % held, 0.7 % missing",
    ]


def test_too_little_data_says_how_much_is_needed(tmp_path: Path) -> None:
    write_recording(tmp_path / "normal.csv", *machine(3000, seed=3))
    (tmp_path / "tiny.toml").write_text(CONFIG)
    with pytest.raises(DataError) as refused:
        train.train(config.read(tmp_path / "tiny.toml"), tmp_path, None, print)
    assert "the calibrate part has 820 samples and needs 1020" in str(refused.value)


def test_labels_must_be_there(tmp_path: Path) -> None:
    for name in ("normal.csv", "faulty.csv"):
        write_recording(tmp_path / name, *machine(4000, seed=4))
    (tmp_path / "tiny.toml").write_text(CONFIG)
    with pytest.raises(DataError, match=r"faulty\.labels\.csv: cannot be read"):
        train.train(config.read(tmp_path / "tiny.toml"), tmp_path, None, print)


def test_the_evidence_in_the_manifest_gives_the_choice_again(trained: Trained) -> None:
    found = trained.bundle.manifest.metrics["forecaster"]
    evidence = Evidence.from_json(found["evidence"])
    again = choose(evidence)
    assert again.name == found["choice"]["chosen"]
    assert again.weights == found["choice"]["weights"]
    assert np.mean(again.errors[again.name]) == min(map(np.mean, again.errors.values()))
    network, settings = found["network"], ChoiceTable()
    gains = np.subtract(network["closed"], network["network"])
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
    least = max(settings.margin * error, settings.gain_min * np.mean(network["closed"]))
    assert network["ships"] == bool(gains.mean() > least)
    part = trained.bundle.telemanom.forecaster
    assert part is not None
    assert (part.layers > 0) == network["ships"]
