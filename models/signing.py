"""Ed25519 signatures over a bundle's manifest, or a release's list of files, in minisign's format.

``minisign -Vm manifest.json -p ops.pub`` also accepts them. They have the prehashed form (``ED``):
Ed25519 over the BLAKE2b-512 of the manifest's bytes, with a signed ("trusted") comment. The
manifest lists the sha256 of every part, so its signature covers the whole bundle.

Only keys with the role bundle are valid for bundles, and those with the role release for releases;
see ``models.keys``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from models.errors import SignatureInvalid
from models.keys import PublicKey, Role, ed25519, read_secret
from models.printable import printable

_SIGNATURE_ALGORITHM = b"ED"


class Signed(Protocol):
    """A bundle, or the part of it that is known before it is trusted; or the list of a release."""

    @property
    def manifest_bytes(self) -> bytes: ...  # noqa: D102
    @property
    def signature(self) -> bytes | None: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102


class Signer(NamedTuple):
    """The signer that a bundle's signature names; ``check`` verifies it."""

    key_id: str  # hexadecimal
    comment: str  # printable

    def __str__(self) -> str:
        return f"key {self.key_id} ({self.comment})"


def sign(manifest: bytes, key_file: Path, comment: str, role: Role = "bundle") -> bytes:
    """Return the signature part of a bundle, in minisign's prehashed form.

    Args:
        manifest: the bytes of ``manifest.json``, or of the list of a release.
        key_file: the secret key.
        comment: the trusted comment, which is signed too.
        role: what is signed, "bundle" or "release".

    Raises:
        ConfigError: the key cannot be read or has another role, or ``cryptography`` is missing.

    """
    key = read_secret(key_file, role)
    secret = ed25519().Ed25519PrivateKey.from_private_bytes(key.seed)
    signature = secret.sign(hashlib.blake2b(manifest).digest())
    trusted = secret.sign(signature + comment.encode())
    return (
        f"untrusted comment: fieldwatch {role}\n"
        f"{_text(_SIGNATURE_ALGORITHM + key.key_id + signature)}\n"
        f"trusted comment: {comment}\n{_text(trusted)}\n"
    ).encode()


def check(bundle: Signed, keys: Iterable[PublicKey], role: Role = "bundle") -> PublicKey:
    """Return the trusted key that signed ``bundle``, or a release.

    Raises:
        SignatureInvalid: not signed, not signed by one of ``keys`` that has ``role``, or altered
            since.
        ConfigError: ``cryptography`` is missing.

    """
    if bundle.signature is None:
        raise SignatureInvalid(
            f"{bundle.source}: not signed; sign it with: fieldwatch-trainer sign"
        )
    key_id, signature, comment, trusted = _parse(bundle)
    for key in keys:
        if key.key_id == key_id:
            break
    else:
        raise SignatureInvalid(f"{bundle.source}: signed by key {key_id.hex()}, not a trusted one")
    if key.role != role:
        raise SignatureInvalid(
            f"{bundle.source}: signed by {key.source}, whose role is {key.role}; the key must have"
            f" the role {role}"
        )
    from cryptography.exceptions import InvalidSignature

    public = ed25519().Ed25519PublicKey.from_public_bytes(key.raw)
    try:
        public.verify(signature, hashlib.blake2b(bundle.manifest_bytes).digest())
        public.verify(trusted, signature + comment)
    except InvalidSignature:
        raise SignatureInvalid(
            f"{bundle.source}: the signature does not match; the {role} was altered"
        ) from None
    return key


def signer_of(bundle: Signed) -> Signer | None:
    """Return the signer that the signature of ``bundle`` names; None if it is not signed.

    Raises:
        SignatureInvalid: the signature cannot be read.

    """
    if bundle.signature is None:
        return None
    key_id, _, comment, _ = _parse(bundle)
    return Signer(key_id.hex(), printable(comment))


def _parse(bundle: Signed) -> tuple[bytes, bytes, bytes, bytes]:
    """Return key id, signature, trusted comment and the comment's signature."""
    assert bundle.signature is not None
    lines = bundle.signature.split(b"\n")
    marker = b"trusted comment: "
    try:
        body, trusted = base64.b64decode(lines[1], validate=True), base64.b64decode(lines[3])
        if not lines[2].startswith(marker) or body[:2] != _SIGNATURE_ALGORITHM:
            raise ValueError("not a prehashed minisign signature")
    except (IndexError, binascii.Error, ValueError) as error:
        raise SignatureInvalid(f"{bundle.source}: unreadable signature: {error}") from error
    return body[2:10], body[10:], lines[2].removeprefix(marker), trusted


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
