"""The documentation as a site: complete, nothing from elsewhere, and each link leads somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    built = build(ROOT, directory)
    assert built.returncode == 0, built.stdout + built.stderr
    return directory


def test_every_page_is_there_and_can_be_found(site: Path) -> None:
    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    pages = {entry["location"].split("#")[0] for entry in found}
    written = {f"docs/{page.stem}.html" for page in (ROOT / "docs").glob("*.md")}
    assert written | {"index.html", "models/index.html", "SECURITY.html"} <= pages
    for file in ("agent.schema.json", "trainer.schema.json", "asyncapi.yaml"):
        assert (site / "docs" / file).exists()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text())
        outside = [tag for tag in loaded if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag)]
        assert outside == [], page
        assert 'class="mermaid"' not in page.read_text()  # its code would come from elsewhere


def test_lists_within_lists_and_code_within_lists_are_such(site: Path) -> None:
    """GitHub needs three spaces for what belongs to an item, the builder of the site four."""
    contributing = (site / "CONTRIBUTING.html").read_text()
    assert "```" not in contributing
    assert "<li>" in contributing[contributing.index("The class, here in") - 200 :]
    format_page = (site / "models" / "index.html").read_text()
    assert re.search(r"<li>[^§]*?<ul>\s*<li>", format_page)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a page](docs/nowhere.md)", "docs/nowhere.md"),
        ("[an anchor](docs/keys.md#nowhere)", "nowhere"),
        ("[a folder](docs/)", "docs/"),
        ("![a picture](docs/images/nowhere.png)", "docs/images/nowhere.png"),
    ],
)
def test_what_leads_nowhere_fails(tmp_path: Path, text: str, says: str) -> None:
    for path in ("docs/site.py", "docs/keys.md"):
        copied = tmp_path / path
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, copied)
    settings = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    hook = tmp_path / "docs" / "site.py"
    hook.write_text(
        re.sub(r"BESIDE = \(.*?\n\)", 'BESIDE = ("README.md",)', hook.read_text(), flags=re.S)
    )
    for page in (tmp_path / "docs" / "keys.md", tmp_path / "README.md"):
        page.write_text("# A page\n")
    assert build(tmp_path, tmp_path / "site").returncode == 0
    (tmp_path / "README.md").write_text(f"# A page\n\n{text}\n")
    broken = build(tmp_path, tmp_path / "site")
    assert broken.returncode != 0
    assert says in broken.stdout + broken.stderr
