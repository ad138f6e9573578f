"""Bundles that a registry takes, made in milliseconds, and registries to put them in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from models import bundle as bundles
from models import known_answers
from models.bundle import Bundle
from models.families import detector_of
from models.manifest import EVALUATED, HampelManifest, Lineage
from models.messages import Samples
from models.times import iso_time
from tests.bundle_rig import FAR, flow_bundle, noisy
from trainer.registry.registry import Registry
from trainer.registry.settings import RegistryTable

SEEN_S = 1_700_000_000.0  # the newest row that a bundle has used
GOOD: dict[str, Any] = {
    "normal": {"days": 2.0, "events": 1, "events_per_day": 0.5, "score_max": 1.2},
    "measured_on": {"normal": "test"},
    "verdict": {"passed": True, "accepted": False, "gates": []},
}


def good_bundle(
    path: Path,
    version: int = 1,
    deviations_max: float = 6.0,
    seen_s: float = SEEN_S,
    data: str = "a",
    answers: bytes | None = None,
    **metrics: Any,
) -> Bundle:
    """Write a bundle of the family hampel with metrics; None as a metric leaves it out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = flow_bundle(path, version)
    assert isinstance(draft.manifest, HampelManifest)
    part = draft.manifest.baseline.model_copy(update={"deviations_max": deviations_max})
    seen = (iso_time(seen_s - 3600), iso_time(seen_s), 3600)
    lineage = Lineage(
        data_digest=data * 64,
        data_files=["flow.csv"],
        parts={"train": seen, "calibrate": seen, "test": seen},
        config_digest="c" * 64,
        seed=1,
        software={},
    )
    manifest = draft.manifest.model_copy(update={"baseline": part, "lineage": lineage})
    parts = {"known_answers.json": answers or _answers(manifest)}
    files = {name: bundles.file_part(one) for name, one in parts.items()}
    manifest = manifest.model_copy(update={"files": files})
    evaluated = Bundle(manifest, manifest.to_bytes(), parts, None, "").evaluated_digest
    found = {k: v for k, v in (GOOD | metrics).items() if v is not None} | {EVALUATED: evaluated}
    bundles.write(path, manifest.model_copy(update={"metrics": found}), parts, None)
    path.with_suffix(".report.html").write_text("<p>a report</p>")
    return bundles.read(path)


def _answers(manifest: HampelManifest) -> bytes:
    values = np.float32(noisy(60))[:, None]
    values[50:] = FAR
    samples = Samples(np.arange(60.0), values)
    detector = detector_of(Bundle(manifest, manifest.to_bytes(), {}, None, "draft"))
    return known_answers.record(samples, detector.step(detector.start(), samples))


def write_flow(path: Path, begin_s: float, values: list[float]) -> Path:
    """Write a recording, one value a second."""
    rows = [f"{begin_s + second:.3f},{value}" for second, value in enumerate(values)]
    path.write_text("\n".join(["time,flow", *rows]) + "\n")
    return path


def opened(directory: Path, template: Path, **settings: Any) -> Registry:
    """Open a registry with a file of SQLite, whose tables are those of ``template``."""
    file = directory / "registry" / "mlflow.db"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, file)
    return Registry(RegistryTable.model_validate(settings), directory)


def main(url: str, artifacts: str, *paths: str) -> None:
    """Register bundles; a process of its own: ``python -m tests.registry_rig URL FOLDER PATH…``."""
    settings = RegistryTable(url=url, artifacts=artifacts, password_env="REGISTRY_PASSWORD")
    registry = Registry(settings, Path())
    for path in paths:
        registry.register(Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
