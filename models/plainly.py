"""Explains in plain words why a value of a table is invalid.

The messages of pydantic are written for programmers ("Input should be greater than or equal to 1").
Operators at a machine read these messages, so this module has a sentence for each kind of error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from models.names import ALLOWED
from models.printable import printable

_TABLE: Final = "must be a table, as [name] or { key = value }"
_WHOLE: Final = "must be a whole number, such as 3"
_NUMBER: Final = "must be a number, such as 0.5"
_SWITCH: Final = "must be true or false"
_TEXT: Final = 'must be a text in quotes, such as "name"'

_INT_BITS_MAX: Final = 1000  # of an integer to print: Python refuses to print thousands of digits
_TINY: Final = 1e-20  # a bound below this only keeps 0 out

_Context = Mapping[str, Any]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _at_least(number: int, what: str) -> str:
    return "must not be empty" if number == 1 else f"must have at least {_counted(number, what)}"


def _from(least: float) -> str:
    return "must be above 0" if 0 < least < _TINY else f"must be at least {least}"


def _pattern(context: _Context) -> str:
    pattern = context["pattern"]
    allowed = ALLOWED.get(pattern)
    return f"allowed are {allowed}" if allowed else f"must match the pattern {pattern}"


# by pydantic's type of the error; see https://docs.pydantic.dev/latest/errors/validation_errors/
_WORDS: Final[Mapping[str, str | Callable[[_Context], str]]] = {
    "missing": "missing; it has no default",
    "extra_forbidden": "unknown key",
    "model_type": _TABLE,
    "dict_type": _TABLE,
    "list_type": "must be a list, as [value, value]",
    "tuple_type": "must be a list, as [value, value]",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "has too many digits",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": _TEXT,
    "string_unicode": "must be text in UTF-8",
    "path_type": 'must be a path in quotes, such as "/var/lib/name"',
    "invalid_key": _TEXT,
    "none_required": "must be absent",
    "greater_than": lambda context: f"must be above {context['gt']:g}",
    "greater_than_equal": lambda context: _from(context["ge"]),
    "less_than": lambda context: f"must be below {context['lt']:g}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "too_short": lambda context: _at_least(context["min_length"], "value"),
    "too_long": lambda context: (
        f"must have at most {_counted(context['max_length'], 'value')};"
        f" it has {context['actual_length']}"
    ),
    "string_too_short": lambda context: _at_least(context["min_length"], "character"),
    "string_too_long": lambda context: (
        f"must have at most {_counted(context['max_length'], 'character')}"
    ),
    "string_pattern_mismatch": _pattern,
    "literal_error": lambda context: f"must be {context['expected']}",
    "value_error": lambda context: str(context["error"]),
}


def reason(wrong: Mapping[str, Any]) -> str:
    """Return why a value is invalid; ``wrong`` is one of ``ValidationError.errors()``."""
    words = _WORDS.get(wrong["type"], "is not a value that this setting can have")
    return words if isinstance(words, str) else words(wrong.get("ctx", {}))


def written(value: object) -> str:
    """Return a value as written in its file, in at most about 200 characters.

    >>> written(True), written("x"), written([1, 0.5])
    ('true', "'x'", '[1, 0.5]')
    """
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple():
            return printable(f"[{', '.join(map(written, value))}]")
        case int() if value.bit_length() > _INT_BITS_MAX:
            return "a number of very many digits"
        case None:
            return "null"  # as in JSON
        case int() | float() | str():
            return printable(repr(value))
    return printable(str(value))  # a date, a path
