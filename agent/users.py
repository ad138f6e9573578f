"""The users of the web page: a file with a line for each, ``name:role:scrypt$n$r$p$salt$hash``.

The page reads it, ``fieldwatch-agent page user`` writes it. Nobody else may read it: whoever has
the hashes can try passwords without being slowed down.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent.control.protocol import ROLES, Person, Role, is_person_name
from models.errors import ConfigError
from models.files import open_file, replace

_LOG = logging.getLogger(__name__)

PASSWORD_CHARS_MIN: Final = 10
PASSWORD_CHARS_MAX: Final = 1000
USERS_MAX: Final = 500
_BYTES_MAX: Final = 2**18
_MODE: Final = 0o640  # its group is that of the page
_FORBIDDEN: Final = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
_MEMORY_BYTES_MAX: Final = 2**26  # of one computation, for a file of other software
_SCHEME: Final = "scrypt"
_HASH_BYTES: Final = 32
_SALT_BYTES: Final = 16
_HEADER: Final = "# Users of the web page. Change this file with: fieldwatch-agent page user\n"


class Hashed(NamedTuple):
    """A password, hashed with scrypt (RFC 7914): 16 MB of memory unless n or r say otherwise."""

    salt: bytes
    digest: bytes
    n: int = 2**14
    r: int = 8
    p: int = 1

    def __str__(self) -> str:
        return f"{_SCHEME}${self.n}${self.r}${self.p}${self.salt.hex()}${self.digest.hex()}"

    def fits(self, password: str) -> bool:
        """Whether it is the hash of this password; takes the same time if it is not."""
        found = _scrypt(password, self.salt, self.n, self.r, self.p, len(self.digest))
        return hmac.compare_digest(found, self.digest)


class User(NamedTuple):
    """A user of the page."""

    name: str
    role: Role
    password: Hashed

    @property
    def person(self) -> Person:
        """Who this is to the agent."""
        return Person(self.name, self.role)


Users = Mapping[str, User]  # by name


def hashed(password: str) -> Hashed:
    """Return the hash of a new password, with a new salt.

    Raises:
        ValueError: the password is too short or too long.

    """
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise ValueError(
            f"the password must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"
        )
    salt = secrets.token_bytes(_SALT_BYTES)
    made = Hashed(salt, b"")
    return made._replace(digest=_scrypt(password, salt, made.n, made.r, made.p, _HASH_BYTES))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int, size: int) -> bytes:
    # the same letter may be typed as one character or as two
    typed = unicodedata.normalize("NFC", password).encode(errors="replace")
    memory = 2 * _MEMORY_BYTES_MAX
    return hashlib.scrypt(typed, salt=salt, n=n, r=r, p=p, dklen=size, maxmem=memory)


def verified(users: Users, name: str, password: str) -> User | None:
    """Return the user whose password this is; None: there is none.

    It takes as long for a name that does not exist: the time must not tell which names exist.
    """
    user = users.get(name)
    if user is None:
        _NOBODY.fits(password)
        return None
    return user if user.password.fits(password) else None


_NOBODY: Final = Hashed(bytes(_SALT_BYTES), bytes(_HASH_BYTES))


def read_users(path: Path) -> Users:
    """Return the users of a file.

    Raises:
        ConfigError: it cannot be read, others may read or change it, or a line is wrong.

    """
    try:
        with open_file(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & _FORBIDDEN:
        raise ConfigError(
            f"{path}: its mode is {stat.S_IMODE(mode):04o}; only its owner and the page's group"
            f" may read it, and only its owner may change it: chmod {_MODE:04o} {path}"
        )
    if len(data) > _BYTES_MAX:
        raise ConfigError(f"{path}: has more than {_BYTES_MAX} bytes")
    return _parsed(path, data)


def _parsed(path: Path, data: bytes) -> Users:
    users: dict[str, User] = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        user = _user(line)
        if user is None or user.name in users or len(users) == USERS_MAX:
            # not the line itself: it has a hash
            raise ConfigError(
                f"{path}, line {number}: is not a user as NAME:ROLE:HASH, or is one too many."
                " Remove the line, and add the user again: fieldwatch-agent page user add NAME"
            )
        users[user.name] = user
    return users


def _user(line: str) -> User | None:
    match line.split(":"):
        case [name, role, text] if is_person_name(name):
            password = _parse_hash(text)
            for known in ROLES:
                if role == known and password is not None:
                    return User(name, known, password)
    return None


def _parse_hash(text: str) -> Hashed | None:
    match text.split("$"):
        case [scheme, n, r, p, salt, digest] if scheme == _SCHEME:
            with contextlib.suppress(ValueError):
                made = Hashed(bytes.fromhex(salt), bytes.fromhex(digest), *map(_number, (n, r, p)))
                return made if _is_sound(made) else None
    return None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("not a number")
    return int(text)


def _is_sound(made: Hashed) -> bool:
    """Whether a hash is strong enough, and computed in bounded time and memory."""
    power = made.n > 1 and made.n & (made.n - 1) == 0
    cost = 128 * made.n * made.r * made.p
    sizes = len(made.salt) >= 8 and 16 <= len(made.digest) <= 64
    return power and made.p >= 1 and sizes and 2**23 <= cost <= _MEMORY_BYTES_MAX


@contextlib.contextmanager
def changing(path: Path, group: int | None) -> Iterator[dict[str, User]]:
    """Read the users, and write them when the body ends; nobody else changes them meanwhile.

    ``group`` is that of a new file; a file that exists keeps its own.

    Raises:
        ConfigError: see ``read_users``; or the file cannot be written, or has too many users.

    """
    with _locked(path.parent):
        users = dict(read_users(path)) if path.exists() else {}
        yield users
        if len(users) > USERS_MAX:
            raise ConfigError(f"{path}: at most {USERS_MAX} users are possible")
        lines = [f"{one.name}:{one.role}:{one.password}\n" for one in users.values()]
        try:
            own = path.stat().st_gid if path.exists() else group
            replace(path, (_HEADER + "".join(lines)).encode(), _MODE, own)
        except OSError as error:
            raise _not_written(path, error) from error


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _not_written(directory, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _not_written(path: Path, error: OSError) -> ConfigError:
    advice = ". Use sudo" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return ConfigError(f"{path}: cannot be changed: {error.strerror}{advice}")


class Accounts:
    """The users as the file has them now; it is read again when it has changed.

    A file that cannot be used is a file without users: nobody can log in, and who has logged in is
    logged out. ``trouble`` says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble: str | None = None
        self._users: Users = {}
        self._seen: tuple[int, ...] | None = None
        self.users()

    def users(self) -> Users:
        """Return the users; reads nothing if the file is as it was."""
        seen = self._stamp()
        if seen != self._seen:
            self._seen = seen
            self._read()
        return self._users

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError as error:
            return (error.errno or 0,)
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def _read(self) -> None:
        try:
            self._users, self.trouble = read_users(self.path), None
        except ConfigError as error:
            absent = self._seen == (errno.ENOENT,)
            self._users, self.trouble = {}, None if absent else str(error)
            if not absent:
                _LOG.error("nobody can log in at the page: %s", error)
