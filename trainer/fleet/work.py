"""A piece of work on a fleet, which a worker does: here, or on another machine."""

from __future__ import annotations

from typing import Any, Protocol


class Work(Protocol):
    """What is sent to a worker. It and what it returns can be pickled."""

    def perform(self) -> Any:
        """Do the work; return its outcome.

        Raises:
            FieldwatchError: it cannot be done.

        """


def perform(work: Work) -> Any:
    """Do a piece of work in a worker."""
    from trainer import quiet, room

    quiet.begin()
    room.check_address_space()
    return work.perform()
