"""Detects a divergent training: its steps are too large, and the network gets worse.

Gradient clipping keeps even very large steps finite, so a finite loss proves nothing. Therefore the
loss is also compared with that of the untrained network.
"""

from __future__ import annotations

import math
from typing import Final

from models.errors import ConfigError

# on pure noise an untrained network predicts best, and training does not improve it; only steps
# that are too large make the loss worse by this factor
WORSE: Final = 2.0


class Divergence:
    """Watches the losses of a training.

    Args:
        setting: the key of the learning rate.
        rate: its value.
        untrained: the validation loss before the training.

    """

    def __init__(self, setting: str, rate: float, untrained: float) -> None:
        self._setting, self._rate, self._untrained = setting, rate, untrained

    def look(self, number: int, loss: float) -> None:
        """Check the loss of an epoch.

        Raises:
            ConfigError: the loss is not finite.

        """
        if not math.isfinite(loss):
            raise self._refusal(f"its loss is not finite in epoch {number}")

    def end(self, best: float) -> None:
        """Check the lowest validation loss of all epochs.

        Raises:
            ConfigError: it is far above the loss of the untrained network.

        """
        if best > WORSE * self._untrained:
            raise self._refusal(
                f"its validation loss is at best {best:.3g}, and was {self._untrained:.3g} before"
                " the training"
            )

    def _refusal(self, why: str) -> ConfigError:
        return ConfigError(
            f"the training diverged: {why}. Its steps are too large: lower {self._setting}, which"
            f" is {self._rate:g}, for example to {self._rate / 10:g}"
        )
