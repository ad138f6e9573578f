"""``fieldwatch-agent support``: an archive for a bug report, without secrets.

Each part is made by itself: what cannot be had, such as the status of a damaged database, is told
in its place. Nothing enters the archive but through ``Secrets``.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from agent.config.layers import DROP_INS
from agent.config.location import STORE_DIRECTORY, store_directory
from agent.rescue.archive import now, writing
from agent.rescue.belongings import CREDENTIALS, absent, belongings
from agent.rescue.redaction import Secrets, environment, secrets_of, secrets_of_text
from agent.store.copies import NAMES, copies, versions
from agent.store.migrations import MIGRATIONS
from agent.store.reader import Reader
from agent.store.sqlite import bytes_on_disk
from models import __version__
from models.errors import ConfigError, FieldwatchError, StoreError
from models.toml import read_toml

KIND: Final = "fieldwatch-support"
_UNIT: Final = "fieldwatch-agent"
_JOURNAL_LINES: Final = 2000
_ALARMS: Final = 100
_SECONDS_MAX: Final = 20.0
_UNIT_PROPERTIES: Final = (
    "ActiveState,SubState,Result,ExecMainStatus,NRestarts,ActiveEnterTimestamp,"
    "InactiveEnterTimestamp,MemoryCurrent,MemoryPeak,CPUUsageNSec,TasksCurrent,FragmentPath,"
    "DropInPaths,UnitFileState,ExecMainStartTimestamp"
)


def support(config_file: Path, path: Path, credentials: Path = CREDENTIALS) -> dict[str, Any]:
    """Write the archive; return its manifest.

    Raises:
        StoreError: it cannot be written.

    """
    secrets = _secrets(config_file, credentials)
    problems: dict[str, str] = {}
    with writing(path) as archive:
        for name, make in _parts(config_file).items():
            try:
                text = secrets.removed_from(_as_text(secrets.redacted(make())))
            except (FieldwatchError, OSError) as error:
                problems[name] = secrets.removed_from(str(error))
                continue
            archive.add_text(name, text)
        return archive.seal(KIND, {"made": now(), "version": __version__, "not_had": problems})


def _secrets(config_file: Path, credentials: Path) -> Secrets:
    try:
        return secrets_of(config_file, belongings(config_file, credentials))
    except ConfigError:  # not readable, or not TOML
        return secrets_of_text(config_file)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, default=str) + "\n"


def _parts(config_file: Path) -> Mapping[str, Callable[[], Any]]:
    return {
        "README.txt": lambda: _READ_ME,
        "configuration.json": lambda: _configuration(config_file),
        "environment.json": lambda: environment(Secrets(())),
        "status.json": lambda: _status(config_file),
        "metrics.prom": lambda: _metrics(config_file),
        "state.json": lambda: _state(config_file),
        "alarms.json": lambda: _alarms(config_file),
        "databases.json": lambda: _databases(config_file),
        "files.json": lambda: _files(config_file),
        "packages.txt": _packages,
        "machine.json": _machine,
        "unit.txt": _unit,
        "journal.txt": _journal,
    }


_READ_ME: Final = """An archive for a bug report about Fieldwatch.

Passwords, keys, tokens, hashes and the arguments of hooks are removed. Names of machines, streams,
hosts and users, and the notes of staff on alarms are not. Read the files before you send them.
"""


def _configuration(config_file: Path) -> dict[str, Any]:
    """Return each file by itself, without its comments, which may have a secret."""
    drop_ins = sorted((config_file.parent / DROP_INS).glob("*.toml"))
    return {str(file): read_toml(file)[0] for file in (config_file, *drop_ins)}


def _status(config_file: Path) -> dict[str, Any]:
    with Reader(store_directory(config_file)) as reader:
        return reader.status()


def _metrics(config_file: Path) -> str:
    from agent.health import prometheus

    return prometheus.text(_status(config_file), up=True)


def _state(config_file: Path) -> dict[str, Any]:
    from agent.commands.running import ask_running

    return ask_running(config_file, "state", seconds_max=_SECONDS_MAX)


def _alarms(config_file: Path) -> list[dict[str, Any]]:
    with Reader(store_directory(config_file)) as reader:
        return reader.alarms(_ALARMS)


def _databases(config_file: Path) -> dict[str, Any]:
    store = store_directory(config_file)
    return {
        "supported": {name: len(MIGRATIONS[name]) for name in NAMES},
        "tables": versions(store),
        "bytes": {name: bytes_on_disk(store / name) for name in NAMES},
        "copies": [copy.directory.name for copy in copies(store)],
    }


def _files(config_file: Path) -> dict[str, Any]:
    """Return whose the gateway's files are, and what is absent; nothing of what is in them."""
    store = store_directory(config_file)
    found = [one.source for one in belongings(config_file)] + [*store.iterdir()]
    return {
        "files": {str(file): _described(file) for file in found},
        "absent": [str(path) for path in absent(config_file)],
    }


def _described(file: Path) -> str:
    found = file.lstat()
    return f"{found.st_mode:o} {found.st_uid}:{found.st_gid} {found.st_size}"


def _packages() -> str:
    found = {f"{one.name}=={one.version}" for one in metadata.distributions()}
    return "\n".join(sorted(found, key=str.casefold)) + "\n"


def _machine() -> dict[str, Any]:
    disk = shutil.disk_usage(STORE_DIRECTORY if STORE_DIRECTORY.exists() else Path("/"))
    return {
        "system": platform.uname()._asdict(),
        "release": platform.freedesktop_os_release().get("PRETTY_NAME"),
        "python": sys.version,
        "environment": sys.prefix,
        "user": os.geteuid(),
        "disk": disk._asdict(),
        "load": os.getloadavg(),
        "memory": Path("/proc/meminfo").read_text().splitlines()[:5],
        "uptime_s": Path("/proc/uptime").read_text().split()[0],
    }


def _unit() -> str:
    return _said("systemctl", "show", _UNIT, f"--property={_UNIT_PROPERTIES}")


def _journal() -> str:
    return _said(
        "journalctl",
        "-u",
        _UNIT,
        "--no-pager",
        "--quiet",
        "-o",
        "short-iso",
        "-n",
        str(_JOURNAL_LINES),
    )


def _said(*words: str) -> str:
    """Return what a program of the system prints."""
    program = shutil.which(words[0])
    if program is None:
        raise StoreError(f"there is no {words[0]} here")
    try:
        ended = subprocess.run(  # noqa: S603 - a program of the system, with words of ours
            [program, *words[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"{words[0]} does not end") from error
    if ended.returncode:
        raise StoreError(f"{words[0]}: {ended.stderr.strip()}")
    return ended.stdout


def lines(path: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the archive has, for people."""
    yield f"{path}: for a bug report, without passwords, keys, tokens and hashes"
    for one in manifest["files"]:
        yield f"  {one['bytes']:>12}  {one['name']}"
    for name, why in manifest["not_had"].items():
        yield f"  {'absent':>12}  {name}: {why}"
    yield "Read it before you send it: names of machines and people, and notes, stay in it."
