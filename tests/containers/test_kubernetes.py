"""The manifests of Kubernetes: valid, of the restricted profile, and of one piece."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.container_files import (
    CONTAINERS,
    Manifest,
    compose,
    kustomization,
    manifests,
    mounts,
    parsed,
    pod_of,
    read_fleet,
    registry_of,
    stages,
    user,
    words_of_pod,
)

KUBERNETES = CONTAINERS / "kubernetes"
FOLDERS = ["base", "plant-1"]
VERSIONS = ["1.30", "1.37"]
PODS = ["scheduler", "worker", "batch", "collector"]


def one(name: str, kind: str | None = None, folder: str = "base") -> Manifest:
    found = [
        each
        for each in manifests(KUBERNETES / folder)
        if each["metadata"]["name"] == name
        and (pod_of(each) is not None if kind is None else each["kind"] == kind)
    ]
    assert len(found) == 1, (name, kind)
    return found[0]


def pod(name: str, folder: str = "base") -> tuple[Manifest, Manifest]:
    """Return the pod's template of an object and its container."""
    template = pod_of(one(name, folder=folder))
    assert template is not None
    (container,) = template["spec"]["containers"]
    return template, container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_one_of_kubernetes(folder: str, version: str) -> None:
    found = manifests(KUBERNETES / folder)
    assert len(found) > 10
    for each in found:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(replica=2),
        lambda spec: spec.update(replicas="two"),
        lambda spec: spec["template"]["spec"]["securityContext"].update(runAsRoot=False),
        lambda spec: spec["template"]["spec"].pop("containers"),
    ],
)
def test_a_mistake_in_one_would_be_found(change: Any) -> None:
    wrong = copy.deepcopy(one("worker"))
    change(wrong["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_used(folder: str) -> None:
    rules = kustomization(KUBERNETES / folder)
    used = {"kustomization.yaml", *rules["resources"]}
    used.update(each["path"] for each in rules.get("patches", []))
    used.update(file for each in rules.get("configMapGenerator", []) for file in each["files"])
    assert {path.name for path in (KUBERNETES / folder).iterdir()} == used - {"../base"}


def test_a_patch_of_nothing_is_found(tmp_path: Path) -> None:
    rules = kustomization(KUBERNETES / "plant-1")
    for target in ({"kind": "StatefulSet", "name": "colector"}, {"kind": "DaemonSet"}):
        rules["resources"] = [str(KUBERNETES / "base")]
        rules["patches"] = [{"path": str(KUBERNETES / "plant-1/shares.yaml"), "target": target}]
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(rules))
        with pytest.raises(AssertionError, match="there is no"):
            manifests(tmp_path)


def test_the_overlay_changes_what_it_says() -> None:
    assert one("worker", folder="plant-1")["spec"]["replicas"] == 4
    for name in PODS:
        _, container = pod(name, "plant-1")
        assert container["image"].startswith("registry.example.org/fieldwatch/")
        _, before = pod(name)
        assert before["image"] == container["image"].removeprefix("registry.example.org/")
    assert "--host=mqtt.plant-1.example.org" in pod("collector", "plant-1")[1]["args"]
    for name in ("samples", "fleet"):
        claim = one(name, "PersistentVolumeClaim", "plant-1")
        assert claim["spec"]["storageClassName"] == "nfs"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_the_restricted_profile(name: str) -> None:
    template, container = pod(name)
    spec, of_pod, own = (
        template["spec"],
        template["spec"]["securityContext"],
        container["securityContext"],
    )
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["runAsUser"] > 0 and of_pod["runAsGroup"] > 0
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"}
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert all(volume.keys() <= allowed | {"name"} for volume in spec["volumes"])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_of_an_image_its_user_and_its_directories(name: str) -> None:
    template, container = pod(name)
    project, _, target = container["image"].partition(":")[0].partition("/")
    assert project == "fieldwatch"
    image, (number, group) = stages()[target], user()
    context = template["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (number, group)
    assert context.get("fsGroup", group) == group
    kept = {path for path in at(container) if path.startswith("/var/")}
    assert kept <= image.own_directories()


def test_the_namespace_enforces_it() -> None:
    labels = one("fieldwatch", "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", PODS)
def test_a_container_has_resources_probes_and_a_command(name: str) -> None:
    _, container = pod(name)
    for which in ("requests", "limits"):
        assert container["resources"][which].keys() == {"cpu", "memory"}
    parsed(words_of_pod(container))
    if name == "batch":
        return  # it ends
    assert "startupProbe" in container and "livenessProbe" in container
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for probe in (value for key, value in container.items() if key.endswith("Probe")):
        if "exec" in probe:
            parsed(probe["exec"]["command"])
            continue
        told = parsed(words_of_pod(container)).params["dashboard_address"]
        assert f":{ports[probe['httpGet']['port']]}" == told


@pytest.mark.parametrize("name", PODS)
def test_the_volumes_of_a_pod_are_there(name: str) -> None:
    template, container = pod(name)
    owner = one(name)
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    own = {each["metadata"]["name"] for each in owner["spec"].get("volumeClaimTemplates", [])}
    assert {each["name"] for each in container["volumeMounts"]} == volumes.keys() | own
    for each in volumes.values():
        if "persistentVolumeClaim" in each:
            one(each["persistentVolumeClaim"]["claimName"], "PersistentVolumeClaim")
        if "configMap" in each:
            one(each["configMap"]["name"], "ConfigMap")
    if "fleet" in volumes:  # several machines write to it and read it
        for claim in ("samples", "fleet"):
            assert one(claim, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]


def at(container: Mapping[str, Any]) -> dict[str, str]:
    return {each["mountPath"]: each["name"] for each in container["volumeMounts"]}


def test_paths_and_programs_are_those_of_the_compose_file() -> None:
    services = compose()["services"]
    for name in ("scheduler", "worker"):
        _, container = pod(name)
        assert container["command"] == services[name]["entrypoint"]
        assert container["args"] == services[name]["command"]
    assert pod("batch")[1]["args"] == services["batch"]["command"]
    for name in ("collector", "worker", "batch"):
        there = at(pod(name)[1])
        for path, volume in mounts(services[name]).items():
            assert there[path] == volume


def test_the_collector_is_told_what_is_there() -> None:
    _, container = pod("collector")
    told = parsed(words_of_pod(container)).params
    assert str(told["directory"]) in at(container)
    for file in (told["password_file"], told["tls_ca_file"]):
        assert at(container)[str(Path(file).parent)] == "secret"
    assert one("collector")["spec"]["replicas"] == 1


def test_the_training_finds_fleet_and_registry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    template, container = pod("batch")
    file = Path(parsed(words_of_pod(container)).params["fleet"])
    folder = at(container)[str(file.parent)]
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == folder)
    assert file.name in one(volume["configMap"]["name"], "ConfigMap")["data"]
    for each in container["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    fleet = read_fleet(tmp_path)
    assert registry_of(fleet).geturl() == "https://mlflow.example.org"
    assert str(fleet.output.parent) in at(container)


def test_services_and_rules_are_about_pods_that_there_are() -> None:
    scheduler, _ = pod("scheduler")
    service = one("scheduler", "Service")["spec"]
    assert service["selector"].items() <= scheduler["metadata"]["labels"].items()
    (port,) = service["ports"]
    told = parsed(words_of_pod(pod("scheduler")[1])).params
    assert str(port["port"]) == told["port"]
    assert pod("batch")[1]["args"][2] == f"tcp://scheduler:{port['port']}"
    rule = one("dask", "NetworkPolicy")["spec"]
    for name in ("scheduler", "worker", "batch"):
        labels = pod(name)[0]["metadata"]["labels"]
        assert rule["podSelector"]["matchLabels"].items() <= labels.items()
    assert (
        not rule["podSelector"]["matchLabels"].items()
        <= pod("collector")[0]["metadata"]["labels"].items()
    )
    headless = one("collector", "Service")
    assert one("collector")["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["selector"].items() <= pod("collector")[0]["metadata"]["labels"].items()
