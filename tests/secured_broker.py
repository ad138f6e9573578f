"""A mosquitto with the configuration that ships in ``systemd/mosquitto/``, and one more listener.

Of the shipped files only the places of files and the ports are changed. The listener without users
and rules is the tests' own: who connects there hears and may say everything.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Final

from tests.certificates import Authority
from tests.conftest import ROOT, RealBroker, hold_port

SHIPPED: Final = ROOT / "systemd" / "mosquitto"
CENTRAL: Final = ("collector", "ops", "operate")
_IN_PLACE_OF_PASSWORDS: Final = ("cafile", "require_certificate", "use_identity_as_username")


class SecuredBroker(RealBroker):
    """Has gateways and the users of central ops; a user's password is ``of NAME``."""

    def __init__(self, directory: Path, *gateways: str, certificates: bool = False) -> None:
        """``certificates``: gateways show one, instead of a password."""
        self._directory = directory
        self.authority = Authority(directory / "authority")
        self.gateways_port, self.central_port = hold_port(self), hold_port(self)
        self._certificates = certificates
        for name in ("gateways.acl", "central.acl"):
            (directory / name).write_bytes((SHIPPED / name).read_bytes())
        self._passwords("gateways.passwd", () if certificates else gateways)
        self._passwords("central.passwd", CENTRAL)
        certificate, key = self.authority.issue("broker")
        certificate.rename(directory / "broker.pem")
        key.rename(directory / "broker.key")
        (directory / "gateways-ca.pem").write_bytes(self.authority.file.read_bytes())
        super().__init__(directory, first=f"user root\n{self._shipped()}\n")

    def _passwords(self, file: str, users: tuple[str, ...]) -> None:
        """Write a file as mosquitto_passwd does."""
        lines = [f"{user}:{hashed(f'of {user}')}\n" for user in users]
        (self._directory / file).write_text("".join(lines))

    def _shipped(self) -> str:
        text = (SHIPPED / "fieldwatch.conf").read_text()
        for port, ours in (("8883", self.gateways_port), ("8884", self.central_port)):
            text, replaced = re.subn(f"(?m)^listener {port}$", f"listener {ours} 127.0.0.1", text)
            assert replaced == 1
        if self._certificates:
            text = text.replace("password_file /etc/mosquitto/fieldwatch/gateways.passwd\n", "")
            for setting in _IN_PLACE_OF_PASSWORDS:
                text, replaced = re.subn(f"(?m)^# ({setting} .*)$", r"\1", text)
                assert replaced == 1, setting
        return text.replace("/etc/mosquitto/fieldwatch/", f"{self._directory}/")

    def access(self, user: str) -> dict[str, Any]:
        """Return the settings of ``[mqtt]`` by which a user connects."""
        port = self.central_port if user in CENTRAL else self.gateways_port
        settings = {"host": "127.0.0.1", "port": port, "tls_ca_file": self.authority.file}
        if self._certificates and user not in CENTRAL:
            certificate, key = self.authority.issue(user)
            return settings | {"tls_cert_file": certificate, "tls_key_file": key}
        password = self._directory / f"{user.replace('/', '-')}.password"
        password.write_text(f"of {user}\n")
        password.chmod(0o600)
        return settings | {"username": user, "password_file": password}


def hashed(password: str) -> str:
    salt, rounds = os.urandom(12), 101
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
