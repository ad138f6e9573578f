"""``check`` with a second user: whether the broker keeps gateways apart, by what arrives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.config.broker import MqttTable
from agent.mqtt.version import connected
from tests.conftest import RealBroker, wait_until
from tests.secured_broker import SecuredBroker, hashed
from tests.system.test_secured_broker import User
from tests.uplink_rig import Collecting, Gateway

USERS = ("gw-1", "gw-2")
OWN = "fieldwatch/v1/plant/gw-1"
CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[[streams]]
name = "pump"
baseline = { period_s = 0.2, channels = [{ name = "flow" }] }
[[inputs]]
name = "in"
stream = "pump"
type = "simulator"
channels = ["flow"]
"""


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[Callable[[str], RealBroker]]:
    """Brokers with these rules for the users gw-1 and gw-2, whose passwords are their names."""
    made: list[RealBroker] = []

    def make(rules: str) -> RealBroker:
        lines = [f"{user}:{hashed(user)}\n" for user in USERS]
        (tmp_path / "passwords").write_text("".join(lines))
        (tmp_path / "rules").write_text(rules)
        files = f"password_file {tmp_path}/passwords\nacl_file {tmp_path}/rules\n"
        made.append(RealBroker(tmp_path, files, first="user root\n"))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.kill()


def access(directory: Path, broker: RealBroker, user: str) -> dict[str, Any]:
    secret = directory / f"{user}.password"
    secret.write_text(user)
    return {"host": "127.0.0.1", "port": broker.port, "username": user, "password_file": secret}


def checked(directory: Path, ours: dict[str, Any], *other: object) -> dict[str, Any]:
    """What ``check`` finds of the broker's access list."""
    table = "".join(f"{key} = {json.dumps(value, default=str)}\n" for key, value in ours.items())
    config = directory / "agent.toml"
    config.write_text(f"{CONFIG}\n[mqtt]\n{table}")
    (directory / "data").mkdir(exist_ok=True)
    words = ["check", "--json", "--config", str(config), *map(str, other)]
    ended = CliRunner().invoke(commands, words, catch_exceptions=False, standalone_mode=False)
    (found,) = [one for one in json.loads(ended.output) if one["what"] == "access list"]
    assert isinstance(found, dict)
    return found


def other(settings: dict[str, Any]) -> list[object]:
    names = {
        "username": "--as-other",
        "password_file": "--other-password-file",
        "tls_cert_file": "--other-cert-file",
        "tls_key_file": "--other-key-file",
    }
    return [
        word for key, option in names.items() if key in settings for word in (option, settings[key])
    ]


def test_without_a_second_user_it_is_unknown(tmp_path: Path, broker: RealBroker) -> None:
    found = checked(tmp_path, {"host": "127.0.0.1", "port": broker.port})
    assert (found["ok"], found["mark"]) == (True, "unknown")
    assert "--as-other" in found["detail"]


@pytest.mark.parametrize("certificates", [False, True])
def test_the_shipped_configuration_keeps_them_apart(tmp_path: Path, certificates: bool) -> None:
    broker = SecuredBroker(tmp_path, "plant/gw-1", "plant/gw-2", certificates=certificates)
    broker.start()
    try:
        second = other(broker.access("plant/gw-2"))
        found = checked(tmp_path, broker.access("plant/gw-1"), *second)
        assert (found["ok"], found["mark"]) == (True, "ok"), found
        user = "the other certificate" if certificates else "plant/gw-2"
        assert found["detail"] == f"{user} can neither receive nor publish on its topics"
    finally:
        broker.kill()


RULES = {
    "all": "user gw-1\ntopic #\nuser gw-2\ntopic #\n",
    "hears": f"user gw-1\ntopic {OWN}/#\nuser gw-2\ntopic read {OWN}/#\n",
    "hears alarms": f"user gw-1\ntopic {OWN}/#\nuser gw-2\ntopic read {OWN}/alarm/#\n",
    "speaks": f"user gw-1\ntopic {OWN}/#\nuser gw-2\ntopic write {OWN}/status\n",
    "acknowledges": f"user gw-1\ntopic {OWN}/#\nuser gw-2\ntopic write {OWN}/acknowledged\n",
    "apart": f"user gw-1\ntopic {OWN}/#\nuser gw-2\ntopic fieldwatch/v1/plant/gw-2/#\n",
    "deaf": f"user gw-1\ntopic write {OWN}/#\nuser gw-2\ntopic fieldwatch/v1/plant/gw-2/#\n",
    "mute": f"user gw-1\ntopic read {OWN}/#\nuser gw-2\ntopic fieldwatch/v1/plant/gw-2/#\n",
}
ALARM, STATUS, ACKNOWLEDGED = (
    f"{OWN}/{kind}" for kind in ("alarm/_check", "status", "acknowledged")
)
HEARS = "gw-2 receives this gateway's messages on"
SPEAKS = "gw-2 can publish on its topics; it received"
UNKNOWN = "unknown: nothing arrived at gw-2 or from it, but the broker does not"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(
    ("rules", "mark", "detail"),
    [
        ("hears", "fail", f"{HEARS} {ALARM}, {STATUS}"),
        ("hears alarms", "fail", f"{HEARS} {ALARM}"),
        ("speaks", "fail", f"{SPEAKS} {STATUS}"),
        ("acknowledges", "fail", f"{SPEAKS} {ACKNOWLEDGED}"),
        ("apart", "ok", "gw-2 can neither receive nor publish on its topics"),
        ("deaf", "unknown", f"{UNKNOWN} send it its status"),
    ],
)
def test_each_way_to_meet_is_found(
    tmp_path: Path,
    listed: Callable[[str], RealBroker],
    rules: str,
    mark: str,
    detail: str,
    protocol: str,
) -> None:
    broker = listed(RULES[rules])
    ours = access(tmp_path, broker, "gw-1") | {"protocol": protocol}
    found = checked(tmp_path, ours, *other(access(tmp_path, broker, "gw-2")))
    assert found["detail"] == detail
    assert (found["mark"] if found["ok"] else "fail") == mark
    assert found["exit_code"] == (0 if found["ok"] else 69)


def test_a_gateway_that_may_not_speak_proves_nothing(
    tmp_path: Path, listed: Callable[[str], RealBroker]
) -> None:
    broker = listed(RULES["mute"])
    ours = access(tmp_path, broker, "gw-1")
    found = checked(tmp_path, ours, *other(access(tmp_path, broker, "gw-2")))
    assert (found["ok"], found["mark"]) == (True, "unknown")
    assert "the other user" not in found["detail"]  # Mosquitto 2.0.11 ends the gateway's connection


def test_a_second_user_that_cannot_connect_proves_nothing(
    tmp_path: Path, listed: Callable[[str], RealBroker]
) -> None:
    broker = listed(RULES["apart"])
    wrong = access(tmp_path, broker, "gw-2")
    wrong["password_file"].write_text("wrong")
    found = checked(tmp_path, access(tmp_path, broker, "gw-1"), *other(wrong))
    assert (found["ok"], found["mark"]) == (True, "unknown")
    assert "the other user: " in found["detail"]


def test_nobody_takes_the_test_for_a_message_and_nothing_is_left_behind(
    tmp_path: Path, listed: Callable[[str], RealBroker]
) -> None:
    broker = listed("topic #\n" + RULES["apart"])  # the collector comes without a user
    (tmp_path / "one").mkdir()
    central = Collecting(broker.port, tmp_path / "central")
    gateway = Gateway(tmp_path / "one", broker.port, **_given(access(tmp_path, broker, "gw-1")))
    try:
        gateway.uplink.start()
        wait_until(lambda: gateway.uplink.snapshot()["twin"]["state"] == "none", "its status")
        ours = access(tmp_path, broker, "gw-1")
        assert checked(tmp_path, ours, *other(access(tmp_path, broker, "gw-2")))["ok"]
        gateway.put(1)
        wait_until(lambda: gateway.delete_acknowledged() == 0, "a message after it")
        assert gateway.uplink.snapshot()["twin"]["state"] == "none"
        assert not central.collector.counters["rejected"]
        with connected(MqttTable(**ours), "observer") as (connection, _):
            user = User(connection)
            user.listen(f"{OWN}/#")
            assert user.heard() <= {STATUS, ACKNOWLEDGED}
    finally:
        gateway.close()
        central.close()


def test_it_interrupts_an_agent_that_shares_its_user_and_is_no_second_gateway(
    tmp_path: Path,
) -> None:
    """The shipped configuration gives a user one connection."""
    broker = SecuredBroker(tmp_path, "plant/gw-1")
    broker.start()
    (tmp_path / "one").mkdir()
    ours = broker.access("plant/gw-1")
    gateway = Gateway(tmp_path / "one", broker.gateways_port, **_given(ours))
    try:
        gateway.uplink.start()
        for _ in range(4):
            wait_until(lambda: gateway.uplink.snapshot()["state"] == "online", "the link")
            failures = gateway.uplink.snapshot()["failures"]
            assert checked(tmp_path, ours)["mark"] == "unknown"  # there is no second user
            wait_until(
                lambda before=failures: gateway.uplink.snapshot()["failures"] > before,  # type: ignore[misc]
                "the interruption",
            )
        wait_until(lambda: gateway.uplink.snapshot()["state"] == "online", "the link again")
        wait_until(lambda: gateway.uplink.snapshot()["twin"]["state"] == "none", "its own status")
    finally:
        gateway.close()
        broker.kill()


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("host", "port")}
