"""Recognises data that DVC tracks, and returns the hash that it is tracked by.

DVC writes ``X.dvc`` beside the file or folder ``X``, and ``dvc.lock`` beside a pipeline. Both are
simple YAML: a list of entries with a ``path`` and a hash. This reads them without DVC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LOCK: Final = "dvc.lock"
_HASHES: Final = ("md5", "etag", "checksum")
_KEY = re.compile(r"\s*(-\s+)?(\w+):\s*(.*?)\s*$")


def tracked_by(path: Path) -> str | None:
    """Return the hash of the nearest tracked file or folder that has ``path``; None: none has.

    It is the name of the hash, a colon and the value, e.g. ``md5:a304afb9…``. That of a folder ends
    with ``.dir``.
    """
    whole = path.absolute()
    for place in (whole, *whole.parents):
        for file in (place.parent / f"{place.name}.dvc", *(up / _LOCK for up in place.parents)):
            if file.is_file() and (found := _hash_in(file, place)) is not None:
                return found
    return None


def _hash_in(file: Path, tracked: Path) -> str | None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    for entry in _entries(text):
        if "path" in entry and (file.parent / entry["path"]).absolute() == tracked:
            return next((f"{name}:{entry[name]}" for name in _HASHES if name in entry), None)
    return None


def _entries(text: str) -> Iterator[dict[str, str]]:
    """Yield the keys and texts of each entry of a list."""
    entry: dict[str, str] = {}
    for line in text.splitlines():
        found = _KEY.match(line)
        if found is None or found[1]:
            yield entry
            entry = {}
        if found is not None:
            entry[found[2]] = found[3].strip("'\"")
    yield entry
