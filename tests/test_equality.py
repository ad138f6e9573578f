"""Comparing two states: either right, or by identity; never an error of numpy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from models.anomalies import OpenAnomaly
from models.events import EventState
from models.messages import Event

ROOT: Final = Path(__file__).parents[1]
ARRAYS: Final = {"Float32", "Float64", "Int32", "Int64", "Uint8", "Bool", "ndarray", "NDArray"}


class Kept(NamedTuple):
    """A dataclass or named tuple."""

    compares: bool  # its fields, with ``==``
    is_dataclass: bool
    types: set[tuple[str, str]]  # module and name of what its fields hold


def _kept(module: str, tree: ast.Module) -> Iterator[tuple[str, Kept]]:
    """Yield the dataclasses and named tuples of a module."""
    come_from = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        decorators = [ast.unparse(one) for one in node.decorator_list]
        made = next((one for one in decorators if one.startswith("dataclass")), None)
        if made is None and "NamedTuple" not in [ast.unparse(base) for base in node.bases]:
            continue
        names = {
            part.id if isinstance(part, ast.Name) else part.attr
            for field in node.body
            if isinstance(field, ast.AnnAssign)
            for part in ast.walk(field.annotation)
            if isinstance(part, ast.Name | ast.Attribute)
        }
        held = {come_from.get(name, (module, name)) for name in names}
        yield node.name, Kept("eq=False" not in (made or ""), made is not None, held)


def test_what_holds_arrays_is_not_compared_by_its_fields() -> None:
    found: dict[tuple[str, str], Kept] = {}
    for path in (
        one for room in ("models", "agent", "trainer") for one in (ROOT / room).rglob("*.py")
    ):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found |= {(module, name): kept for name, kept in _kept(module, ast.parse(path.read_text()))}
    holding: set[tuple[str, str]] = set()
    while True:
        more = {
            which
            for which, kept in found.items()
            if kept.types & holding or any(name in ARRAYS for _, name in kept.types)
        }
        if more == holding:
            break
        holding = more
    assert ("models.anomalies", "OpenAnomaly") in holding
    assert ("models.state", "State") in holding  # through others
    wrong = [which for which in holding if found[which].is_dataclass and found[which].compares]
    assert sorted(".".join(which) for which in wrong) == []


def test_two_open_anomalies_can_be_told_apart() -> None:
    event = Event(1, "anomaly", "telemanom", 0.0, 1.0, 2.0, None, "warning")
    one, other = (OpenAnomaly(event, base=np.ones(3, np.float32)) for _ in range(2))
    assert one != other
    assert [one, other].index(other) == 1
    assert EventState(anomalies=[one]) != EventState(anomalies=[other])
