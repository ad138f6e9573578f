"""A bundle is trained again from what it records, and compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import bundle as bundles
from models.bundle import Bundle, file_part
from models.errors import DataError
from models.manifest import EVALUATED, TRAINING
from tests.trainer.conftest import CONFIG, machine, write_recording
from tests.trainer.test_cli import run
from trainer import config, train
from trainer.reproduce import reproduce

OLDER = Path(__file__).parent.parent / "models" / "data" / "forecast-1.fieldwatch"
TEXT = (
    CONFIG.partition("[forecast]")[0]
    .replace("epochs = 20", "epochs = 2")
    .replace('files = ["normal.csv"]', 'files = ["recordings/*.csv"]')
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with recordings, and the bundle ``made/tiny.fieldwatch``."""
    directory = tmp_path_factory.mktemp("again")
    (directory / "recordings").mkdir()
    write_recording(directory / "recordings" / "all.csv", *machine(4000, seed=1))
    (directory / "tiny.toml").write_text(TEXT)
    made = directory / "made"
    train.train(config.read(directory / "tiny.toml"), made, None, lambda line: None, accept=True)
    return directory


def divided(project: Path, data: Path) -> list[Path]:
    """Write the same rows as two files into ``data``."""
    header, *rows = (project / "recordings" / "all.csv").read_text().splitlines()
    (data / "recordings").mkdir()
    paths = [data / "recordings" / name for name in ("1.csv", "2.csv")]
    for path, part in zip(paths, (rows[:1000], rows[1000:]), strict=True):
        path.write_text("\n".join([header, *part]) + "\n")
    return paths


def test_the_same_data_in_other_files_gives_the_same_bundle(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    divided(project, tmp_path)
    bundle = project / "made" / "tiny.fieldwatch"
    assert run(monkeypatch, "reproduce", bundle, "--data", tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agrees"]
    assert found["networks_equal"] == {"network.tflite": True}
    assert found["known_answers"] == {"score": 0.0, "forecast": 0.0, "same_events": True}
    assert found["figures"] == []
    assert found["figures_equal"] > 20


def altered(bundle: Bundle, path: Path, **fit: object) -> Path:
    """Write the bundle as if it had been trained with other settings."""
    settings = json.loads(bundle.parts[TRAINING])
    settings["fit"] |= fit
    parts = dict(bundle.parts) | {TRAINING: json.dumps(settings).encode()}
    files = {name: file_part(data) for name, data in parts.items()}
    metrics = {key: value for key, value in bundle.manifest.metrics.items() if key != EVALUATED}
    manifest = bundle.manifest.model_copy(update={"files": files, "metrics": metrics})
    bundles.write(path, manifest, parts, None)
    return path


def test_another_training_differs_and_it_says_by_how_much(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = bundles.read(project / "made" / "tiny.fieldwatch")
    other = altered(bundle, tmp_path / "b", seed=7)
    assert run(monkeypatch, "reproduce", other, "--data", project, "-q", "--tolerance", 0) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["the result DIFFERS", "network.tflite: other bytes"]
    assert "scores differ by at most 0," not in told[2]
    assert any(line.startswith("forecast.load.mae ") and line.endswith("%") for line in told)


def test_other_data_are_refused_before_any_training(project: Path, tmp_path: Path) -> None:
    first, last = divided(project, tmp_path)
    lines = first.read_text().splitlines()
    lines[100] = lines[100].replace("24.00000", "23.00000")
    first.write_text("\n".join(lines) + "\n")
    last.write_text("\n".join(last.read_text().splitlines()[:-5]) + "\n")
    said: list[str] = []
    with pytest.raises(DataError) as refused:
        reproduce(project / "made" / "tiny.fieldwatch", tmp_path, None, None, said.append)
    told = str(refused.value).splitlines()
    assert told[0] == "the data are not those of the training:"
    assert any(line.startswith("  part train: ") for line in told)
    assert any(line.startswith("  channel supply: 3995 rows from") for line in told)
    assert "loading TensorFlow" not in said


def test_a_bundle_of_an_older_version_says_why_it_cannot_be_repeated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not have the configuration of its training"):
        reproduce(OLDER, tmp_path, None, None, lambda line: None)
