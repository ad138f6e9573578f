"""The demo's web page: a page of its own for the demo's agent, with one user."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from agent.demo.broker import free_port
from agent.users import User, changing, hashed
from models.errors import FieldwatchError

USER: Final = "demo"
_STOP_S_MAX: Final = 30.0


class NoPage(FieldwatchError):
    """What the page needs is not installed."""

    exit_code = 69  # as EX_UNAVAILABLE of sysexits.h


class DemoPage:
    """Serves the page on a free port of this machine; a context manager.

    Make it before the agent starts: the agent's configuration needs ``tables``.

    Raises:
        NoPage: what the page needs is not installed.

    """

    def __init__(self, directory: Path) -> None:
        if (
            importlib.util.find_spec("uvicorn") is None
            or importlib.util.find_spec("jinja2") is None
        ):
            raise NoPage("the page needs packages that are missing: pip install 'fieldwatch[page]'")
        self._directory = directory
        self._users = directory / "page-users"
        self.password = secrets.token_urlsafe(9)
        with changing(self._users, None) as users:
            users[USER] = User(USER, "maintainer", hashed(self.password))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self._port}/"

    @property
    def tables(self) -> str:
        """The tables of the configuration that the page and its agent need."""
        listen = f"127.0.0.1:{self._port}"
        return f'[page]\nlisten = "{listen}"\nusers_file = "{self._users}"\n{_control()}'

    def told(self) -> str:
        """Return what a person needs to know to use it."""
        return f"{self.address} (user {USER}, password {self.password})"

    def start(self, config: Path) -> None:
        """Serve the page of the agent with this configuration."""
        with (self._directory / "page.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-P", "-m", "agent", "page", "--config", str(config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        """Stop serving."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _control() -> str:
    """Return the table by which the agent lets this process's user ask for the page's users.

    A user without a name, as in some containers, cannot be configured: the page only reads then.
    """
    with contextlib.suppress(KeyError):
        return f'[control]\npage_user = "{pwd.getpwuid(os.geteuid()).pw_name}"\n'
    return ""
