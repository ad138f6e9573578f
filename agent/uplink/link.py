"""Passes the state of the link and the messages to delete from the sender to the loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal

LinkState = Literal["offline", "online", "held", "stopped", "failed"]


@dataclass(slots=True)
class Link:
    """The state of the link: the sender writes it, the loop reads it."""

    state: LinkState = "offline"
    since_s: float = field(default_factory=time.time)
    last_error: str | None = None
    connections: int = 0
    failures: int = 0  # connections lost, refused or not opened
    published: int = 0
    acknowledged: int = 0
    in_flight: int = 0
    parked: int = 0  # messages that the broker will not accept on this connection
    expired: int = 0  # health messages too old to be sent
    refused: int = 0  # messages of central ops not read, because they ended the agent before
    held: tuple[str, ...] = ()  # topics whose messages the broker does not accept for now
    denied: tuple[str, ...] = ()  # topics to which we may not publish

    def change(self, state: LinkState) -> None:
        """Set the state, and the time of the change."""
        if state != self.state:
            self.state, self.since_s = state, time.time()


class Ledger:
    """Messages that need no more sending, until the loop has deleted them."""

    def __init__(self) -> None:
        self.done: SimpleQueue[int] = SimpleQueue()  # sender -> loop
        self.deleted: SimpleQueue[int] = SimpleQueue()  # loop -> sender
        self._done: set[int] = set()

    def __contains__(self, seq: int) -> bool:
        return seq in self._done

    def add(self, seq: int) -> None:
        """Let the loop delete a message."""
        self._done.add(seq)
        self.done.put(seq)

    def forget_deleted(self) -> None:
        """Forget messages that the loop has deleted."""
        self._done.difference_update(drain(self.deleted))


def drain(queue: SimpleQueue[int], limit: int | None = None) -> list[int]:
    """Return the items that are in a queue now, at most ``limit``."""
    found: list[int] = []
    try:
        while limit is None or len(found) < limit:
            found.append(queue.get_nowait())
    except Empty:
        pass
    return found
