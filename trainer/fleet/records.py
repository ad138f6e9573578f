"""The record of the last work on each stream, as files: for ``status`` and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models.errors import DataError
from models.files import replace

_FOLDER: Final = "records"


def path_of(output: Path, name: str, what: str) -> Path:
    """Return the path of a stream's record; ``what`` was done: train, validate or check."""
    return output / _FOLDER / f"{name}.{what}.json"


def keep(output: Path, name: str, what: str, document: Mapping[str, Any]) -> None:
    """Write the record of a stream, as a whole or not at all.

    Raises:
        OSError: it cannot be written.

    """
    path = path_of(output, name, what)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, f"{json.dumps(document, indent=2)}\n".encode())


def last(output: Path, name: str, what: str) -> dict[str, Any] | None:
    """Return the record of a stream; None: there is none.

    Raises:
        DataError: it is damaged.

    """
    path = path_of(output, name, what)
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path}: not a record: {error}; remove it") from error
    return found


def keep_result(output: Path, what: str, document: Mapping[str, Any]) -> None:
    """Write the result of a whole run: ``batch.json``, ``validate.json`` or ``check.json``.

    Raises:
        OSError: it cannot be written.

    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{_RESULTS.get(what, what)}.json"
    replace(path, f"{json.dumps(document, indent=2)}\n".encode())


_RESULTS: Final = {"train": "batch"}  # the name of the command
