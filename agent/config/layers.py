"""Merges the configuration's files: the main file, then ``conf.d/*.toml`` beside it.

Tables are merged key by key. In a list of tables those with the same ``name`` (of limits, the same
``channel``) are one table, and others are added; every other value replaces the earlier one. Each
value keeps its origin, so that a message can name the file.

Does not load pydantic: commands that only look for the store use this on small gateways.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from models.errors import ConfigError
from models.toml import Location, read_toml

DROP_INS: Final = "conf.d"
_IDENTITIES = ("name", "channel")  # the key that tells the tables of a list apart


class Origin(NamedTuple):
    """Where a value was given."""

    source: str  # a file, or an environment variable
    location: Location | None  # in that file; None for a variable, whose name says it


class Layers:
    """A document and, of each of its tables and values, where it was given last."""

    def __init__(self, source: str) -> None:
        """``source`` is the origin of what was given nowhere."""
        self.document: dict[str, Any] = {}
        self._origins: dict[Location, list[Origin]] = {(): [Origin(source, ())]}

    def lay(self, document: dict[str, Any], source: str) -> None:
        """Lay a document over what is there."""
        self._lay_table(self.document, document, (), Origin(source, ()))

    def set(self, location: tuple[str, ...], value: object, variable: str) -> None:
        """Lay one value over what is there, given by an environment variable."""
        document: Any = value
        for key in reversed(location):
            document = {key: document}
        self._lay_table(self.document, document, (), Origin(variable, None))

    def origins(self, location: Location) -> list[Origin]:
        """Return where a setting was given; for an absent one, where it would belong.

        A table that several files contribute to has several.
        """
        given = location
        while given not in self._origins:
            given = given[:-1]
        absent = location[len(given) :]
        return [_step(origin, *absent) for origin in self._origins[given]]

    def _lay_table(
        self, below: dict[str, Any], over: dict[str, Any], at: Location, origin: Origin
    ) -> None:
        for key, value in over.items():
            here, given = (*at, key), _step(origin, key)
            if isinstance(value, dict):
                self._lay_inner(below, key, value, here, given)
            elif _is_rows(value):
                self._lay_rows(below, key, value, here, given)
            else:
                self._replace(below, key, value, here, given)

    def _lay_inner(
        self, below: Any, key: int | str, value: dict[str, Any], at: Location, origin: Origin
    ) -> None:
        if isinstance(below, list) or isinstance(below.get(key), dict):
            self._contribute(at, origin)
        else:
            self._replace(below, key, {}, at, origin)
        self._lay_table(below[key], value, at, origin)

    def _lay_rows(
        self, below: dict[str, Any], key: str, rows: list[Any], at: Location, origin: Origin
    ) -> None:
        if _is_rows(below.get(key)):
            self._contribute(at, origin)
        else:
            self._replace(below, key, [], at, origin)
        known = list(enumerate(below[key]))  # not those of this file: they are all its own
        for number, row in enumerate(rows):
            place = next((index for index, other in known if _is_same(row, other)), None)
            if place is None:
                place = len(below[key])
                below[key].append({})
            self._lay_inner(below[key], place, row, (*at, place), _step(origin, number))

    def _contribute(self, at: Location, origin: Origin) -> None:
        given = self._origins.setdefault(at, [])
        if origin.source not in [other.source for other in given]:
            given.append(origin)

    def _replace(
        self, below: Any, key: str | int, value: Any, at: Location, origin: Origin
    ) -> None:
        if at in self._origins:  # without it, nothing below it has an origin either
            for location in [other for other in self._origins if other[: len(at)] == at]:
                del self._origins[location]
        below[key] = value
        self._origins[at] = [origin]


def read(path: Path, document: dict[str, Any] | None = None) -> Layers:
    """Return the configuration of ``path`` and its drop-ins, in lexical order of their names.

    Args:
        path: of the main file.
        document: what the main file is about to have; None: what it has.

    Raises:
        ConfigError: one is not readable, or not TOML.

    """
    layers = Layers(str(path))
    layers.lay(read_toml(path)[0] if document is None else document, str(path))
    for file in _drop_ins(path.parent / DROP_INS):
        layers.lay(read_toml(file)[0], str(file))
    return layers


def _drop_ins(directory: Path) -> list[Path]:
    try:
        names = [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be read: {error.strerror}") from error
    # an editor's backups begin with a dot
    chosen = (name for name in names if name.endswith(".toml") and name[0] != ".")
    return [directory / name for name in sorted(chosen)]


def leaves(value: Any, at: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Yield the values of a document that are not tables, each with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*at, key))
    elif _is_rows(value):
        for index, row in enumerate(value):
            yield from leaves(row, (*at, index))
    else:
        yield at, value


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    key = next((key for key in _IDENTITIES if key in row), None)
    return key is not None and key in other and row[key] == other[key]


def _step(origin: Origin, *steps: int | str) -> Origin:
    return origin if origin.location is None else Origin(origin.source, (*origin.location, *steps))
