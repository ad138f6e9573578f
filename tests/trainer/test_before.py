"""What cannot end well is refused before anything is trained; the system's refusals are told."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import keys
from models.errors import ConfigError, DataError
from tests.trainer.conftest import CONFIG, Trained, machine, write_recording
from tests.trainer.test_cli import run
from trainer import config, destination, train
from trainer.datasets.recordings import read_recording
from trainer.forecast import evaluate as forecasts
from trainer.prepare import parts_of
from trainer.seal import ship


def project(directory: Path, text: str = CONFIG) -> Path:
    """Write recordings and a configuration without labels; return the configuration."""
    write_recording(directory / "normal.csv", *machine(4000, seed=1))
    path = directory / "tiny.toml"
    path.write_text(text.replace('[evaluate]\nfiles = ["faulty.csv"]\n', ""))
    return path


def split(train_share: float, calibrate: float, test: float) -> str:
    return f"train = {train_share}\ncalibrate = {calibrate}\ntest = {test}\n"


@pytest.mark.parametrize(
    ("shares", "context", "said"),
    [
        (split(0.4, 0.5, 0.1), 184, "the test part has 191 steps and needs 195"),
        (split(0.46, 0.26, 0.28), 504, "the calibration part has 511 steps and needs 512"),
        (split(0.3, 0.35, 0.35), 504, "the training part has 511 steps and needs 512"),
    ],
)
def test_a_part_too_short_for_the_forecaster(
    tmp_path: Path, shares: str, context: int, said: str
) -> None:
    text = CONFIG.replace(split(0.4, 0.3, 0.3), f"{shares}gap_samples = 20\n")
    path = project(tmp_path, text.replace("context_steps = 40", f"context_steps = {context}"))
    lines: list[str] = []
    with pytest.raises(DataError, match=f"too little data for the forecaster: {said}"):
        train.train(config.read(path), tmp_path / "made", None, lines.append)
    assert not any("epoch" in line for line in lines)
    assert not (tmp_path / "made").exists()


def test_a_channel_without_a_value_to_calibrate_by(tmp_path: Path) -> None:
    path = project(tmp_path)
    times, values = machine(4000, seed=1)
    values[1500:, 1] = float("nan")
    write_recording(tmp_path / "normal.csv", times, values)
    lines: list[str] = []
    with pytest.raises(DataError, match=r"channel power .* has no value in the calibration part"):
        train.train(config.read(path), tmp_path, None, lines.append)
    assert not any("epoch" in line for line in lines)


def test_a_forecaster_that_foretells_nothing_is_no_metric(trained: Trained) -> None:
    recorded = trained.file.path.parent / "normal.csv"
    data = trained.file.config.data
    read = read_recording(recorded, data.sought, data.columns)
    parts = parts_of([read], trained.bundle.manifest)
    few = parts.test._replace(times=parts.test.times[:80], values=parts.test.values[:80])
    with pytest.raises(DataError, match="makes no forecast in the test part"):
        forecasts.judge(trained.bundle, parts._replace(test=few))


def test_a_metric_that_is_no_number_is_not_sealed(trained: Trained, tmp_path: Path) -> None:
    metrics = {"forecaster": {"accuracy": [{"mse": float("nan")}]}}
    with pytest.raises(
        DataError, match=r"the metrics forecaster\.accuracy\[0\]\.mse could not be measured"
    ):
        ship(trained.bundle, metrics, tmp_path / "b.fieldwatch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["x", "x/y", "."])
def test_an_output_below_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, below: str
) -> None:
    path = project(tmp_path)
    output = tmp_path / "file" / below
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "train", path, "--output", output) in (2, 78)
    captured = capsys.readouterr()
    assert "is a file" in captured.err
    assert "normal.csv" not in captured.out


def test_an_output_whose_files_are_directories(tmp_path: Path) -> None:
    path = project(tmp_path)
    (tmp_path / "made" / "tiny.report.html").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"tiny\.report\.html: is a directory"):
        train.train(config.read(path), tmp_path / "made", None, print)


def test_an_output_on_a_disk_that_is_full(tmp_path: Path) -> None:
    destination.check_directory(tmp_path / "made")
    with pytest.raises(
        ConfigError, match=r"made: the disk has too little space: .* MiB are free, but"
    ):
        destination.check_directory(tmp_path / "made", room_bytes=2**62)


def test_a_python_that_cannot_replay(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(DataError, match="/no/python cannot replay"):
        train.train(config.read(project(tmp_path)), tmp_path, Path("/no/python"), lines.append)
    assert lines == []


@pytest.mark.parametrize("name", ["nasa", "skab", "ims", "cmapss", "all"])
@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_benchmark_asks_where_its_files_go(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    option: str,
) -> None:
    (tmp_path / "data").mkdir()
    words = ("benchmark", name, "--data", tmp_path / "data", "--work", tmp_path / "work")
    assert run(monkeypatch, *words, option, tmp_path / "no" / "file") == 78
    assert f"there is no directory {tmp_path / 'no'}" in capsys.readouterr().err


def test_keygen_into_a_missing_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "keygen", tmp_path / "no" / "ops.key") == 78
    assert f"{tmp_path / 'no' / 'ops.key'}: cannot be written: No such" in capsys.readouterr().err


def test_what_the_system_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained: Trained,
    tmp_path: Path,
) -> None:
    keys.new_key(tmp_path / "ops.key")
    bundle = tmp_path / "b.fieldwatch"
    bundle.write_bytes(trained.path.read_bytes())
    (tmp_path / "b.fieldwatch.partial").mkdir()
    assert run(monkeypatch, "sign", bundle, "--key", tmp_path / "ops.key") == 74
    said = capsys.readouterr().err
    assert said.startswith(f"fieldwatch-trainer: {bundle}.partial: Is a directory; ")
    assert "the path is a directory: name a file" in said


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let this process take 5 GiB more than it has: TensorFlow could be loaded."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 5 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
def test_memory_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = project(tmp_path)
    times, values = machine(4000, seed=1)
    times[800:] += 2e9  # as many steps in between, of all channels
    write_recording(tmp_path / "normal.csv", times, values)
    assert run(monkeypatch, "train", path) == 71
    said = capsys.readouterr().err
    assert said.startswith("fieldwatch-trainer: there is not enough memory: Unable to allocate")
    assert "a longer sampling.period_s" in said
