"""What native code tells of itself reaches nobody; an error of it does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.interpreter import without_chatter
from tests.conftest import ROOT
from tests.trainer.conftest import CONFIG, Trained, machine, write_recording


def called(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "TF_CPP" not in name}
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )


@pytest.mark.parametrize("program", ["trainer", "agent"])
def test_a_recording_is_scored_without_noise(trained: Trained, program: str) -> None:
    recording = trained.file.path.parent / "faulty.csv"
    words = {
        "trainer": ("evaluate", trained.path, recording),
        "agent": ("replay", recording, "--bundle", trained.path),
    }
    ended = called(program, *words[program])
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_training_is_told_without_noise(tmp_path: Path) -> None:
    write_recording(tmp_path / "normal.csv", *machine(4000, seed=1))
    text = CONFIG.replace('[evaluate]\nfiles = ["faulty.csv"]\n', "")
    text = text.replace("epochs = 20", "epochs = 3\nprogress_epochs = 2")
    path = tmp_path / "tiny.toml"
    path.write_text(f'{text}[parity]\nquantizations = ["int8"]\n[gates]\ntail_factor_max = 1e6\n')
    ended = called("trainer", "train", path)
    assert ended.returncode == 0
    assert re.fullmatch(r"warning: the calibration part has .*\n", ended.stderr)  # and no more
    lines = ended.stdout.splitlines()
    assert lines[0] == f"reading {path}"
    epochs = [line.partition("/")[0] for line in lines if "epoch  " in line]
    assert epochs == ["epoch   2", "forecaster epoch   2"]


def test_only_what_is_no_error_is_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, b"INFO: Created a delegate\nERROR: no memory\nINFO: and so on\n")
        os.write(2, b"of another thread\n")
    with pytest.raises(ValueError, match="refused"), without_chatter():
        os.write(2, b"ERROR: a reason\n")
        raise ValueError("refused")
    os.write(2, b"later\n")
    said = capfd.readouterr().err
    assert said == "ERROR: no memory\nof another thread\nERROR: a reason\nlater\n"
