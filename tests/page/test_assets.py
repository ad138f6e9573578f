"""The third-party files of the local page: whole, licensed, and in the wheel."""

from __future__ import annotations

import hashlib
import re
import tomllib

from tests.conftest import ROOT

PAGE = ROOT / "agent" / "page"
VENDOR = PAGE / "assets" / "vendor"
MANIFEST = VENDOR / "SHA256SUMS"


def manifest() -> dict[str, str]:
    """Return the digest of each third-party file, by its name."""
    lines = MANIFEST.read_text().splitlines()
    pairs = (line.split("  ") for line in lines if not line.startswith("#"))
    return {name: digest for digest, name in pairs}


def test_every_third_party_file_is_the_one_of_the_manifest() -> None:
    files = {file.name: file for file in VENDOR.iterdir() if file != MANIFEST}
    assert {
        name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()
    } == (manifest())


def test_they_have_their_licence_and_say_their_version_in_each_place() -> None:
    licence = VENDOR / "uPlot.LICENSE"
    assert licence.read_text().startswith("The MIT License (MIT)\n\nCopyright")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert str(licence.relative_to(ROOT)) in project["license-files"]
    assert project["license"].endswith("AND MIT")
    versions = {
        file.name: re.search(pattern, file.read_text())
        for file, pattern in (
            (VENDOR / "uPlot.iife.min.js", r"\(v(1\.\d+\.\d+)\)"),
            (MANIFEST, r"uPlot (1\.\d+\.\d+)"),
            (ROOT / "scripts" / "get-assets", r"uplot@(1\.\d+\.\d+)"),
        )
    }
    assert len({found and found[1] for found in versions.values()}) == 1, versions


def test_every_file_of_the_page_is_in_the_wheel() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = tool["package-data"]["agent.page"]
    shipped = {path for pattern in patterns for path in PAGE.glob(pattern)}
    read = {path for path in PAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    code = {path for path in read if path.suffix == ".py"}
    assert read - code <= shipped
