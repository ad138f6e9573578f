"""How far the lane of samples has come: what outlives uplink and process. It needs no numpy."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

SAMPLES: Final = "_samples"  # a key among the streams' states; no stream's name begins with _


class At(NamedTuple):
    """How far the samples are sent."""

    next: int | None = None  # number of the first sample that is not; None: never began
    day: int = 0  # the last day with a chunk, in days since 1970 (UTC)
    bytes: int = 0  # sent on that day
    sent: int = 0  # samples, confirmed
    missed: int = 0  # samples that the ring dropped before
    refused: int = 0  # samples in chunks that broker or collector do not accept


class Progress:
    """How far the samples are sent, over all uplinks.

    The sender's thread changes ``at``, the loop's thread the others.
    """

    def __init__(self, at: At = At()) -> None:  # noqa: B008 - it cannot change
        self.at = at
        self._stored = at
        self.newest = 1  # number of the next sample
        # samples below this number are on the disk, so that no other gets their number
        self.durable = 0
        self.ring_epoch = ""  # ``ReadingsFile.ring_epoch``; "": not known yet
        self.timely = True  # whether their times will not be corrected

    @classmethod
    def of(cls, data: bytes | None) -> Progress:
        """Return the stored progress; None: there is none."""
        said = {} if data is None else json.loads(data)
        return cls(At(**{name: said[name] for name in At._fields if name in said}))

    def see(self, newest: int, durable: int, ring_epoch: str = "") -> None:
        """Follow a commit of samples; see ``newest``, ``durable`` and ``ring_epoch``."""
        self.ring_epoch = ring_epoch  # before the numbers that belong to it
        self.newest, self.durable = newest, durable

    def begin(self) -> None:
        """Begin with the next sample, unless samples were sent before."""
        if self.at.next is None:
            self.at = self.at._replace(next=self.newest)

    def news(self) -> bytes | None:
        """Return it for the loop to store; None if that is not new."""
        at = self.at
        if at == self._stored:
            return None
        self._stored = at
        return json.dumps(at._asdict()).encode()
