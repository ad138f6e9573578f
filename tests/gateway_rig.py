"""A gateway with its page: an agent whose alarms a test raises at will, and who looks at them."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.control.client import ask
from agent.handling.states import UNACKNOWLEDGED, Standing
from agent.store.reader import Reader
from models.errors import FieldwatchError
from tests.conftest import ROOT, ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.database import make_files
from tests.page_rig import RealPage

HOSTILE = '<b title="x">O\'Neill</b> & {{ 7 * 7 }}'  # printable, as a title must be
USER = "maria"
VALVE = "valve"  # the stream whose alarms a test raises
FINE, HIGH, LOW = 5.0, 12.0, -1.0  # its levels

_SENSOR_S = 0.25  # between two values of the valve

# the pump has a fault at once; the valve has the level that a test sets
_CONFIG = """
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.1
[mqtt]
host = "127.0.0.1"
port = {port}
[health]
interval_s = 1
[control]
page_user = "{user}"
[[streams]]
name = "pump"
bundle = "{bundle}"
silent_after_s = 3600
[[streams]]
name = "valve"
title = {hostile}
titles = {{ level = {hostile} }}
silent_after_s = 3600
[streams.baseline]
period_s = 0.5
missing_samples = 100000
warm_up_samples = 100000
channels = [{{ name = "level", unit = "<i>mm</i>" }}]
[[streams.limits]]
channel = "level"
low_warning = 0.0
high_critical = 10.0
off_delay_s = 0.0
action = {hostile}
[[streams.help]]
kind = "limit_passed"
text = {hostile}
link = "https://plant.example/'><script>alert(1)</script>"
[[inputs]]
name = "simulated"
type = "simulator"
stream = "pump"
fault = "stuck_sensor"
fault_at_s = 5
[[inputs]]
name = "file"
type = "file"
path = "lines"
stream = "valve"
format = "json"
begin = "start"
poll_interval_s = 0.05
"""


class Gateway:
    """A broker, an agent, and the page's process, which all can be ended and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.broker = RealBroker(directory)
        self.broker.start()
        make_files(directory / "data")
        (directory / "lines").touch()
        self.config = directory / "agent.toml"
        self.config.write_text(
            _CONFIG.format(
                port=self.broker.port,
                user=pwd.getpwuid(os.getuid()).pw_name,
                bundle=ZOO_BUNDLE,
                hostile=json.dumps(HOSTILE),
            )
        )
        self.socket = directory / "data" / "control.sock"
        self.level = FINE  # which a test sets
        self._closed = threading.Event()
        self._sensor = threading.Thread(target=self._measure)
        self._sensor.start()
        self.agent = RealAgent(self.config)
        self.start_agent()
        self.page = RealPage(self.config, 'users_file = "page-users"')
        self.page.add(USER, "maintainer")
        self.page.start()
        self.url = f"http://127.0.0.1:{self.page.port}"

    def start_agent(self) -> None:
        self.agent.start()
        wait_until(self._answers, "the agent")

    def _answers(self) -> bool:
        try:
            return bool(ask(self.socket, "state"))
        except FieldwatchError:
            return False

    def _measure(self) -> None:
        """Be the valve's sensor."""
        with (self.directory / "lines").open("a", buffering=1) as lines:
            while not self._closed.wait(_SENSOR_S):
                lines.write(json.dumps({"level": self.level}) + "\n")

    def alarms_of(self, stream: str) -> list[dict[str, Any]]:
        """Return the alarms of a stream as the store has them, in order."""
        with Reader(self.directory / "data") as reader:
            return reader.alarms_of(stream, 1000)[::-1]

    def ask(self, verb: str, stream: str, number: int, **more: Any) -> None:
        """Handle an alarm from elsewhere, as it is now."""
        revision = next(
            standing.revision
            for (name, _), standing in self._standings().items()
            if name == stream and standing.number == number
        )
        named = {"stream": stream, "number": number, "revision": revision}
        ask(self.socket, f"alarm.{verb}", {**named, **more})

    def calm(self, stream: str) -> None:
        """Let no alarm of a stream wait for anybody, now that none is active."""
        for verb, states in (("unshelve", {"SHLVD"}), ("acknowledge", UNACKNOWLEDGED)):
            for (name, _), standing in self._standings().items():
                if name == stream and standing.state in states:
                    self.ask(verb, stream, standing.number)

    def _standings(self) -> dict[tuple[str, str], Standing]:
        with Reader(self.directory / "data") as reader:
            return reader.standings()

    def command(self, *words: str) -> Any:
        ended = subprocess.run(
            [sys.executable, "-m", "agent", "alarms", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        return json.loads(ended.stdout)

    def close(self) -> None:
        self._closed.set()
        self._sensor.join()
        self.page.stop()
        if self.agent.process is not None and self.agent.process.poll() is None:
            self.agent.stop()
        self.broker.kill()


@contextlib.contextmanager
def gateway_in(directory: Path) -> Iterator[Gateway]:
    gateway = Gateway(directory)
    try:
        yield gateway
    finally:
        gateway.close()
        print(gateway.agent.log(), gateway.page.log())
