"""Which bundles this gateway believes: signed by a key that it trusts, and not taken back since.

Without a directory of trusted keys it believes every bundle that is whole. ``models.keys`` says
what is in that directory; the keys of the role bundle count here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models import signing
from models.bundle import Seal
from models.errors import BundleRevoked, SignatureInvalid
from models.keys import REVOKED, read_keyring
from models.signing import Signed


def believe(seal: Seal, keys: Path | None, require_signature: bool) -> None:
    """Refuse a bundle that none of the trusted keys has signed, or that is revoked.

    Without ``require_signature`` an unsigned one is believed; one that is signed by another key is
    refused all the same.

    Raises:
        SignatureInvalid: it is not believed.
        BundleRevoked: it was once, or its key was.
        ConfigError: the trusted keys, or what is revoked, cannot be read.

    """
    if keys is None:
        return
    keyring = read_keyring(keys)
    _check_revoked(seal, keys / REVOKED, keyring.revoked)
    if seal.signature is not None or require_signature:
        signing.check(seal, keyring.keys)


def _check_revoked(seal: Seal, file: Path, revoked: Mapping[str, str]) -> None:
    signer = signing.signer_of(seal)
    for what in [f"bundle {seal.digest}"] + ([f"key {signer.key_id}"] if signer else []):
        if what in revoked:
            why = f" ({revoked[what]})" if revoked[what] else ""
            raise BundleRevoked(f"{seal.source}: {file} revokes {what}{why}; use another bundle")


def told(bundle: Signed, keys: Path | None) -> str:
    """Say who signed a bundle that is believed, and whether that was checked; for people."""
    try:
        signer = signing.signer_of(bundle)
    except SignatureInvalid:  # where it counts, it was refused for that
        return "signed by nobody knows whom"
    if signer is None:
        return "not signed"
    return f"signed by {signer}" + ("" if keys else ", but nobody has checked the signature")
