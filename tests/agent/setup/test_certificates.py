"""Client certificates of gateways, made and renewed with the shipped script, at a real broker."""

from __future__ import annotations

import datetime
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agent.config.broker import BrokerTable
from agent.mqtt.connection import Connection
from agent.setup.broker import try_broker
from tests.conftest import ROOT
from tests.secured_broker import SecuredBroker

SCRIPT = ROOT / "scripts" / "gateway-certificate"
NAME = "plant/gw-1"


def call(*words: object, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *map(str, words)], input=text, capture_output=True, text=True, check=False
    )


class Site:
    """A site's CA, a gateway's directory, and a broker that requires certificates of that CA."""

    def __init__(self, directory: Path) -> None:
        self.ca, self.gateway, at_broker = (directory / name for name in ("ca", "gw", "broker"))
        for one in (self.ca, self.gateway, at_broker):
            one.mkdir()
        assert call("new-ca", self.ca).returncode == 0
        shutil.copy(self.ca / "ca.pem", self.gateway)
        self.certificate = self.gateway / "gateway.pem"
        self.broker = SecuredBroker(at_broker, certificates=True)
        shutil.copy(self.ca / "ca.pem", at_broker / "gateways-ca.pem")
        self.broker.start()

    @property
    def settings(self) -> BrokerTable:
        return BrokerTable(
            host="127.0.0.1",
            port=self.broker.gateways_port,
            tls_ca_file=self.broker.authority.file,
            tls_cert_file=self.certificate,
        )

    def renew(self, name: str = NAME) -> subprocess.CompletedProcess[str]:
        return call("renew", name, self.gateway, SCRIPT, "sign", self.ca, name, 30)

    def age(self, days: float, left: float) -> None:
        """Let the certificate be so old, and valid for so long."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=days))
            .not_valid_after(now + datetime.timedelta(days=left))
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(made.public_bytes(Encoding.PEM))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.broker.kill()


@pytest.fixture(autouse=True)
def fresh(site: Site) -> None:
    for file in site.gateway.iterdir():
        if file.name != "ca.pem":
            file.unlink()
    ended = site.renew()
    assert ended.returncode == 0, ended.stderr


def test_the_broker_takes_the_gateway_by_its_certificate_and_name(site: Site) -> None:
    assert stat.S_IMODE(site.certificate.stat().st_mode) & 0o007 == 0
    assert try_broker(site.settings, "plant", "gw-1") is None
    other = try_broker(site.settings, "plant", "gw-2")
    assert other is not None and other.cause == "not-authorised"
    without = site.settings.model_copy(update={"tls_cert_file": None})
    assert try_broker(without, "plant", "gw-1") is not None


def test_a_certificate_is_renewed_in_its_last_third_only(site: Site) -> None:
    before = site.certificate.read_bytes()
    ended = site.renew()
    assert ended.returncode == 0 and "not due" in ended.stderr
    assert site.certificate.read_bytes() == before
    site.age(days=60, left=31)
    assert call("due", site.gateway).returncode == 1
    site.age(days=61, left=29)
    assert call("due", site.gateway).returncode == 0
    assert site.renew().returncode == 0
    assert call("due", site.gateway).returncode == 1
    assert try_broker(site.settings, "plant", "gw-1") is None


def test_the_agent_notices_a_renewed_certificate(site: Site) -> None:
    connection = Connection(site.settings, "fieldwatch-check:plant:gw-1", "5")
    connection.open()
    connection.answer(threading.Event())
    try:
        assert not connection.renewed()
        request = call("request", NAME, site.gateway).stdout
        assert not connection.renewed()  # the key in use stays until the new one is whole
        signed = call("sign", site.ca, NAME, text=request).stdout
        assert call("install", NAME, site.gateway, text=signed).returncode == 0
        assert connection.renewed()
    finally:
        connection.close(politely=True)
    assert sorted(file.name for file in site.gateway.iterdir()) == ["ca.pem", "gateway.pem"]


@pytest.mark.parametrize(
    ("signed_for", "message"),
    [("plant/gw-2", "it is not for plant/gw-1"), (None, "this is not a certificate")],
)
def test_a_wrong_certificate_is_not_installed(
    site: Site, signed_for: str | None, message: str
) -> None:
    before = site.certificate.read_bytes()
    text = "nonsense"
    if signed_for is not None:
        request = call("request", signed_for, site.gateway).stdout
        text = call("sign", site.ca, signed_for, text=request).stdout
    call("request", NAME, site.gateway)
    ended = call("install", NAME, site.gateway, text=text)
    assert ended.returncode == 1 and message in ended.stderr
    assert site.certificate.read_bytes() == before


def test_a_certificate_of_another_key_or_another_ca_is_not_installed(
    site: Site, tmp_path: Path
) -> None:
    request = call("request", NAME, site.gateway).stdout
    theirs = tmp_path / "ca"
    theirs.mkdir()
    call("new-ca", theirs)
    foreign = call("sign", theirs, NAME, text=request).stdout
    ended = call("install", NAME, site.gateway, text=foreign)
    assert ended.returncode == 1 and "does not vouch for it" in ended.stderr
    earlier = call("sign", site.ca, NAME, text=request).stdout
    call("request", NAME, site.gateway)
    ended = call("install", NAME, site.gateway, text=earlier)
    assert ended.returncode == 1 and "not for the key of the last request" in ended.stderr


def test_the_ca_signs_for_the_named_gateway_only(site: Site, tmp_path: Path) -> None:
    request = call("request", NAME, site.gateway).stdout
    ended = call("sign", site.ca, "plant/gw-2", text=request)
    assert ended.returncode == 1 and "the request is not for plant/gw-2" in ended.stderr
    assert not ended.stdout
    assert call("sign", tmp_path, NAME, text=request).returncode == 1
    for wrong in ("gw-1", "a/b/c", "plant/gw 1", "/gw-1"):
        assert call("request", wrong, site.gateway).returncode == 1
    assert call("new-ca", site.ca).returncode == 1  # it would make all certificates worthless


def test_while_the_ca_does_not_answer_the_old_certificate_stays(site: Site) -> None:
    site.age(days=61, left=29)
    before = site.certificate.read_bytes()
    ended = call("renew", NAME, site.gateway, "false")
    assert ended.returncode == 1 and "the old certificate stays" in ended.stderr
    assert site.certificate.read_bytes() == before
    assert site.renew().returncode == 0


def test_the_key_is_never_readable_by_others(site: Site) -> None:
    before = os.umask(0)
    try:
        call("request", NAME, site.gateway)
    finally:
        os.umask(before)
    assert stat.S_IMODE((site.gateway / "next.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((site.ca / "ca.key").stat().st_mode) == 0o600
