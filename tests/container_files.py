"""The files in ``containers/``, as Docker, Compose and kustomize read them."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import click
import polars
import yaml
from distributed.cli import dask_scheduler, dask_worker

from agent.cli import commands as agent_commands
from tests.conftest import ROOT
from trainer.cli import commands as trainer_commands
from trainer.fleet import config as fleets
from trainer.fleet.config import FleetFile

CONTAINERS: Final = ROOT / "containers"
SAMPLES: Final = "/var/lib/collected/samples"
IMAGES: Final = ("agent", "collector", "trainer")
PROGRAMS: Final[dict[str, click.Command]] = {
    "fieldwatch-agent": agent_commands,
    "fieldwatch-trainer": trainer_commands,
    "dask": click.Group("dask", {"scheduler": dask_scheduler.main, "worker": dask_worker.main}),
}


def parsed(words: list[str]) -> click.Context:
    """Parse a command line as its program does; an unknown word or option is an error."""
    program, *rest = words
    assert program in PROGRAMS, program
    command = PROGRAMS[program]
    while isinstance(command, click.Group):
        assert rest[0] in command.commands, words
        command = command.commands[rest.pop(0)]
    return command.make_context(program, rest)


@dataclass
class Stage:
    """A stage of the Dockerfile."""

    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str | None:
        found = [rest for name, rest in self.lines if name == word]
        return found[-1] if found else None

    def own_directories(self) -> set[str]:
        """Return the directories that the image makes for its user."""
        runs = [shlex.split(rest) for word, rest in self.lines if word == "RUN"]
        made = [run[: run.index("&&")] for run in runs if run[0] == "install"]
        assert all(run[1:8] == "-d -o fieldwatch -g fieldwatch -m 750".split() for run in made)
        return {path for run in made for path in run[8:]}

    def words(self, word: str) -> list[str]:
        """The words of ENTRYPOINT or CMD in its form as a list."""
        found = self.last(word)
        return [] if found is None else list(json.loads(found))


def stages() -> dict[str, Stage]:
    """Return the stages of the Dockerfile by name."""
    found: dict[str, Stage] = {}
    text = re.sub(r"(?m)^#.*\n", "", (CONTAINERS / "Dockerfile").read_text())
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found[name] = Stage(base)
        elif word and word != "ARG":
            stage.lines.append((word, rest.strip()))
    return found


def user() -> tuple[int, int]:
    """Return the numbers of the user and the group that the Dockerfile makes."""
    (text,) = (rest for word, rest in stages()["base"].lines if word == "RUN")
    (group,) = re.findall(r"groupadd --gid (\d+) fieldwatch", text)
    (number,) = re.findall(r"useradd --uid (\d+) --gid fieldwatch .* fieldwatch$", text)
    return int(number), int(group)


def base_image() -> str:
    """Return the image that all of ours begin with."""
    (found,) = re.findall(r"(?m)^ARG BASE=(\S+)$", (CONTAINERS / "Dockerfile").read_text())
    return str(found)


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return compose.yaml with its variables and anchors in place."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else (variables or {}).get(match[1], match[2])

    text = (CONTAINERS / "compose.yaml").read_text()
    found = yaml.safe_load(re.sub(r"\$\$|\$\{(\w+):-([^}]*)\}", value, text))
    assert isinstance(found, dict)
    return found


def image_of(service: Mapping[str, Any]) -> Stage | None:
    """Return the stage that a service is built from; None: it is somebody else's image."""
    return stages()[service["build"]["target"]] if "build" in service else None


def words_of(service: Mapping[str, Any]) -> list[str]:
    """Return the whole command line of a service with an image of ours."""
    image = image_of(service)
    assert image is not None
    begin = service.get("entrypoint", image.words("ENTRYPOINT"))
    return [*begin, *service.get("command", image.words("CMD"))]


def secrets(service: Mapping[str, Any]) -> dict[str, str]:
    """Return where the secrets of a service are in it: name → path."""
    found = {}
    for each in service.get("secrets", []):
        if isinstance(each, str):
            found[each] = f"/run/secrets/{each}"
        else:
            found[each["source"]] = each["target"]
    return found


def _volumes(service: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield what a service mounts, where, and whether it can only read it."""
    for each in service.get("volumes", []):
        what, where, *options = each.split(":")
        yield what, where, options == ["ro"]


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the named volumes of a service: path in it → name."""
    return {where: what for what, where, _ in _volumes(service) if not what.startswith(".")}


def files(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that a service reads: path from ``containers`` → path in it."""
    found = {}
    for what, where, only_read in _volumes(service):
        if what.startswith("."):
            assert only_read, what
            found[what] = where
    return found


Manifest = dict[str, Any]


def kustomization(folder: Path) -> dict[str, Any]:
    found = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert isinstance(found, dict)
    return found


def manifests(folder: Path) -> list[Manifest]:
    """Return the objects of a kustomization; whatever it names must be there.

    Done as far as the files here use it: resources, generated ConfigMaps, images, replicas, and
    patches of JSON (RFC 6902). Namespace and labels do not matter to the tests.
    """
    rules = kustomization(folder)
    known = "apiVersion kind namespace labels resources configMapGenerator images replicas patches"
    assert rules.keys() <= set(known.split())
    found = list(_resources(folder, rules))
    for image in rules.get("images", []):
        _rename(found, image)
    for each in rules.get("replicas", []):
        (one,) = (
            it
            for it in found
            if it["metadata"]["name"] == each["name"] and "replicas" in it["spec"]
        )
        one["spec"]["replicas"] = each["count"]
    for patch in rules.get("patches", []):
        chosen = [one for one in found if _is_target(one, patch["target"])]
        assert chosen, f"{patch['path']}: there is no {patch['target']}"
        for one in chosen:
            _apply(one, yaml.safe_load((folder / patch["path"]).read_text()))
    return found


def _resources(folder: Path, rules: Mapping[str, Any]) -> Iterator[Manifest]:
    for name in rules["resources"]:
        path = (folder / name).resolve()
        if path.is_dir():
            yield from manifests(path)
        else:
            # a document is copied, so that anchors are no longer one object
            yield from map(copy.deepcopy, yaml.safe_load_all(path.read_text()))
    for each in rules.get("configMapGenerator", []):
        data = {file: (folder / file).read_text() for file in each["files"]}
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": each["name"]},
            "data": data,
        }


def _rename(found: list[Manifest], image: Mapping[str, str]) -> None:
    using = [
        one
        for pod in map(pod_of, found)
        if pod is not None
        for one in pod["spec"]["containers"]
        if one["image"].partition(":")[0] == image["name"]
    ]
    assert using, f"no container has the image {image['name']}"
    for one in using:
        name, _, tag = one["image"].partition(":")
        tag = image.get("newTag", tag)
        one["image"] = f"{image.get('newName', name)}:{tag}"


def _is_target(one: Manifest, target: Mapping[str, str]) -> bool:
    named = target.get("name", one["metadata"]["name"]) == one["metadata"]["name"]
    return bool(one["kind"] == target["kind"] and named)


def _apply(one: Manifest, operations: list[dict[str, Any]]) -> None:
    for operation in operations:
        *steps, last = operation["path"].strip("/").split("/")
        place: Any = one
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        key: Any = int(last) if isinstance(place, list) else last
        match operation["op"]:
            case "test":
                assert place[key] == operation["value"], operation
            case "replace":
                assert place[key] is not None
                place[key] = operation["value"]
            case "add":
                assert isinstance(place, dict)
                place[key] = operation["value"]
            case other:
                raise AssertionError(f"{other} is not known")


def pod_of(one: Manifest) -> Manifest | None:
    """Return the template of the pods that an object makes."""
    spec = one.get("spec", {})
    if one["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template = spec.get("template")
    assert template is None or isinstance(template, dict)
    return template


def words_of_pod(container: Mapping[str, Any]) -> list[str]:
    """Return the whole command line of a container."""
    name = container["image"].partition(":")[0].rpartition("/")[2]
    begin = container.get("command", stages()[name].words("ENTRYPOINT"))
    return [*begin, *container.get("args", [])]


def read_fleet(directory: Path) -> FleetFile:
    """Read the fleet where the collector has gathered samples of ``gateway-1``."""
    folder = directory / "samples" / "gateway=gateway-1" / "stream=pump-1" / "day=2026-11-01"
    folder.mkdir(parents=True)
    polars.DataFrame({"time": [0.0, 1.0]}).write_parquet(folder / "one.parquet")
    text = (CONTAINERS / "kubernetes" / "base" / "fleet.toml").read_text()
    assert text.count(SAMPLES) == 1
    file = directory / "fleet.toml"
    file.write_text(text.replace(SAMPLES, str(directory / "samples")))
    found = fleets.read(file)
    assert list(found.streams) == ["gateway-1"]
    return found


def registry_of(fleet: FleetFile) -> SplitResult:
    """Return the URL of a fleet's registry."""
    registry = fleet.streams["gateway-1"].file.config.registry
    assert registry is not None
    return urlsplit(registry.url)
