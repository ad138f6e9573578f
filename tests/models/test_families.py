"""Families of models: the manifest's tag chooses the form and the detector."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import bundle as bundles
from models import known_answers
from models.baseline import Baseline
from models.bundle import Bundle
from models.detector import Detector
from models.errors import (
    BundleCorrupt,
    BundleError,
    BundleTooNew,
    FamilyUnfit,
    FamilyUnknown,
    KnownAnswerMismatch,
)
from models.families import BUILDERS, detector_of
from models.manifest import MANIFESTS, HampelManifest
from models.messages import ALL, Samples
from models.pipeline import Pipeline
from models.state import StateMismatch
from tests.conftest import ROOT, ZOO_BUNDLE
from tests.models.test_baseline import EVENTFUL, SETTINGS, made, settings_of

VALUES = EVENTFUL.astype(np.float32)
SAMPLES = Samples(np.arange(len(VALUES), dtype=np.float64), VALUES)


def hampel_manifest(zoo: Bundle, **changes: Any) -> HampelManifest:
    """Return the manifest of ``made(2, adapt_samples=60)``, sealed."""
    settings = settings_of(2, adapt_samples=60)
    fields = settings.model_dump() | {
        "name": "watch",
        "version": 3,
        "created": zoo.manifest.created,
        "known_answers": zoo.manifest.known_answers.model_dump(),
        "lineage": zoo.manifest.lineage.model_dump(),
        "metrics": {},
        "files": {},
    }
    names = ("resolution", "history_samples", "update_samples", "deviations_max", "adapt_samples")
    fields["baseline"] = {name: fields.pop(name) for name in names}
    return HampelManifest.model_validate(fields | changes)


def hampel_bundle(zoo: Bundle, path: Path) -> Bundle:
    """Write a sealed baseline to ``path``; return what is read there."""
    manifest = hampel_manifest(zoo)
    draft = Bundle(manifest, manifest.to_bytes(), {}, None, "draft")
    detector = detector_of(draft)
    answers = known_answers.record(SAMPLES, detector.step(detector.start(), SAMPLES))
    parts = {"known_answers.json": answers}
    files = {name: bundles.file_part(data) for name, data in parts.items()}
    bundles.write(path, manifest.model_copy(update={"files": files}), parts, None)
    return bundles.read(path)


def test_every_form_of_the_manifest_has_a_builder() -> None:
    assert MANIFESTS.keys() == BUILDERS.keys()
    for family, form in MANIFESTS.items():
        assert form.model_fields["detector"].default == family


def test_a_network_has_the_first_format(zoo_bundle: Bundle) -> None:
    sealed = json.loads((ROOT / "models" / "zoo" / "pump.metrics.json").read_text())
    assert zoo_bundle.digest == sealed["digest"]
    assert zoo_bundle.manifest.to_bytes() == zoo_bundle.manifest_bytes
    document = json.loads(zoo_bundle.manifest_bytes)
    assert document["format_version"] == 1
    assert "family" not in document
    assert isinstance(detector_of(zoo_bundle), Pipeline)
    assert zoo_bundle.evaluated


def test_a_sealed_baseline_scores_as_one_that_is_configured(
    zoo_bundle: Bundle, tmp_path: Path
) -> None:
    bundle = hampel_bundle(zoo_bundle, tmp_path / "watch.fieldwatch")
    detector = detector_of(bundle)
    known_answers.check(detector, bundle)
    configured = made(2, adapt_samples=60)
    expected = configured.step(configured.start(), SAMPLES)
    found = detector.step(detector.start(), SAMPLES)
    assert np.array_equal(found.scores.score, expected.scores.score, equal_nan=True)
    assert found.events == expected.events
    assert (detector.manifest.name, detector.manifest.version) == ("watch", 3)
    assert detector.digest == bundle.digest != configured.digest


def test_the_digest_of_a_configured_baseline_is_that_of_its_settings() -> None:
    detector = detector_of(SETTINGS)
    assert isinstance(detector, Baseline)
    assert detector.digest == SETTINGS.digest


def both(zoo: Bundle, path: Path) -> list[tuple[Detector, Samples]]:
    rows = np.resize(zoo_values(zoo), (900, len(zoo.manifest.channels)))
    period_s = zoo.manifest.sampling.period_s
    return [
        (detector_of(zoo), Samples(np.arange(900) * period_s, rows)),
        (detector_of(hampel_bundle(zoo, path)), SAMPLES),
    ]


def zoo_values(zoo: Bundle) -> Any:
    answers = json.loads(zoo.parts["known_answers.json"])
    return np.array(answers["values"], np.float32)


def test_every_family_keeps_the_detectors_promises(zoo_bundle: Bundle, tmp_path: Path) -> None:
    """What ``models.detector`` says of memories, in one run of each family."""
    for detector, samples in both(zoo_bundle, tmp_path / "b"):
        whole = detector.step(detector.start(), samples)
        memory = detector.start(2)
        half = len(samples.times) // 2
        who = np.array([1])
        times, values = samples.times[:, None], samples.values[:, None]
        first = detector.step_together(memory, who, times[:half], values[:half])
        restored = detector.restore(detector.changed_parts(memory, 1))
        other = detector.start(3)
        detector.adopt(other, 2, restored)
        assert detector.open_events(other, 2) == detector.open_events(memory, 1)
        events = repr(detector.events(other, 2))  # an open one has arrays, which have no ==
        assert events == repr(detector.events(memory, 1))
        rest = detector.step_together(other, np.array([2]), times[half:], values[half:])
        score = np.concatenate([first.score, rest.score])[:, 0]
        assert np.array_equal(score, whole.scores.score, equal_nan=True)
        assert rest.predicted.shape == (len(times) - half, 1, samples.values.shape[1])
        [opened] = detector.open_silence(other, times[-1, 0] + 60, times[-1, 0], 2)
        assert (opened.kind, opened.state) == ("silent", "opened")
        assert detector.open_silence(other, times[-1, 0] + 61, times[-1, 0], 2) == []
        assert (detector.forecaster is None) == (detector.forecasts(other, 2) is None)
        none = np.empty((0, 3)), np.empty((0, 3, samples.values.shape[1]), np.float32)
        assert detector.step_together(other, ALL, *none).score.shape == (0, 3)
        with pytest.raises(StateMismatch):
            detector.restore({"head": b"damaged"})


def test_a_sealed_baseline_that_computes_otherwise_is_refused(
    zoo_bundle: Bundle, tmp_path: Path
) -> None:
    bundle = hampel_bundle(zoo_bundle, tmp_path / "b")
    answers = json.loads(bundle.parts["known_answers.json"])
    answers["score"][300] += 1.0
    parts = {"known_answers.json": json.dumps(answers).encode()}
    altered = Bundle(bundle.manifest, bundle.manifest_bytes, parts, None, "altered")
    with pytest.raises(KnownAnswerMismatch, match="on no network an answer differs"):
        known_answers.check(detector_of(altered), altered)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"baseline": {"resolution": [0.0]}}, "baseline"),
        ({"format_version": 1}, "format_version"),
        ({"network": {}}, "network"),
    ],
)
def test_the_keys_of_a_family_are_its_own(
    zoo_bundle: Bundle, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(ValueError, match=key):
        hampel_manifest(zoo_bundle, **changes)


def with_manifest(path: Path, **changes: object) -> Path:
    """Write the reference bundle with other keys at the top of its manifest."""
    with zipfile.ZipFile(ZOO_BUNDLE) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(parts["manifest.json"]) | {"metrics": {}} | changes
    parts["manifest.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_an_unknown_family_is_named_with_what_to_do(tmp_path: Path, version: int) -> None:
    path = with_manifest(tmp_path / "b", detector="oracle", format_version=version)
    with pytest.raises(FamilyUnknown) as refused:
        bundles.read(path)
    text = str(refused.value)
    assert text.startswith(f"{path}: its model is of the family 'oracle'")
    assert "known are hampel, telemanom" in text
    assert "Install the package that brings 'oracle'" in text
    assert refused.value.exit_code == BundleError.exit_code == 65


@pytest.mark.parametrize("family", ["", "A B", 7, None, ["telemanom"], "x" * 65, "../x"])
def test_what_cannot_be_a_family_is_refused(tmp_path: Path, family: object) -> None:
    with pytest.raises(BundleCorrupt, match=r"manifest\.json: detector"):
        bundles.read(with_manifest(tmp_path / "b", detector=family))


def test_a_family_has_to_come_in_its_format(tmp_path: Path) -> None:
    with pytest.raises(BundleCorrupt, match="format_version"):
        bundles.read(with_manifest(tmp_path / "b", format_version=2))
    with pytest.raises(BundleTooNew, match="format_version 3; this software reads up to 2: update"):
        bundles.read(with_manifest(tmp_path / "b", format_version=3, detector="oracle"))


def test_what_takes_a_network_says_so(zoo_bundle: Bundle, tmp_path: Path) -> None:
    bundle = hampel_bundle(zoo_bundle, tmp_path / "b")
    with pytest.raises(FamilyUnfit, match=r"takes a bundle of the family telemanom; .* hampel"):
        Pipeline(bundle)


def test_metrics_of_another_bundle_are_refused(tmp_path: Path, zoo_bundle: Bundle) -> None:
    digest = zoo_bundle.evaluated_digest
    same = bundles.read(with_manifest(tmp_path / "b", metrics={"evaluated_digest": digest}))
    assert same.evaluated
    assert same.evaluated_digest == digest != same.digest
    for other in ("0" * 64, 5, [digest]):
        path = with_manifest(tmp_path / "b", metrics={"evaluated_digest": other})
        with pytest.raises(BundleCorrupt, match=rf"evaluated_digest does not match: .* {digest}"):
            bundles.read(path)
    older = bundles.read(with_manifest(tmp_path / "b", metrics={"normal": {}}))
    assert not older.evaluated  # it does not say, and is read all the same
    changed = {"version": 99, "metrics": {"evaluated_digest": digest}}
    with pytest.raises(BundleCorrupt, match="evaluated_digest does not match"):
        bundles.read(with_manifest(tmp_path / "b", **changed))


def test_the_digest_before_the_metrics_is_that_of_the_file_without_them(
    zoo_bundle: Bundle,
) -> None:
    bare = zoo_bundle.manifest.model_copy(update={"metrics": {}})
    assert zoo_bundle.evaluated_digest == hashlib.sha256(bare.to_bytes()).hexdigest()
