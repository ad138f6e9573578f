"""Which bundles a registry takes: those that are measured on unseen data and compute as trained."""

from __future__ import annotations

from pathlib import Path

from models import bundle as bundles
from models import known_answers
from models.bundle import Bundle
from models.families import detector_of
from trainer.registry.errors import Inadmissible

_UNSEEN = "test"  # the part of the split that a training does not learn from


def admitted(path: Path) -> Bundle:
    """Read a bundle and check that a registry may have it.

    Raises:
        BundleError: it cannot be read, or this machine does not compute its known answers.
        Inadmissible: it has no metrics of data that the training did not use, or failed its gates.

    """
    bundle = bundles.read(path)
    if reason := _lacks(bundle):
        raise Inadmissible(f"{path}: the registry refuses it: {reason}")
    known_answers.check(detector_of(bundle), bundle)
    return bundle


def _lacks(bundle: Bundle) -> str | None:
    """Return what a bundle lacks; None: nothing."""
    metrics = bundle.manifest.metrics
    again = "train it again with `fieldwatch-trainer train`"
    if not bundle.evaluated:
        return f"its metrics do not name the bundle that they were measured on: {again}"
    measured_on = metrics.get("measured_on")
    normal = metrics.get("normal")
    if not isinstance(measured_on, dict) or not isinstance(normal, dict):
        return f"its metrics do not say which data they were measured on: {again}"
    if not str(measured_on.get("normal")).startswith(_UNSEEN) or not normal.get("days"):
        return f"it has no metrics of a part that the training did not use: {again}"
    verdict = metrics.get("verdict")
    if not isinstance(verdict, dict):
        return f"it has no verdict: {again}"
    if not (verdict.get("passed") or verdict.get("accepted")):
        return "it fails its gates, see its report; `train --accept` accepts it"
    return None
