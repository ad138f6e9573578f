"""The example for many gateways: Ansible's role, run in a folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.load import load
from tests.conftest import ROOT
from tests.secured_broker import SecuredBroker

EXAMPLE = ROOT / "docs" / "examples" / "ansible"
PROGRAM = Path(sys.executable).parent / "ansible-playbook"
PASSWORD = "of plant/gw-1"


class Fleet:
    """The example's role, with one gateway that is a folder."""

    def __init__(self, directory: Path, broker: SecuredBroker) -> None:
        self.root = directory / "root"
        self._example, self._scratch = directory / "ansible", directory / "scratch"
        self._scratch.mkdir()
        shutil.copytree(EXAMPLE, self._example)
        shutil.copy(broker.authority.file, self._example / "ca.pem")
        agent = directory / "fieldwatch-agent"
        agent.write_text(f'#!/bin/sh\nexec {sys.executable} -m agent "$@"\n')
        agent.chmod(0o755)
        self._settings = {
            "fieldwatch_agent": str(agent),
            "fieldwatch_options": ["--root", str(self.root)],
            "fieldwatch_scratch": str(self._scratch),
            "fieldwatch_site": "plant",
            "fieldwatch_name": "gw-1",
            "fieldwatch_password": PASSWORD,
            "fieldwatch_broker": {
                "host": "127.0.0.1",
                "port": broker.gateways_port,
                "tls_ca_file": "ca.pem",
            },
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
        }
        self.config = self.root / "etc" / "fieldwatch" / "agent.toml"

    def play(self, *words: str, **settings: object) -> int:
        """Run the playbook verbosely; return how many tasks changed something."""
        inventory = self._example / "inventory.json"
        host = {"hosts": {"gateway": self._settings | settings}}
        inventory.write_text(json.dumps({"gateways": host}))
        ended = subprocess.run(
            [PROGRAM, "-i", inventory, "site.yml", "--diff", "-vv", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._example,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "HOME": str(self._scratch.parent), "LC_ALL": "C.UTF-8"}
            | {
                "ANSIBLE_PIPELINING": "1",
                "ANSIBLE_LOCAL_TEMP": str(self._scratch.parent / "local"),
            },
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert PASSWORD not in ended.stdout + ended.stderr
        assert list(self._scratch.iterdir()) == []  # the answers are gone
        counted = re.search(r"changed=(\d+)", ended.stdout)
        assert counted is not None
        return int(counted[1])


@pytest.fixture
def fleet(tmp_path: Path, secured: SecuredBroker) -> Fleet:
    return Fleet(tmp_path, secured)


def test_the_role_sets_a_gateway_up_and_would_then_change_nothing(fleet: Fleet) -> None:
    assert fleet.play() == 1
    config = load(fleet.config)
    assert config.mqtt is not None and config.mqtt.username == "plant/gw-1"
    assert (fleet.root / "etc/credstore/mqtt.password").read_text() == PASSWORD
    assert fleet.play("--check") == 0


def test_check_mode_writes_nothing_and_a_broker_that_is_down_stops_no_fleet(fleet: Fleet) -> None:
    down = {"host": "no-such-host.invalid", "port": 1883}
    assert fleet.play("--check", fieldwatch_broker=down) == 1
    assert not fleet.root.exists()
