"""The families of models: who makes the detector of a bundle, by its manifest's ``detector``.

    bundle ─> manifest.detector ─┬─> telemanom  models.pipeline   a network that expects
                                 ├─> hampel     models.baseline   distance from the median
                                 └─> an entry point of the group ``fieldwatch.families``
                                      │
                                      └─> detector: scorer, state codec, events, forecasts

A family is its form of the manifest (``models.manifest.MANIFESTS``), and a builder: a function or
class that takes a bundle and a runtime and returns a detector. Another package adds one by an
entry point with the family's name; its manifest has ``settings``, which its builder checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from models.baseline import Baseline, BaselineSettings, BaselineState
from models.bundle import Bundle
from models.detector import Detector, DetectorOf
from models.errors import FamilyUnknown
from models.interpreter import Runtime
from models.manifest import FAMILIES, HAMPEL, TELEMANOM, HampelManifest
from models.pipeline import Pipeline
from models.state import State

# a bundle that is whole; settings of a configuration are a model, too, without any file
Model = Bundle | BaselineSettings
Builder = Callable[[Any, Runtime], DetectorOf[Any]]


def _telemanom(bundle: Bundle, runtime: Runtime) -> DetectorOf[State]:
    return Pipeline(bundle, runtime)


def _hampel(model: Model, runtime: Runtime) -> DetectorOf[list[BaselineState]]:
    if isinstance(model, BaselineSettings):
        return Baseline(model)
    assert isinstance(model.manifest, HampelManifest)
    return Baseline(BaselineSettings.of(model.manifest), model)


BUILDERS: Final[Mapping[str, Builder]] = {TELEMANOM: _telemanom, HAMPEL: _hampel}


def detector_of(model: Model, runtime: Runtime = "auto") -> Detector:
    """Return the detector of a bundle, or of settings that need none.

    Raises:
        FamilyUnknown: nothing that is installed knows the family, or what does is broken.
        BundleCorrupt: a part does not load or does not fit the manifest.
        InterpreterMissing: there is nothing to run its network with.

    """
    family = model.detector if isinstance(model, BaselineSettings) else model.manifest.detector
    return (BUILDERS.get(family) or _foreign(family))(model, runtime)


def _foreign(family: str) -> Builder:
    """Return the builder that another package brings."""
    from importlib.metadata import entry_points  # takes 1 MB, which few need

    points = entry_points(group=FAMILIES, name=family)
    if len(points) != 1:
        raise FamilyUnknown(
            f"the family {family!r} is brought by {len(points)} installed packages: leave one"
        )
    (point,) = points
    try:
        builder: Builder = point.load()
    except (ImportError, AttributeError) as error:
        raise FamilyUnknown(
            f"the family {family!r} cannot be loaded from {point.value}: {error}; install its"
            " package again"
        ) from error
    return builder
