"""The configuration of a fleet: what each stream gets of it, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest

from models.errors import ConfigError
from trainer.fleet import config
from trainer.fleet.config import FleetFile

DEFAULTS = """
[defaults.data]
channels = [{ name = "load" }, { name = "power" }]
[defaults.sampling]
period_s = 1.0
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "FLEET.toml"
    path.write_text(text)
    return path


def fleet_of(directory: Path, text: str) -> FleetFile:
    return config.read(written(directory, DEFAULTS + text))


def refused(directory: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        fleet_of(directory, text)
    return str(error.value)


ONE = '[streams.pump-1.data]\nfiles = ["a.csv"]\n'


def test_a_stream_overrides_its_type_and_a_type_the_defaults(tmp_path: Path) -> None:
    found = fleet_of(
        tmp_path,
        """
        [defaults.fit]
        epochs = 3
        seed = 7
        [types.pump]
        shared_network = false
        [types.pump.fit]
        epochs = 4
        [streams.pump-1]
        type = "pump"
        data.files = ["a.csv"]
        [streams.pump-2]
        type = "pump"
        data.files = ["b.csv"]
        fit.epochs = 5
        [streams.fan]
        data.files = ["c.csv"]
        """,
    )
    fits = {name: stream.file.config.fit for name, stream in found.streams.items()}
    assert {name: fit.epochs for name, fit in fits.items()} == {"pump-1": 4, "pump-2": 5, "fan": 3}
    assert {fit.seed for fit in fits.values()} == {7}


def test_the_environment_overrides_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDWATCH_TRAINER_FIT__EPOCHS", "9")
    found = fleet_of(tmp_path, f"{ONE}[streams.pump-1.fit]\nepochs = 3\n")
    assert found.streams["pump-1"].file.config.fit.epochs == 9


def test_a_pattern_finds_streams_and_its_name_is_put_into_texts(tmp_path: Path) -> None:
    for name in ("A-1.csv", "A-1.labels.csv", "b_2.csv"):
        (tmp_path / name).touch()
    found = fleet_of(
        tmp_path, '[fleet]\nfind = "{stream}.csv"\n[defaults.evaluate]\nfiles = ["{stream}.t"]\n'
    )
    assert list(found.streams) == ["A-1", "b_2"]
    stream = found.streams["A-1"]
    assert stream.file.config.data.files == ["A-1.csv"]
    assert stream.file.config.evaluate.files == ["A-1.t"]
    assert [each.bundle for each in found.streams.values()] == ["a-1", "b-2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are no streams"),
        ("[stream.a]\n", "did you mean 'streams'?"),
        ("[defaults.fti]\nepochs = 1\n[streams.a.data]\nfiles = ['b']\n", "defaults.fti: "),
        (f"{ONE}[fleet]\noutptu = 'x'\n", "fleet.outptu: "),
        (f"{ONE}[fleet]\nfind = '*.csv'\n", "must have {stream} once"),
        ("[fleet]\nfind = '{stream}.csv'\n", "there is no such file"),
        (f"[defaults.fit]\nepocs = 2\n{ONE}", "defaults.fit.epocs: "),
        (f"[defaults.fit]\nepochs = 0\n{ONE}", "defaults.fit.epochs = 0: "),
        (f"{ONE}[streams.pump-1.fit]\nepochs = 0\n", "streams.pump-1.fit.epochs = 0: "),
        ("[streams.a]\n", "streams.a.data"),
        ("[streams.a]\ntype = 'pumpe'\n[types.pump]\n", "there is no such type; there are: pump"),
        ("[streams.'a/b']\n", "streams.a/b: a name has letters"),
        (f"{ONE}[streams.PUMP-1.data]\nfiles = ['b']\n", "other streams have a bundle 'pump-1'"),
        (f"{ONE}[defaults.registry]\n", "write [registry], not in another table"),
        (f"{ONE}[defaults.bundle]\noutput = 'x'\n", "set fleet.output"),
    ],
)
def test_what_is_wrong_is_told_where_it_was_set(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_a_fault_in_the_defaults_is_told_once(tmp_path: Path) -> None:
    text = f"[defaults.fit]\nepochs = 0\n{ONE}[streams.pump-2.data]\nfiles = ['b']\n"
    assert refused(tmp_path, text).count("epochs") == 1


def test_streams_that_share_a_network_must_fit_it(tmp_path: Path) -> None:
    text = "".join(
        f"[streams.{name}]\ntype = 'pump'\ndata.files = ['a']\n{more}"
        for name, more in (("a", ""), ("b", "network.layers = [7]\n"))
    )
    said = refused(tmp_path, f"[types.pump]\n{text}")
    assert "streams.b: network: must be as for a" in said
    assert fleet_of(tmp_path, f"[types.pump]\nshared_network = false\n{text}").sharing == []


def test_a_family_without_a_network_has_none_to_share(tmp_path: Path) -> None:
    streams = "[streams.a]\ntype = 'pump'\ndata.files = ['a']\n"
    said = refused(tmp_path, f"[types.pump]\nfamily.name = 'hampel'\n{streams}")
    assert "types.pump.shared_network = false" in said
    alone = "[types.pump]\nshared_network = false\nfamily.name = 'hampel'\n"
    assert fleet_of(tmp_path, alone + streams).sharing == []


def test_a_fleet_is_told_from_a_training(tmp_path: Path) -> None:
    assert config.is_fleet(written(tmp_path, DEFAULTS + ONE))
    assert not config.is_fleet(written(tmp_path, "[bundle]\nname = 'a'\n"))


def test_the_schema_takes_a_fleet_and_refuses_a_typing_error() -> None:
    schema = config.schema()
    text = f"{DEFAULTS}[types.pump]\ncompare = true\n[types.pump.fit]\nepochs = 2\n{ONE}"
    jsonschema.validate(tomllib.loads(text), schema)
    for wrong in ("[types.pump.fit]\nepocs = 2\n", "[streams.a]\ntyp = 'b'\n", "[flet]\n"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tomllib.loads(wrong), schema)
