"""Ed25519 signatures over a bundle's manifest, in minisign's format.

``minisign -Vm manifest.json -p ops.pub`` accepts them too: prehashed form (``ED``), that is
Ed25519 over the BLAKE2b-512 of the manifest's bytes, with a signed ("trusted") comment. The
manifest lists the sha256 of every part, so its signature covers the whole bundle.

``cryptography`` (the extra ``signing``) is imported only where a signature is made or checked:
it costs a gateway 9 MB.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

from models.errors import ConfigError, SignatureInvalid
from models.printable import printable

_PUBLIC_ALGORITHM = b"Ed"
_SIGNATURE_ALGORITHM = b"ED"
_KEY_ID_BYTES = 8
_KEY_BYTES = 32
_INSTALL = "pip install 'fieldwatch[signing]'"


class Signed(Protocol):
    """A bundle, or as much of it as is known before it is believed."""

    @property
    def manifest_bytes(self) -> bytes: ...  # noqa: D102
    @property
    def signature(self) -> bytes | None: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102


class Signer(NamedTuple):
    """Who made a bundle, as its signature says; ``check`` finds out whether that is true."""

    key_id: str  # hexadecimal
    comment: str  # printable

    def __str__(self) -> str:
        return f"key {self.key_id} ({self.comment})"


class PublicKey(NamedTuple):
    """A key whose signatures are trusted."""

    key_id: bytes  # 8 bytes
    raw: bytes  # 32 bytes, Ed25519
    source: str  # its file


def new_key(path: Path) -> Path:
    """Make a key pair: the secret one at ``path`` (mode 0600), the public one beside it as .pub.

    Raises:
        ConfigError: a key is there already, or cannot be written; or ``cryptography`` is missing.

    """
    ed25519 = _ed25519()
    key_id, secret = os.urandom(_KEY_ID_BYTES), ed25519.Ed25519PrivateKey.generate()
    public = path.with_suffix(".pub")
    if public == path:
        raise ConfigError(f"{path}: .pub is for the public key; name the secret one otherwise")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path}: there is a key already; it is not overwritten") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        body = _PUBLIC_ALGORITHM + key_id + secret.private_bytes_raw()
        file.write(f"untrusted comment: fieldwatch secret key {key_id.hex()}\n{_text(body)}\n")
    body = _PUBLIC_ALGORITHM + key_id + secret.public_key().public_bytes_raw()
    public.write_text(f"untrusted comment: fieldwatch public key {key_id.hex()}\n{_text(body)}\n")
    return public


def sign(manifest: bytes, key_file: Path, comment: str) -> bytes:
    """Return the signature part of a bundle, in minisign's prehashed form.

    Args:
        manifest: the bytes of ``manifest.json``.
        key_file: the secret key.
        comment: the trusted comment, which is signed too.

    Raises:
        ConfigError: the key cannot be read, or ``cryptography`` is missing.

    """
    key_id, seed = _read_key(key_file)
    secret = _ed25519().Ed25519PrivateKey.from_private_bytes(seed)
    signature = secret.sign(hashlib.blake2b(manifest).digest())
    trusted = secret.sign(signature + comment.encode())
    return (
        "untrusted comment: fieldwatch bundle\n"
        f"{_text(_SIGNATURE_ALGORITHM + key_id + signature)}\n"
        f"trusted comment: {comment}\n{_text(trusted)}\n"
    ).encode()


def read_public_keys(directory: Path) -> list[PublicKey]:
    """Return the trusted keys: every ``*.pub`` of the directory.

    Raises:
        ConfigError: the directory or a key cannot be read.

    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory of trusted keys")
    files = sorted(directory.glob("*.pub"))
    return [PublicKey(*_read_key(file), source=str(file)) for file in files]


def check(bundle: Signed, keys: Iterable[PublicKey]) -> PublicKey:
    """Return the trusted key that signed ``bundle``.

    Raises:
        SignatureInvalid: not signed, by none of ``keys``, or altered since.
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
    from cryptography.exceptions import InvalidSignature

    public = _ed25519().Ed25519PublicKey.from_public_bytes(key.raw)
    try:
        public.verify(signature, hashlib.blake2b(bundle.manifest_bytes).digest())
        public.verify(trusted, signature + comment)
    except InvalidSignature:
        raise SignatureInvalid(
            f"{bundle.source}: the signature does not match; the bundle was altered"
        ) from None
    return key


def signer_of(bundle: Signed) -> Signer | None:
    """Return who says to have signed ``bundle``, None if nobody does.

    Raises:
        SignatureInvalid: the signature cannot be read.

    """
    if bundle.signature is None:
        return None
    key_id, _, comment, _ = _parse(bundle)
    return Signer(key_id.hex(), printable(comment))


def _parse(bundle: Signed) -> tuple[bytes, bytes, bytes, bytes]:
    """Key id, signature, trusted comment and its signature."""
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


def _read_key(file: Path) -> tuple[bytes, bytes]:
    try:
        body = base64.b64decode(file.read_text().splitlines()[1], validate=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (IndexError, ValueError) as error:
        raise ConfigError(f"{file}: not a key: {error}") from error
    if body[:2] != _PUBLIC_ALGORITHM or len(body) != 2 + _KEY_ID_BYTES + _KEY_BYTES:
        raise ConfigError(f"{file}: not an Ed25519 key as fieldwatch-trainer keygen writes it")
    return body[2:10], body[10:]


def _ed25519() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ConfigError(f"signatures need the extra 'signing': {_INSTALL}") from None
    return ed25519


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
