"""What a stream runs with and why: its own bundle, or what stands in for one that is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from agent.scoring.part import Part

StandIn = Literal["previous_bundle", "baseline"]
BASELINE: Final = "baseline"


class Refusal(NamedTuple):
    """A bundle that is configured and refused."""

    bundle: Path
    why: str

    def document(self) -> dict[str, str]:
        """Return it for ``status``."""
        return {"bundle": str(self.bundle), "why": self.why}


class Origin(Part):
    """Where the stream's detector comes from; saves nothing.

    Args:
        signer: Key id and comment of the signature; None: not signed, or no bundle.
        refused: The configured bundle, if it is refused.
        stands_in: What runs in its place.

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
        """Have what ``other`` has: the detector stays, and what is known of it changes."""
        self.refused, self.stands_in = other.refused, other.stands_in
        self._signer = other._signer

    def document(self) -> dict[str, Any]:
        """Say who signed the bundle, and what is refused."""
        return {
            "watched": True,
            "signer": self._signer,
            "stands_in": self.stands_in,
            "refused": self.refused and self.refused.document(),
        }


class Unwatched:
    """A stream whose bundle is refused, and that nothing can stand in for.

    Its lines are counted and not stored: without a bundle nobody knows its channels. They are not
    confirmed to their input, so what an input can deliver again comes again at the next start. Its
    open alarms stay as they are.
    """

    def __init__(self, name: str, refused: Refusal, open_alarms: Sequence[dict[str, Any]]) -> None:
        self.name = name
        self.refused, self._open_alarms = refused, list(open_alarms)
        self.counters: Counter[str] = Counter()

    def document(self) -> dict[str, Any]:
        """Return what ``Stream.document`` has, as far as there is any."""
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
