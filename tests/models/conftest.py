"""The reference bundle with other settings, and recordings for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agent.inputs.plant import PERIOD_S, Fault, Pump
from models import bundle as bundles
from models.bundle import Bundle
from models.manifest import Manifest
from models.messages import Samples

START_S = 1_700_000_000.0

Change = Callable[..., Bundle]


def sealed(manifest: Manifest, parts: dict[str, bytes]) -> Bundle:
    files = {name: bundles.file_part(data) for name, data in parts.items()}
    manifest = manifest.model_copy(update={"files": files})
    return Bundle(manifest, manifest.to_bytes(), parts, None, "test")


@pytest.fixture(scope="session")
def changed(zoo_bundle: Bundle) -> Change:
    """Change some settings of the reference bundle: ``changed(events={"on_samples": 1})``."""

    def change(**tables: dict[str, Any]) -> Bundle:
        manifest = zoo_bundle.manifest.model_copy(update={"metrics": {}})
        for name, values in tables.items():
            table = getattr(manifest, name).model_copy(update=values)
            manifest = manifest.model_copy(update={name: table})
        return sealed(manifest, dict(zoo_bundle.parts))

    return change


def recorded(seed: int, count: int, *faults: Fault) -> Samples:
    return Samples(START_S + np.arange(count) * PERIOD_S, Pump(seed, faults).run(count))


@pytest.fixture(scope="session")
def eventful() -> Samples:
    """Every kind of trouble: a fault, a stuck sensor, a lost signal, an interruption."""
    samples = recorded(
        31,
        2400,
        Fault("cavitation", 80.0, 20.0),
        Fault("stuck_sensor", 150.0, 30.0, channel="flow"),
        Fault("loss_of_signal", 170.0, 30.0, channel="voltage"),
        Fault("blocked_valve", 260.0, 20.0),
    )
    samples.times[1800:] += 100.0
    return samples
