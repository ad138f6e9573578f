"""What is installed, and what the set-up says to a person whose system lacks something."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from agent.rescue.belongings import CREDENTIAL_NAMES

ROOT = Path(__file__).resolve().parent.parent
FILE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = FILE["project"]
SETUPTOOLS = FILE["tool"]["setuptools"]
SCRIPTS = [
    ROOT / ".ci" / "run",
    *sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file()),
    *sorted((ROOT / "scripts" / "deb").glob("[np]*")),
]
SHARED = sorted((ROOT / "scripts" / "lib").glob("*.sh"))
LOCKS = sorted((ROOT / "requirements").glob("gateway-*.txt"))
GATEWAYS_EXTRAS = ("cbor", "modbus", "page", "signing", "zstd")
# of Debian, or without a wheel for it; see scripts/lock
NOT_LOCKED = {"armhf-3.11": {"numpy", "cbor2", "zstandard"}}
PYTHONS_OWN = "/usr/bin:/bin"


ARM_32_BIT = ("armv7l", "armv8l")  # the second: a 32-bit process on a 64-bit kernel
LITERT = ("x86_64", "aarch64")
INTERPRETERS = ("ai-edge-litert", "tflite-runtime")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def base(machine: str, python: str = "3.11") -> list[Requirement]:
    """What pip installs on this kind of machine without any extra."""
    environment = {"platform_machine": machine, "python_version": python}
    lines = [Requirement(line) for line in PROJECT["dependencies"]]
    return [line for line in lines if line.marker is None or line.marker.evaluate(environment)]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("machine", "interpreter"),
    [(machine, "ai-edge-litert") for machine in LITERT]
    + [(machine, "tflite-runtime") for machine in ARM_32_BIT],
)
def test_a_gateway_gets_what_it_needs_once_and_one_interpreter(
    machine: str, interpreter: str, python: str
) -> None:
    own = {"numpy", "pydantic", "paho-mqtt", "pyserial", "sqlite-utils", "click"}
    names = [line.name for line in base(machine, python)]
    assert sorted(names) == sorted(own | {interpreter})


@pytest.mark.parametrize("machine", [*LITERT, *ARM_32_BIT, "i686", "riscv64", "arm64"])
def test_no_machine_gets_two_lines_of_a_package(machine: str) -> None:
    names = [line.name for line in base(machine)]
    assert len(names) == len(set(names))
    assert "numpy" in names


@pytest.mark.parametrize("machine", ARM_32_BIT)
def test_numpy_of_debian_12_will_do_where_there_is_no_wheel(machine: str) -> None:
    (numpy,) = (line for line in base(machine) if line.name == "numpy")
    assert numpy.specifier.contains("1.24.2")


def test_the_old_interpreter_never_meets_numpy_2() -> None:
    extra = [Requirement(line) for line in PROJECT["optional-dependencies"]["tflite"]]
    for lines in (*map(base, ARM_32_BIT), extra):
        specifiers = {line.name: line.specifier for line in lines}
        assert "tflite-runtime" in specifiers
        assert not specifiers["numpy"].contains("2.0.0")


class Machine:
    """What ``install-gateway --check`` sees: a system whose Python says what it is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for program in ("sh", "dirname", "cat", "id"):
            found = next(
                Path(d, program) for d in ("/bin", "/usr/bin") if Path(d, program).exists()
            )
            (directory / program).symlink_to(found)
        executable(directory / "systemctl", "exit 0")

    def check(self, facts: str, numpy: str = "", ensurepip: bool = True) -> tuple[int, str]:
        """``facts``: machine, bits and version of the Python."""
        executable(
            self._directory / "python3",
            f"""case $2 in
            *platform.machine*) echo {facts} ;;
            *numpy*) [ -n "{numpy}" ] && echo {numpy} ;;
            *ensurepip*) {"true" if ensurepip else "false"} ;;
            *) exit 99 ;;
            esac""",
        )
        return self.call("--check")

    def call(self, *arguments: str) -> tuple[int, str]:
        ended = subprocess.run(
            [ROOT / "scripts" / "install-gateway", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": str(self._directory)},
        )
        return ended.returncode, (ended.stdout + ended.stderr).strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("facts", "numpy"),
    [(f"{name} 64 3 {minor}", "") for name in LITERT for minor in (11, 13)]
    + [(f"{name} 32 3 11", "1.24.2") for name in ARM_32_BIT],
)
def test_the_installer_takes_a_machine_with_an_interpreter(
    machine: Machine, facts: str, numpy: str
) -> None:
    name, _, major, minor = facts.split()
    assert len([one for one in base(name, f"{major}.{minor}") if one.name in INTERPRETERS]) == 1
    said = f"this machine can run it: {name}, Python {major}.{minor}"
    assert machine.check(facts, numpy) == (0, said)


@pytest.mark.parametrize(
    ("facts", "numpy", "says"),
    [
        ("aarch64 32 3 11", "1.24.2", "a 32-bit system on a 64-bit kernel"),
        ("armv7l 32 3 13", "", "for Python 3.11 only (Debian 12), and this is Python 3.13"),
        ("armv7l 32 3 12", "1.26.4", "for Python 3.11 only"),
        ("armv6l 32 3 11", "1.24.2", "there is none for armv6l with 32 bits"),
        ("x86_64 32 3 11", "", "there is none for x86_64 with 32 bits"),
        ("riscv64 64 3 13", "", "there is none for riscv64 with 64 bits"),
        ("armv7l 32 3 11", "", "apt install python3-numpy"),
        ("armv7l 32 3 11", "2.2.4", "numpy 2.2.4 is installed here, and tflite-runtime needs 1.24"),
        ("armv7l 32 3 11", "1.19.5", "numpy 1.19.5 is installed here"),
        ("x86_64 64 3 9", "", "Python 3.9 is too old: Fieldwatch needs 3.11"),
    ],
)
def test_the_installer_says_plainly_where_it_cannot_run(
    machine: Machine, facts: str, numpy: str, says: str
) -> None:
    code, said = machine.check(facts, numpy)
    assert code == 1
    assert said.startswith("error: ")
    assert says in said
    assert "\n" not in said


def test_the_installer_names_all_missing_packages_at_once(machine: Machine) -> None:
    code, said = machine.check("armv7l 32 3 11", ensurepip=False)
    assert (code, said) == (
        1,
        "error: packages are missing: apt install python3-numpy python3-venv",
    )


def test_the_installer_without_python_or_systemd_says_so(machine: Machine, tmp_path: Path) -> None:
    assert machine.call("--check") == (1, "error: no python3: apt install python3 python3-venv")
    (tmp_path / "systemctl").unlink()
    code, said = machine.call("--check")
    assert (code, said[:21]) == (1, "error: no systemctl: ")


def test_the_installer_changes_nothing_without_root(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "id").unlink()
    executable(tmp_path / "id", "echo 1000")
    for arguments in ([], ["some.whl"], ["--uninstall"], ["--uninstall", "--purge"]):
        code, said = machine.call(*arguments)
        assert code == 1
        assert "root: sudo" in said


def test_the_installer_explains_itself_and_refuses_what_it_does_not_know(machine: Machine) -> None:
    code, said = machine.call("--help")
    assert code == 0
    assert said.startswith("Usage: install-gateway")
    assert machine.call("--purge") == (1, "error: --purge goes with --uninstall")
    assert machine.call("--upgrad")[1].endswith("error: unknown option --upgrad")
    assert machine.call("a.whl", "b.whl") == (1, "error: more than one wheel: a.whl, b.whl")


def test_every_package_and_every_file_that_is_read_ships() -> None:
    packages = set(SETUPTOOLS["packages"])
    data = set(SETUPTOOLS["package-data"])
    for top in ("agent", "models", "trainer"):
        for file in (ROOT / top).rglob("__init__.py"):
            package = ".".join(file.parent.relative_to(ROOT).parts)
            assert package in packages, f"{package} is missing in pyproject.toml"
    for package in packages:
        directory = ROOT.joinpath(*package.split("."))
        assert (directory / "__init__.py").exists() or package in data
    for package, patterns in SETUPTOOLS["package-data"].items():
        assert package in packages
        for pattern in patterns:
            assert list(ROOT.joinpath(*package.split(".")).glob(pattern)), f"{package}: {pattern}"
    assert (ROOT / "LICENSE").read_text().count("Fieldwatch maintainers") == 1


def test_the_console_scripts_lead_somewhere() -> None:
    for target in PROJECT["scripts"].values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_can_be_run_and_parsed(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    shell = re.fullmatch(r"#!/bin/(ba)?sh", script.read_text().splitlines()[0])
    assert shell
    assert subprocess.run([shell[0][2:], "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("script", SHARED, ids=lambda p: p.name)
def test_what_scripts_share_can_be_parsed(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def locked(lock: Path) -> dict[str, str]:
    """The packages of a lock file, with their versions; each must have a hash."""
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    pinned = [re.match(r"([a-z0-9-]+)==([^\s;]+)", entry) for entry in entries]
    assert all(pinned)
    return {match[1]: match[2] for match in pinned if match}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_the_locked_packages_are_what_a_gateway_needs(lock: Path) -> None:
    name = lock.stem.removeprefix("gateway-")
    machine = "armv7l" if name.startswith("armhf") else "x86_64"
    versions = locked(lock)
    extras = [
        Requirement(line)
        for extra in GATEWAYS_EXTRAS
        for line in PROJECT["optional-dependencies"][extra]
    ]
    environment = {"platform_machine": machine, "python_version": name.rpartition("-")[2]}
    needed = base(machine, environment["python_version"]) + [
        line for line in extras if line.marker is None or line.marker.evaluate(environment)
    ]
    for line in needed:
        if line.name not in NOT_LOCKED.get(name, ()):
            assert line.specifier.contains(versions[line.name])


def test_every_command_has_a_manual_page(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "deb" / "man_pages.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, cwd=ROOT)
    page = (tmp_path / "fieldwatch-agent-replay.1").read_text()
    assert page.startswith('.TH "FIELDWATCH-AGENT-REPLAY" 1')
    assert "\\-\\-bundle" in page
    listed = re.findall(r"\.BR (\S+) \(1\)", (tmp_path / "fieldwatch-agent.1").read_text())
    assert len(listed) > 20
    assert all((tmp_path / f"{name}.1").exists() for name in listed)


def new_venv(python: Path | str, directory: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "new-venv", str(python), str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": path},
    )


def executable(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_without_python_the_set_up_says_what_to_install(tmp_path: Path) -> None:
    outcome = new_venv("python3.99", tmp_path / "venv", PYTHONS_OWN)
    assert outcome.returncode == 1
    assert "no python3.99: install Python 3.11" in outcome.stderr


def test_an_old_python_is_refused_with_the_way_out(tmp_path: Path) -> None:
    old = executable(tmp_path / "python", '[ "$1" = --version ] && echo Python 3.9.2; exit 1')
    outcome = new_venv(old, tmp_path / "venv", PYTHONS_OWN)
    assert outcome.returncode == 1
    assert "Python 3.9.2 is too old" in outcome.stderr
    assert "make PYTHON=python3.12" in outcome.stderr


def test_without_ensurepip_and_apt_the_set_up_says_what_to_install(tmp_path: Path) -> None:
    for program in ("bash", "dirname", "id", "rm"):
        found = next(Path(d, program) for d in PYTHONS_OWN.split(":") if Path(d, program).exists())
        (tmp_path / program).symlink_to(found)
    bare = executable(
        tmp_path / "python", f'[ "$2" = "import ensurepip" ] && exit 1; exec {sys.executable} "$@"'
    )
    outcome = new_venv(bare, tmp_path / "venv", str(tmp_path))
    if list(Path("/usr/share/python-wheels").glob("pip-*.whl")):  # it has the part that was missing
        assert outcome.returncode == 0, outcome.stderr
        assert (tmp_path / "venv" / "bin" / "pip").exists()
        return
    assert outcome.returncode == 1
    assert "there is no apt-get on this system" in outcome.stderr
    assert "apt install python3-venv" in outcome.stderr
    assert not (tmp_path / "venv").exists()


def test_make_test_runs_each_file_of_tests_once() -> None:
    printed = subprocess.run(
        [ROOT / "scripts" / "test-all", "--parts"], capture_output=True, text=True, check=True
    )
    parts = [ROOT / part for part in printed.stdout.split()]
    for file in (ROOT / "tests").rglob("test_*.py"):
        found = [part for part in parts if file == part or part in file.parents]
        assert len(found) == 1, f"{file}: {found}"


@pytest.mark.parametrize("script", ["scripts/deb/postrm", "scripts/install-gateway"])
def test_a_purge_removes_the_credentials_of_the_unit_and_no_others(
    script: str, tmp_path: Path
) -> None:
    """It runs the lines of the script that remove them, in folders of the test."""
    text = (ROOT / script).read_text()
    (loop,) = re.findall(r"for one in password .*?done", text, re.DOTALL)
    assert text.count("credstore") == loop.count("credstore")
    folders = [tmp_path / "etc" / name for name in ("credstore", "credstore.encrypted")]
    others = ["mqtt.other", "mqtt.password.old", "mqtt.signature", "mqtt", "broker.password"]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in (*CREDENTIAL_NAMES, *others):
            (folder / name).touch()
    subprocess.run(["sh", "-euc", loop.replace("/etc/", f"{tmp_path}/etc/")], check=True)
    for folder in folders:
        assert sorted(file.name for file in folder.iterdir()) == sorted(others)
