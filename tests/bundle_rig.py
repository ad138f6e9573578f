"""A gateway with a stream that has a bundle and one that has none, for tests of refused bundles."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.control.client import NoAgent, ask
from agent.store.reader import Reader
from models import bundle as bundles
from models import known_answers, signing
from models.bundle import Bundle
from models.families import detector_of
from models.manifest import (
    BaselinePart,
    Events,
    HampelManifest,
    KnownAnswers,
    Lineage,
    Sampling,
    Severities,
    unscaled,
)
from models.messages import Samples
from tests.conftest import RealAgent, wait_until
from tests.database import make_files

START_S = 1_700_000_000.0
WARM_UP = 20  # samples
NORMAL, FAR = 50.0, 90.0
BASELINE = """
[streams.baseline]
period_s = 1.0
history_samples = 40
update_samples = 5
warm_up_samples = 20
channels = [{ name = "flow" }]
"""


def flow_bundle(
    path: Path, version: int = 1, key: Path | None = None, channel: str = "flow", name: str = "flow"
) -> Bundle:
    """Write a bundle of the family hampel to ``path``; return what is read there."""
    manifest = HampelManifest(
        name=name,
        version=version,
        created="2026-01-01T00:00:00Z",
        channels=[unscaled(channel, "l/s", None, None)],
        sampling=Sampling(
            period_s=1.0,
            hold_samples_max=0,
            missing_samples=10,
            reset_gap_samples=50,
            warm_up_samples=WARM_UP,
        ),
        events=Events(on_samples=2, off_samples=5, deadband=0.8),
        severities=Severities(medium=1e-4, high=1e-6, unrated="low"),
        baseline=BaselinePart(
            resolution=[0.0],
            history_samples=40,
            update_samples=5,
            deviations_max=6.0,
            adapt_samples=10_000,
        ),
        known_answers=KnownAnswers(tolerance=1e-6),
        lineage=Lineage(
            data_digest="", data_files=[], parts={}, config_digest="", seed=0, software={}
        ),
        metrics={},
        files={},
    )
    values = np.float32(noisy(60))[:, None]
    values[50:] = FAR
    samples = Samples(np.arange(60.0), values)
    detector = detector_of(Bundle(manifest, manifest.to_bytes(), {}, None, "draft"))
    answers = known_answers.record(samples, detector.step(detector.start(), samples))
    parts = {"known_answers.json": answers}
    files = {part: bundles.file_part(data) for part, data in parts.items()}
    sealed = manifest.model_copy(update={"files": files})
    signature = key and signing.sign(sealed.to_bytes(), key, f"{name} version {version}")
    bundles.write(path, sealed, parts, signature)
    return bundles.read(path)


def noisy(count: int, about: float = NORMAL, seed: int = 1) -> list[float]:
    noise = np.random.default_rng(seed).uniform(-0.02, 0.02, count)
    return [round(value, 4) for value in (about + noise).tolist()]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


class Rows:
    """A file that an input follows."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        path.touch()

    def add(self, values: Sequence[float]) -> None:
        """Append a row for each value, a second after the one before."""
        with self.path.open("a") as file:
            file.writelines(
                f"{START_S + self.count + number},{value}\n" for number, value in enumerate(values)
            )
        self.count += len(values)

    def empty(self) -> None:
        """Remove all rows; those that follow have later times."""
        self.path.write_text("")


class Gateway:
    """The agent's directory; the streams ``pump`` (a bundle) and ``fan`` (none)."""

    def __init__(
        self, directory: Path, start: Callable[[Path], RealAgent], more: str = "", top: str = ""
    ) -> None:
        """``more`` is added to the stream ``pump``, ``top`` to the configuration."""
        self.directory, self._start = directory, start
        make_files(directory / "data")
        self.pump, self.fan = Rows(directory / "pump.csv"), Rows(directory / "fan.csv")
        self.bundle = directory / "pump.fieldwatch"
        self.config = directory / "agent.toml"
        self._agent: RealAgent | None = None
        self.configure(more, top)

    def configure(
        self, more: str = "", top: str = "", fan: bool = True, column: str = "flow"
    ) -> None:
        def input_of(stream: str, column: str = "flow") -> str:
            return f"""
[[inputs]]
name = "{stream}-file"
type = "file"
stream = "{stream}"
path = "{stream}.csv"
begin = "start"
poll_interval_s = 0.02
columns = ["time", "{column}"]
"""

        other = f'[[streams]]\nname = "fan"\n{BASELINE}{input_of("fan")}' if fan else ""
        self.config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
flush_interval_s = 0.05
{top}
[[streams]]
name = "pump"
bundle = "pump.fieldwatch"
{more}
{input_of("pump", column)}
{other}
""")

    def start(self) -> RealAgent:
        """Start the agent; return when it answers."""
        self._agent = self._start(self.config)
        wait_until(self._answers, "the agent to answer")
        return self._agent

    def _answers(self) -> bool:
        assert self._agent is not None
        assert self._agent.process is not None
        assert self._agent.process.poll() is None, self._agent.log()
        try:
            self.state()
        except NoAgent:
            return False
        return True

    def stop(self) -> None:
        assert self._agent is not None
        assert self._agent.stop() == 0

    def state(self) -> dict[str, Any]:
        return ask(self.directory / "data" / "control.sock", "state")

    def stream(self, name: str = "pump") -> dict[str, Any]:
        found: dict[str, Any] = self.state()["streams"][name]
        return found

    def wait_for_samples(self, name: str, count: int) -> None:
        """Until so many samples were stored since the start."""
        wait_until(
            lambda: self.stream(name)["counters"].get("samples", 0) >= count,
            f"{count} samples of {name}",
        )

    def stored_samples(self, name: str) -> int:
        with Reader(self.directory / "data") as reader:
            chunks = reader.newest_samples(name, 10**6)
        return sum(len(scores) // 4 for _, _, scores, _ in chunks)  # float32

    def alarms(self) -> list[dict[str, Any]]:
        with Reader(self.directory / "data") as reader:
            return list(reader.alarms(limit=100))

    def ran(self) -> dict[str, Any]:
        """What the agent remembers of bundles."""
        found: dict[str, Any] = json.loads(self.kept("ran.json").read_text())
        return found

    def kept(self, name: str) -> Path:
        return self.directory / "data" / "bundles" / name
