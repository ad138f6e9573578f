"""The families of models. The manifest's ``detector`` selects the family and its builder.

    bundle ─> manifest.detector ─┬─> telemanom  models.pipeline   a predicting network
                                 ├─> hampel     models.baseline   distance from the median
                                 └─> an entry point of the group ``fieldwatch.families``
                                      │
                                      └─> detector: scorer, state codec, events, forecasts

    settings of a gateway, for a stream without a bundle ─> novelty  models.novelty, or hampel

A family has a form of the manifest (``models.manifest.MANIFESTS``) and a builder. A builder is a
function or class ``(model, runtime) -> detector``:

- ``model`` is a ``Bundle`` that was read and checked;
- ``runtime`` is ``auto``, ``litert`` or ``tflite``; a family without a network ignores it;
- the result implements ``models.detector.DetectorOf``, with the shapes, types and units
  documented there;
- it raises ``BundleCorrupt`` if a part or a setting is wrong, and ``InterpreterMissing`` if no
  installed interpreter can run its network.

Another package adds a family by an entry point. The entry point has the family's name and loads
the builder. The manifest of such a family has ``settings``, and its builder checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from models.bundle import Bundle
from models.detector import Detector, DetectorOf
from models.errors import FamilyUnknown
from models.interpreter import Runtime
from models.manifest import FAMILIES, TELEMANOM, HampelManifest
from models.names import HAMPEL
from models.pipeline import Pipeline
from models.state import State

if TYPE_CHECKING:  # a gateway whose streams all have a network needs neither in memory
    from models.baseline import BaselineSettings, BaselineState
    from models.novelty import NoveltySettings

    # a bundle that was read and checked, or the settings of a stream without a bundle
    Model = Bundle | BaselineSettings | NoveltySettings
Builder = Callable[[Any, Runtime], DetectorOf[Any]]


def _telemanom(bundle: Bundle, runtime: Runtime) -> DetectorOf[State]:
    return Pipeline(bundle, runtime)


def _hampel(bundle: Bundle, runtime: Runtime) -> DetectorOf[list[BaselineState]]:
    from models.baseline import Baseline, BaselineSettings

    assert isinstance(bundle.manifest, HampelManifest)
    return Baseline(BaselineSettings.of(bundle.manifest), bundle)


BUILDERS: Final[Mapping[str, Builder]] = {TELEMANOM: _telemanom, HAMPEL: _hampel}


def detector_of(model: Model, runtime: Runtime = "auto") -> Detector:
    """Return the detector of a model.

    Args:
        model: a bundle, or the settings of a detector without a bundle.
        runtime: the interpreter of the network; ``auto``: the first one installed.

    Raises:
        FamilyUnknown: no installed package has the family, two have it, or its package is broken.
        BundleCorrupt: a part cannot be loaded or does not fit the manifest.
        InterpreterMissing: no interpreter is installed that can run the network.

    """
    if isinstance(model, Bundle):
        return builder_of(model.manifest.detector)(model, runtime)
    return _without_bundle(model)


def _without_bundle(settings: BaselineSettings | NoveltySettings) -> Detector:
    from models.baseline import Baseline, BaselineSettings

    if isinstance(settings, BaselineSettings):
        return cast("Detector", Baseline(settings))
    from models.novelty import Novelty

    return cast("Detector", Novelty(settings))


def builder_of(family: str) -> Builder:
    """Return the builder of a family, after loading the package that provides it.

    Raises:
        FamilyUnknown: as ``detector_of``.

    """
    return BUILDERS.get(family) or provided(FAMILIES, family)


def provided(group: str, family: str) -> Any:
    """Return what another package provides for a family by an entry point of ``group``.

    Raises:
        FamilyUnknown: no installed package provides it, two do, or its package is broken.

    """
    from importlib.metadata import entry_points  # takes 1 MB, which few need

    points = entry_points(group=group, name=family)
    if len(points) != 1:
        raise FamilyUnknown(
            f"the family {family!r} is provided by {len(points)} installed packages: keep one"
        )
    (point,) = points
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise FamilyUnknown(
            f"the family {family!r} cannot be loaded from {point.value}: {error}; reinstall its"
            " package"
        ) from error
