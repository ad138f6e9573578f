"""Decides which bundles this gateway trusts: those signed by a trusted key, and not revoked.

Without a directory of trusted keys it trusts every intact bundle. ``models.keys`` describes that
directory; only keys with the role bundle count here.
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
    """Refuse a bundle that no trusted key has signed, or that is revoked.

    Without ``require_signature`` an unsigned bundle is trusted; one with the signature of another
    key is still refused.

    Raises:
        SignatureInvalid: it is not trusted.
        BundleRevoked: the bundle or its key is revoked.
        ConfigError: the trusted keys, or the list of revoked ones, cannot be read.

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
    """Describe who signed a trusted bundle, and whether the signature was verified."""
    try:
        signer = signing.signer_of(bundle)
    except SignatureInvalid:  # if signatures count, the bundle was refused before
        return "signed, but the signature cannot be read"
    if signer is None:
        return "not signed"
    return f"signed by {signer}" + ("" if keys else ", but the signature was not verified")
