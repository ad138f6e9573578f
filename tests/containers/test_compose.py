"""The compose file: valid, hardened, and of one piece with what it starts."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import yaml
from compose_spec import PyCompose

from agent.config.load import load
from tests.conftest import ROOT
from tests.container_files import (
    CONTAINERS,
    SAMPLES,
    compose,
    files,
    image_of,
    mounts,
    parsed,
    read_fleet,
    registry_of,
    secrets,
    words_of,
)
from trainer.config import read_registry

COMPOSE = compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, one in SERVICES.items() if "build" in one]
FLEET = "./kubernetes/base/fleet.toml"
RUNNING = [name for name, one in SERVICES.items() if "profiles" not in one]


def accepted(file: dict[str, Any]) -> None:
    PyCompose.from_yaml(yaml.safe_dump(file))


def test_the_file_is_a_compose_file() -> None:
    accepted(compose())


@pytest.mark.parametrize(
    "wrong",
    [
        {"read_onyl": True},
        {"cap_drop": 5},
        {"depends_on": {"broker": {"condition": "service_helthy"}}},
        {"healthcheck": {"test": ["CMD", "true"], "interval": "soon"}},
        {"deploy": {"resources": {"limits": {"memry": "1G"}}}},
    ],
)
def test_a_mistake_in_it_would_be_found(wrong: dict[str, Any]) -> None:
    file = compose()
    file["services"]["gateway"].update(wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        accepted(file)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"}
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    image = image_of(service)
    user = service.get("user") if image is None else service.get("user", image.last("USER"))
    assert user is not None
    assert all(number.isdecimal() and int(number) > 0 for number in user.split(":"))


@pytest.mark.parametrize("name", RUNNING)
def test_a_service_that_runs_is_watched(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    kind, *words = SERVICES[name]["healthcheck"]["test"]
    assert kind in ("CMD", "CMD-SHELL")
    if words[0].startswith("fieldwatch-"):
        parsed(words)
    if words[0] == "python":
        compile(words[2], name, "exec")


@pytest.mark.parametrize("name", OURS)
def test_a_service_starts_a_command_that_exists(name: str) -> None:
    parsed(words_of(SERVICES[name]))


def test_a_command_that_does_not_exist_is_found() -> None:
    for words in (["fieldwatch-agent", "fly"], ["fieldwatch-trainer", "batch", "--fast", "a.toml"]):
        with pytest.raises((AssertionError, click.UsageError), match=r"fly|--fast"):
            parsed(words)


@pytest.mark.parametrize("kind", ["networks", "volumes", "secrets"])
def test_what_is_named_is_there_and_what_is_there_is_used(kind: str) -> None:
    used: set[str] = set()
    for service in SERVICES.values():
        match kind:
            case "networks":
                used.update(service["networks"])
            case "volumes":
                used.update(mounts(service).values())
            case _:
                used.update(secrets(service))
    assert used == COMPOSE[kind].keys()


def test_files_and_dependencies_are_there() -> None:
    for name, service in SERVICES.items():
        for file in files(service):
            assert (CONTAINERS / file).is_file(), file
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert "healthcheck" in SERVICES[other]


def test_only_the_broker_may_listen_to_other_machines() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert published == {"broker": ["127.0.0.1:8883:8883"], "mlflow": ["127.0.0.1:5000:5000"]}
    wide = compose({"BROKER_ADDRESS": "0.0.0.0"})["services"]
    assert wide["broker"]["ports"] == ["0.0.0.0:8883:8883"]
    assert wide["mlflow"]["ports"] == published["mlflow"]


def reaches(name: str, host: str) -> bool:
    """Whether a service can reach the other one by its name."""
    return bool(set(SERVICES[name]["networks"]) & set(SERVICES[host]["networks"]))


def listeners() -> set[int]:
    shipped = (ROOT / "systemd" / "mosquitto" / "fieldwatch.conf").read_text()
    return {int(port) for port in re.findall(r"(?m)^listener (\d+)$", shipped)}


def test_the_broker_finds_the_files_of_its_configuration() -> None:
    broker = SERVICES["broker"]
    there = {*files(broker).values(), *secrets(broker).values()}
    for file in files(broker):
        text = (CONTAINERS / file).read_text()
        for path in re.findall(r"(?m)^\w+ (/etc/\S+)$", text):
            assert path in there or any(each.startswith(f"{path}/") for each in there), path
        for path in re.findall(r"(?m)^persistence_location (\S+)/$", text):
            assert path in mounts(broker)
    assert broker["command"][-1] == files(broker)["./mosquitto.conf"]


def test_the_gateway_is_configured_for_what_is_there(tmp_path: Path) -> None:
    service = SERVICES["gateway"]
    place = files(service)
    bundle = place["../models/zoo/pump.fieldwatch"]
    assert parsed(words_of(service)).params["config_file"] == Path(place["./gateway.toml"])
    (tmp_path / "agent.toml").write_bytes((CONTAINERS / "gateway.toml").read_bytes())
    found = load(tmp_path / "agent.toml")
    (stream,) = found.streams
    assert str(stream.bundle).replace(str(tmp_path), "/etc/fieldwatch") == bundle
    assert str(found.store.directory) in mounts(service)
    assert found.mqtt is not None
    there = secrets(service)
    assert str(found.mqtt.password_file) == there["gateway-password"]
    assert str(found.mqtt.tls_ca_file) == there["ca.pem"]
    assert found.mqtt.username == f"{found.gateway.site}/{found.gateway.name}"
    assert reaches("gateway", found.mqtt.host)
    assert found.mqtt.port in listeners()


def test_the_collector_is_told_what_is_there() -> None:
    service = SERVICES["collector"]
    told = parsed(words_of(service)).params
    there = secrets(service)
    assert str(told["password_file"]) == there["collector-password"]
    assert str(told["tls_ca_file"]) == there["ca.pem"]
    assert str(told["directory"]) in mounts(service)
    assert reaches("collector", told["host"])
    assert told["port"] in listeners()
    gateway = tomllib.loads((CONTAINERS / "gateway.toml").read_text())["gateway"]
    assert told["site"] == gateway["site"]
    assert told["samples"]


def test_the_registry_is_the_database_that_is_there() -> None:
    service, database = SERVICES["mlflow"], SERVICES["postgres"]
    told = parsed(words_of(service)).params
    assert str(told["config"]) == files(service)["./registry.toml"]
    found = read_registry(CONTAINERS / "registry.toml")
    url = urlsplit(found.url)
    assert url.hostname is not None
    assert reaches("mlflow", url.hostname)
    variables = database["environment"]
    assert (url.username, url.path) == (variables["POSTGRES_USER"], f"/{variables['POSTGRES_DB']}")
    assert found.password_file == secrets(service)["postgres-password"]
    assert variables["POSTGRES_PASSWORD_FILE"] == secrets(database)["postgres-password"]
    assert service["environment"]["MLFLOW_ARTIFACTS_DESTINATION"] in mounts(service)


@pytest.mark.parametrize("name", ["batch", "worker"])
def test_the_fleet_is_what_the_collector_gathers(name: str, tmp_path: Path) -> None:
    service = SERVICES[name]
    for one in (service, SERVICES["collector"]):
        assert mounts(one)[SAMPLES] == "samples"
    if name == "batch":
        told = parsed(words_of(service)).params
        assert str(told["fleet"]) == files(service)[FLEET]
    assert FLEET in files(service)
    found = read_fleet(tmp_path)
    assert str(found.output.parent) in mounts(service)
    url = registry_of(found)
    assert url.hostname is not None
    assert reaches(name, url.hostname)
    assert url.port == parsed(words_of(SERVICES[url.hostname])).params["port"]
    assert url.netloc in SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]


def test_the_workers_are_those_of_the_scheduler() -> None:
    port = parsed(words_of(SERVICES["scheduler"])).params["port"]
    address = f"tcp://scheduler:{port}"
    assert address in SERVICES["worker"]["command"]
    assert address == parsed(words_of(SERVICES["batch"])).params["scheduler"]
    assert reaches("worker", "scheduler")
    assert reaches("batch", "scheduler")


def test_the_health_of_dask_is_asked_where_it_answers() -> None:
    for name in ("scheduler", "worker"):
        port = str(parsed(words_of(SERVICES[name])).params["dashboard_address"]).strip(":")
        assert SERVICES[name]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port}/health"


def test_no_secret_is_in_a_file() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "containers"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "containers/compose.yaml" in listed
    for file in listed:
        text = (ROOT / file).read_text()
        assert "PRIVATE KEY" not in text, file
        assert not re.search(r"(?i)kind: secret\b", text), file
    for service in SERVICES.values():
        for name in service.get("environment", {}):
            assert "PASSWORD" not in name or name.endswith("_FILE"), name


def test_the_secrets_are_files_that_git_ignores() -> None:
    for each in COMPOSE["secrets"].values():
        path = (CONTAINERS / each["file"]).relative_to(ROOT)
        ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False)
        assert ignored.returncode == 0, path
