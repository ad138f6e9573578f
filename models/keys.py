"""Ed25519 keys: their owners, what each may sign, and which are revoked.

Each side has one directory of the public keys that it trusts. A key has one role, and its
signatures count only for that role:

    role        who has the secret key         what it signs
    ----        ----------------------         -------------
    bundle      who trains and releases        bundles
    collector   the collector at central ops   its messages to the gateways
    gateway     that gateway                   its messages
    operate     an operator                    commands
    release     who releases this software     its list of files

A key file has two lines in minisign's format. The first line has the role, and a gateway's name:

    untrusted comment: fieldwatch gateway public key 3f1c9a20b7d4e655 plant-7/press-2
    RWQ/HJogt9TmVX…

A public key without a role, such as one of minisign's, has the role bundle. The directory may also
have a file ``revoked``:

    # one per line: kind, key id or digest in hexadecimal, and reason
    key    3f1c9a20b7d4e655    lost with the notebook, 2026-11-02
    bundle 4ce4c9a5d157…       wrong unit of pressure

Short messages are signed together with a context that names their kind. So a signature for one kind
is invalid for another. ``cryptography`` (the extra ``signing``) is imported only when a signature
is made or verified: it takes 9 MB of memory.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple, get_args

from models.errors import ConfigError, NotAuthentic
from models.files import NotAFile, read_file
from models.names import NAME
from models.printable import printable

Role = Literal["bundle", "collector", "gateway", "operate", "release"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
REVOKED: Final = "revoked"  # the file in the directory of keys
SIGNATURE_BYTES: Final = 72  # of a short message: key id and Ed25519

_ALGORITHM = b"Ed"
_KEY_ID_BYTES = 8
_KEY_BYTES = 32
_FILE_BYTES_MAX: Final = 4096  # of a key
_REVOKED_BYTES_MAX: Final = 2**20
_LINE: Final = re.compile(r"(key [0-9a-f]{16}|bundle [0-9a-f]{64})(?: (.*))?")
_OURS: Final = "untrusted comment: fieldwatch "
_COMMENT: Final = re.compile(r"(?:([a-z]+) )?(public|secret) key ([0-9a-f]{16})(?: (\S+))?")
_INSTALL = "pip install 'fieldwatch[signing]'"


class PublicKey(NamedTuple):
    """A key that verifies signatures, as stated in its file."""

    key_id: bytes  # 8 bytes
    raw: bytes  # 32 bytes, Ed25519
    role: Role
    name: str  # SITE/NAME of a gateway; for other roles any name, or ""
    source: str  # its file


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key that signs."""

    key_id: bytes  # 8 bytes
    seed: bytes = field(repr=False)  # 32 bytes, Ed25519
    role: Role
    name: str
    source: str  # its file


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of a directory, and the revocations."""

    directory: Path
    keys: tuple[PublicKey, ...]
    revoked: Mapping[str, str]  # "key ID" or "bundle DIGEST" -> reason, may be ""

    def of(self, role: Role) -> list[PublicKey]:
        """Return the unrevoked keys of a role."""
        return [key for key in self.keys if key.role == role and self.why(key) is None]

    def why(self, key: PublicKey) -> str | None:
        """Return the reason why a key is revoked, which may be ""; None if it is not revoked."""
        return self.revoked.get(f"key {key.key_id.hex()}")

    def verify(self, role: Role, context: str, message: bytes, signature: bytes) -> PublicKey:
        """Return the key of ``role`` that signed a short message.

        Raises:
            NotAuthentic: no trusted key of this role signed it; ``cause`` states why.
            ConfigError: ``cryptography`` is missing.

        """
        key_id = signer_of(signature)
        for key in self.keys:
            if key.key_id == key_id:
                break
        else:
            raise NotAuthentic("unknown_key", f"key {key_id.hex()} is not in {self.directory}")
        if key.role != role:
            raise NotAuthentic("wrong_role", f"{key.source}: its role is {key.role}, not {role}")
        if (why := self.why(key)) is not None:
            raise NotAuthentic(
                "revoked_key", f"key {key_id.hex()} is revoked" + (f": {why}" if why else "")
            )
        verify(key, context, message, signature)
        return key


def new_key(path: Path, role: Role = "bundle", name: str = "") -> Path:
    """Create a key pair: the secret key at ``path`` (mode 0600), the public one beside it as .pub.

    Args:
        path: file of the secret key.
        role: what the key may sign.
        name: ``SITE/NAME`` of a gateway; for other roles any name without spaces, or "".

    Raises:
        ConfigError: the name is invalid, a key exists already or cannot be written, or
            ``cryptography`` is missing.

    """
    _check_name(role, name)
    key_id, secret = os.urandom(_KEY_ID_BYTES), ed25519().Ed25519PrivateKey.generate()
    public = path.with_suffix(".pub")
    if public == path:
        raise ConfigError(f"{path}: .pub is for the public key; give the secret key another name")
    _write(path, _text(role, "secret", key_id, secret.private_bytes_raw(), name), 0o600)
    raw = secret.public_key().public_bytes_raw()
    try:
        _write(public, _text(role, "public", key_id, raw, name), 0o666)
    except ConfigError:
        path.unlink()
        raise
    return public


def read_secret(file: Path, role: Role) -> SecretKey:
    """Return a secret key for ``role``.

    Raises:
        ConfigError: it cannot be read, is a public key, or has another role.

    """
    key = _read(file)
    if key.half == "public":
        raise ConfigError(f"{file}: this is a public key; signing needs the secret key")
    if key.role != role:
        raise ConfigError(f"{file}: its role is {key.role}; a key with the role {role} is needed")
    return SecretKey(key.key_id, key.raw, key.role, key.name, str(file))


def read_keys(directory: Path) -> list[PublicKey]:
    """Return the public keys of a directory: all of its ``*.pub``, by name.

    Raises:
        ConfigError: the directory or a key cannot be read, or two keys have the same id.

    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory of trusted keys")
    keys = [_public(file) for file in sorted(directory.glob("*.pub"))]
    seen: dict[bytes, PublicKey] = {}
    for key in keys:
        first = seen.setdefault(key.key_id, key)
        if first[:-1] != key[:-1]:
            raise ConfigError(
                f"{key.source}: differs from {first.source}, which has the same key id"
                f" {key.key_id.hex()}; remove one of them"
            )
    return keys


def read_keyring(directory: Path) -> Keyring:
    """Return the public keys of a directory, and its revocations.

    Raises:
        ConfigError: see ``read_keys`` and ``read_revoked``.

    """
    return Keyring(directory, tuple(read_keys(directory)), read_revoked(directory / REVOKED))


def read_revoked(file: Path) -> dict[str, str]:
    """Return the revoked keys and bundles with the reasons; empty if there is no file.

    Raises:
        ConfigError: the file cannot be read, or a line in it is invalid.

    """
    text = _read_bytes(file, _REVOKED_BYTES_MAX, missing=b"")
    lines = enumerate(text.decode(errors="backslashreplace").splitlines(), 1)
    return dict(_revoked(file, number, line) for number, line in lines if _says_something(line))


def understood_revoked(file: Path) -> dict[str, str]:
    """Return the same as ``read_revoked``, but skip invalid lines.

    It applies new revocations while somebody still has to correct the file. It returns nothing if
    the file cannot be read.
    """
    found: dict[str, str] = {}
    try:
        text = _read_bytes(file, _REVOKED_BYTES_MAX, missing=b"")
    except ConfigError:
        return found
    for number, line in enumerate(text.decode(errors="backslashreplace").splitlines(), 1):
        if _says_something(line):
            with contextlib.suppress(ConfigError):
                what, why = _revoked(file, number, line)
                found[what] = why
    return found


def revoke(directory: Path, key_id: str, why: str) -> Path:
    """Add a key to the file ``revoked`` of a directory; return the file.

    Args:
        directory: directory of the public keys.
        key_id: 16 hexadecimal digits. The key itself need not be there.
        why: the reason, in one line.

    Raises:
        ConfigError: the key id is invalid, or the file cannot be read or written.

    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory of trusted keys")
    file = directory / REVOKED
    line = f"key {key_id} {printable(why)}".rstrip()
    if _LINE.fullmatch(line) is None:
        raise ConfigError(
            f"{printable(key_id)!r}: not a key id, which has 16 lower-case hexadecimal digits"
        )
    read_revoked(file)
    try:
        with file.open("a+b") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - 1))
            ended = opened.read() in (b"", b"\n")
            opened.write(b"" if ended else b"\n")
            opened.write(f"{line}\n".encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    return file


def sign(secret: SecretKey, context: str, message: bytes) -> bytes:
    """Return the signature (72 bytes) of a short message: key id and Ed25519.

    Args:
        secret: the key.
        context: the kind of message and its version, such as ``fieldwatch.acknowledged.v1``.
        message: the bytes to sign.

    Raises:
        ConfigError: ``cryptography`` is missing.

    """
    signature: bytes = _private(secret.seed).sign(_in_context(context, message))
    return secret.key_id + signature


def verify(public: PublicKey, context: str, message: bytes, signature: bytes) -> None:
    """Verify that ``public`` signed a short message in this context.

    Raises:
        NotAuthentic: it did not; ``cause`` states why.
        ConfigError: ``cryptography`` is missing.

    """
    if signer_of(signature) != public.key_id:
        raise NotAuthentic("unknown_key", f"not signed by key {public.key_id.hex()}")
    key = _loaded(public.raw)
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature[_KEY_ID_BYTES:], _in_context(context, message))
    except InvalidSignature:
        raise NotAuthentic(
            "bad_signature", f"the signature by key {public.key_id.hex()} does not match"
        ) from None


def signer_of(signature: bytes) -> bytes:
    """Return the id of the key that a short message's signature names.

    Raises:
        NotAuthentic: it is not a signature.

    """
    if len(signature) != SIGNATURE_BYTES:
        raise NotAuthentic("unreadable", f"a signature must have {SIGNATURE_BYTES} bytes")
    return signature[:_KEY_ID_BYTES]


def names(keys: Iterable[PublicKey]) -> str:
    """Format the ids and names of keys for a line of text."""
    return ", ".join(f"{key.key_id.hex()}{f' ({key.name})' if key.name else ''}" for key in keys)


def ed25519() -> ModuleType:
    """Return the Ed25519 module of ``cryptography``.

    Raises:
        ConfigError: it is missing.

    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ConfigError(f"signatures need the extra 'signing': {_INSTALL}") from None
    return ed25519


class _Key(NamedTuple):
    """The content of a key file."""

    half: str | None  # "public" or "secret"; None if the file does not state it
    key_id: bytes
    raw: bytes
    role: Role
    name: str


def _public(file: Path) -> PublicKey:
    key = _read(file)
    if key.half == "secret":
        raise ConfigError(
            f"{file}: a secret key among the public ones; delete it here, and create a new one if"
            " others could read it"
        )
    return PublicKey(key.key_id, key.raw, key.role, key.name, str(file))


def _read(file: Path) -> _Key:
    try:
        lines = _read_bytes(file, _FILE_BYTES_MAX).decode().splitlines()
        comment, body = lines[0], base64.b64decode(lines[1], validate=True)
    except (IndexError, ValueError) as error:
        raise ConfigError(f"{file}: not a key: {error}") from error
    if body[:2] != _ALGORITHM or len(body) != 2 + _KEY_ID_BYTES + _KEY_BYTES:
        raise ConfigError(f"{file}: not an Ed25519 key in the format of fieldwatch-agent keys new")
    key_id, raw = body[2:10], body[10:]
    if not comment.startswith(_OURS):
        return _Key(None, key_id, raw, "bundle", "")
    return _told(file, comment.removeprefix(_OURS), key_id, raw)


def _told(file: Path, comment: str, key_id: bytes, raw: bytes) -> _Key:
    """Accept the first line only if all of it is valid: a wrong role is dangerous."""
    found = _COMMENT.fullmatch(comment)
    role, half, told_id, name = found.groups("") if found else ("", "", "", "")
    role = role or "bundle"
    if found is None or role not in ROLES or told_id != key_id.hex():
        raise ConfigError(
            f"{file}: line 1: 'fieldwatch {printable(comment)}' is not 'fieldwatch ROLE public key"
            f" {key_id.hex()} NAME' with one of the roles {', '.join(ROLES)}"
        )
    known = ROLES[ROLES.index(role)]
    try:
        _check_name(known, name)
    except ConfigError as error:
        raise ConfigError(f"{file}: line 1: {error}") from None
    return _Key(half, key_id, raw, known, name)


def _check_name(role: Role, name: str) -> None:
    levels = name.split("/")
    fits = all(map(NAME.fullmatch, levels))
    if role == "gateway" and not (fits and len(levels) == 2):
        raise ConfigError(
            f"name = {printable(name)!r}: a gateway key needs the gateway's SITE/NAME"
        )
    if name and not (fits and len(levels) <= 2):
        raise ConfigError(
            f"name = {printable(name)!r}: allowed are 1 to 64 letters, digits, '_', '.' and '-',"
            " the first a letter or digit"
        )


def _read_bytes(file: Path, bytes_max: int, missing: bytes | None = None) -> bytes:
    try:
        return read_file(file, bytes_max)
    except NotAFile as error:
        raise ConfigError(f"{error}; move it away") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError) and missing is not None:
            return missing
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error


def _write(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigError(f"{path}: a key exists already; it is not overwritten") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _text(role: Role, half: str, key_id: bytes, raw: bytes, name: str) -> str:
    body = base64.b64encode(_ALGORITHM + key_id + raw).decode()
    return f"{_OURS}{role} {half} key {key_id.hex()} {name}".rstrip() + f"\n{body}\n"


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _revoked(file: Path, number: int, line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(" ".join(line.split()))
    if found is None:  # the key to revoke is unknown, so no key can be trusted
        raise ConfigError(
            f"{file}: line {number}: {printable(line)!r} is neither 'key' with 16 nor 'bundle' with"
            " 64 lower-case hexadecimal digits"
        )
    return found[1], printable(found[2] or "")


def _in_context(context: str, message: bytes) -> bytes:
    return context.encode() + b"\0" + message


@functools.lru_cache(maxsize=4)
def _private(seed: bytes) -> Any:
    return ed25519().Ed25519PrivateKey.from_private_bytes(seed)


@functools.lru_cache(maxsize=1024)
def _loaded(raw: bytes) -> Any:
    return ed25519().Ed25519PublicKey.from_public_bytes(raw)
