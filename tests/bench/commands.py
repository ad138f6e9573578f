"""Figures of the commands over MQTT: the round trip, and the memory with commands on and off.

Run it by its path with pytest ``-s``; it is not part of the tests.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from agent.remote.asking import body_of, order_for
from tests.system.conftest import line  # noqa: F401 - a fixture
from tests.system.test_commands import (  # noqa: F401 - fixtures
    GATEWAY,
    Central,
    Commanded,
    about,
    central,
    gateway,
)
from tests.system.test_handling import Gateway

ROUNDS = int(os.environ.get("ROUNDS", "200"))


def test_round_trip(tmp_path: Path, gateway: Commanded, central: Central) -> None:  # noqa: F811
    anna = gateway.trust(tmp_path, "operate", "anna")
    took = []
    for turn in range(ROUNDS):
        verb = "alarm.unacknowledge" if turn % 2 else "alarm.acknowledge"
        order = order_for(GATEWAY, anna, verb, about(turn + 1), 60.0)
        began = time.perf_counter()
        central.client.publish("fieldwatch/v1/plant/gw-1/command", body_of(order, anna), 1)
        while not any(one["id"] == order.id for one in central.answers[-3:]):
            time.sleep(0.0005)
        took.append(time.perf_counter() - began)
        assert central.answers[-1]["ok"], central.answers[-1]
        time.sleep(0.05)  # the loop takes 20 commands a second
    p50, p99 = np.percentile(took, [50, 99]) * 1000
    print(f"{ROUNDS} round trips: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    status = Path(f"/proc/{gateway.agent.process.pid}/status").read_text()  # type: ignore[union-attr]
    print("on:", next(one for one in status.splitlines() if one.startswith("VmRSS")))
    text = gateway.config.read_text().replace("enabled = true", "enabled = false")
    gateway.config.write_text(text)
    gateway.agent.stop()
    Gateway.start(gateway)
    status = Path(f"/proc/{gateway.agent.process.pid}/status").read_text()  # type: ignore[union-attr]
    print("off:", next(one for one in status.splitlines() if one.startswith("VmRSS")))
