"""The door to the broker: passwords and certificates."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.config import MqttTable
from agent.mqtt import probe_broker
from tests.conftest import RealBroker, wait_until
from tests.scripted_broker import ScriptedBroker, Session
from tests.uplink_rig import Gateway


def test_the_password_comes_from_its_file_at_each_connection(
    tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")

    def on_connect(session: Session) -> None:
        secret.write_text("second\n")  # renewed while the agent runs
        session.hang_up() if len(scripted.sessions) == 1 else session.accept()

    with ScriptedBroker(on_connect) as scripted:
        one = gateway(scripted.port, username="gw", password_file=secret)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        credentials = [(session.username, session.password) for session in scripted.sessions]
        assert credentials == [("gw", "first"), ("gw", "second")]


def test_the_password_may_be_a_credential_of_systemd(
    tmp_path: Path, gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "mqtt.password").write_text(" with blanks \n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    with ScriptedBroker() as scripted:
        one = gateway(scripted.port, username="gw")
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        assert scripted.sessions[0].password == " with blanks "


def test_a_password_file_that_is_not_there_is_named(
    broker: RealBroker, tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, username="gw", password_file=tmp_path / "absent")
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["last_error"] is not None, "the trouble")
    assert one.uplink.snapshot()["last_error"].endswith("absent: No such file or directory")


class Authority:
    """Makes certificates; two of them do not trust each other."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = self._write("ca.pem", self._certificate(self._name, self._key, None))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificate = self._certificate(subject, key, ipaddress.ip_address("127.0.0.1"))
        return self._write(f"{name}.pem", certificate), self._write(f"{name}.key", pem)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, address: Any
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), True)
        )
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(address)])
            builder = builder.add_extension(names, False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, data: bytes) -> Path:
        (self._directory / name).write_bytes(data)
        (self._directory / name).chmod(0o644)
        return self._directory / name


# paho leaves the socket of a failed handshake to the collector
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_tls_checks_the_broker_and_shows_the_gateways_certificate(
    tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    server, server_key = ours.issue("broker")
    client, client_key = ours.issue("gw-1")
    broker = RealBroker(
        tmp_path,
        f"user root\ncafile {ours.file}\ncertfile {server}\nkeyfile {server_key}\n"
        "require_certificate true\n",
    )
    broker.start()
    try:
        own = {"tls_cert_file": client, "tls_key_file": client_key}
        good = MqttTable(host="127.0.0.1", port=broker.port, tls_ca_file=ours.file, **own)
        bad = MqttTable(host="127.0.0.1", port=broker.port, tls_ca_file=theirs.file, **own)
        assert "certificate verify failed" in str(probe_broker(bad, "check"))
        assert probe_broker(good, "check") is None
        one = gateway(broker.port, tls_ca_file=ours.file, **own)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        one.uplink.stop()
    finally:
        broker.kill()
