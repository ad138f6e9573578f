"""The command ``fieldwatch-trainer``: what it prints and how it ends."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.conftest import CONFIG, Trained
from trainer import cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["fieldwatch-trainer", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (("benchmark", "nasa", "--data", "."), "tensorflow"),
        (("benchmark", "ett", "--data", "x.csv"), "tensorflow"),
        (("benchmark", "all", "--data", "."), "tensorflow"),
        (("train", "x.toml"), "matplotlib"),
        (("data", "x.toml"), "matplotlib"),
    ],
)
def test_a_command_that_needs_the_extra_says_so_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    missing: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert run(monkeypatch, *arguments) == 69
    said = capsys.readouterr().err
    assert f"needs what is not installed: {missing}. Install the trainer's extra" in said
    assert "pip install 'fieldwatch[trainer]'" in said


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_a_family_that_needs_tensorflow_says_so_before_it_reads_recordings(
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    path = trained.path if command == "reproduce" else trained.file.path
    assert run(monkeypatch, command, path) == 69
    said, failed = capsys.readouterr()
    assert "a training of the family telemanom needs what is not installed: tensorflow" in failed
    assert "pip install 'fieldwatch[trainer]'" in failed
    assert "reading normal.csv" not in said


WITHOUT = """
import sys
for name in ("tensorflow", "keras", "matplotlib"):
    sys.modules[name] = None
from trainer import cli
sys.argv[0] = "fieldwatch-trainer"
cli.main()
"""


def test_the_other_commands_do_without_the_extra(trained: Trained, tmp_path: Path) -> None:
    faulty = trained.file.path.parent / "faulty.csv"
    (fleet := tmp_path / "FLEET.toml").write_text(
        '[streams.pump]\ndata.files = ["pump.csv"]\ndata.channels = [{ name = "flow" }]\n'
        "sampling.period_s = 1.0\n"
    )
    for arguments in (
        ("--help",),
        ("status", fleet),
        ("schema",),
        ("keygen", tmp_path / "key"),
        ("check", trained.file.path, "-q"),
        ("evaluate", trained.path, faulty),
    ):
        words = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{arguments}: {ended.stderr}"


def test_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(CONFIG.replace("epochs", "epoch"))
    assert run(monkeypatch, "train", path) == 78
    assert f"{path}: fit.epoch: unknown key; did you mean 'epochs'?" in capsys.readouterr().err


def test_recordings_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(CONFIG)
    assert run(monkeypatch, "train", path) == 78
    assert "data.files = 'normal.csv': there is no such file" in capsys.readouterr().err


def test_evaluate_for_people_and_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trained: Trained
) -> None:
    faulty = trained.file.path.parent / "faulty.csv"
    assert run(monkeypatch, "evaluate", trained.path, faulty) == 0
    shown = capsys.readouterr().out
    assert "overload: 1 of 1 found" in shown
    assert run(monkeypatch, "evaluate", trained.path, faulty, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["labelled"]["recall"] == 1.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--clock-column", "b"), "--clock-column needs --time-column"),
        (("--time-column", "a", "--clock-column", "a"), "--clock-column is --time-column, 'a'"),
        (("--grace-s", "nan"), "'nan' is not a number"),
        (("--grace-s", "inf"), "'inf' is not a number"),
        (("--bad-share-max", "nan"), "'nan' is not a number"),
    ],
)
def test_evaluate_refuses_options_that_cannot_be_meant(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained: Trained,
    options: tuple[str, ...],
    says: str,
) -> None:
    faulty = trained.file.path.parent / "faulty.csv"
    assert run(monkeypatch, "evaluate", trained.path, faulty, *options) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("option", "example"), [("--seeds", "1,2,3"), ("--horizons", "96,192")])
def test_a_list_that_is_none_is_refused_with_one_of_its_kind(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    option: str,
    example: str,
) -> None:
    assert run(monkeypatch, "benchmark", "all", "--data", tmp_path, option, "1,,x") == 2
    assert f"not a list such as {example}\n" in capsys.readouterr().err


def test_evaluate_proves_the_figures_inside(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained: Trained,
    tmp_path: Path,
) -> None:
    recorded = trained.file.path.parent / "normal.csv"
    arguments = ("evaluate", trained.path, "--trained-on", recorded)
    assert run(monkeypatch, *arguments) == 0
    digest = trained.bundle.evaluated_digest
    said = f"test part: the same metrics as in the bundle (evaluated digest {digest})"
    assert said in capsys.readouterr().out
    other = trained.altered(tmp_path / "b", evaluated_digest=None)
    assert run(monkeypatch, "evaluate", other, "--trained-on", recorded) == 1
    assert "test part: OTHER METRICS than in the bundle" in capsys.readouterr().out
    assert run(monkeypatch, "evaluate", trained.path) == 2


def test_labels_given_for_more_than_one_recording(
    monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    arguments = ("evaluate", trained.path, "a.csv", "b.csv", "--labels", "c.csv")
    assert run(monkeypatch, *arguments) == 2


def test_a_bundle_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "evaluate", tmp_path / "none", "a.csv") == 65
    assert "no such bundle" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("none.fieldwatch", "x.csv"), ("--no-such-option",)])
def test_an_error_for_programs_is_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code = run(monkeypatch, "evaluate", *words, "--json")
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["exit_code"] == code != 0
    assert error["message"] in captured.err


def test_the_file_of_a_benchmark_is_no_wish_for_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("benchmark", "nasa", "--data", tmp_path, "--json", tmp_path / "no" / "file")
    assert run(monkeypatch, *words) == 78
    assert capsys.readouterr().out == ""


def test_without_recordings_there_is_no_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trained: Trained
) -> None:
    normal = trained.file.path.parent / "normal.csv"
    assert run(monkeypatch, "evaluate", trained.path, "--trained-on", normal) == 0
    assert capsys.readouterr().out.startswith("test part: the same metrics as in the bundle")


def as_a_spreadsheet_writes(recording: Path, path: Path) -> Path:
    """Write a recording with semicolons, decimal commas, and a word for a missing value."""
    header, *rows = recording.read_text().splitlines()
    rows[3] = ",".join([rows[3].split(",")[0], "kaputt", *rows[3].split(",")[2:]])
    lines = [header, *rows]
    path.write_text("".join(line.translate(str.maketrans(",.", ";,")) + "\n" for line in lines))
    return path


def test_evaluate_reads_what_the_training_would_with_the_same_settings(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained: Trained,
    tmp_path: Path,
) -> None:
    plain = trained.file.path.parent / "faulty.csv"
    odd = as_a_spreadsheet_writes(plain, tmp_path / "odd.csv")
    command = ("evaluate", trained.path, odd, "--json", "--bad-share-max", "0")
    assert run(monkeypatch, *command) == 65
    assert "'kaputt' is not a number" in capsys.readouterr().err
    written = ("--separator", ";", "--decimal", ",", "--missing-words", "kaputt")
    assert run(monkeypatch, *command, *written) == 0
    assert json.loads(capsys.readouterr().out)["recordings"][0]["hours"] > 0
    assert run(monkeypatch, *command, "--separator", ";;") == 2


def test_too_small_an_address_space_is_told_before_tensorflow_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "train", "none.toml"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 71
    assert done.stderr == (
        "fieldwatch-trainer: the address space of this process is limited to 2 GiB, and TensorFlow"
        " needs 4 GiB: lift the limit with ulimit -v unlimited, or LimitAS=infinity in a unit of"
        " systemd; it limits no memory (MemoryMax= does)\n"
    )
