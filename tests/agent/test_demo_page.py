"""What the demo's page needs of the agent's configuration."""

from __future__ import annotations

import os
import pwd
import tomllib
from pathlib import Path

import pytest

from agent.demo.page import DemoPage


def test_the_demo_names_the_user_as_the_kernel_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sudo`` and ``su`` leave another name in the environment."""
    monkeypatch.setenv("LOGNAME", "somebody-else")
    tables = tomllib.loads(DemoPage(tmp_path).tables)
    assert tables["control"] == {"page_user": pwd.getpwuid(os.geteuid()).pw_name}
    assert Path(tables["page"]["users_file"]).parent == tmp_path
