"""The progress of a training by epochs, of any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training part."""

    number: int
    loss: float
    validation_loss: float
    best: bool  # the lowest validation loss so far
    seconds: float

    def text(self, most: int) -> str:
        """Return the line of progress, of at most ``most`` epochs."""
        return (
            f"epoch {self.number:3d}/{most}  loss {self.loss:.5f}"
            f"  validation {self.validation_loss:.5f}{' *' if self.best else '  '}"
            f"  {self.seconds:.1f} s"
        )


OnEpoch = Callable[[Epoch], None]  # called after each epoch


def kept(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights are kept: the last one that was the best so far."""
    return next(epoch for epoch in reversed(epochs) if epoch.best)
