"""A release: a wheel with its list of parts and the same bytes each time, and signed sums."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from models import signing
from models.errors import ConfigError, SignatureInvalid
from models.keys import new_key, read_keys

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts" / "release"
INFO = "fieldwatch-0.1.0.dist-info/"
SUMS = ROOT / "agent" / "page" / "assets" / "vendor" / "SHA256SUMS"
CONTENTS = {
    "agent/__init__.py": b"",
    "agent/page/assets/vendor/SHA256SUMS": SUMS.read_bytes(),
    f"{INFO}METADATA": (
        b"Name: fieldwatch\nVersion: 0.1.0\nLicense-Expression: Apache-2.0 AND MIT\n\n"
    ),
    f"{INFO}WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}RECORD": b"",
}


def run(
    script: str, *arguments: Path | str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def finished(directory: Path, mode: int, year: int) -> Path:
    """Return the finished form of a wheel that was built with this umask at this time."""
    directory.mkdir()
    raw = directory / "fieldwatch-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(raw, "w") as archive:
        for name, data in CONTENTS.items():
            entry = zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0))
            entry.external_attr = mode << 16
            archive.writestr(entry, data)
    (directory / "out").mkdir()
    ended = run("finish_wheel.py", raw, directory / "out", SOURCE_DATE_EPOCH="1700000000")
    assert ended.returncode == 0, ended.stderr
    return Path(ended.stdout.strip())


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return finished(tmp_path / "wheel", 0o100644, 2023)


def test_a_wheel_has_the_same_bytes_whoever_built_it_and_when(tmp_path: Path, wheel: Path) -> None:
    other = finished(tmp_path / "other", 0o100600, 2030)
    assert other.read_bytes() == wheel.read_bytes()


def test_the_record_of_a_wheel_names_each_file_with_its_digest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        rows = list(csv.reader(io.StringIO(archive.read(f"{INFO}RECORD").decode())))
        assert [row[0] for row in rows] == archive.namelist()
        for name, digest, size in rows[:-1]:
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(data)))
    assert rows[-1] == [f"{INFO}RECORD", "", ""]


def test_a_wheel_lists_what_of_others_it_contains(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        document = archive.read(f"{INFO}sboms/fieldwatch.cdx.json").decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    (component,) = json.loads(document)["components"]
    assert component["purl"] == "pkg:npm/uplot@1.6.32"
    vendor = SUMS.parent
    for file in component["components"]:
        digest = hashlib.sha256((ROOT / file["name"]).read_bytes()).hexdigest()
        assert file["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert {Path(file["name"]).name for file in component["components"]} == {
        path.name for path in vendor.iterdir() if path.name != "SHA256SUMS"
    }


def test_the_list_of_a_package_has_what_its_wheel_contains(tmp_path: Path, wheel: Path) -> None:
    of_wheel, file = tmp_path / "wheel.json", tmp_path / "package.json"
    with zipfile.ZipFile(wheel) as archive:
        of_wheel.write_bytes(archive.read(f"{INFO}sboms/fieldwatch.cdx.json"))
    locked = ROOT / "requirements" / "gateway-3.11.txt"
    listed = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"]
    of_project = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible"]
    subprocess.run([*listed, *of_project, "--output-file", str(file), str(locked)], check=True)
    before = json.loads(file.read_text())
    assert run("add_parts.py", file, of_wheel).returncode == 0
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read_text()) is None
    after = json.loads(file.read_text())
    assert after["components"][:-1] == before["components"]
    assert after["components"][-1]["purl"] == "pkg:npm/uplot@1.6.32"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release with two files; ``release.key`` beside it has signed it."""
    directory = tmp_path / "dist"
    directory.mkdir()
    (directory / "fieldwatch.whl").write_bytes(b"wheel")
    (directory / "fieldwatch.deb").write_bytes(b"package")
    new_key(tmp_path / "release.key", "release")
    assert run("sign.py", directory, "--key", tmp_path / "release.key").returncode == 0
    return directory


def verified(release: Path, public: str = "release.pub") -> subprocess.CompletedProcess[str]:
    return run("sign.py", release, "--verify", release.parent / public)


def test_a_signed_release_is_accepted(release: Path) -> None:
    assert verified(release).returncode == 0
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=release)
    assert checked.returncode == 0
    signature = (release / "SHA256SUMS.minisig").read_text().splitlines()
    assert signature[0].startswith("untrusted comment: ")
    assert signature[2] == "trusted comment: fieldwatch 0.1.0"
    assert len(base64.b64decode(signature[1])) == 74
    assert len(base64.b64decode(signature[3])) == 64


@pytest.mark.parametrize("name", ["fieldwatch.whl", "SHA256SUMS", "another.deb"])
def test_an_altered_release_is_refused(release: Path, name: str) -> None:
    with (release / name).open("ab") as file:
        file.write(b"more")
    ended = verified(release)
    assert ended.returncode == 1
    assert name in ended.stderr


def test_a_missing_file_of_a_release_is_named(release: Path) -> None:
    (release / "fieldwatch.deb").unlink()
    ended = verified(release)
    assert (ended.returncode, "fieldwatch.deb" in ended.stderr) == (1, True)


def test_only_a_key_for_releases_signs_and_verifies_releases(release: Path) -> None:
    new_key(release.parent / "ops.key", "bundle")
    refused = run("sign.py", release, "--key", release.parent / "ops.key")
    assert refused.returncode == 1
    assert "a key with the role release is needed" in refused.stderr
    new_key(release.parent / "other.key", "release")
    assert "not a trusted one" in verified(release, "other.pub").stderr


def test_a_key_for_releases_signs_no_bundle(tmp_path: Path) -> None:
    class Made:
        manifest_bytes = b"{}"
        source = "pump.fieldwatch"
        signature: bytes | None = None

    new_key(tmp_path / "release.key", "release")
    made = Made()
    with pytest.raises(ConfigError, match="with the role bundle is needed"):
        signing.sign(b"{}", tmp_path / "release.key", "pump version 1")
    made.signature = signing.sign(b"{}", tmp_path / "release.key", "pump version 1", "release")
    with pytest.raises(SignatureInvalid, match="must have the role bundle"):
        signing.check(made, read_keys(tmp_path))
