"""The protocols: which rows are trained on and judged, what counts as a detection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import ConfigError, DataError
from tests.trainer.benchmark.conftest import write_cmapss, write_ims, write_nasa, write_skab
from trainer.benchmark import settings
from trainer.benchmark.cases import BENCHMARKS, CMAPSS, IMS, NASA, SKAB, on_grid, sequences


def test_a_channel_of_nasa(tmp_path: Path) -> None:
    write_nasa(tmp_path, ["A-1", "A-10", "A-2"], train=50, test=80)
    assert NASA.chosen(tmp_path, []) == ["A-1", "A-2", "A-10"]
    case = NASA.read(tmp_path, "A-2")
    [train], [unit] = case.train, case.units
    assert (train.shape, unit.values.shape) == ((50, 2), (80, 2))
    assert (unit.name, unit.rows) == ("A-2", [[(60, 79)]])
    assert [channel.scored for channel in case.channels] == [True, False]


def test_a_file_of_skab_is_judged_after_its_first_400_rows(tmp_path: Path) -> None:
    write_skab(tmp_path / "valve1" / "0.csv", 500, range(450, 480))
    write_skab(tmp_path / "other" / "1.csv", 400, range(0))
    assert SKAB.chosen(tmp_path, []) == ["other/1", "valve1/0"]
    case = SKAB.read(tmp_path, "valve1/0")
    [train], [unit] = case.train, case.units
    assert (train.shape, unit.values.shape) == ((400, 8), (100, 8))
    assert (unit.name, unit.rows) == ("valve1/0", [[(50, 79)]])
    assert case.channels[-1].name == "Volume_Flow_RateRMS"
    with pytest.raises(DataError, match="400 rows"):
        SKAB.read(tmp_path, "other/1")


def test_a_file_of_skab_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "valve1" / "0.csv"
    write_skab(path, 420, range(0))
    path.write_text("\n".join(line.rsplit(";", 2)[0] for line in path.read_text().splitlines()))
    with pytest.raises(DataError, match="no column 'anomaly'"):
        SKAB.read(tmp_path, "valve1/0")


def test_a_bearing_is_trained_on_the_first_fifth_of_its_test(tmp_path: Path) -> None:
    write_ims(tmp_path, 200)
    assert IMS.chosen(tmp_path, []) == ["2nd_test/1", "2nd_test/2"]
    for name, fails in (("2nd_test/1", True), ("2nd_test/2", False)):
        case = IMS.read(tmp_path, name)
        [train], [unit] = case.train, case.units
        assert (train.shape, unit.values.shape, len(unit.seconds)) == ((40, 1), (160, 1), 160)
        assert (unit.fails, case.goes_on) == (fails, True)
    assert unit.seconds[1] - unit.seconds[0] == 600


def test_engines_share_a_network_and_are_judged_from_their_first_cycle(tmp_path: Path) -> None:
    write_cmapss(tmp_path, [130, 150])
    [name] = CMAPSS.chosen(tmp_path, [])
    case = CMAPSS.read(tmp_path, name)
    assert [piece.shape for piece in case.train] == [(40, 24)] * 2
    assert [(unit.name, len(unit.values)) for unit in case.units] == [
        ("FD001/1", 130),
        ("FD001/2", 150),
    ]
    np.testing.assert_array_equal(case.units[1].values[:40], case.train[1])
    assert [channel.scored for channel in case.channels] == [False] * 3 + [True] * 21
    assert not case.goes_on


def test_an_unknown_channel_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_nasa(tmp_path, ["A-1", "P-10"], train=5, test=8)
    assert NASA.chosen(tmp_path, ["P-10"]) == ["P-10"]
    with pytest.raises(DataError, match=r"no channel 'P10'; did you mean 'P-10'\?"):
        NASA.chosen(tmp_path, ["A-1", "P10"])


def test_a_channel_without_labels_is_judged_all_the_same(tmp_path: Path) -> None:
    write_nasa(tmp_path, ["A-1"], train=5, test=8)
    (tmp_path / "labeled_anomalies.csv").write_text("chan_id,spacecraft,anomaly_sequences\n")
    assert NASA.read(tmp_path, "A-1").units[0].rows == [[]]


def test_arrays_lie_on_the_grid_with_what_is_missing_between_them() -> None:
    pieces = [np.zeros((2, 1), np.float32), np.ones((3, 1), np.float32)]
    samples = on_grid(pieces, 0.5, first=10, apart=4)
    assert samples.times.tolist() == [5.0, 5.5, 8.0, 8.5, 9.0]
    assert samples.values[:, 0].tolist() == [0, 0, 1, 1, 1]


def test_a_data_set_has_what_it_dictates_over_the_shared_settings(tmp_path: Path) -> None:
    below, above = tmp_path / "below.toml", tmp_path / "above.toml"
    below.write_text("[fit]\nbatch = 16\nepochs = 3\n[network]\nlayers = [7]\n")
    above.write_text("[sampling]\nperiod_s = 2.0\n[fit]\nepochs = 5\n")
    config = settings.read(above, below).config
    assert (config.sampling.period_s, config.fit.batch, config.fit.epochs) == (2.0, 16, 5)
    assert config.network.layers == [7]
    assert NASA.settings(None).config.network.layers == [80, 80]  # of the shared file


def test_runs_of_flags() -> None:
    assert sequences(np.array([1, 1, 0, 1, 0, 0, 1], np.bool_)) == [(0, 1), (3, 3), (6, 6)]
    assert sequences(np.zeros(3, np.bool_)) == []


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_the_configurations_that_ship_are_right(name: str) -> None:
    assert BENCHMARKS[name].settings(None).digest == BENCHMARKS[name].settings(None).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[data]\nfiles = ['x.csv']\n",
            r"\[data\]: not allowed; each channel of a benchmark sets it",
        ),
        ("[fit]\nepoch = 3\n", "fit.epoch: unknown key; did you mean 'epochs'"),
        ("[fit]\nepochs = 0\n", "fit.epochs = 0"),
    ],
)
def test_a_configuration_is_checked_before_anything_is_trained(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[sampling]\nperiod_s = 1.0\n" + text)
    with pytest.raises(ConfigError, match=message):
        settings.read(path)


def test_the_digest_is_of_what_is_set(tmp_path: Path) -> None:
    texts = {
        "a": "[sampling]\nperiod_s = 1.0\n",
        "b": "# a comment\n[sampling]\nperiod_s = 1\n[fit]\n",
        "c": "[sampling]\nperiod_s = 2.0\n",
    }
    digests = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        digests[name] = settings.read(tmp_path / name).digest
    assert digests["a"] == digests["b"] != digests["c"]
