"""C-MAPSS, simulated turbofan engines run to failure (Saxena & Goebel, NASA, 2008): FD001.

``train_FD001.txt`` has engines to their failure, ``test_FD001.txt`` engines that stop before it,
and ``RUL_FD001.txt`` the cycles that each of these had left. A row is one cycle: engine, cycle,
three settings, 21 sensors, separated by spaces. Some copies have a header line.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from models.errors import DataError
from models.messages import Float32
from trainer.datasets import number_in, read_bytes

NAME: Final = "FD001"
SETTINGS: Final = tuple(f"setting_{number}" for number in range(1, 4))
SENSORS: Final = tuple(f"sensor_{number}" for number in range(1, 22))
COLUMNS: Final = (*SETTINGS, *SENSORS)
_ENGINE, _CYCLE = "engine", "cycle"
_CELLS: Final = 2 + len(COLUMNS)


class Fleet(NamedTuple):
    """The engines of one file, in order."""

    engines: list[Float32]  # (cycles, 24) each, from its first cycle
    sha256: str  # of the file's bytes


def names(directory: Path) -> list[str]:
    """List the data sets of engines that are there: FD001.

    Raises:
        DataError: no such folder, or no engines in it; the text has the name searched.

    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder")
    if not (directory / f"train_{NAME}.txt").is_file():
        raise DataError(f"{directory}: no train_{NAME}.txt")
    return [NAME]


def read(directory: Path, part: str) -> Fleet:
    """Read the engines of ``train`` or ``test``.

    Raises:
        DataError: unreadable, or not of this layout; names file, line and column.

    """
    path = directory / f"{part}_{NAME}.txt"
    data, rows = _rows(path)
    engines: list[list[list[float]]] = []
    for where, cells in rows:
        if len(cells) != _CELLS:
            raise DataError(
                f"{where}: {len(cells)} cells; engine, cycle, {len(SETTINGS)} settings and"
                f" {len(SENSORS)} sensors are {_CELLS}"
            )
        engine, cycle = (
            number_in(where, *cell) for cell in ((_ENGINE, cells[0]), (_CYCLE, cells[1]))
        )
        if engine == len(engines) + 1:
            engines.append([])
        if engine != len(engines) or cycle != len(engines[-1]) + 1:
            raise DataError(
                f"{where}: cycle {cells[1]} of engine {cells[0]}: engines and their cycles must"
                " count up from 1"
            )
        named = zip(COLUMNS, cells[2:], strict=True)
        engines[-1].append([number_in(where, name, cell) for name, cell in named])
    if not engines:
        raise DataError(f"{path}: no rows")
    return Fleet([np.array(rows, np.float32) for rows in engines], hashlib.sha256(data).hexdigest())


def remaining(directory: Path, engines: int) -> list[int]:
    """Return the cycles that each test engine had left after its last row.

    Raises:
        DataError: unreadable, no whole numbers, or not as many as ``engines``.

    """
    path = directory / f"RUL_{NAME}.txt"
    _, rows = _rows(path)
    found = []
    for where, cells in rows:
        if len(cells) != 1 or not cells[0].isdigit():
            raise DataError(f"{where}: {' '.join(cells)!r} is not a number of cycles")
        found.append(int(cells[0]))
    if len(found) != engines:
        raise DataError(f"{path}: {len(found)} engines, but test_{NAME}.txt has {engines}")
    return found


def _rows(path: Path) -> tuple[bytes, list[tuple[str, list[str]]]]:
    """Return the file's bytes and the cells of its lines, with their places; without a header."""
    data = read_bytes(path)
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    found = [
        (f"{path}:{number}", cells)
        for number, line in enumerate(lines, 1)
        if (cells := line.split())
    ]
    return data, found[1:] if found and found[0][1][0].isidentifier() else found
