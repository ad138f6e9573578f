"""A gateway with all that can belong to one: secrets, keys, users, texts, databases, bundles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.store.batch import Batch
from agent.store.writer import Store
from agent.users import User, changing, hashed
from tests.agent.store.test_writer import message, samples
from tests.conftest import ZOO_BUNDLE
from tests.database import make_files

CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[mqtt]
host = "127.0.0.1"
port = 1
username = "gateway-1"
password_file = "mqtt.password"
tls_ca_file = "{outside}/ca.pem"
tls_cert_file = "gateway.pem"
[keys]
directory = "keys"
[page]
users_file = "page-users"
[[on_site.hooks]]
name = "chat"
url_file = "chat.url"
headers_file = "chat.headers"
[[streams]]
name = "pump"
bundle = "pump.fieldwatch"
[[inputs]]
name = "simulated"
type = "simulator"
stream = "pump"
"""


class Gateway:
    """Its folders, and what is secret of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "etc" / "agent.toml"
        self.store = directory / "etc" / "data"
        self.outside = directory / "ssl"
        self.credentials = directory / "credstore"
        for folder in (self.outside, self.credentials, self.config.parent / "keys", self.store):
            folder.mkdir(parents=True)
        self.write("agent.toml", CONFIG.format(outside=self.outside))
        self.write("conf.d/10-log.toml", '[log]\nlevel = "warning"\n')
        self.write("keys/ops.pub", "untrusted comment: ops\nRWQf6LRCGA9i53ml\n")
        self.write("pump.fieldwatch", "").write_bytes(ZOO_BUNDLE.read_bytes())
        (self.outside / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n")
        self.secrets = {
            self.write("mqtt.password", "Pass-1-of-the-broker\n"): "Pass-1-of-the-broker",
            self.write(
                "gateway.pem", "-----BEGIN PRIVATE KEY-----\nKey-2-of-the-gateway\n"
            ): "Key-2-of-the-gateway",
            self.write(
                "chat.url", "https://chat.example/hook/Token-3-in-path\n"
            ): "Token-3-in-path",
            self.write("chat.headers", "Authorization: Bearer Token-4\n"): "Token-4",
            self._credential("mqtt.password", "Pass-5-credential"): "Pass-5-credential",
        }
        users = self.config.parent / "page-users"
        with changing(users, None) as people:
            people["maria"] = User("maria", "operator", hashed("a long password"))
            self.secrets[users] = people["maria"].password.digest.hex()
        self.fill()

    def write(self, name: str, text: str) -> Path:
        path = self.config.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o640)
        return path

    def _credential(self, name: str, text: str) -> Path:
        path = self.credentials / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def fill(self) -> None:
        make_files(self.store)
        self.commit()
        (self.store / "bundles").mkdir(exist_ok=True)
        (self.store / "bundles" / "ran.json").write_text('{"tried": []}')

    def commit(self) -> None:
        """Be an agent for one commit: a message, and four samples."""
        store = self.open()
        store.commit(Batch(messages=[message()], samples=[samples(4)]), "synced")
        store.close()

    def open(self) -> Store:
        store = Store(self.store, "plant", "gw-1", 100, 1000)
        store.open()
        return store

    def files(self) -> dict[str, bytes]:
        """Return all its files but SQLite's own, by name."""
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in sorted(self.directory.rglob("*"))
            if path.is_file() and not path.name.endswith(("-wal", "-shm", "lock"))
        }


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    for name in [name for name in os.environ if name.startswith("FIELDWATCH_")]:
        monkeypatch.delenv(name)
    return Gateway(tmp_path / "gateway")
