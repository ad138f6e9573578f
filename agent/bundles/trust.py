"""Which bundles this gateway believes: those that are signed by a key that it trusts.

Without a directory of trusted keys it believes every bundle that is whole.
"""

from __future__ import annotations

from pathlib import Path

from models import signing
from models.bundle import Seal
from models.errors import SignatureInvalid
from models.signing import Signed


def believe(seal: Seal, trusted_keys_dir: Path | None, require_signature: bool) -> None:
    """Refuse a bundle that none of the trusted keys has signed.

    Without ``require_signature`` an unsigned one is believed; one that is signed by another key is
    refused all the same.

    Raises:
        SignatureInvalid: it is not believed.
        ConfigError: the trusted keys cannot be read.

    """
    if trusted_keys_dir is None or (seal.signature is None and not require_signature):
        return
    signing.check(seal, signing.read_public_keys(trusted_keys_dir))


def told(bundle: Signed, trusted_keys_dir: Path | None) -> str:
    """Say who signed a bundle that is believed, and whether that was checked; for people."""
    try:
        signer = signing.signer_of(bundle)
    except SignatureInvalid:  # where it counts, it was refused for that
        return "signed by nobody knows whom"
    if signer is None:
        return "not signed"
    return f"signed by {signer}" + ("" if trusted_keys_dir else ", which nobody has checked")
