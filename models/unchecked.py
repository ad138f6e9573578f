"""Configuration tables without pydantic, for a process whose tables another process has checked.

pydantic and its tables take 15 MB. An agent that runs for years needs them once, at its start.
After ``choose``, ``models.validation`` exports the names below instead of pydantic's. They check
nothing, and offer only the part of pydantic's interface that the agent uses. Tables that pydantic
has checked arrive here by ``pickle``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from models.canonical import canonical_json

chosen = False


def choose() -> None:
    """Define all tables of this process without pydantic. Call it before the first is defined."""
    global chosen
    assert "models.validation" not in sys.modules
    chosen = True


class FieldInfo(NamedTuple):
    """A field of a table; only its default is kept."""

    default: Any
    default_factory: Callable[[], Any] | None


def Field(default: Any = ..., *, default_factory: Callable[[], Any] | None = None, **_: Any) -> Any:
    """Return a field with its default; ``...`` means that it has none."""
    return FieldInfo(default, default_factory)


class BaseModel:
    """A table: immutable values by name."""

    model_fields: ClassVar[dict[str, FieldInfo]] = {}
    _serialized: ClassVar[Callable[..., dict[str, Any]] | None] = None  # see model_serializer

    def __init_subclass__(cls) -> None:
        """Collect the fields of the base class and of this class."""
        fields = dict(cls.model_fields)
        for name in inspect.get_annotations(cls):
            given = vars(cls).get(name, ...)
            fields[name] = given if isinstance(given, FieldInfo) else FieldInfo(given, None)
            if name in vars(cls):
                delattr(cls, name)  # only instances have values
        cls.model_fields = fields
        for value in list(vars(cls).values()):
            if getattr(value, "serializes", False):
                cls._serialized = value

    def __init__(self, **values: Any) -> None:
        for name, field in self.model_fields.items():
            if name not in values:
                values[name] = field.default_factory() if field.default_factory else field.default
        assert values.keys() == self.model_fields.keys(), values.keys() ^ self.model_fields.keys()
        assert ... not in values.values(), f"{type(self).__name__}: a value is missing"
        vars(self).update({name: values[name] for name in self.model_fields})

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take the values that pydantic's ``__getstate__`` returned in the other process."""
        vars(self).update(state["__dict__"] | (state["__pydantic_extra__"] or {}))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self)})"

    @property
    def model_extra(self) -> dict[str, Any]:
        """Values that are not fields; some tables allow them."""
        return {key: value for key, value in self if key not in self.model_fields}

    def model_copy(self, *, update: Mapping[str, Any]) -> BaseModel:
        """Return a copy of the table with other values."""
        copy = object.__new__(type(self))
        vars(copy).update({**vars(self), **update})
        return copy

    def model_dump(self) -> dict[str, Any]:
        """Return the values as a dictionary; nested tables become dictionaries, too."""
        return {key: _dump(value) for key, value in self.said().items()}

    def model_dump_json(self, *, include: set[str] | None = None) -> str:
        """Return the values as JSON, byte for byte as pydantic writes it (numbers below 1e16)."""
        said = self.model_dump().items()
        return canonical_json({k: v for k, v in said if include is None or k in include})

    def said(self) -> dict[str, Any]:
        """Return the values to write, nested tables unchanged."""
        own = vars(self).copy()
        return own if self._serialized is None else self._serialized(lambda _: own)


def _dump(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_dump()
        case list() | tuple():
            return type(value)(_dump(inner) for inner in value)
        case dict():
            return {key: _dump(inner) for key, inner in value.items()}
    return value


class ValidationError(ValueError):
    """Never raised: nothing is checked."""


def field_validator(*_: str) -> Callable[[Any], Any]:
    """Return the method unchanged; nobody calls it."""
    return lambda method: method


def model_validator(*, mode: str) -> Callable[[Any], Any]:
    """Return the method unchanged; nobody calls it."""
    return lambda method: method


def model_serializer(*, mode: str) -> Callable[[Any], Any]:
    """Mark the method that leaves out values when a table is written."""

    def noted(method: Any) -> Any:
        method.serializes = True
        return method

    return noted


def _nothing(*_: Any, **__: Any) -> None:
    """Replace the names that only validation needs."""


AfterValidator = ConfigDict = Discriminator = Tag = ValidationInfo = _nothing
SerializerFunctionWrapHandler = _nothing
