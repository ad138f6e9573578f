"""A signed bundle that is older than one of its name that has run here is refused."""

from __future__ import annotations

import json
import logging
import os
import pwd
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.bundles.ledger import copy_of_other
from agent.bundles.load import Loader
from agent.cli import commands
from models.bundle import Bundle
from models.errors import BundleOutdated, BundleRevoked, StoreError
from models.keys import new_key, read_keyring
from tests.bundle_rig import flow_bundle


class Keys:
    """Trusted keys, and secret ones beside them."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.trusted = directory, directory / "trusted"
        self.trusted.mkdir()

    def new(self, name: str = "ops") -> Path:
        """Make a key that is trusted; return the secret one."""
        secret = self._directory / f"{name}.key"
        new_key(secret).rename(self.trusted / f"{name}.pub")
        return secret


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "agent.toml").write_text('store = { directory = "data" }\n')
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def loader(store: Path, keys: Keys | None, signature: bool = True) -> Loader:
    """As an agent that starts."""
    return Loader(store, keys and keys.trusted, signature)


def ran(agent: Loader, path: Path) -> Bundle:
    bundle = agent.load(path).bundle
    agent.note_running({"pump": bundle}, {"pump"})
    return bundle


def allow(store: Path, *words: str) -> tuple[int, str]:
    config = store.parent / "agent.toml"
    done = CliRunner().invoke(commands, ["allow-downgrade", *words, "--config", str(config)])
    return done.exit_code, done.output + str(done.exception or "")


def test_an_older_version_is_refused_until_a_person_allows_it(
    tmp_path: Path, store: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    key = keys.new()
    files = {number: tmp_path / f"{number}.fieldwatch" for number in (1, 2, 3)}
    for number, path in files.items():
        flow_bundle(path, number, key)
    ran(loader(store, keys), files[2])
    ran(loader(store, keys), files[3])
    ran(loader(store, keys), files[3])  # the same is none older
    with pytest.raises(BundleOutdated) as refused:
        loader(store, keys).load(files[2])
    assert "flow version 2 is older than version 3, which has run here" in str(refused.value)
    assert "fieldwatch-agent allow-downgrade flow --to 2" in str(refused.value)

    agent = loader(store, keys)  # that is running meanwhile
    code, said = allow(store, "flow", "--to", "2")
    assert code == 0
    assert "flow: versions from 2 on may run again; before, the lowest was 3" in said
    with pytest.raises(BundleOutdated, match="version 1 is older than version 2"):
        agent.load(files[1])
    caplog.set_level(logging.WARNING)
    ran(agent, files[2])
    user = pwd.getpwuid(os.getuid()).pw_name
    assert f"version 2 runs again instead of version 3, as allowed by {user}" in caplog.text

    again = loader(store, keys)
    assert not list((store / "bundles").glob("*.downgrade"))  # it is used up
    again.load(files[2])
    ran(again, files[3])
    with pytest.raises(BundleOutdated):
        loader(store, keys).load(files[2])


def test_each_name_has_its_own_versions(tmp_path: Path, store: Path, keys: Keys) -> None:
    key = keys.new()
    flow_bundle(tmp_path / "a", 5, key, name="pump-a")
    flow_bundle(tmp_path / "b", 1, key, name="pump-b")
    ran(loader(store, keys), tmp_path / "a")
    ran(loader(store, keys), tmp_path / "b")


def test_streams_need_not_all_have_the_newest_version(
    tmp_path: Path, store: Path, keys: Keys
) -> None:
    key = keys.new()
    paths = {version: tmp_path / f"{version}.fieldwatch" for version in (1, 2, 3)}
    for version, path in paths.items():
        flow_bundle(path, version, key)

    def start(one: int, other: int) -> None:
        agent = loader(store, keys)
        running = {"a": agent.load(paths[one]).bundle, "b": agent.load(paths[other]).bundle}
        agent.note_running(running, running.keys())

    start(2, 2)
    start(3, 2)
    start(2, 3)  # one of them has been allowed all the time
    with pytest.raises(BundleOutdated, match="older than version 2"):
        start(3, 1)
    start(3, 3)
    with pytest.raises(BundleOutdated, match="older than version 3"):
        start(3, 2)


def test_a_stream_that_gets_a_newer_version_shuts_out_no_other_stream(
    tmp_path: Path, store: Path, keys: Keys
) -> None:
    key = keys.new()
    paths = {version: tmp_path / f"{version}.fieldwatch" for version in (1, 2)}
    for version, path in paths.items():
        flow_bundle(path, version, key)
    agent = loader(store, keys)
    old, new = agent.load(paths[1]).bundle, agent.load(paths[2]).bundle
    agent.note_running({"a": old, "b": old}, {"a", "b"})
    agent.note_running({"b": new}, {"a", "b"})  # a reload names what is exchanged
    loader(store, keys).load(paths[1])
    agent.note_running({}, {"b"})  # a has a baseline from now on
    with pytest.raises(BundleOutdated, match="older than version 2"):
        loader(store, keys).load(paths[1])


@pytest.mark.parametrize("trusting", [True, False])
def test_only_a_signature_that_is_checked_says_what_version_it_is(
    tmp_path: Path, store: Path, keys: Keys, trusting: bool
) -> None:
    keys.new()
    some = keys if trusting else None
    flow_bundle(tmp_path / "2.fieldwatch", 2)
    flow_bundle(tmp_path / "1.fieldwatch", 1)
    ran(loader(store, some, False), tmp_path / "2.fieldwatch")
    ran(loader(store, some, False), tmp_path / "1.fieldwatch")


def test_what_need_not_be_allowed_is_not(tmp_path: Path, store: Path, keys: Keys) -> None:
    code, said = allow(store, "flow", "--to", "2")
    assert code == 1
    assert "flow: version 2 can run anyway: no signed version has run here" in said
    flow_bundle(tmp_path / "2.fieldwatch", 2, keys.new())
    ran(loader(store, keys), tmp_path / "2.fieldwatch")
    assert "version 2 can run anyway: the lowest is 2" in allow(store, "flow", "--to", "2")[1]
    assert "can run anyway" in allow(store, "../../flow\x00", "--to", "2")[1]


def test_what_cannot_be_read_is_not_taken_for_nothing(store: Path) -> None:
    (store / "bundles").mkdir()
    (store / "bundles" / "ran.json").symlink_to("ran.json")  # a loop, as root reads all else
    assert "ran.json: cannot be read: " in allow(store, "flow", "--to", "2")[1]


def test_the_agent_can_read_what_root_allows_whatever_the_umask(
    tmp_path: Path, store: Path, keys: Keys
) -> None:
    flow_bundle(tmp_path / "2.fieldwatch", 2, keys.new())
    ran(loader(store, keys), tmp_path / "2.fieldwatch")
    was = os.umask(0o077)
    try:
        assert allow(store, "flow", "--to", "1")[0] == 0
    finally:
        os.umask(was)
    assert (store / "bundles" / "flow.downgrade").stat().st_mode & 0o777 == 0o644


def test_a_permission_that_cannot_be_read_permits_nothing(
    tmp_path: Path, store: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    key = keys.new()
    flow_bundle(tmp_path / "2.fieldwatch", 2, key)
    flow_bundle(tmp_path / "1.fieldwatch", 1, key)
    ran(loader(store, keys), tmp_path / "2.fieldwatch")
    (store / "bundles" / "flow.downgrade").write_text("\x1b[2Jany")
    with pytest.raises(BundleOutdated):
        loader(store, keys).load(tmp_path / "1.fieldwatch")
    assert "cannot be read, so no downgrade is allowed" in caplog.text


def test_what_cannot_be_written_stops_nothing(
    tmp_path: Path, store: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    (store / "bundles").write_text("in the way")
    key = keys.new()
    flow_bundle(tmp_path / "2.fieldwatch", 2, key)
    flow_bundle(tmp_path / "1.fieldwatch", 1, key)
    agent = loader(store, keys)
    ran(agent, tmp_path / "2.fieldwatch")
    with pytest.raises(BundleOutdated):  # as long as it runs it knows
        agent.load(tmp_path / "1.fieldwatch")
    assert "can be kept, so no stream can fall back" in caplog.text
    assert "ran.json cannot be written" in caplog.text


def test_a_key_is_rotated_and_the_old_one_revoked(tmp_path: Path, store: Path, keys: Keys) -> None:
    old, path = keys.new("old"), tmp_path / "pump.fieldwatch"
    first = flow_bundle(path, 1, old)
    ran(loader(store, keys), path)

    new = keys.new("new")  # both are trusted
    ran(loader(store, keys), path)
    again = flow_bundle(path, 1, new)  # signed again
    assert again.digest == first.digest
    ran(loader(store, keys), path)
    flow_bundle(path, 2, new)
    ran(loader(store, keys), path)

    (old_key,) = [
        key.key_id.hex()
        for key in read_keyring(keys.trusted).keys
        if key.source.endswith("old.pub")
    ]
    (keys.trusted / "revoked").write_text(f"key {old_key} lost\n")
    ran(loader(store, keys), path)
    flow_bundle(tmp_path / "stolen.fieldwatch", 3, old)
    with pytest.raises(BundleRevoked, match=f"revokes key {old_key} \\(lost\\)"):
        loader(store, keys).load(tmp_path / "stolen.fieldwatch")
    (keys.trusted / "old.pub").unlink()
    ran(loader(store, keys), path)


def test_the_copy_has_the_newest_signature(tmp_path: Path, store: Path, keys: Keys) -> None:
    old, path = keys.new("old"), tmp_path / "pump.fieldwatch"
    flow_bundle(path, 1, old)
    ran(loader(store, keys), path)
    flow_bundle(path, 1, keys.new("new"))
    ran(loader(store, keys), path)
    (keys.trusted / "old.pub").unlink()
    agent = loader(store, keys)
    copy = agent.copy_of_previous("pump")
    assert copy is not None
    assert agent.load(copy).bundle.signature == agent.load(path).bundle.signature


def test_the_bundle_that_ran_before_is_kept_too(tmp_path: Path, store: Path) -> None:
    paths = {version: tmp_path / f"{version}.fieldwatch" for version in (1, 2, 3)}
    digests = {version: flow_bundle(path, version).digest for version, path in paths.items()}

    def other(version: int) -> str | None:
        path = copy_of_other(store, "pump", digests[version])
        return None if path is None else path.stem

    assert other(1) is None
    ran(loader(store, None, False), paths[1])
    ran(loader(store, None, False), paths[1])  # a restart is no exchange
    assert (other(1), other(2)) == (None, digests[1])  # 2 is configured, and does not run yet
    ran(loader(store, None, False), paths[2])
    assert other(2) == digests[1]
    ran(loader(store, None, False), paths[3])
    assert other(3) == digests[2]
    assert {path.stem for path in (store / "bundles").glob("*.fieldwatch")} == {
        digests[2],
        digests[3],
    }
    ran(loader(store, None, False), paths[2])  # back
    assert other(2) == digests[3]
    (store / "bundles" / f"{digests[3]}.fieldwatch").unlink()
    assert other(2) is None
    loader(store, None, False).note_running({}, set())  # the stream has no bundle any more
    assert list((store / "bundles").glob("*.fieldwatch")) == []


def test_what_an_older_version_wrote_has_none_before(tmp_path: Path, store: Path) -> None:
    first, second = (flow_bundle(tmp_path / str(version), version) for version in (1, 2))
    ran(loader(store, None, False), tmp_path / "1")
    file = store / "bundles" / "ran.json"
    written = json.loads(file.read_text())
    assert written.pop("before") == {}
    file.write_text(json.dumps(written))
    assert copy_of_other(store, "pump", first.digest) is None
    ran(loader(store, None, False), tmp_path / "2")
    copy = copy_of_other(store, "pump", second.digest)
    assert copy is not None
    assert copy.stem == first.digest


def test_a_ledger_that_cannot_be_read_is_not_taken_for_an_empty_one(store: Path) -> None:
    (store / "bundles").mkdir()
    (store / "bundles" / "ran.json").symlink_to("ran.json")
    with pytest.raises(StoreError, match=r"ran\.json: cannot be read: "):
        copy_of_other(store, "pump", "")
