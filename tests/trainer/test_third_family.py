"""A family of another package: its one file is trained here, and scores on a gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, RealAgent, wait_until
from tests.trainer.conftest import START_S, machine, write_recording

PAGE = ROOT / "docs" / "new-family.md"

TRAINING = """
[bundle]
name = "line"

[family]
name = "size"
settings = { margin = 1.5 }

[data]
files = ["normal.csv"]
channels = [{ name = "load", unit = "kW" }, { name = "power", column = "P (kW)" }]

[sampling]
period_s = 1.0
warm_up_samples = 0

[split]
train = 0.4
calibrate = 0.3
test = 0.3

[events]
off_samples = 5

[evaluate]
files = ["faulty.csv"]
"""

AGENT = """
[gateway]
site = "plant"
name = "g"

[[streams]]
name = "line"
bundle = "line.fieldwatch"

[[inputs]]
name = "file"
type = "file"
stream = "line"
path = "lines.csv"
begin = "start"
poll_interval_s = 0.05
columns = ["time", "load", "power"]

[store]
directory = "data"
flush_interval_s = 0.1
"""


def blocks() -> list[str]:
    """Return the fenced blocks of the contributor's page, in order."""
    return [part.partition("\n")[2] for part in PAGE.read_text().split("```")[1::2]]


def install(directory: Path, module: str) -> Path:
    """Lay out the page's package as an installer does, with the entry points of its page."""
    [points] = [block for block in blocks() if "[project.entry-points" in block]
    directory.mkdir()
    (directory / "sizes.py").write_text(module)
    information = directory / "sizes-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: sizes\nVersion: 1.0\n")
    lines = [
        line.replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "")
        for line in points.splitlines()
        if line.startswith(("[project.entry-points", "size"))
    ]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with recordings, a configuration, and the package in ``site``."""
    install(tmp_path / "site", blocks()[0])
    write_recording(tmp_path / "normal.csv", *machine(4200, seed=1))
    times, values = machine(600, seed=2)
    values[300:360, 1] += 30.0
    write_recording(tmp_path / "faulty.csv", times, values)
    labels = f"start,end,kind\n{times[300]},{times[359]},overload\n"
    (tmp_path / "faulty.labels.csv").write_text(labels)
    (tmp_path / "line.toml").write_text(TRAINING)
    return tmp_path


def run(project: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{project / 'site'}"},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_third_family_is_trained_evaluated_and_scored_with(
    project: Path, start_agent: Callable[..., RealAgent]
) -> None:
    ended = run(project, "-m", "trainer", "train", "line.toml")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 of 1 fault found, 0 false events" in ended.stdout
    manifest = manifest_of(project)
    assert (manifest["detector"], manifest["format_version"]) == ("size", 2)
    assert manifest["tail"] is not None
    metrics = manifest["metrics"]
    assert metrics["evaluated_digest"]
    assert metrics["fit"]["largest"] == max(manifest["settings"]["largest"])
    assert metrics["measured_on"]["fit"] == "train"
    assert metrics["verdict"]["passed"]
    assert manifest["lineage"]["data"] is not None
    page = (project / "line.report.html").read_text()
    assert "Faults found" in page
    assert "LSTM" not in page
    scores_on_an_agent(project, start_agent)


def manifest_of(project: Path) -> dict[str, Any]:
    """Return the manifest of the bundle; this process does not know the family."""
    with zipfile.ZipFile(project / "line.fieldwatch") as archive:
        document: dict[str, Any] = json.loads(archive.read("manifest.json"))
    return document


def scores_on_an_agent(project: Path, start_agent: Callable[..., RealAgent]) -> None:
    (project / "data").mkdir()
    config = project / "agent.toml"
    config.write_text(AGENT)
    rows = [f"{START_S + n},0.1,{90.0 if 20 < n < 30 else 9.0}\n" for n in range(60)]
    (project / "lines.csv").write_text("".join(rows))
    agent = start_agent(config, PYTHONPATH=f"{ROOT}:{project / 'site'}")
    wait_until(lambda: "alarm closed: anomaly" in agent.log(), "the alarm and its end")
    assert agent.stop() == 0


def test_it_is_trained_and_reproduced_without_tensorflow(project: Path) -> None:
    without = (
        "import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'keras')));"
        " from trainer import cli; cli.main()"
    )
    for arguments in (
        ("train", "line.toml"),
        ("reproduce", "line.fieldwatch"),
        ("evaluate", "line.fieldwatch", "faulty.csv"),
    ):
        ended = run(project, "-c", without, *arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        if arguments[0] == "reproduce":
            assert "the result agrees" in ended.stdout


@pytest.mark.parametrize(
    ("command", "old", "new", "said"),
    [
        (
            "train",
            "margin = 1.5",
            'margin = "wide"',
            "family.settings.margin: a number of at least 1",
        ),
        ("check", "[events]", "[network]\nlayers = [8]\n\n[events]", "does not use [network]"),
        (
            "check",
            'name = "size"',
            'name = "sise"',
            "family.name: the family 'sise' is provided by 0",
        ),
        ("check", 'name = "size"', 'name = "hampel"', "the family hampel has its own tables"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_work(
    project: Path, command: str, old: str, new: str, said: str
) -> None:
    (project / "line.toml").write_text(TRAINING.replace(old, new, 1))
    ended = run(project, "-m", "trainer", command, "line.toml")
    assert ended.returncode == 78, ended.stdout
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "reading normal.csv" not in ended.stdout


def test_packages_that_it_needs_are_named_before_the_work(project: Path) -> None:
    module = blocks()[0].replace("packages = ()", 'packages = ("nowhere_to_be_found",)')
    (project / "site" / "sizes.py").write_text(module)
    ended = run(project, "-m", "trainer", "train", "line.toml")
    assert ended.returncode == 69
    assert "a training of the family size needs what is not installed: nowhere" in ended.stderr
    assert run(project, "-m", "trainer", "check", "line.toml").returncode == 0


def test_the_gateway_does_not_load_the_trainer(project: Path) -> None:
    ended = run(project, "-c", "import sys, sizes; print(*sys.modules)")
    loaded = ended.stdout.split()
    assert "sizes" in loaded
    assert not [name for name in loaded if name.partition(".")[0] == "trainer"]


def test_a_built_in_family_stays_what_it_is_and_its_limits_are_those_of_the_data(
    project: Path,
) -> None:
    point = project / "site" / "sizes-1.0.dist-info" / "entry_points.txt"
    point.write_text(point.read_text().replace("size = ", "hampel = "))
    text = TRAINING.replace('name = "size"\nsettings = { margin = 1.5 }', 'name = "hampel"')
    (project / "line.toml").write_text(text)
    ended = run(project, "-m", "trainer", "train", "line.toml", "-q")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    manifest = manifest_of(project)
    assert manifest["detector"] == "hampel"
    assert np.allclose(manifest["baseline"]["resolution"], 1e-5, rtol=0.2)  # of the recordings
    assert 2.0 <= manifest["baseline"]["deviations_max"] < 6.0
    assert manifest["tail"]["samples"] > 1000
    assert manifest["metrics"]["normal"]["events"] == 0
    assert manifest["metrics"]["labelled"]["true_positives"] == 1
