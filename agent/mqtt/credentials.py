"""The gateway's password and certificates for the broker, read at each connection.

They come from files that the configuration names, or from systemd's credentials. The configuration
itself never contains them, and the agent never logs them. The agent notices files that are replaced
during a connection. systemd copies its credentials at the start, so they do not change.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.files import open_file, read_file

if TYPE_CHECKING:
    from agent.config.broker import BrokerTable

# their names among systemd's credentials
PASSWORD = "mqtt.password"  # noqa: S105 - a name
CERTIFICATE = "mqtt.tls_cert"
KEY = "mqtt.tls_key"
SIGN = "mqtt.sign"

_PASSWORD_BYTES_MAX: Final = 65_537  # with its line break; MQTT has room for 65,535
_Stamp = tuple[int, int, int] | None  # device, file and time of change; None: no such file


class Credentials:
    """Password and certificates of one connection."""

    def __init__(self, settings: BrokerTable) -> None:
        self._settings = settings
        self._stamps: list[_Stamp] = []

    def read(self) -> tuple[str | None, ssl.SSLContext | None]:
        """Return the password and the TLS context; None for each that is not configured.

        Raises:
            OSError: a file cannot be read.
            ssl.SSLError: a file contains no certificate, or the key does not match.
            ValueError: the key is encrypted, or the password is not text.

        """
        self._stamps = self._stamps_now()  # taken before reading, so that a later change is noticed
        return self._password(), self._context()

    def renewed(self) -> bool:
        """Whether the files changed since they were read, and the new ones are usable.

        A renewal writes two files, certificate and key. Between the two writes they do not match.
        """
        if self._stamps_now() == self._stamps:
            return False
        try:
            self._password(), self._context()
        except (OSError, ValueError):  # an SSLError is an OSError
            return False
        return True

    def _password(self) -> str | None:
        file = self._settings.password_file or credential(PASSWORD)
        # strip only line breaks: editors add one, but a space may belong to the password
        if file is None:
            return None
        return read_file(file, _PASSWORD_BYTES_MAX).decode().rstrip("\r\n")

    def _context(self) -> ssl.SSLContext | None:
        if self._settings.tls_ca_file is None:
            return None
        certificate, key = self._own()
        for file in (self._settings.tls_ca_file, certificate, key):
            if file is not None:
                open_file(file).close()  # refuses a pipe, on which OpenSSL would block
        context = ssl.create_default_context(cafile=str(self._settings.tls_ca_file))
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        return context

    def _own(self) -> tuple[Path | None, Path | None]:
        """Return certificate and key files; without a key file, the first contains both."""
        certificate = self._settings.tls_cert_file or credential(CERTIFICATE)
        return certificate, self._settings.tls_key_file or credential(KEY)

    def _stamps_now(self) -> list[_Stamp]:
        files = [self._settings.tls_ca_file, self._settings.password_file, *self._own()]
        return [_stamp(file) for file in files if file is not None]


def credential(name: str) -> Path | None:
    """Return the file of a systemd credential; None if there is none, or it is blank.

    The unit sets a line end as each default. systemd warns about a credential without a default,
    and does not accept an empty one.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        return None
    file = Path(directory, name)
    return file if file.exists() and file.read_bytes().strip() else None


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _no_passphrase() -> str:
    """Keep OpenSSL from asking for a passphrase at the terminal."""
    raise ValueError("the key is encrypted, and nobody can type its passphrase: use a plain key")
