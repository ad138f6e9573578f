"""A cloned SD card: two agents with one name, and one broker."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from agent.health.status import describe
from tests.agent_rig import StartAgent, configure, status
from tests.conftest import RealBroker, wait_until
from tests.serial_line import Line


def twin(directory: Path) -> dict[str, Any]:
    link = status(directory).get("uplink") or {}
    return link.get("twin") or {"state": "unknown"}


def test_the_log_and_the_status_of_both_say_so(
    tmp_path: Path, line: Line, broker: RealBroker, start_agent: StartAgent
) -> None:
    original, clone = tmp_path, tmp_path / "clone"
    config = configure(original, line, broker.port)
    agent = start_agent(config)
    wait_until(lambda: twin(original)["state"] == "none", "the agent's own status")
    assert agent.stop() == 0
    clone.mkdir()
    other = Line(clone / "ttyPUMP")
    shutil.copytree(original / "data", clone / "data")
    agents = [start_agent(config), start_agent(configure(clone, other, broker.port))]
    for directory in (original, clone):
        wait_until(lambda at=directory: twin(at)["state"] == "found", "the twin to be found")  # type: ignore[misc]
        assert any("NAME USED TWICE" in told for told in describe(status(directory)))
    other.close()
    for each in agents:
        assert each.stop() == 0
        assert each.log().count("another gateway uses the name plant/gw-1") == 1
