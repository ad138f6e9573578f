"""A registered bundle is a model of MLflow, with the scores that a gateway computes."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from models import bundle as bundles
from models.bundle import Bundle
from models.errors import DataError
from models.families import detector_of
from models.manifest import EVALUATED
from models.messages import Samples
from tests.registry_rig import GOOD
from trainer.registry.registry import Registry


@pytest.fixture
def admissible(zoo_bundle: Bundle, tmp_path: Path) -> Path:
    """The reference bundle, a network, with metrics as of today."""
    path = tmp_path / "pump.fieldwatch"
    metrics = GOOD | {EVALUATED: zoo_bundle.evaluated_digest}
    manifest = zoo_bundle.manifest.model_copy(update={"metrics": metrics})
    bundles.write(path, manifest, zoo_bundle.parts, None)
    return path


def test_the_scores_are_those_of_the_pipeline(registry: Registry, admissible: Path) -> None:
    registry.register(admissible)
    registry.set_alias("pump", "champion", 1)
    mlflow.set_tracking_uri(registry.store.uri)
    model = mlflow.pyfunc.load_model("models:/pump@champion")
    bundle = bundles.read(admissible)
    names, period_s = bundle.manifest.channel_names, bundle.manifest.sampling.period_s
    count = bundle.manifest.sampling.warm_up_samples + 300
    random = np.random.default_rng(1)
    centers = np.array([channel.center for channel in bundle.manifest.channels])
    values = (centers + random.normal(0, 1, (count, len(names)))).astype(np.float32)
    times = 1_700_000_000.0 + period_s * np.arange(count)
    frame = pd.DataFrame(values, columns=names).assign(time=times)
    found = model.predict(frame)
    detector = detector_of(bundle)
    expected = detector.step(detector.start(), Samples(times, values)).scores
    assert np.isfinite(expected.score).any()
    np.testing.assert_array_equal(found["score"], expected.score)
    np.testing.assert_array_equal(found["probability"], expected.probability)
    np.testing.assert_array_equal(found[f"expected {names[0]}"], expected.predicted[:, 0])
    stamped = frame.drop(columns="time").set_index(pd.to_datetime(times, unit="s"))
    np.testing.assert_array_equal(model.predict(stamped)["score"], expected.score)
    with pytest.raises(DataError, match=f"no column {names[0]}"):
        model.predict(frame.drop(columns=names[0]))
