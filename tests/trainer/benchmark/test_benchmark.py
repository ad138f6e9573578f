"""``fieldwatch-trainer benchmark``, the whole way through on tiny folders of the real layouts."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from models.errors import DataError
from tests.trainer.benchmark.conftest import write_cmapss, write_ims, write_nasa, write_skab
from trainer.benchmark import runs
from trainer.benchmark.cases import CMAPSS, IMS, NASA, SKAB
from trainer.benchmark.channel import perform
from trainer.benchmark.counts import vus_pr
from trainer.benchmark.outcome import WorkDirectory
from trainer.cli import commands

DETECTORS = ("quantized", "float", "baseline", "last_value", "constant")
REFERENCES = ("always_on", "random")
COUNTS = {
    *("tp", "fp", "fn", "precision", "recall", "f1", "f05", "delay_steps_median"),
    "false_per_10k",
}
FIGURES = {
    *COUNTS,
    *("causal", "with_stuck", "stuck", "alarm_share"),
    *("point_f1", "far", "mar", "vus_pr", "model_bytes", "us_per_sample", "tail"),
}
OF_TOTALS = {"f1_interval", "f1_shifted", "point_f1_shifted"}
CONFIG = """
[sampling]
period_s = 1.0
warm_up_samples = 10

[network]
layers = [4]

[fit]
epochs = 2
chunk_samples = 10

[smoothing]
spans_samples = [5.0]

[threshold]
history_samples = 300

[events]
off_samples = 20

[parity]
quantization_tolerance = 10.0
"""


@dataclass(frozen=True)
class Benchmarked:
    """A folder of three channels: A-1 was benchmarked, B-1 could not be, A-2 is still to do."""

    directory: Path
    exit_code: int
    out: str
    err: str

    @property
    def work(self) -> Path:
        return self.directory / "work"

    def document(self, name: str = "out.json") -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.directory / name).read_text())
        return document

    def figures(self, name: str = "out.json", seed: int = 1) -> dict[str, Any]:
        figures: dict[str, Any] = self.document(name)["seeds"][str(seed)]
        return figures


def arguments(directory: Path, *more: object, benchmark: str = "nasa") -> list[str]:
    config, data = directory / "tiny.toml", directory / "data"
    options = ["--data", data, "--config", config, "--work", directory / "work"]
    return ["benchmark", benchmark, *map(str, [*options, *more])]


def run(directory: Path, *more: object, benchmark: str = "nasa") -> Benchmarked:
    ended = CliRunner().invoke(
        commands, arguments(directory, *more, benchmark=benchmark), standalone_mode=False
    )
    if ended.exception is not None:
        raise ended.exception
    return Benchmarked(directory, ended.return_value, ended.stdout, ended.stderr)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Benchmarked:
    directory = tmp_path_factory.mktemp("nasa")
    write_nasa(directory / "data", ["A-1", "A-2", "B-1"], train=600, test=800)
    broken = directory / "data" / "train" / "B-1.npy"
    broken.write_bytes(broken.read_bytes()[:200])
    (directory / "tiny.toml").write_text(CONFIG)
    return run(directory, "--channels", "A-1,B-1", "--jobs", 1, "--json", directory / "out.json")


def test_each_channel_is_done_but_the_broken_one_which_is_named(done: Benchmarked) -> None:
    assert done.exit_code == 1
    assert "1/1 A-1: done" in done.err
    assert "B-1 failed: " in done.err
    assert "B-1.npy" in done.figures()["failed"]["B-1"]
    assert not list((done.work / "seed-1" / "logs").iterdir())


def test_the_json_has_every_figure_of_every_detector(done: Benchmarked) -> None:
    document, figures = done.document(), done.figures()
    for detector in (*DETECTORS, *REFERENCES):
        found = figures[detector]
        assert found["total"].keys() == FIGURES | OF_TOTALS
        one = found["channels"]["A-1"]
        assert one == {name: found["total"][name] for name in FIGURES}
        assert one["causal"].keys() == one["with_stuck"].keys() == COUNTS
        assert one["tp"] + one["fn"] == 1
        assert document["over_seeds"][detector]["f1"]["sd"] == 0
    assert figures["quantization"].keys() == {"A-1"}
    assert figures["quantized"]["total"]["model_bytes"] > 1000
    assert figures["baseline"]["total"]["model_bytes"] == 0
    assert figures["quantized"]["total"]["tail"]["samples"] > 100
    assert figures["baseline"]["total"]["tail"] is None  # it has no probabilities
    assert figures["config_digest"]
    for name in ("benchmark", "protocol", "software"):
        assert document[name]


def test_the_references_are_what_they_are_called(done: Benchmarked) -> None:
    """The shift by 3 stays for 100 steps: the constant sees it all along."""
    document = done.figures()
    assert document["constant"]["total"]["tp"] == 1
    assert document["constant"]["total"]["vus_pr"] > document["last_value"]["total"]["vus_pr"]


def test_the_table_and_the_report(done: Benchmarked) -> None:
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[1:8]] == [*DETECTORS, *REFERENCES]
    assert [line.split()[0] for line in lines[-2:]] == ["quantized", "A-1"]
    report = (done.work / "report.html").read_text()
    assert report.count("data:image/svg+xml") == 1
    assert "B-1" in report


def test_what_is_done_is_used_again(done: Benchmarked) -> None:
    again = run(done.directory, "--channels", "A-1", "--json", done.directory / "again.json")
    assert again.exit_code == 0
    assert "unchanged: A-1\n" in again.err
    assert "done" not in again.err
    assert again.figures("again.json")["quantized"] == done.figures()["quantized"]


@pytest.mark.parametrize("changed", ["tiny.toml", "data/labeled_anomalies.csv"])
def test_nothing_is_used_again_after_a_change(
    done: Benchmarked, tmp_path: Path, changed: str
) -> None:
    directory = tmp_path / "changed"
    shutil.copytree(done.directory, directory)
    path = directory / changed
    path.write_text(path.read_text().replace("epochs = 2", "epochs = 3").replace("[600,", "[601,"))
    planned = runs.plan(
        NASA,
        directory / "data",
        ["A-1"],
        NASA.settings(directory / "tiny.toml"),
        WorkDirectory(directory / "work" / "seed-1"),
    )
    assert list(planned.tasks) == ["A-1"]


def test_a_seed_has_its_own_networks_in_a_directory_of_its_own(done: Benchmarked) -> None:
    seeds = runs.plan_seeds(
        NASA,
        done.directory / "data",
        ["A-1"],
        NASA.settings(done.directory / "tiny.toml"),
        [1, 2],
        done.work,
    )
    assert (list(seeds[1].outcomes), list(seeds[1].tasks)) == (["A-1"], [])
    assert (list(seeds[2].outcomes), list(seeds[2].tasks)) == ([], ["A-1"])
    assert seeds[2].tasks["A-1"].settings.config.fit.seed == 2
    assert seeds[2].work.path == done.work / "seed-2"


@pytest.mark.parametrize("seeds", ["1,x", "-1", "1,,2"])
def test_odd_seeds_are_refused(done: Benchmarked, seeds: str) -> None:
    with pytest.raises(click.UsageError, match="--seeds"):
        run(done.directory, "--seeds", seeds)


def test_an_unknown_channel_is_refused_with_the_nearest(done: Benchmarked) -> None:
    with pytest.raises(DataError, match=r"no channel 'A1'; did you mean 'A-1'\?"):
        run(done.directory, "--channels", "A1")


def test_without_its_extra_it_says_what_is_left_out(
    done: Benchmarked, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "aeon" else found(name)
    )
    ended = run(done.directory, "--channels", "A-1")
    assert ended.exit_code == 0
    assert "VUS-PR is left out" in ended.err
    assert "pip install 'fieldwatch[benchmark]'" in ended.err
    assert vus_pr(np.arange(9) < 3, np.arange(9.0)) is None


@pytest.fixture
def half(done: Benchmarked, tmp_path: Path) -> Path:
    """A copy of the folder, to go on in."""
    directory = tmp_path / "half"
    shutil.copytree(done.directory, directory)
    return directory


def started(directory: Path, *more: object) -> tuple[subprocess.Popen[str], int]:
    """Start the program; return it and its worker's process."""
    options = ("--channels", "A-1,A-2", "--jobs", 1, *more)
    command = [sys.executable, "-m", "trainer", *arguments(directory, *options)]
    program = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background ignores Ctrl-C, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = directory / "work" / "seed-1" / "logs" / "A-2.log"
    until(log.exists)
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    workers = [
        pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return program, int(workers[0])


def until(happened: Any) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_worker_takes_no_other_channel_along(half: Path) -> None:
    program, worker = started(half, "--json", half / "killed.json")
    os.kill(worker, signal.SIGKILL)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "A-2 failed: its process was ended by SIGKILL" in err
    document = json.loads((half / "killed.json").read_text())["seeds"]["1"]
    assert "SIGKILL" in document["failed"]["A-2"]
    assert document["quantized"]["channels"].keys() == {"A-1"}


def test_ctrl_c_ends_it_cleanly(half: Path) -> None:
    program, worker = started(half)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "run it again" in err
    assert "Traceback" not in err
    until(lambda: not Path(f"/proc/{worker}").exists())


def test_skab(tmp_path: Path) -> None:
    write_skab(tmp_path / "data" / "valve1" / "0.csv", 600, range(500, 560))
    (tmp_path / "tiny.toml").write_text(CONFIG)
    settings, work = (
        SKAB.settings(tmp_path / "tiny.toml"),
        WorkDirectory(tmp_path / "work" / "seed-1"),
    )
    planned = runs.plan(SKAB, tmp_path / "data", ["valve1/0"], settings, work)
    perform(planned.tasks["valve1/0"])  # as a worker would; TensorFlow is here already
    ended = run(tmp_path, "--json", tmp_path / "out.json", benchmark="skab")
    assert ended.exit_code == 0, ended.err
    assert "unchanged: valve1/0" in ended.err
    total = ended.figures()["quantized"]["total"]
    assert total.keys() == FIGURES | OF_TOTALS | {"f1_point"}
    assert ended.figures()["quantized"]["channels"].keys() == {"valve1/0"}
    assert total["tp"] == 1
    assert total["mar"] < 50


def test_one_network_judges_all_engines(tmp_path: Path) -> None:
    write_cmapss(tmp_path / "data", [140, 150, 160, 130, 145, 155, 135, 150])
    remaining = (
        '[remaining]\nunit = "cycles"\nunit_samples = 1\ncap = 125\n'  # has a benchmark of its own
    )
    (tmp_path / "tiny.toml").write_text(f"{CONFIG}\n{remaining}")
    settings = CMAPSS.settings(tmp_path / "tiny.toml")
    work = WorkDirectory(tmp_path / "work" / "seed-1")
    planned = runs.plan(CMAPSS, tmp_path / "data", ["FD001"], settings, work)
    perform(planned.tasks["FD001"])
    ended = run(tmp_path, "--json", tmp_path / "out.json", benchmark="cmapss")
    assert ended.exit_code == 0, ended.err
    assert "unchanged: FD001/1, FD001/2, FD001/3" in ended.err
    names = {f"FD001/{number}" for number in range(1, 9)}
    assert "remaining_life" not in ended.document()  # there are no test engines
    found = ended.figures()["quantized"]
    assert found["total"]["engines"] == 8
    assert found["total"]["warned"] >= 6  # two epochs learn little
    assert found["total"]["lead"]["median"] <= 40
    assert found["channels"].keys() == names
    (tmp_path / "data" / "test_FD001.txt").write_text("1 1" + " 1.0" * 24 + "\n")
    with pytest.raises(DataError, match=r"RUL_FD001.txt: cannot be read"):
        run(tmp_path, benchmark="cmapss")
    (work.path / "FD001-2.json").unlink()  # one engine is missing: the network is trained again
    assert list(runs.plan(CMAPSS, tmp_path / "data", ["FD001"], settings, work).tasks) == ["FD001"]


def test_the_failing_bearing_is_reported(tmp_path: Path) -> None:
    write_ims(tmp_path / "data", 600)
    (tmp_path / "tiny.toml").write_text(CONFIG)
    settings, work = IMS.settings(tmp_path / "tiny.toml"), WorkDirectory(tmp_path / "work/seed-1")
    for name, task in runs.plan(
        IMS, tmp_path / "data", ["2nd_test/1", "2nd_test/2"], settings, work
    ).tasks.items():
        assert task.name == name
        perform(task)
    ended = run(tmp_path, "--json", tmp_path / "out.json", benchmark="ims")
    assert ended.exit_code == 0, ended.err
    test = ended.figures()["quantized"]["total"]["tests"]["2nd_test"]
    assert test["failing_days"]["1"] == pytest.approx(150 / 144, abs=0.1)
    assert ended.figures()["quantized"]["channels"].keys() == {"2nd_test/1", "2nd_test/2"}
