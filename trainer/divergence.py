"""Training steps that are too large: the network gets worse instead of better.

A clipped gradient keeps even absurd steps finite, so a loss that is a number proves nothing.
Therefore the loss is also compared with that of the network before any training.
"""

from __future__ import annotations

import math
from typing import Final

from models.errors import ConfigError

# on mere noise the best prediction is that of an untrained network, and training is no better;
# nothing but too large steps makes it worse by such a factor
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
        """Look at an epoch's loss.

        Raises:
            ConfigError: it is not finite.

        """
        if not math.isfinite(loss):
            raise self._refusal(f"its loss is not finite in epoch {number}")

    def end(self, best: float) -> None:
        """Look at the lowest validation loss of all epochs.

        Raises:
            ConfigError: it is far above that of the network before the training.

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
