"""Real parts for the tests: a broker, the reference bundle, an agent as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from models import bundle as bundles
from models.bundle import Bundle
from models.forecaster import Forecaster
from models.interpreter import ForecastNetwork
from models.known_answers import foretell, with_features
from models.manifest import FORECASTER, KNOWN_ANSWERS, NETWORK, Feature, ForecastPart, Source
from tests.disk import Disk

ROOT = Path(__file__).resolve().parent.parent
ZOO_BUNDLE = ROOT / "models" / "zoo" / "pump.fieldwatch"
PARTS = ROOT / ".parts"
WAIT_S_MAX = 120.0  # only what fails takes this long

# on a busy machine an example takes as long as it takes
settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_S_MAX) -> None:
    """Poll until ``condition`` holds; fail, naming what did not come, after a generous bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Commands that run in this process set it for good; later tests are to have ours."""
    was = os.umask(0o077)
    os.umask(was)
    yield
    os.umask(was)


@pytest.fixture(scope="session")
def zoo_bundle() -> Bundle:
    return bundles.read(ZOO_BUNDLE)


@pytest.fixture(scope="session")
def signal_bundle(zoo_bundle: Bundle) -> Bundle:
    """The reference bundle, its vibration computed from a raw channel: 250 values a second."""
    kinds = {
        "vibration_x": Feature(source="accel", kind="rms"),
        "vibration_y": Feature(source="accel", kind="band_energy", low_hz=20.0, high_hz=60.0),
    }
    accel = Source(
        name="accel",
        unit="m/s2",
        low=-100.0,
        high=100.0,
        rate_hz=250.0,
        window_samples=64,
        missing_share_max=0.1,
    )
    channels = [
        channel.model_copy(update={"feature": kinds.get(channel.name)})
        for channel in zoo_bundle.manifest.channels
    ]
    changes = {"channels": channels, "sources": [accel]}
    manifest = zoo_bundle.manifest.model_copy(update={"metrics": {}} | changes)
    parts = dict(zoo_bundle.parts)
    parts[KNOWN_ANSWERS] = with_features(parts[KNOWN_ANSWERS], manifest)
    files = {name: bundles.file_part(data) for name, data in parts.items()}
    manifest = manifest.model_copy(update={"files": files})
    return Bundle(manifest, manifest.to_bytes(), parts, None, "signal")


@pytest.fixture(scope="session")
def forecasting_bundle(zoo_bundle: Bundle) -> Callable[..., Bundle]:
    """The reference bundle's detector with the small forecaster of tests/models/data.

    It forecasts a random walk, see tests/models/make_forecast_network.py: 24 steps of context, 12
    of horizon. ``forecasting_bundle(stride_steps=4)`` changes settings of its part.
    """
    network = (ROOT / "tests" / "models" / "data" / "forecast_network.tflite").read_bytes()
    channels = len(zoo_bundle.manifest.scored)
    leads = [1, 3, 6, 12]
    settings: dict[str, Any] = {
        "step_samples": 5,
        "context_steps": 24,
        "horizon_steps": 12,
        "stride_steps": 2,
        "quantiles": [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975],
        "scale_floor": 0.01,
        "patch_steps": 6,
        "width": 8,
        "heads": 2,
        "layers": 1,
        "imputation": {"method": "linear", "gap_steps_max": 4, "missing_share_max": 0.25},
        "intervals": {
            "leads_steps": leads,
            "offsets": np.zeros((7, channels, len(leads))).tolist(),
            "rate": 0.0,
        },
        "quantization": "float32",
    }

    def make(**changes: Any) -> Bundle:
        part = ForecastPart.model_validate(settings | changes)
        # metrics of another file would be refused
        changed = {"forecaster": part, "metrics": {}}
        manifest = zoo_bundle.manifest.model_copy(update=changed)
        parts = {NETWORK: zoo_bundle.network, FORECASTER: network}
        forecaster = Forecaster(manifest, ForecastNetwork(network))
        steps = np.linspace(0, 1, part.context_steps, dtype=np.float32)[:, None]
        center = np.array([channel.center for channel in forecaster.channels], np.float32)
        scale = np.array([channel.scale for channel in forecaster.channels], np.float32)
        known = json.loads(zoo_bundle.parts[KNOWN_ANSWERS])
        foretold = foretell(forecaster, center + scale * steps)
        known["forecast"] = {
            "context": foretold.context.tolist(),
            "quantiles": foretold.quantiles.tolist(),
        }
        parts[KNOWN_ANSWERS] = json.dumps(known).encode()
        files = {name: bundles.file_part(data) for name, data in parts.items()}
        manifest = manifest.model_copy(update={"files": files})
        return Bundle(manifest, manifest.to_bytes(), parts, None, "forecasting")

    return make


def mosquitto() -> tuple[str, dict[str, str]]:
    """The program and its environment; see ``scripts/get-parts``."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = os.environ.get("FIELDWATCH_MOSQUITTO") or shutil.which("mosquitto", path=path)
    if found:
        return found, dict(os.environ)
    unpacked = PARTS / "usr" / "sbin" / "mosquitto"
    assert unpacked.exists(), "the tests need mosquitto; get it with: make test"
    libraries = ":".join(str(directory) for directory in (PARTS / "usr" / "lib").glob("*-linux-*"))
    return str(unpacked), os.environ | {"LD_LIBRARY_PATH": libraries}


def hold_port(server: object) -> int:
    """Return a free port for a server, and hold it while the server is not there.

    The kernel would else give it to anybody meanwhile, and even to a client that looks for the
    server there, which then talks to itself.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the server may have it
    held.bind(("127.0.0.1", 0))
    weakref.finalize(server, held.close)
    return int(held.getsockname()[1])


class RealBroker:
    """A mosquitto on a port of its own, which can be killed and started again."""

    def __init__(self, directory: Path, more: str = "", first: str = "") -> None:
        """``more`` is of its listener; ``first`` comes before that in its configuration."""
        self.port = hold_port(self)
        self._config = directory / "mosquitto.conf"
        self._config.write_text(
            f"{first}listener {self.port} 127.0.0.1\nallow_anonymous true\n"
            f"max_queued_messages 0\n{more}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program, environment = mosquitto()
        self._process = subprocess.Popen(
            [program, "-c", str(self._config)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._accepts, "mosquitto to accept connections")

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "mosquitto ended by itself"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it so that it saves what it has, where it is told to."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealBroker]:
    real = RealBroker(tmp_path)
    real.start()
    yield real
    real.kill()


AGENT = (sys.executable, "-m", "agent")


class RealAgent:
    """``fieldwatch-agent run`` as a process; its log is kept for a failing test to show."""

    def __init__(self, config: Path, program: Sequence[str] = AGENT, **environment: str) -> None:
        self.config = config
        self._program, self._environment = program, environment
        self._log = config.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._program, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | self._environment,
            )

    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code. The promise is five seconds; a busy machine may take longer."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S_MAX)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk that works, until the test says otherwise; see there who is on it."""
    return Disk(tmp_path / "fault")


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., RealAgent]]:
    """Start agents in ``tmp_path``, which may go once they have ended."""
    agents: list[RealAgent] = []

    def start(config: Path, program: Sequence[str] = AGENT, **environment: str) -> RealAgent:
        agent = RealAgent(config, program, **environment)
        agents.append(agent)
        agent.start()
        return agent

    yield start
    for agent in agents:
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()
    for log in {agent.log() for agent in agents}:
        print(log)  # which pytest shows of a test that failed
