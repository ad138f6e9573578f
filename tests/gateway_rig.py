"""A gateway with its page: an agent whose alarms a test raises at will, and who looks at them."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.control.client import ask
from agent.handling.states import UNACKNOWLEDGED
from agent.store.reader import Reader
from models.errors import FieldwatchError
from tests.conftest import ROOT, WAIT_S_MAX, ZOO_BUNDLE, RealAgent, RealBroker, wait_until
from tests.database import make_files

HOSTILE = '<b title="x">O\'Neill</b> & {{ 7 * 7 }}'  # printable, as a title must be
VALVE = "valve"  # the stream whose alarms a test raises
FINE, HIGH, LOW = 5.0, 12.0, -1.0  # its levels

# the pump has a fault at once; the valve has what a test writes
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
            _CONFIG.format(port=self.broker.port, bundle=ZOO_BUNDLE, hostile=json.dumps(HOSTILE))
        )
        self.socket = directory / "data" / "control.sock"
        self.agent = RealAgent(self.config)
        self.start_agent()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._page: subprocess.Popen[bytes] | None = None
        self.start_page()

    def start_agent(self) -> None:
        self.agent.start()
        wait_until(self._answers, "the agent")

    def _answers(self) -> bool:
        try:
            return bool(ask(self.socket, "state"))
        except FieldwatchError:
            return False

    def start_page(self) -> None:
        """As systemd does it: it has the socket, so no request is lost while the page starts."""
        command = "from pathlib import Path; from agent.page.run import run; run(Path(%r))"
        found = self._listening.fileno()
        shell = f'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{found}'
        python = [sys.executable, "-X", "faulthandler", "-c", command % str(self.config)]
        with (self.directory / "page.log").open("ab") as log:
            self._page = subprocess.Popen(
                ["bash", "-c", shell, "sh", *python],
                pass_fds=[found],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def stop_page(self) -> None:
        """End it; the socket stays, and who connects waits."""
        assert self._page is not None
        self._page.terminate()
        assert self._page.wait(WAIT_S_MAX) in (0, -signal.SIGTERM)

    def set_level(self, level: float) -> None:
        """Let the valve have this level."""
        with (self.directory / "lines").open("a") as lines:
            lines.write(json.dumps({"level": level}) + "\n")

    def alarms_of(self, stream: str) -> list[dict[str, Any]]:
        """Return the alarms of a stream as the store has them, in order."""
        with Reader(self.directory / "data") as reader:
            return reader.alarms_of(stream, 1000)[::-1]

    def ask(self, verb: str, stream: str, number: int, **more: Any) -> None:
        """Handle an alarm from elsewhere."""
        ask(self.socket, f"alarm.{verb}", {"stream": stream, "number": number, **more})

    def calm(self, stream: str) -> None:
        """Let no alarm of a stream wait for anybody, now that none is active."""
        for verb, states in (("unshelve", {"SHLVD"}), ("acknowledge", UNACKNOWLEDGED)):
            with Reader(self.directory / "data") as reader:
                standings = reader.standings()
            for (name, _), standing in standings.items():
                if name == stream and standing.state in states:
                    self.ask(verb, stream, standing.number)

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
        if self._page is not None and self._page.poll() is None:
            self.stop_page()
        self._listening.close()
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
        print((directory / "page.log").read_text())
