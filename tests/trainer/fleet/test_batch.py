"""A fleet is trained, although a worker is killed and one stream has unusable data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models import bundle as bundles
from models.errors import DataError
from tests.trainer.conftest import machine, write_recording
from tests.trainer.fleet.conftest import SAMPLES, Trained, record
from trainer import reproduce
from trainer.cli import commands
from trainer.fleet import config, shared
from trainer.fleet.stream import registry_of

GOOD = ("fan", "pump-1", "pump-2")


def call(*words: object) -> Result:
    return CliRunner().invoke(commands, list(map(str, words)), standalone_mode=False)


def printed(result: Result) -> dict[str, object]:
    document: dict[str, object] = json.loads(result.stdout)
    return document


@pytest.fixture
def copied(fleet: Trained, tmp_path: Path) -> Path:
    """A copy of the trained fleet, to go on with."""
    shutil.copytree(fleet.path.parent, tmp_path / "fleet")
    return tmp_path / "fleet" / "FLEET.toml"


@pytest.fixture
def scheduler(fleet: Trained) -> tuple[str, str]:
    """Words of a command: the worker that is left does it, so that no process has to start."""
    return "--scheduler", fleet.cluster.address


def test_a_killed_worker_and_unusable_data_cost_no_other_stream(fleet: Trained) -> None:
    assert fleet.killed_at and fleet.cluster.workers[0].wait() == -9
    states = {name: outcome.state for name, outcome in fleet.run.outcomes.items()}
    assert states == dict.fromkeys(GOOD, "trained") | {"broken": "failed"}
    assert "broken.csv" in fleet.run.outcomes["broken"].message
    assert not fleet.run.passed


def test_each_good_stream_is_registered_once(fleet: Trained) -> None:
    for stream in config.read(fleet.path).streams.values():
        registry = registry_of(stream)
        assert registry is not None
        found = [version.digest for version in registry.versions(stream.bundle)]
        bundle = fleet.output / f"{stream.bundle}.fieldwatch"
        assert found == ([bundles.read(bundle).digest] if stream.name in GOOD else [])


def test_each_stream_has_its_log_and_a_failed_one_its_traceback(fleet: Trained) -> None:
    logs = {name: (fleet.output / "logs" / f"{name}.log").read_text() for name in GOOD}
    assert all("The bundle passes all gates" in log for log in logs.values())
    broken = (fleet.output / "logs" / "broken.log").read_text()
    assert "Traceback (most recent call last)" in broken and "DataError" in broken


def test_streams_of_a_type_share_a_network_but_not_its_scaling(fleet: Trained) -> None:
    one, two = (bundles.read(fleet.output / f"pump-{n}.fieldwatch") for n in (1, 2))
    alone = bundles.read(fleet.output / "fan.fieldwatch")
    assert one.network == two.network
    assert one.telemanom.channels != two.telemanom.channels
    lineage = one.manifest.lineage.shared
    assert lineage is not None and lineage == two.manifest.lineage.shared
    assert lineage.type == "pump" and list(lineage.streams) == ["pump-1", "pump-2"]
    assert alone.manifest.lineage.shared is None
    with pytest.raises(DataError, match="2 streams of the type 'pump'"):
        reproduce.reproduce(Path(one.source), fleet.path.parent, None, None, lambda line: None)


def test_a_second_run_does_the_rest_and_a_new_machine_takes_the_network_of_its_type(
    copied: Path, scheduler: tuple[str, str]
) -> None:
    output = copied.parent / "bundles"
    before = bundles.read(output / "pump-1.fieldwatch")
    record(copied.parent, "broken", 4)  # mended
    record(copied.parent, "pump-3", 7)
    copied.write_text(f'{copied.read_text()}[streams.pump-3]\ntype = "pump"\n')
    result = call("batch", copied, "--json", "-q", *scheduler)
    assert result.return_value == 0, result.output
    document = printed(result)
    assert document["counts"] == {"unchanged": 3, "trained": 2}
    assert json.loads((output / "batch.json").read_text()) == document
    types = document["types"]
    assert isinstance(types, dict) and not types["pump"]["trained"]
    new = bundles.read(output / "pump-3.fieldwatch")
    assert new.network == before.network
    assert new.manifest.lineage.shared == before.manifest.lineage.shared
    assert bundles.read(output / "pump-1.fieldwatch").digest == before.digest


def test_the_command_names_what_failed_and_ends_with_1(
    copied: Path, scheduler: tuple[str, str]
) -> None:
    result = call("batch", copied, "--only", "broken", "--only", "fan", "-q", *scheduler)
    assert result.return_value == 1
    assert "FAILED: broken: " in result.output and "broken.csv" in result.output
    assert "2 streams: 1 failed, 1 unchanged" in result.output


def test_a_stream_that_does_not_exist_is_named(fleet: Trained) -> None:
    result = call("batch", fleet.path, "--only", "pmp-1")
    assert "there is no stream 'pmp-1'; did you mean 'pump-1'?" in str(result.exception)


def test_check_trains_nothing_and_finds_the_unusable_stream(fleet: Trained) -> None:
    result = call("check", fleet.path, "--json", "-q")
    assert result.return_value == 1
    assert printed(result)["counts"] == {"usable": 3, "failed": 1}


def test_status_has_the_bundle_and_the_last_run_of_each_stream(fleet: Trained) -> None:
    rows = json.loads(call("status", fleet.path, "--json").stdout)
    found = {each["stream"]: each for each in rows}
    assert found["fan"]["champion"]["version"] == 1 and not found["fan"]["champion"]["promoted"]
    assert found["fan"]["last_run"]["state"] == "trained"
    assert found["broken"]["champion"] is None and found["broken"]["last_run"]["state"] == "failed"
    lines = call("status", fleet.path).stdout
    assert "last run" in lines and "failed 20" in lines


def test_validate_scores_what_is_new(copied: Path, scheduler: tuple[str, str]) -> None:
    result = call("validate", copied, "--json", "-q", "--only", "fan", *scheduler)
    assert result.return_value == 1  # nothing is new
    assert "0 samples are newer than" in result.output
    times, values = machine(SAMPLES + 500, 3)
    write_recording(copied.parent / "data" / "fan.csv", times, values * (1 + 3 / 4))
    result = call("validate", copied, "--json", "-q", "--only", "fan", *scheduler)
    assert printed(result)["counts"] in ({"valid": 1}, {"invalid": 1})


def test_a_damaged_network_of_a_type_is_trained_again(fleet: Trained, tmp_path: Path) -> None:
    whole = fleet.output / "types" / "pump.network.npz"
    members = shared.members_of(whole)
    assert members is not None and list(members) == ["pump-1", "pump-2"]
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:500])
    assert shared.members_of(tmp_path / "cut.npz") is None
    with pytest.raises(DataError, match="not a whole network"):
        shared.read(tmp_path / "cut.npz")


def test_a_network_is_current_while_its_members_are_as_they_were() -> None:
    then = {"a": shared.Member("1", "s"), "b": shared.Member("2", "s")}
    assert shared.is_current(then, then | {"new": shared.Member("3", "s")})
    assert shared.is_current(then, {"a": then["a"]})
    assert not shared.is_current(then, then | {"b": shared.Member("9", "s")})
    assert not shared.is_current(then, then | {"b": shared.Member("2", "other")})
