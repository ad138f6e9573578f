"""The data report: what is there, and what is unusable and why; the check before a training."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from models.messages import Float32, Float64
from tests.browser import launch, open_watched, violations
from tests.trainer.conftest import CONFIG, NAMES, START_S, machine, write_recording
from tests.trainer.test_cli import run
from trainer import config, data_report, examine

TEXT = CONFIG.partition("[forecast]")[0].replace('["normal.csv"]', '["recordings/*.csv"]')
Change = Callable[[Float64, Float32], None]


def project(tmp_path: Path, change: Change = lambda times, values: None) -> Path:
    """Write one recording, changed, and the configuration."""
    times, values = machine(4000, seed=1)
    change(times, values)
    (tmp_path / "recordings").mkdir()
    write_recording(tmp_path / "recordings" / "a.csv", times, values)
    (tmp_path / "tiny.toml").write_text(TEXT)
    return tmp_path / "tiny.toml"


def examined(path: Path) -> examine.Examined:
    return examine.examine(config.read(path), lambda line: None)


def page(path: Path) -> str:
    """Write the report; return its text without tags."""
    data_report.write(examined(path), path.with_suffix(".html"))
    text = re.sub(r"<style>.*?</style>|<img[^>]*>", "", path.with_suffix(".html").read_text())
    return html.unescape(re.sub(r"(\s|<[^>]+>)+", " ", text))


def test_the_facts_of_a_sound_recording(tmp_path: Path) -> None:
    def gaps(times: Float64, values: Float32) -> None:
        values[1000:1010, 0] = np.nan
        times[2000:] += 600.0

    found = examined(project(tmp_path, gaps))
    load, _, supply = found.channels
    assert (load.name, load.unit, load.gaps, load.longest_gap_s) == ("load", "kW", 1, 8.0)
    assert load.known == 4000 - 8  # two of the ten are held
    assert load.strongest_period_s == pytest.approx(2 * np.pi * 9, rel=0.05)
    assert load.quantiles is not None
    assert load.quantiles[2] == pytest.approx(0, abs=0.05)
    assert found.correlations[0, 1] == pytest.approx(0.97, abs=0.02)
    assert np.isnan(found.correlations[0, 2])
    assert supply.unusable == "it is always 24 V, so there is nothing to learn"
    assert [round(gap.end - gap.begin) for gap in found.gaps] == [601]
    assert found.refused == []
    assert found.prepared is not None


def test_a_slow_drift_is_no_period(tmp_path: Path) -> None:
    def drift(times: Float64, values: Float32) -> None:
        values[:, 1] = np.cumsum(np.random.default_rng(5).normal(size=len(times)))

    assert examined(project(tmp_path, drift)).channels[1].strongest_period_s is None


def empty(times: Float64, values: Float32) -> None:
    values[:, 1] = np.nan


def test_a_column_without_any_value_is_named(tmp_path: Path) -> None:
    told = page(project(tmp_path, empty))
    assert "A training would be refused" in told
    assert "channel power (column 'P (kW)') has no value in the training part" in told
    assert "power it has no value in any recording (column 'P (kW)')" in told
    assert "supply it is always 24 V" in told


def test_a_file_that_is_cut_short_leaves_the_others(tmp_path: Path) -> None:
    path = project(tmp_path)
    (tmp_path / "recordings" / "b.csv").write_text("time,load\n1,2\n")
    found = examined(path)
    assert [source.name for source in found.sources] == ["a.csv"]
    assert "b.csv: no column 'P (kW)'" in found.refused[0]
    assert found.channels[0].known == 4000


def test_recordings_of_the_same_time_are_named(tmp_path: Path) -> None:
    path = project(tmp_path)
    write_recording(tmp_path / "recordings" / "b.csv", *machine(4000, seed=1))
    assert "rows 1 to 4000 of a.csv and rows 1 to 4000 of b.csv" in page(path)


def test_mixed_zones_are_named(tmp_path: Path) -> None:
    path = project(tmp_path)
    lines = (tmp_path / "recordings" / "a.csv").read_text().splitlines()
    for number in range(1, 4001):
        moment = np.datetime64(round(START_S + number), "s")
        zone = "+01:00" if number > 3000 else "Z"
        lines[number] = f"{moment}{zone},{lines[number].partition(',')[2]}"
    (tmp_path / "recordings" / "a.csv").write_text("\n".join(lines) + "\n")
    [remark] = [line for line in examined(path).remarks if "mixed zones" in line]
    assert "a.csv has times of mixed zones: Z in 3000 rows, +01:00 in 1000 rows." in remark


def test_offsets_are_those_of_times() -> None:
    rows = b"time,a\n2026-01-02T03:04:05Z,1\n2026-01-02 03:04:05.5 +0200,2\n2026-01-02 03:04,-03\n"
    assert examine.offsets(rows) == {"Z": 1, "+0200": 1, "no zone": 1}
    assert not examine.offsets(b"time,a\n1700000000.0,2\n")


def test_the_page_is_accessible(tmp_path: Path) -> None:
    path = project(tmp_path)
    page(path)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        watched = open_watched(browser)
        watched.page.goto(path.with_suffix(".html").as_uri())
        assert watched.page.locator("main h1").count() == 1
        assert violations(watched.page) == []
        browser.close()


def test_the_command_writes_the_report_and_its_exit_code_says_if_a_training_can_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = project(tmp_path)
    assert run(monkeypatch, "data", path, "-q") == 0
    said = capsys.readouterr().out
    assert "A training can begin; of no use: supply." in said
    assert str(tmp_path / "tiny.data.html") in said
    path.write_text(TEXT.replace("[split]\n", "[split]\ngap_samples = 900\n"))
    assert run(monkeypatch, "data", path, "-q", "--output", tmp_path / "other.html") == 1
    assert "refused: too little data: the calibrate part has" in capsys.readouterr().err
    assert (tmp_path / "other.html").exists()


def test_the_check_says_what_a_training_would_use_and_trains_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = project(tmp_path)
    assert run(monkeypatch, "check", path, "-q") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == ("train: 1600 rows from 2023-11-26T12:00:00.000Z to 2023-11-26T12:26:39.000Z")
    assert said[-1].endswith("a training can begin")
    assert run(monkeypatch, "check", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert f"digest of the data: {found['digest']}" in said
    assert set(found["parts"]["train"]) == {"digest", "rows", "first", "last"}
    assert NAMES[0] == "load"
    assert {file.name for file in tmp_path.iterdir()} == {"recordings", "tiny.toml"}
    (tmp_path / "recordings" / "a.csv").unlink()
    assert run(monkeypatch, "check", path) == 78
