"""What a registry refuses, and what fails in it."""

from __future__ import annotations

from models.errors import FieldwatchError


class RegistryError(FieldwatchError):
    """The registry cannot be reached, read or written; nothing in it has changed."""

    exit_code = 74


class NotInRegistry(RegistryError):
    """The registry has no such stream, version or run."""

    exit_code = 65


class Inadmissible(RegistryError):
    """The registry refuses a bundle; the text says what it lacks."""

    exit_code = 65


class InUse(RegistryError):
    """A version cannot be deleted, as gateways run it."""

    exit_code = 65


class Overtaken(RegistryError):
    """Somebody else changed the champion meanwhile; the text says what to do."""

    exit_code = 65


class NotComparable(RegistryError):
    """The versions of a stream cannot be compared fairly; the text says what is needed."""

    exit_code = 65
