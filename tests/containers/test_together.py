"""What the compose file starts works together, as processes of this machine.

Commands, configurations and secrets are as they are; only paths, addresses and intervals differ.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.conftest import ROOT, RealBroker, hold_port, wait_until
from tests.container_files import CONTAINERS, compose, files, mounts, words_of
from tests.container_files import secrets as secrets_of
from tests.database import asked
from trainer.fleet import config as fleets
from trainer.registry.registry import Registry
from trainer.registry.settings import RegistryTable

SERVICES = compose()["services"]
MADE = "SELECT 1 FROM sqlite_master WHERE name = 'chunks'"
OUR_PATHS = r"(?<![\w/])/(etc|mosquitto|run|var)(?=/)"


class Machine:
    """Has the files of all services, each below a directory with the service's name."""

    def __init__(self, directory: Path, secrets: Path) -> None:
        self.directory = directory
        self._secrets = secrets
        self._ends = ExitStack()

    def root(self, name: str) -> Path:
        return self.directory / name

    def place(self, name: str, text: str) -> str:
        """Return a text with the paths of a service below its directory."""
        return re.sub(OUR_PATHS, rf"{self.root(name)}/\1", text)

    def unpack(self, name: str, changes: dict[str, str]) -> None:
        """Write files and secrets of a service, and make its volumes."""
        service = SERVICES[name]
        origins = {where: CONTAINERS / file for file, where in files(service).items()}
        origins |= {where: self._secrets / each for each, where in secrets_of(service).items()}
        for target, origin in origins.items():
            written = Path(self.place(name, target))
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_bytes(self._changed(name, origin.read_bytes(), changes))
        for path in mounts(service):
            Path(self.place(name, path)).mkdir(parents=True, exist_ok=True)

    def _changed(self, name: str, data: bytes, changes: dict[str, str]) -> bytes:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return data
        for before, after in changes.items():
            text = text.replace(before, after)
        return self.place(name, text).encode()

    def start(
        self, name: str, words: list[str], variables: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a service with its command line, as from its image."""
        started = subprocess.Popen(
            self.command(name, words),
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (variables or {}),
            start_new_session=True,
        )
        self._ends.callback(end, started)
        return started

    def command(self, name: str, words: list[str]) -> list[str]:
        package = words[0].removeprefix("fieldwatch-")
        return [sys.executable, "-m", package, *(self.place(name, word) for word in words[1:])]

    def health(self, name: str, *more: str, variables: dict[str, str] | None = None) -> int:
        """Return the exit code of a service's health check."""
        _, *words = SERVICES[name]["healthcheck"]["test"]
        return subprocess.run(
            self.command(name, [*words, *more]),
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (variables or {}),
            capture_output=True,
            check=False,
        ).returncode

    def close(self) -> None:
        self._ends.close()


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("central") / "secrets"
    make_secrets(directory, "mqtt.example.org", "192.0.2.7")
    return directory


@pytest.fixture
def machine(tmp_path: Path, secrets: Path) -> Iterator[Machine]:
    one = Machine(tmp_path, secrets)
    yield one
    one.close()


def make_secrets(*arguments: Any) -> None:
    subprocess.run([CONTAINERS / "make-secrets", *arguments], check=True)


def test_secrets_are_made_once_and_closed_to_others(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    files = {path.name: path.read_bytes() for path in secrets.iterdir()}
    assert files.keys() == compose()["secrets"].keys() | {"ca.key"}
    for path in secrets.iterdir():
        assert path.stat().st_mode & 0o777 == (0o400 if path.name == "ca.key" else 0o444)
    passwords = [text for name, text in files.items() if name.endswith("-password")]
    assert len({*passwords}) == len(passwords) == 4
    assert all(len(text.strip()) == 64 for text in passwords)
    make_secrets(secrets)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == files
    described = subprocess.run(
        ["openssl", "x509", "-in", secrets / "broker.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in ("DNS:broker", "DNS:localhost", "DNS:mqtt.example.org", "IP Address:192.0.2.7"):
        assert name in described


def test_from_the_gateway_to_the_fleet(machine: Machine) -> None:
    """The collector gets what the gateway sends, and the training finds its samples."""
    ports = {"listener 8883": hold_port(machine), "listener 8884": hold_port(machine)}
    machine.unpack("broker", {each: f"listener {port}" for each, port in ports.items()})
    for_gateways, central = (str(port) for port in ports.values())
    config = Path(machine.place("broker", SERVICES["broker"]["command"][-1]))
    broker = RealBroker(machine.directory, first=f"user root\n{config.read_text()}\n")
    broker.start()
    try:
        machine.unpack("collector", {})
        words = [
            {"--host=broker": "--host=127.0.0.1", "--port=8884": f"--port={central}"}.get(it, it)
            for it in words_of(SERVICES["collector"])
        ]
        collector = machine.start("collector", words)
        machine.unpack("gateway", {})
        settings = ["--config", "/etc/fieldwatch/agent.toml"]
        variables = {
            "MQTT__HOST": "127.0.0.1",
            "MQTT__PORT": for_gateways,
            "MQTT__SAMPLES__INTERVAL_S": "1",
            "MQTT__SAMPLES__REQUIRE_SYNCED_CLOCK": "false",
            "STORE__DIRECTORY": machine.place("gateway", "/var/lib/fieldwatch"),
            "SUMMARY__INTERVAL_S": "1",
        }
        variables = {f"FIELDWATCH_{name}": value for name, value in variables.items()}
        machine.start("gateway", [*words_of(SERVICES["gateway"]), *settings], variables)
        collected = Path(machine.place("collector", "/var/lib/collected"))

        def chunks() -> int:
            file = collected / "collected.db"
            if not file.exists() or not asked(file, MADE):
                return 0
            return int(asked(file, "SELECT count(*) FROM chunks")[0][0])

        wait_until(lambda: chunks() > 0, "samples of the gateway", 120)
        assert machine.health("gateway", *settings, variables=variables) == 0
        assert machine.health("collector") == 0
        end(collector)
        assert machine.health("collector") == 3
    finally:
        broker.kill()
    fleet = machine.directory / "fleet.toml"
    shipped = (CONTAINERS / "kubernetes" / "base" / "fleet.toml").read_text()
    fleet.write_text(machine.place("collector", shipped))
    assert list(fleets.read(fleet).streams) == ["gateway-1"]


@pytest.mark.proof
def test_the_registry_is_in_the_database_and_hands_out_files(machine: Machine) -> None:
    """A trainer needs neither the password of the database nor a folder in common."""
    with postgres.running() as database:
        changes = {"postgresql+psycopg://mlflow@postgres/mlflow": database.url}
        machine.unpack("mlflow", changes)
        secret = Path(machine.place("mlflow", "/run/secrets/postgres-password"))
        secret.write_text(postgres.PASSWORD)
        port = str(hold_port(machine))
        variables = {
            name: machine.place("mlflow", value).replace("5000", port)
            for name, value in SERVICES["mlflow"]["environment"].items()
        }
        words = [{"0.0.0.0": "127.0.0.1"}.get(it, it) for it in words_of(SERVICES["mlflow"])]
        machine.start("mlflow", [*words, "--port", port], variables)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health"), "the server", 300)
        registry = Registry(RegistryTable(url=url), machine.directory)
        (machine.directory / "note.txt").write_text("kept by the server")
        with registry.run("pump") as run:
            run.file(machine.directory / "note.txt")
        kept = Path(machine.place("mlflow", "/var/lib/mlflow"))
        assert [path.read_text() for path in kept.rglob("note.txt")] == ["kept by the server"]
        # a page of another site that a browser resolves to this server gets nothing
        asking = urllib.request.Request(f"{url}/", headers={"Host": "elsewhere.example.org"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asking, timeout=60)
        asking = urllib.request.Request(f"{url}/", headers={"Host": f"mlflow:{port}"})
        with urllib.request.urlopen(asking, timeout=60) as answer:
            assert b"<title>MLflow</title>" in answer.read()
        machine.close()  # before its database


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60):
            return True
    except OSError:
        return False
