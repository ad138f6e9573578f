"""Versions come whole or not at all, and can be found again."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy

from models import bundle as bundles
from models.errors import BundleError, ConfigError
from tests import postgres
from tests.conftest import ROOT
from tests.disk import Disk
from tests.registry_rig import GOOD, good_bundle
from trainer.epochs import Epoch
from trainer.registry import upkeep
from trainer.registry.errors import Inadmissible, InUse, NotInRegistry, RegistryError
from trainer.registry.identity import lineage_of
from trainer.registry.registry import Registry
from trainer.registry.runs import process
from trainer.registry.settings import RegistryTable
from trainer.registry.store import PLACES

Open = Callable[..., Registry]


def test_a_bundle_becomes_a_version_that_can_be_found_and_fetched(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "flow.fieldwatch"
    bundle = good_bundle(path)
    version = registry.register(path, tags={"site": "plant"})
    assert (version.stream, version.number, version.digest) == ("flow", 1, bundle.digest)
    assert version.data == "a" * 64
    assert version.tags["site"] == "plant"
    assert version.metrics["test/normal.events_per_day"] == 0.5
    assert "flow.report.html" in version.files
    assert registry.register(path) == version  # a second time it is the same
    assert registry.streams() == ["flow"]
    assert registry.versions("flow") == [version]
    assert registry.trained("flow", lineage_of(bundle)) == version
    assert registry.trained("flow", "0" * 64) is None
    assert registry.bundle(version).digest == bundle.digest
    assert list(upkeep.verify(registry)) == []


def test_versions_count_up_and_the_newest_challenges_the_champion(
    registry: Registry, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        good_bundle(tmp_path / str(number) / "flow.fieldwatch", number)
    first = registry.register(tmp_path / "1" / "flow.fieldwatch")
    assert first.aliases == ()
    registry.set_alias("flow", "champion", 1)
    assert registry.register(tmp_path / "2" / "flow.fieldwatch").aliases == ("challenger",)
    registry.set_alias("flow", "shadow", 2)
    assert registry.register(tmp_path / "3" / "flow.fieldwatch").aliases == ("challenger",)
    aliases = {one.number: one.aliases for one in registry.versions("flow")}
    assert aliases == {3: ("challenger",), 2: ("shadow",), 1: ("champion",)}
    assert [one.number for one in registry.versions("flow")] == [3, 2, 1]
    with pytest.raises(NotInRegistry, match="no flow version 9"):
        registry.set_alias("flow", "shadow", 9)


def test_streams_whose_names_begin_alike_stay_apart(registry: Registry, tmp_path: Path) -> None:
    good_bundle(tmp_path / "flow.fieldwatch")
    for stream in ("pump", "pump-1", "pump.1"):
        registry.register(tmp_path / "flow.fieldwatch", stream=stream)
    assert [one.stream for one in registry.versions("pump")] == ["pump"]
    with pytest.raises(ConfigError, match="cannot be the name of a stream"):
        registry.register(tmp_path / "flow.fieldwatch", stream="a' or '1")


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"measured_on": None}, "do not say which data"),
        ({"normal": None}, "do not say which data"),
        ({"measured_on": {"normal": "train"}}, "no metrics of a part that the training did not"),
        ({"normal": GOOD["normal"] | {"days": 0.0}}, "no metrics of a part"),
        ({"verdict": None}, "no verdict"),
        ({"verdict": {"passed": False, "accepted": False, "gates": []}}, "fails its gates"),
    ],
)
def test_a_bundle_without_figures_of_unseen_data_is_refused(
    registry: Registry, tmp_path: Path, metrics: dict[str, object], says: str
) -> None:
    path = tmp_path / "flow.fieldwatch"
    good_bundle(path, **metrics)
    with pytest.raises(Inadmissible, match=says):
        registry.register(path)
    assert registry.search() == []


def test_a_bundle_that_a_person_accepts_is_taken_and_says_so(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "flow.fieldwatch"
    good_bundle(path, verdict={"passed": False, "accepted": True, "gates": []})
    assert registry.register(path).verdict == "accepted"


def test_metrics_of_another_bundle_are_refused(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "flow.fieldwatch"
    bundle = good_bundle(path)
    metrics = {k: v for k, v in bundle.manifest.metrics.items() if k != "evaluated_digest"}
    bundles.write(path, bundle.manifest.model_copy(update={"metrics": metrics}), bundle.parts, None)
    with pytest.raises(Inadmissible, match="do not name the bundle"):
        registry.register(path)


def test_a_bundle_that_computes_something_else_here_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    other = good_bundle(tmp_path / "other.fieldwatch", deviations_max=3.0)
    path = tmp_path / "flow.fieldwatch"
    good_bundle(path, answers=other.parts["known_answers.json"])
    with pytest.raises(BundleError, match="an answer differs"):
        registry.register(path)
    assert registry.search() == []


def test_a_run_shows_its_curve_while_it_goes_on_and_fails_with_its_reason(
    registry: Registry,
) -> None:
    client = registry.store.client
    with pytest.raises(ZeroDivisionError), registry.run("flow", {"site": "plant"}) as run:
        run.parameters({"fit": {"epochs": 2, "seed": 1}, "layers": [8, 8]})
        for number in (1, 2):
            run.epoch("detector", Epoch(number, 1.0 / number, 2.0 / number, True, 0.1))
        history = client.get_metric_history(run.id, "train/detector.validation_loss")
        assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
        assert client.get_run(run.id).info.status == "RUNNING"
        raise ZeroDivisionError("no samples")
    found = client.get_run(run.id)
    assert found.info.status == "FAILED"
    assert found.data.params == {"fit.epochs": "2", "fit.seed": "1", "layers": "[8, 8]"}
    assert found.data.tags["fieldwatch.error"] == "no samples"
    assert registry.store.listed(run.uri) == ["traceback.txt"]


def test_one_run_makes_one_version(registry: Registry, tmp_path: Path) -> None:
    for number in (1, 2):
        good_bundle(tmp_path / str(number) / "flow.fieldwatch", number)
    with registry.run("flow") as run:
        registry.register(tmp_path / "1" / "flow.fieldwatch", run)
        with pytest.raises(Inadmissible, match="has flow version 1 already"):
            registry.register(tmp_path / "2" / "flow.fieldwatch", run)


def test_a_deleted_version_leaves_no_file_and_the_champion_stays(
    registry: Registry, tmp_path: Path
) -> None:
    good_bundle(tmp_path / "flow.fieldwatch")
    version = registry.register(tmp_path / "flow.fieldwatch")
    registry.set_alias("flow", "champion", 1)
    with pytest.raises(InUse, match="promote another one first"):
        upkeep.delete(registry, registry.version("flow", 1))
    upkeep.delete(registry, registry.version("flow", 1), force=True)
    assert registry.versions("flow") == []
    assert registry.champion("flow") is None
    assert [path for path in (tmp_path / "registry").rglob("*") if "fieldwatch" in path.name] == []
    assert registry.store.listed(version.uri) == []
    assert list(upkeep.verify(registry)) == []


def test_verify_finds_what_is_missing_altered_or_an_orphan_and_removes_orphans(
    registry: Registry, tmp_path: Path
) -> None:
    for number in (1, 2):
        good_bundle(tmp_path / str(number) / "flow.fieldwatch", number)
        registry.register(tmp_path / str(number) / "flow.fieldwatch")
    first, second = (registry.version("flow", number) for number in (1, 2))
    folder = {one.number: Path(one.uri.removeprefix("file://")) for one in (first, second)}
    (folder[1] / "bundle" / "flow.fieldwatch").write_bytes(b"changed")
    (folder[2] / "flow.report.html").unlink()
    stray = tmp_path / "registry" / "artifacts" / ("0" * 32) / "artifacts" / "x"
    stray.parent.mkdir(parents=True)
    stray.touch()
    with registry.run("flow") as run:
        run.text("bundle/flow.fieldwatch", "of a registration that ended early")
    found = list(upkeep.verify(registry))
    assert {(one.kind, one.what) for one in found} == {
        ("altered", "flow version 1: bundle/flow.fieldwatch"),
        ("missing", "flow version 2: flow.report.html"),
        ("orphan", f"files of no run: {'0' * 32}"),
        ("orphan", f"run {run.id} of flow has a bundle, and no version"),
    }
    with pytest.raises(RegistryError, match="its bundle was altered"):
        registry.bundle(first)
    for one in found:
        upkeep.remove(registry, one)
    assert {one.kind for one in upkeep.verify(registry)} == {"altered", "missing"}
    assert not stray.exists()


def test_a_registry_that_was_moved_is_whole_again_after_it_was_told(
    registry: Registry, tmp_path: Path
) -> None:
    good_bundle(tmp_path / "flow.fieldwatch")
    registry.register(tmp_path / "flow.fieldwatch")
    registry.keep(registry.version("flow", 1), "decisions/1.json", {"reason": "a test"})
    assert upkeep.relocate(registry) is None
    elsewhere = tmp_path / "a 50% (new) place"
    elsewhere.mkdir()
    shutil.move(tmp_path / "registry", elsewhere / "registry")
    moved = Registry(RegistryTable(), elsewhere)
    assert [one.kind for one in upkeep.verify(moved)] == ["moved"]
    files = elsewhere / "registry" / "artifacts"
    files.rename(elsewhere / "away")
    with pytest.raises(RegistryError, match="flow version 1: its bundle is not below file:"):
        upkeep.relocate(moved)
    (elsewhere / "away").rename(files)
    assert upkeep.relocate(moved) == (
        (tmp_path / "registry" / "artifacts").as_uri(),
        files.as_uri(),
    )
    assert list(upkeep.verify(moved)) == []
    version = moved.version("flow", 1)
    assert version.uri.startswith(files.as_uri())
    assert moved.bundle(version).digest == version.digest
    assert "decisions/1.json" in version.files
    good_bundle(tmp_path / "2" / "flow.fieldwatch", 2)
    assert moved.register(tmp_path / "2" / "flow.fieldwatch").uri.startswith(files.as_uri())
    assert not (tmp_path / "registry").exists()


BEGIN_AND_DIE = """
import os, sys
from pathlib import Path
from trainer.registry.registry import Registry
from trainer.registry.settings import RegistryTable
with Registry(RegistryTable(), Path(sys.argv[1])).run("flow") as run:
    print(run.id, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_run_of_a_killed_process_is_unfinished_and_one_of_this_process_is_not(
    registry: Registry, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", BEGIN_AND_DIE, str(tmp_path)]
    killed = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    run = killed.stdout.strip()
    with registry.run("flow"):
        found = list(upkeep.verify(registry))
        assert [(one.kind, one.run) for one in found] == [("unfinished", run)]
        upkeep.remove(registry, found[0])
        assert list(upkeep.verify(registry)) == []
    assert registry.store.client.get_run(run).info.status == "KILLED"


def test_the_name_of_a_process_tells_it_from_a_later_one() -> None:
    assert process() == process(os.getpid())
    assert process(os.getppid()) != process()


def test_a_full_disk_under_the_database_leaves_the_registry_whole(
    open_registry: Open, tmp_path: Path
) -> None:
    good_bundle(tmp_path / "flow.fieldwatch")
    good_bundle(tmp_path / "2" / "flow.fieldwatch", 2)
    open_registry().register(tmp_path / "flow.fieldwatch")
    disk = Disk(tmp_path / "fault")
    with disk.here():
        registry = open_registry()
        with registry.run("flow") as run:
            disk.fails("full", "mlflow.db")
            with pytest.raises(RegistryError, match="full"):
                registry.register(tmp_path / "2" / "flow.fieldwatch", run)
            disk.works()
        assert [one.number for one in registry.versions("flow")] == [1]
        assert list(upkeep.verify(registry)) == []
        assert registry.register(tmp_path / "2" / "flow.fieldwatch").number == 2


def test_a_full_disk_under_the_files_leaves_the_registry_whole(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "flow.fieldwatch"
    bundle = good_bundle(path)
    size = 2 * path.stat().st_size
    path.with_suffix(".report.html").write_text("x" * 2 * size)  # it comes last
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with registry.run("flow") as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))  # as ENOSPC: a write fails
        try:
            with pytest.raises(OSError, match="too large"):
                registry.register(path, run)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert registry.versions("flow") == []
    assert registry.store.listed(run.uri, "bundle") == []
    assert list(upkeep.verify(registry)) == []
    assert registry.register(path).digest == bundle.digest


def together(url: str, folder: Path, paths: list[list[Path]], password: str = "") -> None:
    """Register bundles in several processes at once."""
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.registry_rig", url, str(folder), *map(str, some)],
            cwd=ROOT,
            env=os.environ | {"REGISTRY_PASSWORD": password},
            stderr=subprocess.PIPE,
            text=True,
        )
        for some in paths
    ]
    ended = [(each.communicate()[1], each.returncode) for each in begun]
    assert [code for _, code in ended] == [0, 0], ended


def two_lots(directory: Path, count: int) -> list[list[Path]]:
    paths = [directory / str(number) / "flow.fieldwatch" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        good_bundle(path, number)
    return [paths[0::2], paths[1::2]]


def whole(registry: Registry, count: int) -> None:
    versions = registry.versions("flow")
    assert [one.number for one in versions] == list(range(count, 0, -1))
    assert len({one.digest for one in versions}) == count
    assert list(upkeep.verify(registry)) == []


@pytest.mark.parametrize("count", [2, pytest.param(6, marks=pytest.mark.proof)])
def test_two_trainers_at_once_never_corrupt_it(
    registry: Registry, tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "registry"
    lots = two_lots(tmp_path, count)
    together(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", lots)
    whole(registry, count)


@pytest.mark.proof
def test_two_trainers_on_postgresql_where_none_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.running() as server:
        files = tmp_path / "files"
        together(server.url, files, two_lots(tmp_path, 6), postgres.PASSWORD)
        monkeypatch.setenv("REGISTRY_PASSWORD", postgres.PASSWORD)
        settings = {"url": server.url, "artifacts": str(files)}
        registry = Registry(RegistryTable(**settings, password_env="REGISTRY_PASSWORD"), tmp_path)
        whole(registry, 6)


def test_a_wrong_password_of_postgresql_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.running() as server:
        settings = {"url": server.url, "artifacts": str(tmp_path)}
        monkeypatch.setenv("REGISTRY_PASSWORD", "wrong")
        with pytest.raises(RegistryError, match="password authentication failed") as refused:
            Registry(RegistryTable(**settings, password_env="REGISTRY_PASSWORD"), tmp_path)
        assert "wrong" not in json.dumps(str(refused.value))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_postgresql_that_is_not_utf8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    with postgres.running() as server:
        monkeypatch.setenv("REGISTRY_PASSWORD", postgres.PASSWORD)
        url = sqlalchemy.make_url(server.url).set(password=postgres.PASSWORD)
        engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(
                f"CREATE DATABASE old ENCODING '{encoding}' TEMPLATE template0"
                " LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        engine.dispose()
        settings = {"url": server.url.replace("/postgres", "/old"), "artifacts": str(tmp_path)}
        with pytest.raises(ConfigError, match=f"has the encoding {encoding}, and .* UTF8") as told:
            Registry(RegistryTable(**settings, password_env="REGISTRY_PASSWORD"), tmp_path)
        assert postgres.PASSWORD not in str(told.value)
        assert "/old: the database has" in str(told.value)


# columns of MLflow's tables with such a name that have no place of files of a registry
OTHERS = {
    ("datasets", "dataset_source"),  # where recordings came from
    ("evaluation_dataset_records", "source"),  # of MLflow's evaluation of language models
    ("mcp_server_versions", "source"),
    ("mcp_access_endpoints", "url"),
    ("runs", "source_name"),  # the program
    ("webhooks", "url"),
    ("workspaces", "trace_archival_location"),  # of traces, which have no files of a registry
}


def test_every_column_of_mlflow_that_has_a_place_is_moved(registry: Registry) -> None:
    engine = sqlalchemy.create_engine(registry.store.uri)
    schema = sqlalchemy.inspect(engine)
    found = {
        (table, column["name"])
        for table in schema.get_table_names()
        for column in schema.get_columns(table)
        if re.search(r"uri|url|location|path|directory|(^|_)source(_name)?$", column["name"])
    }
    engine.dispose()
    moved = {(table, column) for table, columns in PLACES.items() for column in columns}
    assert found - OTHERS == moved


def test_the_files_of_a_logged_model_move_with_the_registry(
    registry: Registry, tmp_path: Path
) -> None:
    model = registry.store.client.create_logged_model(registry.store.experiment, name="pump")
    before, after = registry.store.root, (tmp_path / "elsewhere").as_uri()
    assert model.artifact_location.startswith(before)
    registry.store.move(before, after)
    found = registry.store.client.get_logged_model(model.model_id)
    assert found.artifact_location == model.artifact_location.replace(before, after)
