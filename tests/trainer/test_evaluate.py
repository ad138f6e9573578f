"""Events against labels, counted by hand on events made by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundles
from models.detector import Result
from models.errors import BundleCorrupt, BundleMissing, DataError
from models.manifest import Channel
from models.messages import Contribution, Event, Samples, Scores
from models.pipeline import Pipeline
from tests.trainer.conftest import Trained, machine, write_recording
from trainer import evaluate
from trainer.datasets import Label
from trainer.evaluate import Judged, Labelled


def event(number: int, opened: float, closed: float | None = None, score: float = 2.0) -> Event:
    part = Contribution("flow", score, 1.0, 0.0)
    return Event(
        number, "anomaly", "telemanom", opened - 1, opened, score, None, "low", (part,), closed
    )


def judged(labels: list[Label], opened: list[float], grace_s: float = 0.0) -> Judged:
    events = [event(number, time) for number, time in enumerate(opened)]
    detections, false = evaluate.match(events, labels, grace_s)
    samples = Samples(np.arange(86400.0), np.zeros((86400, 1), np.float32))
    scores = Scores(
        samples.times, np.full(86400, 0.5, np.float32), np.full(86400, 0.1), samples.values
    )
    return Judged(
        "x", samples, Result(scores, [], samples.values, samples.values), events, detections, false
    )


def test_an_event_counts_once_as_it_was_at_last() -> None:
    first, second, closed = event(1, 10), event(2, 12), event(1, 10, 20, 7.0)
    assert evaluate.each_once([first, second, closed]) == [closed, second]


def test_a_label_is_found_by_an_event_that_opens_in_it() -> None:
    labels = [Label(100, 200, "leak"), Label(300, 400, "leak"), Label(500, 600, "wear")]
    found = judged(labels, [99.0, 110.0, 150.0, 400.0, 700.0])
    assert [detection.delay_s for detection in found.detections] == [10.0, 100.0, None]
    assert [each.opened for each in found.false] == [99.0, 700.0]


def test_an_event_soon_after_the_end_is_still_the_faults() -> None:
    labels = [Label(100, 100.4, "spike")]
    assert judged(labels, [101.0], grace_s=0.0).detections[0].event is None
    assert judged(labels, [101.0], grace_s=1.0).detections[0].delay_s == 1.0


def test_figures_of_labelled_recordings() -> None:
    one = judged([Label(100, 200, "leak"), Label(300, 400, "wear")], [110.0, 120.0, 250.0])
    two = judged([Label(100, 200, "leak")], [140.0])
    figures = evaluate.label_metrics([one, two])
    assert (figures["true_positives"], figures["false_positives"]) == (2, 1)
    assert figures["false_negatives"] == 1
    assert figures["precision"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["f1"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["kinds"] == {
        "leak": {"labels": 2, "found": 2, "delay_s_median": 25.0, "delay_s_max": 40.0},
        "wear": {"labels": 1, "found": 0, "delay_s_median": None, "delay_s_max": None},
    }


def test_figures_without_any_label_are_no_numbers() -> None:
    figures = evaluate.label_metrics([judged([], [])])
    assert figures["precision"] is None
    assert figures["recall"] is None


def test_events_per_day_of_normal_operation() -> None:
    figures = evaluate.normal_metrics(judged([], [100.0, 200.0]))
    assert figures == {"days": 1.0, "events": 2, "events_per_day": 2.0, "score_max": 0.5}


def test_forecasts_are_compared_where_both_are_known() -> None:
    values = np.array([[1.0], [2.0], [np.nan], [4.0], [5.0]], np.float32)
    predicted = np.array([[np.nan], [2.5], [3.0], [4.0], [4.8]], np.float32)
    samples = Samples(np.arange(5.0), values)
    result = Result(Scores(samples.times, values[:, 0], np.zeros(5), predicted), [], values, values)
    channel = Channel(
        name="flow", unit="l/s", low=None, high=None, center=0.0, scale=1.0, stuck_samples=None
    )
    figures = evaluate.forecast_metrics(Judged("x", samples, result, [], [], []), [channel])
    # only samples 1 and 4 have a forecast, a value, and a value before
    assert figures["flow"] == {
        "unit": "l/s",
        "mae": pytest.approx(0.35),
        "last_value_mae": 1.0,
        "mape": pytest.approx(100 * (0.5 / 2 + 0.2 / 5) / 2, rel=1e-3),
        "r2": pytest.approx(1 - (0.5**2 + 0.2**2) / (2 * 1.5**2), rel=1e-3),
    }


def test_a_channel_at_zero_has_a_guarded_mape_and_no_r2() -> None:
    values, predicted = np.zeros((9, 1), np.float32), np.full((9, 1), 0.5, np.float32)
    samples = Samples(np.arange(9.0), values)
    result = Result(Scores(samples.times, values[:, 0], np.zeros(9), predicted), [], values, values)
    channel = Channel(name="flow", unit="l/s", center=0.0, scale=5.0)
    figures = evaluate.forecast_metrics(Judged("x", samples, result, [], [], []), [channel])
    assert figures["flow"]["mape"] == pytest.approx(100 * 0.5 / (0.01 * 5))
    assert figures["flow"]["r2"] is None


def test_a_recording_is_scored_from_a_fresh_state_each_time(trained: Trained) -> None:
    pipeline = Pipeline(trained.bundle)
    recording = Labelled("x", Samples(*machine(300, 5)), [])
    first, second = (evaluate.judge(pipeline, recording, 0.0) for _ in range(2))
    np.testing.assert_array_equal(first.result.scores.score, second.result.scores.score)
    assert np.isnan(first.result.scores.score[:20]).all()


def test_a_sealed_bundle_on_recordings(trained: Trained, tmp_path: Path) -> None:
    write_recording(tmp_path / "calm.csv", *machine(600, 6))
    faulty = trained.file.path.parent / "faulty.csv"
    files = [tmp_path / "calm.csv", faulty, faulty.with_name("faulty.labels.csv")]
    before = trained.path.read_bytes()
    figures = evaluate.evaluate(trained.path, files, None, "time", 60.0)
    assert trained.path.read_bytes() == before
    assert figures["bundle"] == trained.bundle.digest
    calm, fault = figures["recordings"]
    assert (calm["faults"], calm["found"], calm["false_events"]) == (0, 0, 0)
    assert (fault["faults"], fault["found"], fault["false_events"]) == (1, 1, 0)
    assert figures["labelled"]["kinds"] == trained.bundle.manifest.metrics["labelled"]["kinds"]


@pytest.mark.parametrize("rows", [1, 15])
def test_a_recording_too_short_for_a_score_is_refused(
    trained: Trained, tmp_path: Path, rows: int
) -> None:
    write_recording(short := tmp_path / "short.csv", *machine(rows, 6))
    with pytest.raises(DataError, match=rf"short\.csv: no sample gets a score\. It has {rows} sam"):
        evaluate.evaluate(trained.path, [short], None, "time", 60.0)


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleMissing):
        evaluate.evaluate(tmp_path / "none", [], None, "time", 0.0)


def test_the_shipped_file_gives_its_metrics_again_bit_for_bit(trained: Trained) -> None:
    recorded, sealed = trained.file.path.parent, trained.bundle.manifest.metrics
    figures = evaluate.evaluate(
        trained.path, [recorded / "faulty.csv"], None, "time", 60.0, [recorded / "normal.csv"]
    )
    found = json.loads(json.dumps(figures["test_part"]))
    assert found.keys() == {"forecast", "normal", "tail", "forecaster"}
    shipped = found.pop("forecaster")
    assert found == {name: sealed[name] for name in found}
    assert shipped.pop("accuracy") == {"quantized": sealed["forecaster"]["accuracy"]["quantized"]}
    channels = sealed["forecaster"]["channels"]  # the references stand beside, for comparison
    for name, row in shipped.pop("channels").items():
        assert row == {key: channels[name][key] for key in row}
    assert shipped == {name: sealed["forecaster"][name] for name in shipped}
    assert figures["as_sealed"] is True
    assert figures["labelled"] == sealed["labelled"]
    assert figures["evaluated_digest"] == sealed["evaluated_digest"]


def test_what_was_evaluated_is_what_ships_but_for_the_metrics(trained: Trained) -> None:
    bundle = trained.bundle
    assert bundle.manifest.forecaster is not None
    bare = bundle.manifest.model_copy(update={"metrics": {}})
    evaluated = hashlib.sha256(bare.to_bytes()).hexdigest()
    assert bundle.manifest.metrics["evaluated_digest"] == evaluated == bundle.evaluated_digest
    assert bundle.evaluated


def test_metrics_of_what_was_changed_afterwards_are_refused(
    trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(BundleCorrupt, match="evaluated_digest does not match"):
        bundles.read(trained.altered(tmp_path / "b"))


def test_figures_that_are_not_the_bundles_own_are_told(trained: Trained, tmp_path: Path) -> None:
    path = trained.altered(tmp_path / "b", evaluated_digest=None)  # as of before there was one
    recorded = [trained.file.path.parent / "normal.csv"]
    figures = evaluate.evaluate(path, [], None, "time", 60.0, recorded)
    assert figures["as_sealed"] is False
    sealed = trained.bundle.manifest.metrics
    assert figures["test_part"]["normal"]["score_max"] > sealed["normal"]["score_max"]


@pytest.mark.parametrize("name", ["faulty.csv", "longer.csv"])
def test_other_recordings_are_not_the_test_part(
    trained: Trained, tmp_path: Path, name: str
) -> None:
    path = trained.file.path.parent / name
    if not path.exists():
        path = tmp_path / name
        path.write_text((trained.file.path.parent / "normal.csv").read_text() + "1900000000,1,2,3")
    with pytest.raises(
        DataError, match=r"not the recordings .*, or not all of normal\.csv: channel load: "
    ):
        evaluate.evaluate(trained.path, [], None, "time", 60.0, [path])


def test_figures_are_among_others_or_not() -> None:
    assert evaluate.as_sealed({"a": {"b": [1.0]}}, {"a": {"b": [1.0], "c": 2}, "d": 3})
    assert not evaluate.as_sealed({"a": {"b": [1.0]}}, {"a": {"b": [1.0000001]}})
    assert not evaluate.as_sealed({"a": {"b": 1}}, {"a": 1})
    assert not evaluate.as_sealed({"a": 1}, {})
    assert evaluate.as_sealed({"a": {"mse": 1, "r2": 0.5}}, {"a": {"mse": 1}})  # of an older bundle
    assert not evaluate.as_sealed({"a": {"r2": 0.5}}, {"a": {"r2": 0.6}})
