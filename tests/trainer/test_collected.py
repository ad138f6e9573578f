"""What a collector gathered from gateways trains a bundle: by the queries of docs/data.md."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.collector import parquet
from agent.collector.books import Collected
from agent.collector.reading import Message, Source
from agent.collector.retention import FOREVER
from agent.dialects.samples import Samples
from models.errors import DataError
from models.messages import HELD
from models.times import iso_time
from tests.conftest import ROOT
from trainer import config, prepared
from trainer.cli import commands
from trainer.datasets import Label
from trainer.datasets.labels import read_labels

BEGIN_S = 1_790_000_400.0
MINUTES = 30
MIDNIGHT_S = 1_790_121_600.0  # UTC
PAGE = (ROOT / "docs" / "data.md").read_text()


def summary(minute: int) -> dict[str, object]:
    flow = None if minute == 7 else 80.0 + minute
    channels = {"flow": {"mean": flow}, "bearing_temperature": {"mean": 40.5}}
    at = iso_time(BEGIN_S + 60 * minute)
    return {"time": at, "data": {"from": at, "n": 60, "channels": channels}}


def alarm(number: int, closed: float | None) -> dict[str, object]:
    told = None if closed is None else iso_time(BEGIN_S + closed)
    return {"data": {"number": number, "onset": iso_time(BEGIN_S + 300), "closed": told}}


def label(revision: int, number: int, said: str, why: str = "") -> dict[str, object]:
    at = iso_time(BEGIN_S + 900 + revision)
    begin = None if number else iso_time(BEGIN_S + 600)
    data = {
        "stream": "pump-1",
        "what": "labelled",
        "number": number,
        "revision": revision,
        "at": at,
        "label": said,
        "why": why,
        "begin": begin,
        "end": begin and iso_time(BEGIN_S + 660),
    }
    return {"time": at, "data": data}


def collected(directory: Path) -> Path:
    directory.mkdir()
    source = Source("gateway-1", "0" * 16)
    bodies = [("summary/pump-1", summary(minute)) for minute in range(MINUTES)]
    bodies.append(("summary/pump-2", summary(1)))
    bodies += [
        (f"alarm/pump-{of}", alarm(3, closed)) for of, closed in ((1, None), (1, 420), (2, 9))
    ]
    bodies.append(("alarm/pump-1", alarm(4, None)))
    labels = [label(1, 3, "confirmed"), label(2, 4, "nothing-found"), label(3, 3, "false", "dirt")]
    labels += [label(4, 0, "maintenance", "oil"), {"data": {"what": "noted", "number": 3}}]
    bodies += [("transition/pump-1", one) for one in labels]
    with Collected(directory, "plant-1", FOREVER) as books:
        for seq, (what, body) in enumerate(bodies, 1):
            topic = f"fieldwatch/v1/plant-1/gateway-1/{what}"
            books.take(Message(source, seq, topic, json.dumps(body).encode(), []))
        books.commit()
    (path,) = directory.glob("*.db")
    return path


def block(language: str, word: str) -> str:
    """Return the block of code of the page that contains a word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [one for one in blocks if word in one]
    return str(found)


def test_summaries(tmp_path: Path) -> None:
    path = collected(tmp_path / "collected")
    data = block("toml", "/summary/").replace("/var/lib/collected/collected.db", str(path))
    (tmp_path / "x.toml").write_text(f'[bundle]\nname = "x"\n{data}[sampling]\nperiod_s = 60.0\n')
    (source,) = prepared.sources(config.read(tmp_path / "x.toml"), lambda _: None)
    times, values = source.recording.readings
    assert times.tolist() == [BEGIN_S + 60 * minute for minute in range(MINUTES)]
    assert np.isnan(values[7, 0])
    assert values[8].tolist() == [88.0, 40.5]


def filed(directory: Path) -> Path:
    """Write samples of two days, as the collector does; return the folder of the stream."""
    source = Source("gateway-1", "5e00")
    quality = np.zeros((600, 2), np.uint8)
    quality[7, 0] = HELD
    for part in range(3):
        numbers = np.arange(600) + 1 + 600 * part
        values = np.stack([numbers % 90, numbers % 70], axis=1).astype(np.float32)
        scores = np.full(600, 0.5, np.float32)
        names = ["flow", "bearing_temperature"]
        times = MIDNIGHT_S - 900 + numbers
        samples = Samples(names, numbers, times, values, scores, quality)
        parquet.write(directory, source, "pump-1", [samples])
    return directory / "samples/gateway=gateway-1/stream=pump-1"


def configured(path: Path, folder: str) -> list[prepared.Source]:
    names = "flow", "bearing_temperature"
    channels = "".join(f'[[data.channels]]\nname = "{name}"\n' for name in names)
    path.write_text(
        f'[bundle]\nname = "x"\n[data]\nfiles = ["{folder}"]\n{channels}'
        "[sampling]\nperiod_s = 1.0\n"
    )
    return prepared.sources(config.read(path), lambda _: None)


def test_samples_of_a_collector_are_one_recording(tmp_path: Path) -> None:
    folder = filed(tmp_path)
    (source,) = configured(tmp_path / "x.toml", "samples/gateway=*/stream=pump-1")
    times, values = source.recording.readings
    assert times.tolist() == [MIDNIGHT_S - 899 + n for n in range(1800)]
    assert np.isnan(values[[7, 607, 1207], 0]).all()  # what was held was not measured
    assert values[8].tolist() == [9.0, 9.0]
    days = configured(tmp_path / "x.toml", "samples/gateway=*/stream=pump-1/day=*")
    assert [len(one.recording.readings.times) for one in days] == [899, 901]
    digest = source.recording.sha256
    (folder / "day=2026-09-23" / "unfinished.partial").touch()
    (again,) = configured(tmp_path / "x.toml", str(folder))
    assert again.recording.sha256 == digest


def test_init_takes_the_folder_of_a_stream(tmp_path: Path) -> None:
    folder = filed(tmp_path)
    output = tmp_path / "pump.toml"
    told = CliRunner().invoke(commands, ["init", str(folder), "--output", str(output)])
    assert told.exit_code == 0, told.output
    found = config.read(output)
    assert found.config.bundle.name == "pump-1"
    assert [one.name for one in found.config.data.channels] == ["flow", "bearing_temperature"]
    assert found.config.sampling.period_s == 1.0
    (source,) = prepared.sources(found, lambda _: None)
    assert len(source.recording.readings.times) == 1800


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("samples", "one stream"),
        ("samples/gateway=gateway-1/stream=pump-1/day=2026-09-23", "not a whole Parquet file"),
        ("empty", "no Parquet file"),
    ],
)
def test_what_is_no_folder_of_one_stream_is_refused(tmp_path: Path, folder: str, why: str) -> None:
    below = filed(tmp_path)
    (tmp_path / "empty").mkdir()
    newest = max((below / "day=2026-09-23").iterdir())
    newest.write_bytes(newest.read_bytes()[:-9])
    shutil.copytree(below, below.parent / "stream=pump-2")
    with pytest.raises(DataError, match=why):
        configured(tmp_path / "x.toml", folder)


def test_labels(tmp_path: Path) -> None:
    path = collected(tmp_path / "collected")
    statement = block("sql", "/transition/")
    with sqlite3.connect(path) as database:
        found = database.execute(statement)
        names = [column[0] for column in found.description]
        rows = found.fetchall()
    database.close()
    with (tmp_path / "x.labels.csv").open("w") as file:
        csv.writer(file).writerows([names, *rows])
    begin = BEGIN_S + 300
    assert sorted(read_labels(tmp_path / "x.labels.csv")) == [
        Label(begin, BEGIN_S + 420, "dirt", "false"),
        Label(begin, BEGIN_S + 902, "nothing-found", "nothing-found"),
        Label(BEGIN_S + 600, BEGIN_S + 660, "oil", "maintenance"),
    ]
