"""A family of models of another package, found by its entry point without touching the agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, RealAgent, wait_until

# scores a value by its size, in units of a setting; opens events by the house's rules
MODULE = """
import json

import numpy as np

from models.detector import BatchResult
from models.errors import BundleCorrupt
from models.events import EventRules, Recent
from models.messages import ALL
from models.sensors import SensorRuns
from models.state import StateMismatch, event_scalars, set_events
from models.threshold import Exceedance


class Size:
    runtime, forecaster = "arithmetic", None

    def __init__(self, bundle, runtime):
        self.manifest, self.digest = bundle.manifest, bundle.digest
        self.detector = bundle.manifest.detector
        self._largest = bundle.manifest.settings.get("largest")
        if not isinstance(self._largest, float):
            raise BundleCorrupt(f"{bundle.source}: settings.largest: a number is needed")
        self._rules = EventRules(self.manifest)

    def start(self, streams=1):
        return [self._rules.start() for _ in range(streams)]

    def step(self, memory, samples):
        times, values = samples.times[:, None], samples.values[:, None]
        return self.step_together(memory, ALL, times, values).first(samples.times, None)

    def step_together(self, memory, who, times, values):
        ratio = np.abs(values) / np.float32(self._largest)
        one, expected, events = np.ones_like(ratio), np.zeros_like(values), []
        runs = SensorRuns(*np.zeros((2, *values[:, 0].shape), np.int64))
        for column, number in enumerate(np.arange(len(memory))[who].tolist()):
            if len(times):
                events += [(column, e) for e in self._rules.heard(memory[number], times[0, column])]
            seen = Exceedance(one[:, column], ratio[:, column], ratio[:, column] > 1)
            recent = Recent(times[:, column], values[:, column], expected[:, column])
            found = self._rules.step(memory[number], recent, 0, seen, runs)
            events += [(column, event) for event in found]
        return BatchResult(np.fmax.reduce(ratio, axis=-1), expected, ratio, one, events)

    def changed_parts(self, memory, stream=0):
        scalars = event_scalars(memory[stream]) | {"digest": self.digest}
        return {"size": json.dumps(scalars).encode()}

    def restore(self, parts):
        scalars = json.loads(parts.get("size", b"{}"))
        if scalars.get("digest") != self.digest:
            raise StateMismatch("of another bundle")
        [state] = memory = self.start()
        set_events(state, scalars)
        return memory

    def adopt(self, memory, stream, one):
        memory[stream] = one[0]

    def events(self, memory, stream=0):
        return memory[stream]

    def open_events(self, memory, stream=0):
        return self._rules.open_events(memory[stream])

    def open_silence(self, memory, time, since, stream=0):
        return self._rules.open_silence(memory[stream], time, since)

    def forecasts(self, memory, stream=0):
        return None
"""

# seals a bundle: its settings come from the command line
MAKE = """
import json, sys
from pathlib import Path

import numpy as np

from models import bundle as bundles, known_answers
from models.bundle import Bundle, file_part
from models.families import detector_of
from models.manifest import (
    Events, ForeignManifest, KnownAnswers, Lineage, Sampling, Severities, unscaled
)
from models.messages import Samples

settings = json.loads(sys.argv[2])
manifest = ForeignManifest(
    name="outside", version=1, created="2026-01-01T00:00:00Z", detector="size", settings=settings,
    channels=[unscaled("flow", "l/s", None, None)],
    sampling=Sampling(
        period_s=1.0, hold_samples_max=0, missing_samples=10, reset_gap_samples=10,
        warm_up_samples=0,
    ),
    events=Events(on_samples=2, off_samples=5, deadband=0.8),
    severities=Severities(medium=1e-4, high=1e-6, unrated="low"),
    known_answers=KnownAnswers(tolerance=1e-6),
    lineage=Lineage(
        data_digest="", data_files=[], parts={}, config_digest="", seed=0, software={}
    ),
    metrics={}, files={},
)
times = np.arange(20.0)
samples = Samples(times, np.where(times < 10, 1, 9).astype(np.float32)[:, None])
detector = detector_of(Bundle(manifest, manifest.to_bytes(), {}, None, "draft"))
answers = known_answers.record(samples, detector.step(detector.start(), samples))
parts = {"known_answers.json": answers}
files = {name: file_part(data) for name, data in parts.items()}
bundles.write(Path(sys.argv[1]), manifest.model_copy(update={"files": files}), parts, None)
"""

CONFIG = """
[gateway]
site = "plant"
name = "g"

[[streams]]
name = "line"
bundle = "outside.fieldwatch"

[[inputs]]
name = "file"
type = "file"
stream = "line"
path = "lines.csv"
begin = "start"
poll_interval_s = 0.05
columns = ["time", "flow"]

[store]
directory = "data"
flush_interval_s = 0.1
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return install(tmp_path / "site", "sizes", "size = sizes:Size")


def install(directory: Path, name: str, point: str) -> Path:
    """Lay out a package as an installer does."""
    directory.mkdir(exist_ok=True)
    (directory / "sizes.py").write_text(MODULE)
    information = directory / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[fieldwatch.families]\n{point}\n")
    return directory


def run(package: Path | None, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path_with(package)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def path_with(package: Path | None) -> str:
    return f"{ROOT}:{package}" if package else str(ROOT)


def sealed(package: Path, settings: str = '{"largest": 5.0}') -> Path:
    file = package.parent / "outside.fieldwatch"
    ended = run(package, "-c", MAKE, file, settings)
    assert ended.returncode == 0, ended.stderr
    return file


def test_its_bundle_is_verified_inspected_and_scored_with(package: Path, tmp_path: Path) -> None:
    file = sealed(package)
    verified = run(package, "-m", "agent", "bundle", "verify", file)
    assert verified.returncode == 0, verified.stderr
    assert "good on arithmetic" in verified.stdout
    inspected = run(package, "-m", "agent", "bundle", "inspect", file, "--json")
    document = json.loads(inspected.stdout)
    assert (document["detector"], document["format_version"]) == ("size", 2)
    assert document["settings"] == {"largest": 5.0}
    recording = tmp_path / "r.csv"
    rows = [f"{1_700_000_000 + n},{8.0 if 30 <= n < 40 else 1.0}" for n in range(60)]
    recording.write_text("time,flow\n" + "\n".join(rows) + "\n")
    played = run(package, "-m", "agent", "replay", recording, "--bundle", file, "--json")
    outcome = json.loads(played.stdout)
    assert (outcome["samples"], outcome["scored"]) == (60, 60)
    assert [event["state"] for event in outcome["events"]] == ["opened", "closed"]
    assert outcome["events"][1]["score"] == pytest.approx(1.6)


def test_without_its_package_it_is_refused_by_name(package: Path) -> None:
    file = sealed(package)
    ended = run(None, "-m", "agent", "bundle", "verify", file)
    assert ended.returncode == 65
    assert "its model is of the family 'size', which nothing installed here knows" in ended.stderr
    assert "Install the package that brings 'size'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_agent_without_its_package_says_so_and_ends(
    package: Path, tmp_path: Path, start_agent: Callable[..., RealAgent]
) -> None:
    sealed(package)
    (tmp_path / "data").mkdir()
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG)
    agent = start_agent(config, PYTHONPATH=path_with(None))
    assert agent.process is not None
    assert agent.process.wait(60) == 65
    assert "its model is of the family 'size', which nothing installed here knows" in agent.log()


def test_its_settings_are_its_own_to_check(package: Path) -> None:
    ended = run(package, "-c", MAKE, package / "b", '{"largest": "very"}')
    assert "settings.largest: a number is needed" in ended.stderr


def test_two_packages_of_one_name_are_refused(package: Path) -> None:
    file = sealed(package)
    install(package, "others", "size = sizes:Size")
    ended = run(package, "-m", "agent", "bundle", "verify", file)
    assert ended.returncode == 65
    assert "the family 'size' is provided by 2 installed packages: keep one" in ended.stderr


def test_a_package_that_cannot_be_loaded_is_refused(package: Path) -> None:
    file = sealed(package)
    (package / "sizes.py").write_text("import nowhere_to_be_found\n")
    ended = run(package, "-m", "agent", "bundle", "verify", file)
    assert ended.returncode == 65
    assert "cannot be loaded from sizes:Size" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_family_that_is_built_in_stays_what_it_is(tmp_path: Path) -> None:
    package = install(tmp_path / "site", "usurper", "telemanom = sizes:Size")
    ended = run(package, "-m", "agent", "bundle", "verify", "models/zoo/pump.fieldwatch")
    assert ended.returncode == 0, ended.stderr
    assert "arithmetic" not in ended.stdout


def test_an_agent_runs_it_and_goes_on_after_a_restart(
    package: Path, tmp_path: Path, start_agent: Callable[..., RealAgent]
) -> None:
    sealed(package)
    (tmp_path / "data").mkdir()
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG)
    lines = tmp_path / "lines.csv"
    # the alarm opens before the restart, and closes after it
    lines.write_text("".join(f"{1_700_000_000 + n},{9.0 if n > 20 else 1.0}\n" for n in range(30)))
    agent = start_agent(config, PYTHONPATH=path_with(package))
    wait_until(lambda: "alarm opened: anomaly" in agent.log(), "the alarm")
    assert agent.stop() == 0
    with lines.open("a") as file:
        file.writelines(f"{1_700_000_030 + n},1.0\n" for n in range(30))
    agent = start_agent(config, PYTHONPATH=path_with(package))
    wait_until(lambda: "alarm closed: anomaly" in agent.log(), "its end")
    assert agent.stop() == 0
    assert agent.log().count("starts from nothing") == 1  # the first time
