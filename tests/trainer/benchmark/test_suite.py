"""All benchmarks in one table: what is found in a folder, what is told, what is missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from models.errors import DataError
from tests.trainer.benchmark.conftest import (
    ELSEWHERE,
    LABEL,
    MakeOutcome,
    alarm,
    judged,
    write_engines,
    write_ims,
    write_nasa,
    write_skab,
)
from trainer.benchmark import report, suite, tables
from trainer.benchmark.cases import BENCHMARKS, CMAPSS, NASA
from trainer.benchmark.document import spread
from trainer.benchmark.outcome import Curve, Judged, WorkDirectory
from trainer.benchmark.runs import Run, all_documents
from trainer.cli import commands


def test_every_benchmark_has_a_place_in_the_table() -> None:
    assert suite.FIGURES.keys() == BENCHMARKS.keys()


def test_what_is_there_is_found_and_what_is_not_is_named(tmp_path: Path) -> None:
    write_nasa(tmp_path / "MSL", ["M-1"], 50, 80)
    write_nasa(tmp_path / "nasa_smap", ["A-1"], 50, 80)
    write_skab(tmp_path / "skab" / "valve1" / "0.csv", 410, range(0))
    (tmp_path / "notes.txt").write_text("")
    found = suite.find(tmp_path)
    assert found.detectors == [
        ("nasa", tmp_path / "MSL"),
        ("nasa", tmp_path / "nasa_smap"),
        ("skab", tmp_path / "skab"),
    ]
    assert found.missing == [
        *(f"{name}: no data in {tmp_path / name}" for name in ("ims", "cmapss", "ett")),
        f"cmapss, life: no data in {tmp_path / 'cmapss'}",
        f"nab: no data in {tmp_path / 'nab'}",
    ]
    write_ims(tmp_path / "ims", 10)
    write_engines(tmp_path / "cmapss")
    (tmp_path / "nab").mkdir()
    (tmp_path / "ett").mkdir()
    (tmp_path / "ett" / "ETTh1.csv").write_text("")
    found = suite.find(tmp_path)
    assert [name for name, _ in found.detectors] == ["nasa", "nasa", "skab", "ims", "cmapss"]
    assert [each.name for each, _ in found.plain] == ["cmapss, life", "nab"]
    assert (found.forecasts, found.missing) == ([tmp_path / "ett" / "ETTh1.csv"], [])


def test_a_folder_without_any_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=f"no data set in it; nasa: no data in {tmp_path}/nasa_smap"
    ):
        suite.find(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        suite.find(tmp_path / "none")


@pytest.fixture
def measured(tmp_path: Path, make_outcome: MakeOutcome, curves: list[Curve]) -> suite.Measured:
    """Two seeds of two channels: the first seed finds A-1 and misses A-2, the second finds both."""
    found, missed = judged(alarm(*LABEL)), judged(alarm(*ELSEWHERE))
    runs = {}
    for seed, second in ((1, missed), (2, found)):
        work = WorkDirectory(tmp_path / str(seed))
        outcomes = {name: make_outcome(name, quantized=one) for name, one in _two(found, second)}
        for outcome in outcomes.values():
            work.keep(outcome, curves)
        units = {name: [name] for name in outcomes}
        runs[seed] = Run(NASA, NASA.settings(None), work, {}, units, {}, outcomes, {})
    return suite.of_detectors("SMAP", all_documents(runs), runs[1])


def _two(first: Judged, second: Judged) -> list[tuple[str, Judged]]:
    return [("A-1", first), ("A-2", second)]


def forecast(seed: int, quantized: float) -> dict[str, Any]:
    row = {"quantized": quantized, "last_value": 1.25, "linear": 0.4}
    return {"seed": seed, "horizons": {"96": {name: {"mse": mse} for name, mse in row.items()}}}


def test_the_table_has_mean_and_deviation_over_the_seeds(measured: suite.Measured) -> None:
    told = suite.of_forecasts("ETTh1", [forecast(1, 0.5), forecast(2, 0.25)])
    lines = list(suite.lines([measured, told], ["ims: no folder x"]))
    assert lines[0].split() == ["data", "set", "figure", *suite.COLUMNS]
    assert "F1, published rule" in lines[1]
    assert "0.750 ± 0.35" in lines[1]  # 0.5 and 1
    assert "0.375 ± 0.18" in lines[5]
    assert lines[5].split()[-2:] == ["0.400", "–"]
    assert lines[-1] == "not measured: ims: no folder x"
    document = suite.document([measured, told], ["ims: no folder x"])
    table = json.loads(json.dumps(document))["table"]
    assert table["SMAP"]["F1, published rule"]["quantized"] == spread([0.5, 1.0])
    assert table["ETTh1"]["MSE, 96 steps ahead"]["linear"]["mean"] == pytest.approx(0.4)
    assert document["data_sets"]["SMAP"]["seeds"].keys() == {"1", "2"}


def test_the_remaining_life_stands_beside_the_detectors(
    tmp_path: Path, make_outcome: MakeOutcome, curves: list[Curve]
) -> None:
    work = WorkDirectory(tmp_path)
    engine = make_outcome("FD001/1").model_copy(update={"fails": True})
    work.keep(engine, curves)
    outcomes = {engine.name: engine}
    run = Run(CMAPSS, CMAPSS.settings(None), work, {}, {"FD001": ["FD001/1"]}, {}, outcomes, {})
    life = {
        "linear": {"rmse": 13.25, "score": 325.4},
        "constant": {"rmse": 49.2, "score": 166491.0},
    }
    document = all_documents({1: run}, {"remaining_life": life})
    printed = list(tables.seeds(document))
    assert printed[-2].split() == ["linear", "13.2", "325"]
    assert printed[-1].split() == ["constant", "49.2", "166491"]
    report.write(document, run, tmp_path / "report.html")
    assert "13.25" in (tmp_path / "report.html").read_text()


def test_a_benchmark_without_networks_has_its_rows(tmp_path: Path) -> None:
    write_engines(tmp_path / "cmapss")
    [(plain, folder)] = suite.find(tmp_path).plain
    told = suite.of_plain(plain, folder)
    rmse, score = list(suite.lines([told], []))[1:]
    for line, title in ((rmse, "remaining life, RMSE"), (score, "remaining life, score")):
        assert line.startswith("cmapss, life ")
        assert title in line
    linear = told.document["linear"]["rmse"]
    assert rmse.split()[-2:] == [f"{linear:.1f}", "–"]
    assert linear < told.document["constant"]["rmse"]


def test_nab_has_a_row_for_each_profile_and_threshold(tmp_path: Path) -> None:
    """A constant series that jumps at the first row of the labelled window."""
    times = [f"2014-04-01 {row // 12:02}:{row % 12 * 5:02}:00" for row in range(280)]
    rows = [f"{time},{100 if row == 255 else 1}" for row, time in enumerate(times)]
    folder = tmp_path / "nab"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "pump.csv").write_text("\n".join(["timestamp,value", *rows]))
    windows = {"real/pump.csv": [[times[255], times[265]]]}
    (folder / "combined_windows.json").write_text(json.dumps(windows))
    [(plain, found)] = suite.find(tmp_path).plain
    told = suite.of_plain(plain, found)
    own, best = list(suite.lines([told], []))[1:3]
    assert own.startswith("nab ") and "standard, own threshold" in own
    assert "standard, best threshold" in best
    assert 0 < told.cells[0][1]["novelty"]["mean"] <= told.cells[1][1]["novelty"]["mean"] <= 100
    assert len(told.cells) == 2 * 3


def test_the_report_names_the_files_of_nab_with_errors(tmp_path: Path) -> None:
    """A series that jumps before the labelled window, and is calm in it."""
    times = [f"2014-04-01 {row // 12:02}:{row % 12 * 5:02}:00" for row in range(280)]
    rows = [f"{time},{100 if row == 230 else 1}" for row, time in enumerate(times)]
    folder = tmp_path / "nab"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "pump.csv").write_text("\n".join(["timestamp,value", *rows]))
    windows = {"real/pump.csv": [[times[265], times[275]]]}
    (folder / "combined_windows.json").write_text(json.dumps(windows))
    [(plain, found)] = suite.find(tmp_path).plain
    told = suite.of_plain(plain, found)
    assert told.document["wrong"]["real/pump"]["missed"] == 1
    assert told.document["wrong"]["real/pump"]["false_rows"] >= 1
    suite.write([told], [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Where it fails: nab" in page and "real/pump" in page


def test_the_report_shows_where_it_fails(measured: suite.Measured, tmp_path: Path) -> None:
    told = suite.of_forecasts("ETTh1", [forecast(1, 0.5)])
    path = tmp_path / "made" / "report.html"
    suite.write([measured, told], ["ims: no folder x"], path)
    page = path.read_text()
    assert page.count("data:image/svg+xml") == 1  # of A-2, which was missed
    assert "1 of 2: A-2" in page
    assert "MSE, 96 steps ahead: linear is better" in page
    assert "Not measured: ims: no folder x" in page


def test_the_command_names_what_is_missing_and_what_failed(tmp_path: Path) -> None:
    """Both channels are broken, so that nothing is trained here."""
    write_nasa(tmp_path / "data" / "nasa_smap", ["A-1", "B-1"], 50, 80)
    for name in ("A-1", "B-1"):
        (tmp_path / "data" / "nasa_smap" / "train" / f"{name}.npy").write_bytes(b"broken")
    words = ["benchmark", "all", "--data", tmp_path / "data", "--work", tmp_path / "work"]
    words += ["--json", tmp_path / "all.json"]
    ended = CliRunner().invoke(commands, [str(word) for word in words], standalone_mode=False)
    assert (ended.exception, ended.return_value) == (None, 1)
    assert f"not measured: skab: no data in {tmp_path / 'data' / 'skab'}" in ended.stdout
    assert "A-1 failed: " in ended.stderr
    document = json.loads((tmp_path / "all.json").read_text())
    assert len(document["missing"]) == len(suite.FIGURES) + len(suite.PLAIN)  # but nasa; and ett
    assert "A-1 failed: " in (tmp_path / "work" / "report.html").read_text()
    shutil.rmtree(tmp_path / "data" / "nasa_smap")
    ended = CliRunner().invoke(commands, [str(word) for word in words], standalone_mode=False)
    assert isinstance(ended.exception, DataError)


def test_every_benchmark_of_detectors_is_a_command() -> None:
    group = commands.commands["benchmark"]
    assert isinstance(group, click.Group)
    assert set(BENCHMARKS) < set(group.commands)
    for name in BENCHMARKS:
        told = group.commands[name].help or ""
        assert told.endswith("An interrupted run continues where it stopped.")


def test_the_help_names_every_folder_that_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "nab").mkdir()
    folders = {Path(line.rpartition(" ")[2]).name for line in suite.find(tmp_path).missing}
    told = CliRunner().invoke(commands, ["benchmark", "all", "--help"]).output
    assert folders == {"nasa_smap", "skab", "ims", "cmapss", "ett"}
    for name in {"nab", *folders}:
        assert re.search(rf"\b{name}\b", told), name


def _wrong_cycles(data: Path) -> None:
    write_engines(data / "cmapss")
    (data / "cmapss" / "RUL_FD001.txt").write_text("20\nmany\n")


def _wrong_bearings(data: Path) -> None:
    write_ims(data / "ims", 10)
    for path in (data / "ims").iterdir():
        path.write_text("nothing\n")


def _wrong_series(data: Path) -> None:
    (data / "ett").mkdir()
    (data / "ett" / "ETTh1.csv").write_text("nothing\n")


@pytest.mark.parametrize("break_it", [_wrong_cycles, _wrong_bearings, _wrong_series])
def test_a_file_that_is_wrong_is_found_before_any_training(
    tmp_path: Path, break_it: Callable[[Path], None]
) -> None:
    """The channel of NASA is broken, too, so that nothing is trained here if it is not."""
    write_nasa(tmp_path / "data" / "nasa_smap", ["A-1"], 50, 80)
    (tmp_path / "data" / "nasa_smap" / "train" / "A-1.npy").write_bytes(b"broken")
    break_it(tmp_path / "data")
    words = ["benchmark", "all", "--data", tmp_path / "data", "--work", tmp_path / "work"]
    ended = CliRunner().invoke(commands, [str(word) for word in words], standalone_mode=False)
    assert isinstance(ended.exception, DataError)
    assert "nasa_smap: nasa" not in ended.stderr


def test_the_cycles_left_are_read_before_any_training(tmp_path: Path) -> None:
    _wrong_cycles(tmp_path)
    (tmp_path / "cmapss" / "train_FD001.txt").write_text("1 1" + " 1.0" * 24 + "\n")
    words = ["benchmark", "cmapss", "--data", tmp_path / "cmapss", "--work", tmp_path / "work"]
    ended = CliRunner().invoke(commands, [str(word) for word in words], standalone_mode=False)
    assert isinstance(ended.exception, DataError)
    assert "RUL_FD001.txt:2: 'many' is not a number of cycles" in str(ended.exception)
    assert not (tmp_path / "work").exists()
