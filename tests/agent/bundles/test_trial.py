"""A network that is new to a gateway is tried in a process of its own, which may die of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.bundles.load import Loader
from agent.bundles.trial import BYTES_MAX, SECONDS_MAX, try_out
from agent.cli import commands
from agent.config.checker import Checker
from models import bundle as bundles
from models import known_answers
from models.bundle import Bundle
from models.errors import KnownAnswerMismatch, TrialFailed
from models.families import detector_of
from models.manifest import (
    KNOWN_ANSWERS,
    Events,
    ForeignManifest,
    KnownAnswers,
    Lineage,
    Sampling,
    Severities,
    unscaled,
)
from models.messages import Samples
from tests.bundle_rig import Gateway, flow_bundle, noisy
from tests.conftest import RealAgent, wait_until

# a family of another package: it notes who loads it, and does there what native code may do
MODULE = """
import ctypes, os, resource, signal

from models.baseline import Baseline, BaselineSettings


def build(bundle, runtime):
    manifest = bundle.manifest
    with open(manifest.settings["log"], "a") as log:
        print(os.getpid(), file=log)
    match manifest.settings["does"]:
        case "crash":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "take all memory":
            bytearray(2**32)
        case "never end":
            while True:
                pass
        case "wait":
            signal.pause()
        case "leave":
            os._exit(3)
        case "raise":
            raise RuntimeError("no such operator")
        case "fail":
            raise KeyError("a mistake\\x1b[2J")
    settings = BaselineSettings(
        name=manifest.name, channels=manifest.channels, resolution=[0.0],
        sampling=manifest.sampling, history_samples=40, adapt_samples=1000,
        events=manifest.events, severities=manifest.severities,
    )
    return Baseline(settings, bundle)
"""

Make = Callable[[str], Bundle]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes a bundle of that family, ``pump.fieldwatch``, and returns it."""
    package = tmp_path / "site"
    (information := package / "hazard-1.0.dist-info").mkdir(parents=True)
    (package / "hazard.py").write_text(MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hazard\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[fieldwatch.families]\nhazard = hazard:build\n")
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("PYTHONPATH", str(package), prepend=os.pathsep)

    def made(does: str) -> Bundle:
        manifest = ForeignManifest(
            name="hazard",
            version=1,
            created="2026-01-01T00:00:00Z",
            detector="hazard",
            settings={"does": does, "log": str(tmp_path / "loads")},
            channels=[unscaled("flow", "l/s", None, None)],
            sampling=Sampling(
                period_s=1.0,
                hold_samples_max=0,
                missing_samples=10,
                reset_gap_samples=50,
                warm_up_samples=20,
            ),
            events=Events(on_samples=2, off_samples=5, deadband=0.8),
            severities=Severities(medium=1e-4, high=1e-6, unrated="low"),
            known_answers=KnownAnswers(tolerance=1e-6),
            lineage=Lineage(
                data_digest="", data_files=[], parts={}, config_digest="", seed=0, software={}
            ),
            metrics={},
            files={},
        )
        parts = {KNOWN_ANSWERS: b"{}"}
        if does == "score":
            samples = Samples(np.arange(40.0), np.arange(40, dtype=np.float32)[:, None])
            detector = detector_of(Bundle(manifest, manifest.to_bytes(), {}, None, "draft"))
            answers = known_answers.record(samples, detector.step(detector.start(), samples))
            parts = {KNOWN_ANSWERS: answers}
            (tmp_path / "loads").unlink()
        files = {name: bundles.file_part(data) for name, data in parts.items()}
        path = tmp_path / "pump.fieldwatch"
        bundles.write(path, manifest.model_copy(update={"files": files}), parts, None)
        return bundles.read(path)

    return made


def loads(directory: Path) -> list[int]:
    """Return the processes that loaded the bundle since the last call."""
    log = directory / "loads"
    found = [int(line) for line in log.read_text().split()]
    log.unlink()
    return found


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("crash", "its network crashed the interpreter with SIGSEGV. The bundle was tested"),
        ("abort", f"with SIGABRT; perhaps it needs more than {BYTES_MAX // 2**20} MB"),
        ("take all memory", f"its network needs more than {BYTES_MAX // 2**20} MB of memory"),
        ("leave", "the trial ended with exit code 3"),
        ("raise", "its network cannot be run: no such operator"),
        ("fail", "the trial ended with exit code 1"),
    ],
)
def test_what_dies_of_a_network_is_not_the_agent(make: Make, does: str, said: str) -> None:
    bundle = make(does)
    with pytest.raises(TrialFailed) as refused:
        try_out(bundle, "auto")
    assert str(refused.value).startswith(f"{bundle.source}: ")
    assert said in str(refused.value)
    assert refused.value.exit_code == 65


@pytest.mark.parametrize(("does", "by"), [("wait", "SIGALRM"), ("never end", "SIGALRM")])
def test_a_trial_ends_in_time(make: Make, does: str, by: str) -> None:
    with Checker(seconds_max=1) as impatient, pytest.raises(TrialFailed, match=by):
        try_out(make(does), "auto", impatient)


def test_a_bundle_that_is_refused_there_is_refused_as_here(zoo_bundle: Bundle) -> None:
    wrong = dict(zoo_bundle.parts)
    wrong[KNOWN_ANSWERS] = (
        wrong[KNOWN_ANSWERS].replace(b'"score":[', b'"score":[0.5,', 1).replace(b"null,", b"", 1)
    )
    bundle = Bundle(zoo_bundle.manifest, zoo_bundle.manifest_bytes, wrong, None, "zoo")
    with pytest.raises(KnownAnswerMismatch):
        try_out(bundle, "auto")


def test_what_was_tried_well_is_not_tried_again(make: Make, tmp_path: Path) -> None:
    make("score")
    (tmp_path / "data").mkdir()
    path, own = tmp_path / "pump.fieldwatch", os.getpid()
    Loader(tmp_path / "data").load(path)
    tried, here = loads(tmp_path)
    assert (tried != own, here) == (True, own)
    Loader(tmp_path / "data").load(path)
    assert loads(tmp_path) == [own]
    (tmp_path / "data" / "bundles" / "ran.json").unlink()
    Loader(tmp_path / "data").load(path)
    assert len(loads(tmp_path)) == 2


def test_what_failed_is_tried_again(make: Make, tmp_path: Path) -> None:
    make("leave")
    (tmp_path / "data").mkdir()
    for _ in range(2):
        with pytest.raises(TrialFailed):
            Loader(tmp_path / "data").load(tmp_path / "pump.fieldwatch")
        assert len(loads(tmp_path)) == 1


def test_another_interpreter_tries_again(tmp_path: Path, zoo_bundle: Bundle) -> None:
    path = tmp_path / "pump.fieldwatch"
    bundles.write_copy(path, zoo_bundle)
    Loader(tmp_path).load(path)
    ran = tmp_path / "bundles" / "ran.json"
    assert zoo_bundle.digest in ran.read_text()
    ran.write_text(ran.read_text().replace("ai-edge-litert", "other").replace("tflite-", "other-"))
    Loader(tmp_path).load(path)
    assert ran.read_text().count(zoo_bundle.digest) == 2


def test_the_agent_runs_on_and_check_and_verify_say_why(
    make: Make, tmp_path: Path, start_agent: Callable[[Path], RealAgent]
) -> None:
    make("crash")
    gateway = Gateway(tmp_path, start_agent)
    agent = gateway.start()
    assert not gateway.stream()["watched"]
    assert "crashed the interpreter with SIGSEGV" in gateway.stream()["refused"]["why"]
    assert "Traceback" not in agent.log()
    gateway.stop()

    before = (gateway.kept("ran.json")).exists()
    checked = CliRunner().invoke(
        commands, ["check", "--config", str(gateway.config)], standalone_mode=False
    )
    assert checked.return_value == 65
    assert "SIGSEGV" in checked.output
    assert "Until you correct this, nothing watches the stream" in checked.output
    assert gateway.kept("ran.json").exists() == before
    verified = CliRunner().invoke(commands, ["bundle", "verify", str(gateway.bundle)])
    assert isinstance(verified.exception, TrialFailed)


def test_a_stop_during_a_reload_ends_its_trial(
    make: Make, tmp_path: Path, start_agent: Callable[[Path], RealAgent]
) -> None:
    gateway = Gateway(tmp_path, start_agent)
    flow_bundle(gateway.bundle)
    agent = gateway.start()
    assert agent.process is not None
    make("wait")
    agent.process.send_signal(signal.SIGHUP)
    wait_until((tmp_path / "loads").exists, "the trial")
    wait_until(lambda: (tmp_path / "loads").read_text().endswith("\n"), "its number")
    (trial,) = loads(tmp_path)
    gateway.pump.add(noisy(10))
    gateway.wait_for_samples("pump", 10)
    gateway.stop()
    wait_until(lambda: not Path(f"/proc/{trial}").exists(), "its end", SECONDS_MAX / 2)


def test_a_check_leaves_no_trace(
    make: Make, tmp_path: Path, start_agent: Callable[[Path], RealAgent]
) -> None:
    make("score")
    gateway = Gateway(tmp_path, start_agent)
    CliRunner().invoke(commands, ["check", "--config", str(gateway.config)])
    assert len(loads(tmp_path)) == 2
    assert not gateway.kept("").exists()
