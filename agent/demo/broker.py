"""A broker for the demo: mosquitto if it is installed, otherwise amqtt from the demo extra."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from models.errors import FieldwatchError

_START_S_MAX = 15.0
SBIN = "/usr/sbin:/usr/local/sbin"  # Debian installs mosquitto here, outside a user's PATH


class BrokerMissing(FieldwatchError):
    """Neither mosquitto nor amqtt can be started."""

    exit_code = 69


class Broker:
    """A broker on a free loopback port, in a separate process; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.name = ""
        self.protocol = "auto"

    def __enter__(self) -> Broker:
        """Start it and wait until it accepts connections."""
        self.port = free_port()
        command = self._command()
        log = (self._directory / "broker.log").open("wb")
        with log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _command(self) -> list[str]:
        mosquitto = os.environ.get("FIELDWATCH_MOSQUITTO") or shutil.which(
            "mosquitto", path=f"{os.environ.get('PATH', '')}:{SBIN}"
        )
        if mosquitto:
            self.name = "mosquitto"
            config = self._directory / "mosquitto.conf"
            config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
            return [mosquitto, "-c", str(config)]
        if importlib.util.find_spec("amqtt") is not None:
            # amqtt does not answer MQTT 5 at all; with "auto" the agent would wait for a time-out
            self.name, self.protocol = "amqtt", "3.1.1"
            return [sys.executable, "-P", "-m", __spec__.name, str(self.port)]
        raise BrokerMissing(
            "no MQTT broker is installed: install mosquitto (apt install mosquitto) or the embedded"
            " broker (pip install 'fieldwatch[demo]')"
        )

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S_MAX
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        log = (self._directory / "broker.log").read_text(errors="replace")[-500:]
        self.__exit__()
        raise BrokerMissing(f"{self.name} did not start: {log}")


def free_port() -> int:
    """Return a port of this machine at which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _serve(port: int) -> None:
    """Run amqtt until the process ends."""
    from amqtt.broker import Broker as EmbeddedBroker

    broker = EmbeddedBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}},
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
