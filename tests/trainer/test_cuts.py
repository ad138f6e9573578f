"""What people labelled is cut out of "normal": in training and calibration, and in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundles
from models.errors import DataError, InsufficientDataError
from models.messages import Samples
from models.times import iso_time
from tests.trainer.conftest import CONFIG, machine, write_recording
from tests.trainer.test_evaluate import event
from trainer import config, prepare, seal, train
from trainer.config import ConfigFile
from trainer.cuts import cut
from trainer.datasets import Label, Recording
from trainer.datasets.labels import read_labels
from trainer.datasets.recordings import read_recording
from trainer.evaluate import match
from trainer.prepare import align, parts_of

PERIOD_S = 1.0
WITH_LABELS = CONFIG.replace(
    'files = ["normal.csv"]\n',
    'files = ["normal.csv"]\nlabels = "pump.labels.csv"\nlabels_margin_samples = 5\n',
).replace('[evaluate]\nfiles = ["faulty.csv"]\n', "")


def project(directory: Path, *rows: tuple[float, float, str, str], text: str = WITH_LABELS) -> Path:
    """Write a recording, and labels from row to row of it; return the configuration."""
    times, values = machine(4000, seed=1)
    write_recording(directory / "normal.csv", times, values)
    lines = ["start,end,kind,label,by"]
    for begin, end, kind, finding in rows:
        lines.append(
            f"{iso_time(times[0] + begin)},{iso_time(times[0] + end)},{kind},{finding},tom"
        )
    (directory / "pump.labels.csv").write_text("\n".join(lines) + "\n")
    (directory / "tiny.toml").write_text(text)
    return directory / "tiny.toml"


def normal(directory: Path, file: ConfigFile) -> Recording:
    data = file.config.data
    return read_recording(directory / "normal.csv", data.sought, data.columns)


def test_only_a_false_alarm_stays_in_normal(tmp_path: Path) -> None:
    file = config.read(
        project(
            tmp_path,
            (100, 109, "bearing", "confirmed"),
            (300, 309, "", "nothing-found"),
            (500, 509, "filter", "maintenance"),
            (700, 709, "", "false"),
        )
    )
    times = np.arange(1000) * PERIOD_S + machine(1, seed=1)[0][0]
    samples = Samples(times, np.zeros((1000, 3), np.float32))
    assert file.labels is not None
    left, cuts = cut(samples, file.labels, file.config)
    gone = sorted(set(range(1000)) - set((left.times - times[0]).astype(int).tolist()))
    assert gone == [*range(95, 115), *range(295, 315), *range(495, 515)]  # 10 + 2 * 5 each
    assert [one.samples for one in cuts.found] == [20, 20, 20]
    assert (cuts.false_alarms, cuts.remaining) == (1, 940)


def test_a_cut_is_an_interruption_for_the_network(tmp_path: Path) -> None:
    file = config.read(project(tmp_path, (100, 109, "bearing", "confirmed")))
    read = read_recording(
        tmp_path / "normal.csv", file.config.data.sought, file.config.data.columns
    )
    samples, _ = align([read], seal.grid(file.config))
    assert file.labels is not None
    left, _ = cut(samples, file.labels, file.config)
    how = prepare.Preprocessing(
        np.zeros(3, np.float32), np.ones(3, np.float32), [0, 1], 5.0, ("value",)
    )
    lengths = [len(one.inputs) + 1 for one in prepare.series(left, how, PERIOD_S)]
    assert lengths == [95, 4000 - 115]


def test_the_whole_training_cuts_and_reports(tmp_path: Path) -> None:
    text = WITH_LABELS.partition("[forecast]")[0].replace("epochs = 20", "epochs = 2")
    path = project(
        tmp_path,
        (200, 299, "bearing", "confirmed"),
        (900, 999, "", "false"),
        (90_000, 90_010, "<b>late</b>", "maintenance"),
        text=text,
    )
    said: list[str] = []
    file = config.read(path)
    outcome = train.train(file, tmp_path, None, said.append, accept=True)
    bundle = bundles.read(outcome.path)
    found = bundle.manifest.metrics["data"]["labels"]
    assert [row["samples"] for row in found["cuts"]] == [110, 0]
    assert (found["remaining"], found["false_alarms"]) == (3890, 1)
    assert any("maintenance from" in line and "cuts out nothing" in line for line in said)
    report = outcome.report.read_text()
    assert "<td>bearing</td>" in report
    assert "3,890 remain" in report
    assert "<b>late" not in report
    read = read_recording(
        tmp_path / "normal.csv", file.config.data.sought, file.config.data.columns
    )
    assert len(parts_of([read], bundle.manifest).train.times) == round(0.4 * 3890)


def test_too_little_remains(tmp_path: Path) -> None:
    path = project(tmp_path, (100, 3500, "bearing", "confirmed"))
    told = r"too little data: the train part has .* pump\.labels\.csv cut out 3411 of 4000 samples"
    with pytest.raises(InsufficientDataError, match=told):
        train.train(config.read(path), tmp_path, None, lambda line: None)


def test_a_label_of_no_known_finding(tmp_path: Path) -> None:
    path = tmp_path / "x.labels.csv"
    path.write_text("start,end,kind,label\n1,2,leak,confirmed\n3,4,leak,perhaps\n")
    with pytest.raises(DataError, match=r"x\.labels\.csv:3: the label is 'perhaps'; it must"):
        read_labels(path)


def test_findings_in_an_evaluation() -> None:
    labels = [
        Label(100, 200, "leak"),
        Label(300, 400, "", "nothing-found"),
        Label(500, 600, "", "false"),
    ]
    opened = [event(number, time) for number, time in enumerate([150.0, 350.0, 550.0])]
    detections, false = match(opened, labels, 0.0)
    assert [one.label.kind for one in detections] == ["leak"]
    assert false == [opened[2]]
