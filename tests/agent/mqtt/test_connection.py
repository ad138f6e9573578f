"""The door to the broker: passwords and certificates."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from agent.config.broker import MqttTable
from agent.mqtt.connection import LinkError
from agent.mqtt.credentials import CERTIFICATE, KEY, PASSWORD, SIGN, Credentials, credential
from agent.mqtt.version import probe_broker
from tests.certificates import Authority
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


def test_a_renewed_password_is_used_without_a_restart(
    tmp_path: Path, gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.uplink.session.RENEWAL_LOOK_S", 0.05)
    secret = tmp_path / "password"
    secret.write_text("first\n")
    with ScriptedBroker() as scripted:
        one = gateway(scripted.port, username="gw", password_file=secret)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        secret.write_text("second\n")
        wait_until(lambda: one.uplink.snapshot()["connections"] == 2, "the new connection")
        assert [session.password for session in scripted.sessions] == ["first", "second"]
        assert scripted.sessions[0].said_goodbye
        assert one.uplink.snapshot()["failures"] == 0


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


@pytest.mark.parametrize("empty", ["", "\n"])
def test_an_empty_credential_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str
) -> None:
    """As the unit gives it where /etc/credstore has no such file."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in (PASSWORD, CERTIFICATE, KEY, SIGN):
        (tmp_path / name).write_text(empty)
        assert credential(name) is None
    settings = MqttTable(host="127.0.0.1", tls_ca_file=Authority(tmp_path / "ours").file)
    password, context = Credentials(settings).read()
    assert password is None
    assert context is not None


def test_a_password_file_that_is_not_there_is_named(
    broker: RealBroker, tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    one = gateway(broker.port, username="gw", password_file=tmp_path / "absent")
    one.uplink.start()
    wait_until(lambda: one.uplink.snapshot()["last_error"] is not None, "the trouble")
    assert one.uplink.snapshot()["last_error"].endswith("absent: No such file or directory")


def tls_broker(directory: Path, authority: Authority) -> RealBroker:
    """One that asks for a certificate of the same authority."""
    server, server_key = authority.issue("broker")
    broker = RealBroker(
        directory,
        f"user root\ncafile {authority.file}\ncertfile {server}\nkeyfile {server_key}\n"
        "require_certificate true\n",
    )
    broker.start()
    return broker


def test_a_renewed_certificate_is_used_without_a_restart_and_half_a_renewal_is_not(
    tmp_path: Path,
    gateway: Callable[..., Gateway],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("agent.uplink.session.RENEWAL_LOOK_S", 0.05)
    caplog.set_level(logging.DEBUG)
    authority = Authority(tmp_path / "ours")
    certificate, key = authority.issue("gw-1")
    broker = tls_broker(tmp_path, authority)
    try:
        files = {"tls_ca_file": authority.file, "tls_cert_file": certificate, "tls_key_file": key}
        one = gateway(broker.port, **files)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        new_certificate, new_key = authority.issue("gw-1-renewed")
        key.write_bytes(new_key.read_bytes())  # does not fit yet
        context = Credentials(MqttTable(host="h", **files))
        with pytest.raises(ssl.SSLError):
            context.read()
        one.put(3)
        wait_until(lambda: one.uplink.snapshot()["state"] == "held", "an answer on the old link")
        assert one.uplink.snapshot()["connections"] == 1
        certificate.write_bytes(new_certificate.read_bytes())
        wait_until(lambda: one.uplink.snapshot()["connections"] == 2, "the new connection")
        assert one.uplink.snapshot()["failures"] == 0
        assert "renewed" in caplog.text
        secret = new_key.read_text().splitlines()[1]
        assert secret not in caplog.text + str(one.uplink.snapshot())
        one.uplink.stop()
    finally:
        broker.kill()


@pytest.mark.parametrize("together", [True, False])
def test_certificate_and_key_may_be_credentials_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    authority = Authority(tmp_path / "ours")
    certificate, key = authority.issue("gw-1")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    both = certificate.read_bytes() + key.read_bytes()
    (credentials / "mqtt.tls_cert").write_bytes(both if together else certificate.read_bytes())
    if not together:
        (credentials / "mqtt.tls_key").write_bytes(key.read_bytes())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    broker = tls_broker(tmp_path, authority)
    try:
        settings = MqttTable(host="127.0.0.1", port=broker.port, tls_ca_file=authority.file)
        assert probe_broker(settings, "check") == "5"
    finally:
        broker.kill()


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    certificate, key = authority.issue("gw-1")
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"correct horse"),
        )
    )
    files = {"tls_ca_file": authority.file, "tls_cert_file": certificate, "tls_key_file": key}
    settings = MqttTable(host="127.0.0.1", port=1, **files)
    with pytest.raises(LinkError, match="passphrase"):
        probe_broker(settings, "check")


def test_no_secret_is_in_the_log_or_in_the_status(
    tmp_path: Path, gateway: Callable[..., Gateway], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "password"
    secret.write_text("hunter2-and-more\n")
    refusals = iter([0x86, 0x87, 0])
    with ScriptedBroker(lambda session: session.accept(code=next(refusals))) as scripted:
        one = gateway(scripted.port, protocol="5", username="gw", password_file=secret)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        assert [session.password for session in scripted.sessions] == ["hunter2-and-more"] * 3
        said = caplog.text + str(one.uplink.snapshot()) + repr(one.settings)
        assert "refuses" in said
        assert "hunter2" not in said


# paho leaves the socket of a failed handshake to the collector
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_tls_checks_the_broker_and_shows_the_gateways_certificate(
    tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    client, client_key = ours.issue("gw-1")
    broker = tls_broker(tmp_path, ours)
    try:
        own = {"tls_cert_file": client, "tls_key_file": client_key}
        good = MqttTable(host="127.0.0.1", port=broker.port, tls_ca_file=ours.file, **own)
        bad = MqttTable(host="127.0.0.1", port=broker.port, tls_ca_file=theirs.file, **own)
        with pytest.raises(LinkError, match="certificate verify failed"):
            probe_broker(bad, "check")
        assert probe_broker(good, "check") == "5"
        one = gateway(broker.port, tls_ca_file=ours.file, **own)
        one.uplink.start()
        wait_until(lambda: one.uplink.snapshot()["state"] == "online", "the link")
        one.uplink.stop()
    finally:
        broker.kill()
