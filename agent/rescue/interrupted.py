"""Completes a restore that a power cut interrupted. Each start of the agent asks for it."""

from __future__ import annotations

from pathlib import Path

from agent.store.switch import finish
from models.errors import StoreError

_JOURNAL = ".restore.json"


def journal_of(config_file: Path) -> Path:
    """Return the journal of a restore in progress; it lies beside the configuration."""
    return config_file.parent.absolute() / _JOURNAL


def complete(config_file: Path) -> bool:
    """Complete an interrupted restore; return whether there was one.

    Raises:
        StoreError: it cannot be completed by this user.

    """
    try:
        return finish(journal_of(config_file))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"a restore was interrupted, and cannot be completed: {error}. Complete it: sudo"
            f" fieldwatch-agent restore --complete --config {config_file}"
        ) from error
