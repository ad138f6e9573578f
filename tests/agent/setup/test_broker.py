"""What is wrong with a broker has a name."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from agent.config.broker import BrokerTable
from agent.setup.broker import Cause, try_broker
from tests.certificates import Authority
from tests.conftest import RealBroker
from tests.secured_broker import SecuredBroker


def cause(broker: SecuredBroker, name: str = "gw-1", **other: Any) -> Cause | None:
    settings = BrokerTable.model_validate(broker.access("plant/gw-1") | other)
    trouble = try_broker(settings, "plant", name)
    if trouble is None:
        return None
    assert trouble.told().startswith(f"{trouble.cause}: ")
    assert "of plant" not in trouble.told()  # the password
    return trouble.cause


def test_a_broker_that_takes_this_gateway_has_no_trouble(secured: SecuredBroker) -> None:
    assert cause(secured) is None
    assert cause(secured, protocol="3.1.1") is None


# paho leaves the socket of a failed handshake to the interpreter, which closes it
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_each_trouble_has_its_name(secured: SecuredBroker, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong\n")
    wrong.chmod(0o600)
    assert cause(secured, password_file=wrong) == "password"
    assert cause(secured, password_file=wrong, protocol="3.1.1") == "password"
    assert cause(secured, username="plant/nobody") == "password"
    assert cause(secured, name="gw-2") == "not-authorised"
    assert cause(secured, tls_ca_file=Authority(tmp_path / "other").file) == "tls"
    assert cause(secured, host="localhost") == "tls"  # the certificate has the address only
    assert cause(secured, tls_ca_file=tmp_path / "none.pem") == "file"
    assert cause(secured, host="no-such-host.invalid") == "dns"
    assert cause(secured, tls_ca_file=None) == "no-answer"


def test_a_port_without_a_server_refuses(secured: SecuredBroker) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert cause(secured, port=held.getsockname()[1]) == "refused"


def test_a_broker_without_users_takes_all(broker: RealBroker) -> None:
    settings = BrokerTable(host="127.0.0.1", port=broker.port)
    assert try_broker(settings, "plant", "gw-1") is None
