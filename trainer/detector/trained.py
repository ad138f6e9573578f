"""A trained network on its way from the fit, or from its type of machine, to a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from models.manifest import SharedNetwork
from trainer.epochs import Epoch

if TYPE_CHECKING:
    from trainer.detector.export import Exported  # which imports TensorFlow


class TrainedNetwork(NamedTuple):
    """A network before its calibration, in the forms that may ship."""

    exported: Exported
    epochs: list[Epoch]
    shared: SharedNetwork | None = None  # who shares it; None: it is one bundle's own
