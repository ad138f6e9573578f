"""The images: what they are made of, who runs in them, and that nothing else gets in."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from models import __version__
from tests.conftest import ROOT
from tests.container_files import (
    CONTAINERS,
    IMAGES,
    base_image,
    compose,
    mounts,
    parsed,
    stages,
    user,
)

EXTRAS = {  # as in scripts/lock; what the last ones need is not there, as a collector lacks it
    "gateway-3.11": "cbor modbus page signing zstd",
    "collector-3.11": "cbor signing zstd",
    "trainer-3.11": "batch registry-ui s3 signing",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXACT = re.compile(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[a-z]+)*(@sha256:[0-9a-f]{64})?")


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, file], capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say() -> None:
    done = hadolint(CONTAINERS / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_say_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM debian:latest\nRUN cd /tmp && apt-get install curl\n"
    )
    done = hadolint(tmp_path / "Dockerfile")
    assert done.returncode == 1
    assert "DL3007" in done.stdout


@pytest.mark.parametrize("name", IMAGES)
def test_nobody_is_root(name: str) -> None:
    number, _ = user()
    assert number > 0
    assert stages()[name].last("USER") == str(number)


@pytest.mark.parametrize("name", IMAGES)
def test_a_volume_belongs_to_the_user(name: str) -> None:
    """A new volume takes its owner from the directory of the image that it is mounted on."""
    volumes = [stages()[name].last("VOLUME")] if name != "trainer" else []
    for service in compose()["services"].values():
        if service.get("build", {}).get("target") == name:
            volumes += mounts(service)
    assert volumes
    assert set(volumes) <= stages()[name].own_directories()


@pytest.mark.parametrize("name", IMAGES)
def test_what_an_image_starts_is_a_command(name: str) -> None:
    image = stages()[name]
    health = image.last("HEALTHCHECK")
    if health is not None:
        assert parsed(list(health_words(health)))
    assert image.words("ENTRYPOINT")[0].startswith("fieldwatch-")
    if name == "agent":
        context = parsed([*image.words("ENTRYPOINT"), *image.words("CMD")])
        assert context.params["config_file"] == Path("/etc/fieldwatch/agent.toml")


def health_words(health: str) -> Iterator[str]:
    yield from re.findall(r'"([^"]*)"', health.partition("CMD")[2])


def test_images_of_others_have_an_exact_version() -> None:
    others = [one["image"] for one in compose()["services"].values() if "build" not in one]
    assert others
    for image in [base_image(), *others]:
        assert EXACT.fullmatch(image), image
    assert not EXACT.fullmatch("postgres:latest")
    assert not EXACT.fullmatch("postgres:17")


def test_our_images_have_the_version_of_the_project() -> None:
    ours = {one["image"] for one in compose()["services"].values() if "build" in one}
    assert ours == {f"fieldwatch/{name}:{__version__}" for name in IMAGES}
    for one in compose()["services"].values():
        if "build" in one:
            assert one["image"] == f"fieldwatch/{one['build']['target']}:{__version__}"
    for file in [CONTAINERS / "Dockerfile", *CONTAINERS.rglob("kustomization.yaml")]:
        for tag in re.findall(r"(?:fieldwatch/\w+:|newTag: )([\d.]+\d)", file.read_text()):
            assert tag == __version__, file


def test_only_wheel_locks_and_one_script_get_into_the_images() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    files = ["containers/environment", "dist/*.whl", "requirements/*.txt", "scripts/lib/lean.sh"]
    assert rules == ["*", *(f"!{file}" for file in files)]
    allowed = {rule.removeprefix("!").partition("/")[0] for rule in rules[1:]}
    copied = [rest for one in stages().values() for word, rest in one.lines if word == "COPY"]
    sources = {rest.split()[0] for rest in copied if not rest.startswith("--from=")}
    assert sources == allowed


def requirements(*names: str) -> Iterator[Requirement]:
    """Yield what extras of the project ask for on the machine of an image."""
    for name in names:
        for line in PROJECT["optional-dependencies"][name]:
            one = Requirement(line)
            if one.name == "fieldwatch":
                yield from requirements(*one.extras)
            elif one.marker is None or one.marker.evaluate({"python_version": "3.11"}):
                yield one


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.findall(r"(?m)^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text)
    assert len(entries) == text.count("=="), "a package has no hash"
    return {package: version for package, version, _ in entries}


@pytest.mark.parametrize("name", EXTRAS)
def test_the_locked_packages_are_what_the_project_asks_for(name: str) -> None:
    there = locked(name)
    base = [Requirement(line) for line in PROJECT["dependencies"]]
    machine = {"platform_machine": "x86_64", "python_version": "3.11"}
    needed = [one for one in base if one.marker is None or one.marker.evaluate(machine)]
    needed += requirements(*EXTRAS[name].split())
    if name.startswith("collector"):  # it scores nothing, and files samples
        needed = [one for one in needed if one.name != "ai-edge-litert"]
        needed += [one for one in requirements("ingest") if one.name == "polars"]
    for one in needed:
        assert one.name in there, f"{one.name} is missing: make lock"
        assert one.specifier.contains(there[one.name]), f"{one} and {there[one.name]}: make lock"


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_made_of_a_lock_that_is_there(name: str) -> None:
    (run,) = (rest for word, rest in stages()[f"{name}-packages"].lines if word == "RUN")
    script, lock = run.split()
    assert (ROOT / script.removeprefix("/build/")).stat().st_mode & 0o111
    assert locked(lock)
    assert f"--from={name}-packages " in str(stages()[name].lines)
