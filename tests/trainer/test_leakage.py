"""Data to test on never repeats data to learn from: whoever tries is told the rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from models.errors import LeakageError
from models.messages import Float32, Float64
from tests.trainer.conftest import CONFIG, START_S, machine, write_recording
from trainer import config, leakage
from trainer.prepared import prepare_data

TEXT = CONFIG.partition("[forecast]")[0].replace('["normal.csv"]', '["recordings/*.csv"]')
EVALUATE = '[evaluate]\nfiles = ["tested/*.csv"]\n'
DAY_S = 86400.0


def project(tmp_path: Path, *recordings: tuple[str, Float64, Float32], text: str = TEXT) -> Path:
    """Write recordings, each at its path, and the configuration."""
    for name, times, values in recordings:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_recording(path, times, values)
        if path.parent.name == "tested":
            path.with_suffix(".labels.csv").write_text("start,end,kind\n")
    (tmp_path / "tiny.toml").write_text(text)
    return tmp_path / "tiny.toml"


def refused(path: Path) -> str:
    """Prepare the data; return what the refusal says."""
    with pytest.raises(LeakageError) as error:
        prepare_data(config.read(path), lambda line: None)
    return str(error.value)


def test_the_same_recording_twice(tmp_path: Path) -> None:
    times, values = machine(4000, seed=1)
    twice = [(f"recordings/{name}.csv", times, values) for name in ("a", "copy")]
    told = refused(project(tmp_path, *twice))
    assert "a.csv and copy.csv overlap in time: rows 1 to 4000 of a.csv and rows 1 to 4000" in told


def test_recordings_that_overlap(tmp_path: Path) -> None:
    times, values = machine(4000, seed=1)
    halves = [("recordings/a.csv", slice(0, 2100)), ("recordings/b.csv", slice(2000, 4000))]
    told = refused(project(tmp_path, *((name, times[s], values[s]) for name, s in halves)))
    assert "rows 2001 to 2100 of a.csv and rows 1 to 100 of b.csv" in told


def test_the_same_recording_with_other_times(tmp_path: Path) -> None:
    """A copy of yesterday's file that somebody gave today's date."""
    times, values = machine(3000, seed=1)
    told = refused(
        project(
            tmp_path,
            ("recordings/a.csv", times, values),
            ("recordings/b.csv", times + DAY_S, values),
        )
    )
    # of 6000 samples, 2400 are the training part, and 2421 to 4200 the calibration part
    assert "the calibrate part repeats the train part: rows 1 to 1200 of b.csv (from" in told
    assert "what rows 1 to 1200 of a.csv (from" in told


def test_a_test_file_that_repeats_rows_of_the_training(tmp_path: Path) -> None:
    times, values = machine(4000, seed=1)
    other_times, other = machine(600, seed=2)
    other[300:400] = values[1000:1100]
    told = refused(
        project(
            tmp_path,
            ("recordings/a.csv", times, values),
            ("tested/b.csv", other_times, other),
            text=TEXT + EVALUATE,
        )
    )
    assert re.match(
        r"b\.csv repeats the train part: rows 301 to 400 of b\.csv \(from .*\) have, value for"
        r" value, what rows 1001 to 1100 of a\.csv",
        told,
    )


def test_few_repeated_rows_and_a_machine_at_rest_are_no_leak(tmp_path: Path) -> None:
    times, values = machine(4000, seed=1)
    other_times, other = machine(600, seed=2)
    other[300:350] = values[1000:1050]  # as many as may be
    values[100:400] = other[100:200].mean(axis=0)  # at rest
    other[0:200] = values[100]
    path = project(
        tmp_path,
        ("recordings/a.csv", times, values),
        ("tested/b.csv", other_times, other),
        text=TEXT + EVALUATE,
    )
    assert prepare_data(config.read(path), lambda line: None).labelled
    other[300:351] = values[1000:1051]
    write_recording(tmp_path / "tested" / "b.csv", other_times, other)
    assert "rows 301 to 351 of b.csv" in refused(path)


def test_a_machine_that_repeats_itself_exactly_can_be_allowed(tmp_path: Path) -> None:
    values = np.stack([np.sin(np.arange(4000) % 100)] * 3, axis=1).astype(np.float32)
    recorded = ("recordings/a.csv", START_S + np.arange(4000.0), values)
    assert "raise split.repeated_samples_max, which is 50" in refused(project(tmp_path, recorded))
    text = TEXT.replace("[split]\n", "[split]\nrepeated_samples_max = 4000\n")
    path = project(tmp_path, recorded, text=text)
    assert prepare_data(config.read(path), lambda line: None).parts


@pytest.mark.parametrize("missing", [False, True])
def test_a_repeat_is_found_wherever_it_is(missing: bool) -> None:
    random = np.random.default_rng(3)
    learnt = random.normal(size=(700, 3)).astype(np.float32)
    tested = random.normal(size=(300, 3)).astype(np.float32)
    if missing:
        learnt[205, 1] = np.nan
    tested[150:170] = learnt[200:220]
    assert leakage.repeat(learnt, tested, 20) == (200, 150, 20)
    assert leakage.repeat(learnt, tested, 21) is None


def test_the_gap_between_parts_is_the_longest_context(tmp_path: Path) -> None:
    """Nothing that a part is judged on was in sight of what the part before learnt."""
    recorded = ("recordings/a.csv", *machine(4000, seed=1))
    with_forecast = CONFIG.replace('["normal.csv"]', '["recordings/*.csv"]')
    with_forecast = with_forecast.partition("[evaluate]")[0]
    gaps = {"": 20, "gap_samples = 7\n": 7}
    for setting, gap in gaps.items():
        text = TEXT.replace("[split]\n", f"[split]\n{setting}")
        path = project(tmp_path, recorded, text=text)
        parts = prepare_data(config.read(path), lambda line: None).parts
        assert parts.calibrate.times[0] - parts.train.times[-1] == gap + 1
        assert parts.test.times[0] - parts.calibrate.times[-1] == gap + 1
    file = config.read(project(tmp_path, recorded, text=with_forecast))
    assert file.config.gap_samples == 40 * 2
