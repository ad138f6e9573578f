"""Ends a file of answers that is read once: its secrets go, it gets another name, and a report.

On a memory card or stick the old bytes may survive in a spare block; nothing that runs here can
prevent that. Therefore a password that travels like this should be for this gateway only.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.setup.edit import Editor
from agent.setup.place import writing
from models.errors import ConfigError
from models.files import replace, sync_directory

APPLIED: Final = ".applied"  # ends the name of a file that was read
REPORT: Final = ".log"  # ends the name of what is said beside it
_SECRETS: Final = (("mqtt", "password"), ("mqtt", "password_file"))
_LINE: Final = "# the secrets of this file were removed when it was read\n"


def finish(path: Path, secret_files: Iterable[Path]) -> Path:
    """Remove the secrets of a file of answers, and rename it; return its new name.

    ``secret_files``, which it named, are removed. After an error it is read again.

    Raises:
        NotPermitted: this user may not write there, or nobody may.
        CannotWrite: the disk is full, or fails.

    """
    applied = path.with_name(path.name + APPLIED)
    with writing():
        for file in secret_files:
            _overwrite(file)
            file.unlink()
        text = _without_secrets(path)
        replace(applied, text.encode())
        _overwrite(path)
        path.unlink()
        sync_directory(path.parent)
    return applied


def report(path: Path, lines: Iterable[str]) -> None:
    """Write beside a file of answers what was done with it.

    Raises:
        NotPermitted: this user may not write there, or nobody may.
        CannotWrite: the disk is full, or fails.

    """
    with writing():
        text = "".join(f"{line}\n" for line in lines)
        replace(path.with_name(path.name + REPORT), text.encode())


def _without_secrets(path: Path) -> str:
    """Return the file without secrets; if they cannot be cut out of it, only a comment."""
    try:
        text = path.read_text()
        editor = Editor(text, str(path))
        for place in _SECRETS:
            if isinstance(editor.document.get("mqtt"), dict):
                editor.remove(place)
        kept = editor.text()
        tomllib.loads(kept)
    except (ConfigError, UnicodeDecodeError):
        return _LINE
    return _LINE + kept


def _overwrite(path: Path) -> None:
    """Write zeros over the bytes of a file."""
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
        file.flush()
        os.fsync(file.fileno())
