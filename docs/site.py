"""Makes a site of the files that GitHub shows, under the same paths: so links hold in both.

A hook of mkdocs; see ``mkdocs.yml``. Pages outside of ``docs/`` (the README, the bundle's format),
and files that pages link to, are part of the site. The strict build finds a link to a file that is
not listed here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

BESIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "LICENSE",
    "MLproject",
    "models/README.md",
    "models/zoo/pump.toml",
    "scripts/gateway-certificate",
    "scripts/install-gateway",
    "systemd/agent.toml",
    "tests/cases/README.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Give each file the path that it has in the repository."""
    from mkdocs.structure.files import File

    root = Path(config.docs_dir).parent
    own = [file for file in files if file.src_dir == config.docs_dir]  # the rest is the theme's
    for file in own:
        files.remove(file)
    documents = [f"docs/{file.src_uri}" for file in own if not file.src_uri.endswith(".py")]
    for path in (*documents, *BESIDE):
        files.append(File.generated(config, path, abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Indent what belongs to the item of a numbered list by four: GitHub needs three."""
    parts = re.split(r"(?ms)(^```.*?^```)", markdown)  # a block of code is every second part
    parts[::2] = [re.sub(r"(?m)^   (?=\S| )", "    ", part) for part in parts[::2]]
    return "".join(parts)
