"""Files: what is none is refused without waiting, and a new one takes the old one's place whole."""

from __future__ import annotations

import io
import os
import resource
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.bundles.ledger import DIRECTORY, Ledger, allow_downgrade
from agent.commands.probe.listen import listen_to_file
from agent.config.broker import MqttTable
from agent.config.inputs import FileTable, ReplayTable
from agent.inputs.replay import probe_recording
from agent.mqtt.credentials import Credentials
from models.archive import Archive
from models.errors import BundleMissing, ConfigError, StoreError
from models.files import (
    PARTIAL,
    NotAFile,
    descriptor_of,
    kind_of,
    open_file,
    read_file,
    replace,
    sync_directory,
)
from models.keys import read_keys, read_revoked, read_secret
from models.toml import read_toml


def names(directory: Path | str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to(os.ttyname(os.openpty()[1]))


KINDS = {pipe: "a named pipe", Path.mkdir: "a directory", device: "a device", terminal: "a device"}


@pytest.mark.parametrize(("make", "kind"), KINDS.items())
def test_what_is_no_file_is_refused_and_named(
    tmp_path: Path, make: Callable[[Path], None], kind: str
) -> None:
    make(path := tmp_path / "settings")
    before = names("/proc/self/fd")
    for attempt in (open_file, lambda one: read_file(one, 10)):
        with pytest.raises(NotAFile) as refused:
            attempt(path)
        assert refused.value.strerror == f"it is {kind}, not a file"
        assert str(refused.value) == f"{path}: it is {kind}, not a file"
    assert names("/proc/self/fd") == before


def listened(path: Path) -> object:
    given = {"name": "log", "stream": "pump", "path": path, "columns": ["flow"]}
    return listen_to_file(FileTable.model_validate({"type": "file"} | given), 0.0, print)


def password(path: Path) -> object:
    settings = {"host": "h", "username": "gw", "password_file": path}
    return Credentials(MqttTable.model_validate(settings)).read()


def authority(path: Path) -> object:
    return Credentials(MqttTable(host="h", tls_ca_file=path)).read()


def certificate(path: Path) -> object:
    found = Path(ssl.get_default_verify_paths().openssl_cafile)
    return Credentials(MqttTable(host="h", tls_ca_file=found, tls_cert_file=path)).read()


def recording(path: Path) -> object:
    given = {"name": "day", "stream": "pump", "path": path}
    if said := probe_recording(ReplayTable.model_validate({"type": "replay"} | given)):
        raise OSError(said)
    return None


def keys(path: Path) -> object:
    path.rename(path.with_suffix(".pub"))
    return read_keys(path.parent)


def ran(path: Path) -> object:
    (path.parent / DIRECTORY).mkdir()
    path.rename(path.parent / DIRECTORY / "ran.json")
    Ledger(path.parent)  # goes on
    return allow_downgrade(path.parent, "pump", 1)


READERS: list[Callable[[Path], object]] = [
    *(Archive, read_toml, keys, read_revoked, lambda path: read_secret(path, "bundle")),
    *(listened, recording, password, authority, certificate, ran),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("make", [pipe, device])
def test_nobody_who_reads_a_file_waits_at_a_pipe_or_never_ends(
    tmp_path: Path, read: Callable[[Path], object], make: Callable[[Path], None]
) -> None:
    make(path := tmp_path / "given")
    with pytest.raises((BundleMissing, ConfigError, StoreError, OSError), match="not a file"):
        read(path)


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (path := tmp_path / "some").write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="it has more than 4 bytes"):
        read_file(path, 4)
    with open_file(path) as file:
        assert file.read() == b"12345"
    with io.FileIO(path, opener=descriptor_of) as raw:
        assert not os.get_inheritable(raw.fileno())
        assert raw.read() == b"12345"
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "absent")


def test_a_file_is_replaced_whole_and_has_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "some"
    umask = os.umask(0o027)
    try:
        replace(path, b"first")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        with path.open("rb") as before:
            replace(path, b"second", 0o604)
            assert before.read() == b"first"
    finally:
        os.umask(umask)
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert names(tmp_path) == ["some"]


def test_what_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (path := tmp_path / "some").write_bytes(b"before")
    os.mkfifo(partial := tmp_path / f"some{PARTIAL}")  # nobody may hold up a writer, either
    with pytest.raises(OSError, match="No such device"):
        replace(path, b"after")
    assert path.read_bytes() == b"before"
    assert not partial.exists()
    (folder := tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace(folder, b"after")
    assert names(tmp_path) == ["folder", "some"]
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "absent" / "some", b"after")


def test_a_write_that_the_system_refuses_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as refused:
            replace(path, b"after")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refused.value.filename == str(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_synced(tmp_path: Path) -> None:
    sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        (file := tmp_path / "file").touch()
        sync_directory(file)


def test_kinds_are_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert kind_of((tmp_path / "s").stat().st_mode) == "a socket"
    (tmp_path / "f").touch()
    assert kind_of((tmp_path / "f").stat().st_mode) is None
