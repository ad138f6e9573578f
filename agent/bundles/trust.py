"""Which bundles this gateway believes: signed by a key that it trusts, and not taken back since.

Without a directory of trusted keys it believes every bundle that is whole. In that directory lie
the public keys, and a file ``revoked`` may lie beside them:

    # one a line: what it is, key id or digest in hexadecimal, and why
    key    3f1c9a20b7d4e655    lost with the notebook, 2026-11-02
    bundle 4ce4c9a5d157…       wrong unit of pressure
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from models import signing
from models.bundle import Seal
from models.errors import BundleRevoked, ConfigError, SignatureInvalid
from models.printable import printable
from models.signing import Signed

REVOKED: Final = "revoked"
_BYTES_MAX: Final = 2**20
_LINE: Final = re.compile(r"(key [0-9a-f]{16}|bundle [0-9a-f]{64})(?: (.*))?")


def believe(seal: Seal, trusted_keys_dir: Path | None, require_signature: bool) -> None:
    """Refuse a bundle that none of the trusted keys has signed, or that is revoked.

    Without ``require_signature`` an unsigned one is believed; one that is signed by another key is
    refused all the same.

    Raises:
        SignatureInvalid: it is not believed.
        BundleRevoked: it was once, or its key was.
        ConfigError: the trusted keys, or what is revoked, cannot be read.

    """
    if trusted_keys_dir is None:
        return
    _check_revoked(seal, trusted_keys_dir / REVOKED)
    if seal.signature is not None or require_signature:
        signing.check(seal, signing.read_public_keys(trusted_keys_dir))


def _check_revoked(seal: Seal, file: Path) -> None:
    revoked = read_revoked(file)
    signer = signing.signer_of(seal)
    for what in [f"bundle {seal.digest}"] + ([f"key {signer.key_id}"] if signer else []):
        if what in revoked:
            why = f" ({revoked[what]})" if revoked[what] else ""
            raise BundleRevoked(f"{seal.source}: {file} revokes {what}{why}; use another bundle")


def read_revoked(file: Path) -> dict[str, str]:
    """Return what is revoked and why: ``key ID`` and ``bundle DIGEST``; nothing without the file.

    Raises:
        ConfigError: the file cannot be read, or a line in it cannot be understood.

    """
    try:
        with file.open("rb") as opened:
            text = opened.read(_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    if len(text) > _BYTES_MAX:
        raise ConfigError(f"{file}: over {_BYTES_MAX} bytes is too long")
    lines = enumerate(text.decode(errors="backslashreplace").splitlines(), 1)
    return dict(_revoked(file, number, line) for number, line in lines if _says_something(line))


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _revoked(file: Path, number: int, line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(" ".join(line.split()))
    if found is None:  # whom it was to revoke is not known, so nobody can be believed
        raise ConfigError(
            f"{file}: line {number}: {printable(line)!r} is neither 'key' with 16 nor 'bundle' with"
            " 64 hexadecimal digits in small letters"
        )
    return found[1], printable(found[2] or "")


def told(bundle: Signed, trusted_keys_dir: Path | None) -> str:
    """Say who signed a bundle that is believed, and whether that was checked; for people."""
    try:
        signer = signing.signer_of(bundle)
    except SignatureInvalid:  # where it counts, it was refused for that
        return "signed by nobody knows whom"
    if signer is None:
        return "not signed"
    return f"signed by {signer}" + ("" if trusted_keys_dir else ", which nobody has checked")
