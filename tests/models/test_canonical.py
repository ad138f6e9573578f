"""Values as JSON of one form; what was written by any version is written here, to the letter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.canonical import canonical_json

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (123456.789, "123456.789"),
        (1e-4, "0.0001"),
        (1e-5, "0.00001"),
        (-1.5e-5, "-0.000015"),
        (9.99e-6, "9.99e-6"),
        (1e-7, "1e-7"),
        (1e-100, "1e-100"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),  # as agents write it, which have no pydantic
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ('pümp "1"\n', '"pümp \\"1\\"\\n"'),
        ({}, "{}"),
        ([], "[]"),
        ({"b": [1, 2.5], "a": (None,)}, '{"b":[1,2.5],"a":[null]}'),
    ],
)
def test_each_byte_of_the_form(value: Any, written: str) -> None:
    assert canonical_json(value) == written


@given(st.recursive(SIMPLE, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_it_is_json_of_the_same_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value
