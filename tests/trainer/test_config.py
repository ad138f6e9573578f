"""Configuration errors name file, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ConfigError
from tests.trainer.conftest import CONFIG
from trainer import config

GOOD = """
[bundle]
name = "pump"
[data]
files = ["*.csv"]
[[data.channels]]
name = "flow"
[sampling]
period_s = 1.0
"""
X = 'name = "x"\nrate_hz = 20.0\nwindow_samples = 20 \n'
SIGNAL = GOOD.replace(
    "[sampling]",
    '[[data.channels]]\nname = "flow_rms"\nfeature = {source = "x", kind = "rms"}\n'
    f"[[data.sources]]\n{X}[sampling]",
)


def read(directory: Path, text: str) -> config.ConfigFile:
    path = directory / "pump.toml"
    path.write_text(text)
    return config.read(path)


def refusal(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(directory, text)
    file = f"{directory / 'pump.toml'}: "
    lines = str(refused.value).splitlines()
    assert all(line.startswith(file) for line in lines)
    return [line.removeprefix(file) for line in lines]


def test_a_short_configuration_is_enough(tmp_path: Path) -> None:
    file = read(tmp_path, GOOD)
    assert file.config.network.heads == ["value", "change"]
    assert file.output == tmp_path


def test_features_need_their_source_and_no_column(tmp_path: Path) -> None:
    data = read(tmp_path, SIGNAL).config.data
    assert [column.name for column in data.columns] == ["flow", "x"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "[fit]\nepoch = 3\n", "fit.epoch: unknown key; did you mean 'epochs'?"),
        (GOOD + "[smothing]\n", "smothing: unknown key; did you mean 'smoothing'?"),
        (GOOD + "[parity]\nzzz = 1\n", "parity.zzz: unknown key; allowed here are "),
        (GOOD.replace('name = "flow"', 'nam = "flow"'), "data.channels[0].name: missing"),
        (GOOD.replace("[sampling]\nperiod_s = 1.0\n", ""), "sampling: missing"),
        (GOOD.replace("1.0", "-1.0"), "sampling.period_s = -1.0: "),
        (GOOD.replace("1.0", "nan"), "sampling.period_s = nan: "),
        (GOOD.replace("pump", "Pump"), "bundle.name = 'Pump': "),
        (GOOD + "[split]\ntrain = 0.9\n", "split: train, calibrate and test must add up to 1"),
        (GOOD + "[threshold]\nz_min = 9.0\n", "threshold: z_min 9 is above z_max 6"),
        (GOOD + '[network]\nheads = ["level"]\n', "network.heads[0] = 'level': "),
        (GOOD + '[network]\nheads = ["value", "value"]\n', "network: 'value' occurs twice"),
        (GOOD + '[[data.channels]]\nname = "flow"\n', "data: channel 'flow' occurs twice"),
        (
            GOOD.replace('name = "flow"', 'name = "flow"\nlow = 2.0\nhigh = 1.0'),
            "data.channels[0]: low 2 is not below high 1",
        ),
        (GOOD + 'gap = "guess"\n', "sampling.gap = 'guess'"),
        (SIGNAL.replace('"rms"', '"loudness"'), "data.channels[1].feature.kind = 'loudness'"),
        (SIGNAL.replace('source = "x"', 'source = "y"'), "channel flow_rms: there is no source y"),
        (SIGNAL.replace("[sampling]", "[[data.sources]]\n" + X + "[sampling]"), "names of sources"),
        (SIGNAL.replace("20.0", "0.5"), "source x: 0.5 Hz is slower than the grid"),
        (SIGNAL.replace("= 20 ", "= 1 "), "data.sources[0].window_samples = 1"),
        (
            SIGNAL.replace('kind = "rms"', 'kind = "band_energy"'),
            "data.channels[1].feature: low_hz",
        ),
        (
            SIGNAL.replace('name = "flow_rms"', 'name = "flow_rms"\nlow = 0.0'),
            "data.channels[1]: low: set it for the feature's source",
        ),
        ("[bundle\n", "not TOML: "),
        (GOOD + "[network]\nhorizon_samples = 0\n", "network.horizon_samples = 0"),
        (GOOD + "[network]\ndropout = 1.0\n", "network.dropout = 1.0"),
        (GOOD + '[fit]\nloss = "l1"\n', "fit.loss = 'l1'"),
        (GOOD + '[fit]\nschedule = "step"\n', "fit.schedule = 'step'"),
        (GOOD + "[smoothing]\nspans_samples = []\n", "smoothing.spans_samples = []"),
        (
            GOOD + "[calibrate]\nfloor_changes = [1, 2]\n",
            "calibrate.floor_changes needs a value per smoothing.spans_samples",
        ),
        (
            GOOD.replace("files", 'clock_column = "time"\nfiles'),
            "data: clock_column is time_column, 'time': leave it out",
        ),
        (GOOD + "[events]\ndeadband = 1e9\n", "events.deadband = 1000000000.0: must be at most 1"),
        (GOOD + "[events]\noff_samples = 1_000_001\n", "events.off_samples = 1000001: must be at"),
        *(
            (f"{GOOD}[{table}]\n{key} = {value}\n", f"{table}.{key}{at} = ")
            for table, key, value, at in (
                ("smoothing", "level_span_samples", "1_000_001", ""),
                ("smoothing", "level_span_samples", "nan", ""),
                ("smoothing", "spans_samples", "[1e9]", "[0]"),
                ("calibrate", "floor_margin", "1001", ""),
                ("calibrate", "floor_min", "1001", ""),
                ("calibrate", "margin_samples", "1_000_001", ""),
                ("calibrate", "floor_changes", "[1001]", "[0]"),
                ("calibrate", "calm_margin", "1001", ""),
                ("calibrate", "level_min", "inf", ""),
                ("calibrate", "level_samples", "1_000_001", ""),
                ("calibrate", "level_spread", "1001", ""),
                ("calibrate", "level_growth", "11", ""),
            )
        ),
        (
            GOOD
            + "".join(f'[[data.channels]]\nname = "c{at}"\n' for at in range(600))
            + "[forecast]\n",
            "intervals of 7 quantiles, 601 scored channels and 8 leads learn 1077",
        ),
        (GOOD + "[fit]\nlearning_rate = 1e9\n", "fit.learning_rate = 1000000000.0: must be at"),
        (GOOD.replace('"flow"', '"time"'), "data.channels[0].name = 'time': 'time' is the column"),
        (GOOD.replace('"flow"', '"-"'), "data.channels[0].name = '-': '-' is a column"),
        (GOOD + "[threshold]\nadapt_samples = 0\n", "threshold.adapt_samples = 0"),
        (GOOD + "[severities]\nhigh = 0.1\n", "severities: high 0.1 is above medium"),
        (GOOD + '[parity]\nquantizations = ["int4"]\n', "parity.quantizations[0] = 'int4'"),
        (
            GOOD.replace('name = "flow"', 'name = "flow"\nscored = false'),
            "data: no channel is scored",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    assert any(line.startswith(said) for line in refusal(tmp_path, text)), refusal(tmp_path, text)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, GOOD + "[fit]\nepoch = 3\nseed = -1\n")) == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        config.read(tmp_path / "none.toml")


def test_patterns_find_recordings_and_leave_labels_out(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "a.labels.csv"):
        (tmp_path / name).touch()
    file = read(tmp_path, GOOD)
    assert [path.name for path in file.recordings(["*.csv", "a.csv"], "data.files")] == [
        "a.csv",
        "b.csv",
    ]
    assert file.recordings([str(tmp_path / "b.csv")], "data.files") == [tmp_path / "b.csv"]


def test_a_pattern_that_finds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.files = '\*\.cvs': there is no such file"):
        read(tmp_path, GOOD).recordings(["*.cvs"], "data.files")


def test_the_environment_overrides_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = read(tmp_path, CONFIG)
    monkeypatch.setenv("FIELDWATCH_TRAINER_FIT__EPOCHS", "7")
    monkeypatch.setenv("FIELDWATCH_TRAINER_BUNDLE__NAME", "7")
    monkeypatch.setenv("FIELDWATCH_TRAINER_DATA__FILES", '["a.csv"]')
    monkeypatch.setenv("FIELDWATCH_TRAINER_FORECAST__FIT__EPOCHS", "2")
    found = read(tmp_path, CONFIG)
    assert (found.config.fit.epochs, found.config.bundle.name) == (7, "7")
    assert found.config.data.files == ["a.csv"]
    assert found.config.forecast is not None
    assert found.config.forecast.fit.epochs == 2
    assert found.config.network == plain.config.network
    assert found.digest != plain.digest


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FIT__EPOCH", "7", "no such setting; did you mean FIELDWATCH_TRAINER_FIT__EPOCHS?"),
        ("FIT__EPOCHS", "many", "fit.epochs (of FIELDWATCH_TRAINER_FIT__EPOCHS) = 'many': "),
        ("DATA__CHANNELS", "[]", "no such setting"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"FIELDWATCH_TRAINER_{variable}", value)
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, CONFIG)
    assert said in str(refused.value)
