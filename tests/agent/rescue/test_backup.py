"""A backup has all of a gateway, and a restore brings back all of it or nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import sqlite3
import tarfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from agent.rescue import restore as restores
from agent.rescue.archive import MANIFEST, MANIFEST_BYTES_MAX, ArchiveDamaged, check, read, writing
from agent.rescue.backup import backup, default_name, lines
from agent.rescue.interrupted import complete, journal_of
from agent.store.batch import Batch
from agent.store.migrations import READINGS, RECORDS
from models.errors import DataError, StoreError
from tests.agent.rescue.conftest import Gateway
from tests.agent.store.test_migrations import make
from tests.agent.store.test_writer import message, queued, samples
from tests.database import asked

NOBODY = Path("/nonexistent")


def unpacked(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    read(path, lambda name, data: found.update({name: b"".join(data)}))
    return found


def restored(path: Path, gateway: Gateway) -> restores.Restored:
    return restores.restore(path, restores.plan(path, gateway.config), gateway.config)


def meta(file: Path) -> dict[str, Any]:
    return dict(asked(file, "SELECT key, value FROM meta"))


def test_a_backup_has_no_secrets_and_says_what_it_leaves_out(
    gateway: Gateway, tmp_path: Path
) -> None:
    path = tmp_path / "backup.tar.gz"
    manifest = backup(gateway.config, path, False, gateway.credentials)
    everything = b"".join(unpacked(path).values())
    assert [secret for secret in gateway.secrets.values() if secret.encode() in everything] == []
    assert set(manifest["left_out"]) == {str(file) for file in gateway.secrets}
    told = "\n".join(lines(path, manifest))
    assert all(f"Left out, because it is secret: {file}" in told for file in gateway.secrets)
    assert f"restore {path}" in told
    assert path.stat().st_mode & 0o777 == 0o600
    names = {one["name"] for one in manifest["files"]}
    assert names == {
        "store/fieldwatch.db",
        "store/readings.db",
        "store/bundles/ran.json",
        "configuration/agent.toml",
        "configuration/conf.d/10-log.toml",
        "configuration/keys/ops.pub",
        "configuration/pump.fieldwatch",
        f"elsewhere{gateway.outside}/ca.pem",
    }


def test_with_secrets_it_has_them_and_says_so(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "backup.tar.gz"
    manifest = backup(gateway.config, path, True, gateway.credentials)
    everything = b"".join(unpacked(path).values())
    assert all(secret.encode() in everything for secret in gateway.secrets.values())
    assert manifest["left_out"] == []
    assert "It has secrets" in "\n".join(lines(path, manifest))


def test_a_backup_is_of_one_moment_while_an_agent_commits(gateway: Gateway, tmp_path: Path) -> None:
    """Each commit has a message and four samples, so their numbers tell the moment."""
    stop, ready = threading.Event(), threading.Event()

    def commit() -> None:
        store = gateway.open()
        while not stop.is_set():
            store.commit(Batch(messages=[message()], samples=[samples(4)]), "synced")
            ready.set()
        store.close()

    agent = threading.Thread(target=commit)
    agent.start()
    try:
        assert ready.wait(60)
        for number in range(3):
            path = tmp_path / f"{number}.tar.gz"
            backup(gateway.config, path, False, gateway.credentials)
            found = unpacked(path)
            for name in (RECORDS, READINGS):
                (tmp_path / name).write_bytes(found[f"store/{name}"])
                assert asked(tmp_path / name, "PRAGMA integrity_check") == [("ok",)]
            (messages,) = asked(tmp_path / RECORDS, "SELECT value FROM meta WHERE key = 'last_seq'")
            (rows,) = asked(tmp_path / READINGS, "SELECT sum(rows) FROM samples")
            assert rows[0] >= 4 * messages[0]  # never a memory of samples that are not there
    finally:
        stop.set()
        agent.join()


def test_a_lost_gateway_comes_back_and_numbers_nothing_twice(
    gateway: Gateway, tmp_path: Path
) -> None:
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, True, gateway.credentials)
    before, epoch = gateway.files(), meta(gateway.store / RECORDS)["epoch"]
    waiting = len(queued(gateway.store))
    ((ring,),) = asked(gateway.store / READINGS, "PRAGMA application_id")
    shutil.rmtree(gateway.directory)
    gateway.config.parent.mkdir(parents=True)
    outcome = restored(path, gateway)
    after = gateway.files()
    assert outcome.aside == [] and not outcome.epoch_goes_on
    assert after.keys() == before.keys()
    databases = {f"etc/data/{name}" for name in (RECORDS, READINGS)}
    assert {name: after[name] for name in after.keys() - databases} == {
        name: before[name] for name in before.keys() - databases
    }
    assert (gateway.config.parent / "page-users").stat().st_mode & 0o777 == 0o640
    assert (gateway.config.parent / "conf.d").stat().st_mode & 0o777 == 0o755
    assert (gateway.store / "bundles").stat().st_mode & 0o777 == 0o750
    assert meta(gateway.store / RECORDS)["epoch"] != epoch
    assert queued(gateway.store) == list(range(1, waiting + 1))
    store = gateway.open()
    assert store.readings.next_sample == 5
    store.close()
    assert ring != 0 == asked(gateway.store / READINGS, "PRAGMA application_id")[0][0]
    gateway.commit()
    assert asked(gateway.store / READINGS, "PRAGMA application_id") not in ([(ring,)], [(0,)])


def test_over_a_gateway_that_went_on_the_numbers_go_on(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, False, gateway.credentials)
    epoch = meta(gateway.store / RECORDS)["epoch"]
    gateway.commit()
    gateway.commit()
    gateway.write("agent.toml", "changed")
    gateway.write("conf.d/99-later.toml", "")
    secrets = {file: file.read_bytes() for file in gateway.secrets}
    wanted = restores.plan(path, gateway.config)
    shown = "\n".join(restores.lines(path, wanted))
    assert f"replaced  {gateway.config}" in shown
    assert f"same      {gateway.config.parent / 'pump.fieldwatch'}" in shown
    assert f"stays     {gateway.config.parent / 'conf.d/99-later.toml'}" in shown
    outcome = restores.restore(path, wanted, gateway.config)
    assert outcome.epoch_goes_on
    assert queued(gateway.store) == [1]
    assert (meta(gateway.store / RECORDS)["epoch"], meta(gateway.store / RECORDS)["last_seq"]) == (
        epoch,
        3,
    )
    kept = {one.name.split(".before-restore-")[0]: one for one in outcome.aside}
    assert kept["agent.toml"].read_text() == "changed"
    assert asked(kept[RECORDS], "SELECT count(*) FROM outbox") == [(3,)]
    assert {file: file.read_bytes() for file in gateway.secrets} == secrets


def test_a_backup_of_an_older_version_is_migrated(gateway: Gateway, tmp_path: Path) -> None:
    for name in (RECORDS, READINGS):
        (gateway.store / name).unlink()
        make(gateway.store, name, 2)
    path = tmp_path / "backup.tar.gz"
    assert backup(gateway.config, path, False)["tables"] == {RECORDS: 2, READINGS: 2}
    restored(path, gateway)
    gateway.open().close()


def test_one_of_a_newer_version_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(gateway.store / RECORDS)) as newer:
        newer.execute("PRAGMA user_version = 99")
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, False)
    before = gateway.files()
    with pytest.raises(DataError, match="has tables of version 99"):
        restores.plan(path, gateway.config)
    assert gateway.files() == before


def test_nothing_is_touched_while_an_agent_runs(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, False)
    changed = gateway.config.read_text() + "# changed\n"
    gateway.write("agent.toml", changed)
    wanted = restores.plan(path, gateway.config)
    store = gateway.open()
    with pytest.raises(StoreError, match="an agent runs"):
        restores.restore(path, wanted, gateway.config)
    store.close()
    assert gateway.config.read_text() == changed


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_a_cut_archive_touches_nothing(gateway: Gateway, tmp_path: Path, share: float) -> None:
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, False)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    before = gateway.files()
    with pytest.raises(ArchiveDamaged):
        restores.plan(path, gateway.config)
    assert gateway.files() == before


def test_a_flipped_bit_anywhere_is_found(gateway: Gateway, tmp_path: Path) -> None:
    """Of a byte in each kind of file, and in the manifest."""
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, False)
    plain = gzip.decompress(path.read_bytes())
    for needle in (b"SQLite format 3", b'name = "gw-1"', b'"tables"'):
        data = bytearray(plain)
        data[plain.index(needle)] ^= 1
        path.write_bytes(gzip.compress(bytes(data), 1))
        with pytest.raises(ArchiveDamaged):
            restores.plan(path, gateway.config)


@pytest.mark.parametrize("text", [b"[]", b"null", b'{"tables": {}}', b"[" * 50_000, b"\xff"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "backup.tar.gz"
    member = tarfile.TarInfo(MANIFEST)
    member.size = len(text)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(text))
    with pytest.raises(ArchiveDamaged):
        check(path, "fieldwatch-backup")


def test_a_manifest_that_is_too_large_is_refused_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "backup.tar.gz"
    member = tarfile.TarInfo(MANIFEST)
    member.size = 2 * MANIFEST_BYTES_MAX
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.addfile(member, io.BytesIO(b" " * member.size))
    tracemalloc.start()
    with pytest.raises(ArchiveDamaged, match="its manifest has more than"):
        check(path, "fieldwatch-backup")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * MANIFEST_BYTES_MAX
    with pytest.raises(StoreError, match="too many for an archive"):
        with writing(tmp_path / "other.tar.gz") as written:
            written.seal("fieldwatch-backup", {"names": "x" * MANIFEST_BYTES_MAX})
    assert not (tmp_path / "other.tar.gz").exists()


@pytest.mark.parametrize("where", ["../../evil", "/etc/evil"])
def test_an_archive_cannot_write_beside_the_gateway(
    gateway: Gateway, tmp_path: Path, where: str
) -> None:
    path = tmp_path / "backup.tar.gz"
    facts = {"at": "store", "path": where, "mode": 0o600, "owner": [], "secret": False}
    with writing(path) as archive:
        archive.add_text("store/evil", "evil", **facts)
        archive.seal(
            "fieldwatch-backup",
            {
                "tables": {},
                "config_file": str(gateway.config),
                "store_directory": str(gateway.store),
            },
        )
    with pytest.raises(ArchiveDamaged, match="belongs to no place"):
        restores.plan(path, gateway.config)


def test_a_disk_that_fills_up_leaves_the_old(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, False)
    gateway.commit()
    gateway.write("agent.toml", gateway.config.read_text() + "# changed\n")
    before = gateway.files()
    wanted = restores.plan(path, gateway.config)
    real, calls = os.fsync, iter(range(3))

    def full(descriptor: int) -> None:
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        restores.restore(path, wanted, gateway.config)
    monkeypatch.undo()
    assert gateway.files() == before


class Cut(BaseException):
    """The power goes."""


def test_a_power_cut_leaves_the_old_or_the_new(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each rename of a restore the power goes; the next start completes what had begun."""
    path = tmp_path / "backup.tar.gz"
    backup(gateway.config, path, False)
    gateway.commit()
    gateway.write("agent.toml", gateway.config.read_text() + "# changed\n")
    gateway.write("conf.d/10-log.toml", "")
    image = tmp_path / "image"
    shutil.copytree(gateway.directory, image)
    outcomes, real = [], Path.rename
    for cut_at in range(12):
        shutil.rmtree(gateway.directory)
        shutil.copytree(image, gateway.directory)
        left = iter(range(cut_at))

        def rename(self: Path, target: Path, left: Any = left) -> Path:
            if next(left, None) is None:
                raise Cut
            real(self, target)
            return target

        with monkeypatch.context() as cutting:
            cutting.setattr(Path, "rename", rename)
            cutting.setattr(Path, "replace", rename)
            with contextlib.suppress(Cut):
                restored(path, gateway)
        complete(gateway.config)
        assert not journal_of(gateway.config).exists()
        new_config = "# changed" not in gateway.config.read_text()
        assert new_config == bool((gateway.config.parent / "conf.d/10-log.toml").read_text())
        # messages; whether the configuration is that of the backup
        outcomes.append((len(queued(gateway.store)), new_config))
        gateway.open().close()
    assert outcomes[0] == (2, False)
    assert outcomes[-1] == (1, True)
    assert set(outcomes) == {(2, False), (1, True)}


def test_without_room_there_is_no_backup(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match=r"up to \d+ MB here, and 0 MB are free"):
        backup(gateway.config, tmp_path / "backup.tar.gz", False)
    assert not list(tmp_path.glob("*.gz*"))


def test_a_file_that_cannot_be_written_is_named(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="absent"):
        backup(gateway.config, tmp_path / "absent" / "backup.tar.gz", False)


def test_the_name_has_the_gateway(gateway: Gateway) -> None:
    gateway.write("conf.d/20.toml", '[gateway]\nname = "../gw 2"\n')
    assert default_name(gateway.config).startswith("fieldwatch-gw2-")


def test_what_others_gave_is_json(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "backup.tar.gz"
    manifest = backup(gateway.config, path, False)
    wanted = restores.plan(path, gateway.config)
    document = json.loads(json.dumps(restores.document(wanted, None)))
    assert document["restored"] is False
    assert len(document["files"]) == len(manifest["files"])
