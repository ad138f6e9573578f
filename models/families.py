"""The families of models: each has a builder, chosen by the manifest's ``detector``.

    bundle ─> manifest.detector ─┬─> telemanom  models.pipeline   a network that expects
                                 ├─> hampel     models.baseline   distance from the median
                                 └─> an entry point of the group ``fieldwatch.families``
                                      │
                                      └─> detector: scorer, state codec, events, forecasts

    settings of a gateway, for a stream without a bundle ─> novelty  models.novelty, or hampel

A family has a form of the manifest (``models.manifest.MANIFESTS``) and a builder. A builder is a
function or class ``(model, runtime) -> detector``:

- ``model`` is a ``Bundle`` that was read and checked; ``hampel`` also takes ``BaselineSettings``,
  the settings of a stream without a bundle;
- ``runtime`` is ``auto``, ``litert`` or ``tflite``; a family without a network ignores it;
- the result has the members of ``models.detector.DetectorOf``, with the shapes, types and units
  that are documented there;
- it raises ``BundleCorrupt`` where a part or a setting is wrong, and ``InterpreterMissing`` where
  no interpreter is installed that can run its network.

Another package adds a family by an entry point. The entry point has the family's name and loads
the builder. The manifest of such a family has ``settings``, and its builder checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from models.baseline import Baseline, BaselineSettings, BaselineState
from models.bundle import Bundle
from models.detector import Detector, DetectorOf
from models.errors import FamilyUnknown
from models.interpreter import Runtime
from models.manifest import FAMILIES, TELEMANOM, HampelManifest
from models.names import HAMPEL
from models.novelty import Novelty, NoveltySettings
from models.pipeline import Pipeline
from models.state import State

# a bundle that was read and checked, or the settings of a stream without a bundle
Model = Bundle | BaselineSettings | NoveltySettings
Builder = Callable[[Any, Runtime], DetectorOf[Any]]


def _telemanom(bundle: Bundle, runtime: Runtime) -> DetectorOf[State]:
    return Pipeline(bundle, runtime)


def _hampel(model: Bundle | BaselineSettings, runtime: Runtime) -> DetectorOf[list[BaselineState]]:
    if isinstance(model, BaselineSettings):
        return Baseline(model)
    assert isinstance(model.manifest, HampelManifest)
    return Baseline(BaselineSettings.of(model.manifest), model)


BUILDERS: Final[Mapping[str, Builder]] = {TELEMANOM: _telemanom, HAMPEL: _hampel}


def detector_of(model: Model, runtime: Runtime = "auto") -> Detector:
    """Return the detector of a model.

    Args:
        model: a bundle, or settings that need none.
        runtime: the interpreter of the network; ``auto``: the first that is installed.

    Raises:
        FamilyUnknown: no installed package has the family, two have it, or its package is broken.
        BundleCorrupt: a part cannot be loaded or does not fit the manifest.
        InterpreterMissing: no interpreter is installed that can run the network.

    """
    if isinstance(model, NoveltySettings):
        return cast("Detector", Novelty(model))  # no bundle has it, so that it has no builder
    family = model.detector if isinstance(model, BaselineSettings) else model.manifest.detector
    return builder_of(family)(model, runtime)


def builder_of(family: str) -> Builder:
    """Return what builds the detectors of a family; loads the package that has it.

    Raises:
        FamilyUnknown: as ``detector_of``.

    """
    return BUILDERS.get(family) or _foreign(family)


def _foreign(family: str) -> Builder:
    """Return the builder of a family of another package."""
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
