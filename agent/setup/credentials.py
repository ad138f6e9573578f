"""Stores secrets where systemd takes them for the service: readable by root, or encrypted.

``systemd-creds`` encrypts with a key of this machine, and where there is one with its TPM. So an
encrypted credential is worth nothing on another machine, or in an image.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from agent.mqtt.credentials import CERTIFICATE, KEY, PASSWORD
from agent.rescue.belongings import CREDENTIAL_NAMES
from agent.setup.place import CannotWrite, Place, make_directory
from models.files import read_file, replace, sync_directory

Way = Literal["auto", "plain", "encrypted"]

_PROGRAM = "systemd-creds"
_BYTES_MAX = 2**20


def chosen(place: Place, way: Way) -> Way:
    """Return how secrets are stored; ``auto`` encrypts where this machine can decrypt."""
    if way != "auto":
        return way
    can = place.is_running_system and shutil.which(_PROGRAM) is not None
    return "encrypted" if can else "plain"


def present(place: Place, name: str) -> Path | None:
    """Return the file of a credential that is stored; None if there is none."""
    found = (directory / name for directory in (place.encrypted, place.plain))
    return next((file for file in found if file.exists()), None)


def changed(place: Place, secrets: Mapping[str, bytes], way: Way) -> dict[str, bytes]:
    """Return those secrets that are not stored in this way already."""
    return {name: new for name, new in secrets.items() if not _is_stored(place, name, new, way)}


def _is_stored(place: Place, name: str, secret: bytes, way: Way) -> bool:
    file = present(place, name)
    if file is None:
        return False
    encrypted = file.parent == place.encrypted
    return encrypted == (way == "encrypted") and _stored(file, name, encrypted) == secret


def store(place: Place, secrets: Mapping[str, bytes], way: Way) -> list[Path]:
    """Store secrets; return their files. What was stored in the other way is removed.

    Raises:
        CannotWrite: systemd-creds is missing, or fails.
        OSError: a file cannot be written.

    """
    stored = [_store(place, name, secret, way) for name, secret in secrets.items()]
    _tell_unit(place)
    return stored


def _store(place: Place, name: str, secret: bytes, way: Way) -> Path:
    ours, other = place.plain, place.encrypted
    if way == "encrypted":
        ours, other = other, ours
        secret = _creds("encrypt", f"--name={name}", data=secret)
    make_directory(ours, 0o700)
    replace(ours / name, secret, 0o600)
    if (other / name).exists():
        (other / name).unlink()
        sync_directory(other)
    return ours / name


def _tell_unit(place: Place) -> None:
    """Write the unit's drop-in: it names the credentials that are to be decrypted."""
    # not mqtt.*, which other services may use, too
    names = sorted(name for name in CREDENTIAL_NAMES if (place.encrypted / name).is_file())
    if not names:
        place.drop_in.unlink(missing_ok=True)
        return
    lines = ["# written by fieldwatch-agent setup", "[Service]"]
    lines += [f"LoadCredentialEncrypted={name}" for name in names]
    make_directory(place.drop_in.parent, 0o755)
    replace(place.drop_in, ("\n".join(lines) + "\n").encode(), 0o644)


@contextmanager
def readable(
    place: Place, secrets: Mapping[str, bytes], others: Mapping[str, bytes]
) -> Iterator[dict[str, Path]]:
    """Yield files with the new secrets, the stored ones and others, for as long as they are needed.

    A stored secret that cannot be read is left out.
    """
    contents = dict(others)
    for name in (PASSWORD, CERTIFICATE, KEY):
        secret = secrets.get(name)
        if secret is None and (file := present(place, name)) is not None:
            secret = _stored(file, name, file.parent == place.encrypted)
        if secret is not None:
            contents[name] = secret
    with tempfile.TemporaryDirectory(prefix="fieldwatch-") as directory:  # mode 0700
        files = {name: Path(directory, name) for name in contents}
        for name, file in files.items():
            replace(file, contents[name], 0o600)
        yield files


def _stored(file: Path, name: str, encrypted: bool) -> bytes | None:
    try:
        data = read_file(file, _BYTES_MAX)
        return _creds("decrypt", f"--name={name}", data=data) if encrypted else data
    except (OSError, CannotWrite):  # as another user, or from another machine
        return None


def _creds(verb: str, *options: str, data: bytes) -> bytes:
    program = shutil.which(_PROGRAM)
    if program is None:
        raise CannotWrite("there is no systemd-creds here: use --credentials plain")
    words = [program, verb, *options, "-", "-"]
    ended = subprocess.run(words, input=data, capture_output=True, check=False)  # noqa: S603 - systemd's
    if ended.returncode:
        told = ended.stderr.decode(errors="replace").strip()
        raise CannotWrite(f"systemd-creds {verb}: {told}. --credentials plain does without it")
    return ended.stdout
