"""Replaces the uplink when ``mqtt`` changes, so that the loop sees only one at a time.

An uplink takes seconds to disconnect. The loop does not wait for it. The next uplink starts when
the messages that were acknowledged to the last one are deleted, so that nothing is sent again.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from agent.uplink.progress import Progress
from agent.uplink.sender import Uplink

_LOG = logging.getLogger(__name__)


class Relay:
    """Holds at most one uplink at a time; the loop's thread uses it."""

    def __init__(self, uplink: Uplink | None, progress: Progress | None = None) -> None:
        """Set up; ``progress`` is that of the samples, over all uplinks."""
        self._uplink = uplink
        self.progress = progress or Progress()
        self._following: Uplink | None = None
        self._goodbye: threading.Thread | None = None  # while the uplink is being replaced
        self._drained = False  # whether its acknowledged numbers were fetched

    def start(self) -> None:
        """Begin to send."""
        if self._uplink:
            self._uplink.start(self.progress)

    def replace(self, following: Uplink | None) -> None:
        """End the uplink, and then start ``following``."""
        self._following = following
        if self._goodbye is None:
            stop = self._uplink.stop if self._uplink else lambda: None
            self._goodbye = threading.Thread(target=stop, name="goodbye", daemon=True)
            self._goodbye.start()

    def tell(self, unstored: dict[str, Any] | None) -> None:
        """Report to central ops what cannot be stored; None: everything is stored."""
        if self._uplink:
            self._uplink.tell(unstored)

    def outbox_damaged(self) -> bool:
        """Whether the outbox was found damaged since the last call."""
        return self._uplink is not None and self._uplink.outbox_damaged()

    def acknowledged(self) -> list[int]:
        """Return the numbers acknowledged since the last call, to be deleted."""
        if self._uplink is None:
            self._drained = True
            return []
        ended = self._goodbye is not None and not self._goodbye.is_alive()
        numbers = self._uplink.acknowledged()
        self._drained = ended and not numbers
        return numbers

    def counters(self) -> dict[str, int]:
        """Return the counters of central ops' messages that changed since the last call."""
        return self._uplink.counters() if self._uplink else {}

    def committed(self, deleted: list[int]) -> None:
        """Record that a commit has deleted these from the outbox."""
        if self._uplink:
            self._uplink.committed(deleted)
        if self._goodbye is None or self._goodbye.is_alive() or not self._drained:
            return
        self._uplink, self._following, self._goodbye = self._following, None, None
        _LOG.info("the link to central ops uses the new settings")
        self.start()

    def snapshot(self) -> dict[str, Any] | None:
        """Return the state of the link; None if none is configured."""
        return self._uplink.snapshot() if self._uplink else None

    def stop(self) -> None:
        """Send what is possible, disconnect and end."""
        if self._goodbye:
            self._goodbye.join()
        elif self._uplink:
            self._uplink.stop()
