"""The origin of a stream's detector: its own bundle, or a substitute for a refused one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from agent.scoring.part import Part

StandIn = Literal["previous_bundle", "baseline"]
BASELINE: Final = "baseline"


class Refusal(NamedTuple):
    """A configured bundle that was refused."""

    bundle: Path
    why: str

    def document(self) -> dict[str, str]:
        """Return the refusal for ``status``."""
        return {"bundle": str(self.bundle), "why": self.why}


class Origin(Part):
    """The origin of the stream's detector; it saves nothing.

    Args:
        signer: Key id and comment of the signature; None: not signed, or no bundle.
        refused: The configured bundle, if it was refused.
        stands_in: The detector that runs in its place.

    """

    name = "origin"

    def __init__(
        self,
        signer: dict[str, Any] | None = None,
        refused: Refusal | None = None,
        stands_in: StandIn | None = None,
    ) -> None:
        self.refused, self.stands_in = refused, stands_in
        self._signer = signer

    def replace(self, other: Origin) -> None:
        """Take over the values of ``other``, for the same detector."""
        self.refused, self.stands_in = other.refused, other.stands_in
        self._signer = other._signer

    def document(self) -> dict[str, Any]:
        """Return the signer of the bundle, and the refused bundle."""
        return {
            "watched": True,
            "signer": self._signer,
            "stands_in": self.stands_in,
            "refused": self.refused and self.refused.document(),
        }


class Unwatched:
    """A stream whose bundle is refused and has no substitute.

    Its lines are counted and not stored: without a bundle its channels are unknown. They are not
    confirmed to their input, so an input that can deliver them again does so at the next start. Its
    open alarms stay as they are.
    """

    def __init__(self, name: str, refused: Refusal, open_alarms: Sequence[dict[str, Any]]) -> None:
        self.name = name
        self.refused, self._open_alarms = refused, list(open_alarms)
        self.counters: Counter[str] = Counter()

    def document(self) -> dict[str, Any]:
        """Return the keys of ``Stream.document``, as far as they are known."""
        return {
            "bundle": None,
            "bundle_digest": None,
            "detector": None,
            "interpreter": None,
            "last_sample": None,
            "last_score": None,
            "quality": {},
            "open_alarms": self._open_alarms,
            "counters": dict(self.counters),
            "forecast": None,
            "warm_up": None,
            "unchanged": {},
            "watched": False,
            "signer": None,
            "stands_in": None,
            "refused": self.refused.document(),
        }
