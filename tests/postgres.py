"""A real PostgreSQL in a directory of its own, run by a user who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import PARTS, hold_port

PASSWORD = "plant-7:öl@/#%"
USERS = ("postgres", "nobody")  # who runs it if the tests run as root


def program(name: str) -> str:
    """Return the path of a program of the server; see ``scripts/get-parts``."""
    debian = [
        str(path)
        for root in (Path("/"), PARTS)
        for path in sorted((root / "usr" / "lib" / "postgresql").glob("*/bin"))
    ]
    path = os.pathsep.join([os.environ.get("PATH", ""), *reversed(debian)])
    found = shutil.which(name, path=path)
    assert found is not None, "the tests need PostgreSQL; get it with: make test"
    return found


class Postgres:
    """A server that listens on the loopback; its user ``reader`` has ``PASSWORD``."""

    def __init__(self, directory: Path) -> None:
        self._data = directory / "data"
        self.port = hold_port(self)
        self._user = None
        if os.geteuid() == 0:
            self._user = next(name for name in USERS if _exists(name))
            shutil.chown(directory, self._user)
        secret = directory / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            program("initdb"),
            *("-D", str(self._data), "-U", "reader", "--pwfile", str(secret)),
            *("-A", "scram-sha-256", "-E", "UTF8", "--no-sync"),
        )
        options = f"-p {self.port} -h 127.0.0.1 -k {directory} -F"
        self._run(
            program("pg_ctl"),
            *("-D", str(self._data), "-o", options, "-w", "-t", "60"),
            *("-l", str(directory / "log"), "start"),
        )

    @property
    def url(self) -> str:
        """The URL of its database, without a password."""
        return f"postgresql+psycopg://reader@127.0.0.1:{self.port}/postgres"

    def stop(self) -> None:
        self._run(program("pg_ctl"), "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def _run(self, *arguments: str) -> None:
        libraries = ":".join(map(str, (PARTS / "usr" / "lib").glob("*-linux-*")))
        ended = subprocess.run(
            arguments,
            user=self._user,
            env=os.environ | ({"LD_LIBRARY_PATH": libraries} if libraries else {}),
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server meanwhile; its directory is where another user can go."""
    directory = Path(tempfile.mkdtemp(prefix="fieldwatch-postgres-", dir="/tmp"))
    try:
        server = Postgres(directory)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
