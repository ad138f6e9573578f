"""The page as a process of its own, and a browser's part of HTTP without a browser."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from agent.control.protocol import Role
from agent.users import User, changing, hashed
from tests.conftest import ROOT, WAIT_S_MAX, hold_port, wait_until

GATEWAY = """
[gateway]
site = "plant"
name = "gw-1"
[[streams]]
name = "pump"
baseline = { period_s = 1.0, channels = [{ name = "flow" }] }
[[inputs]]
name = "line"
port = "/dev/ttyUSB0"
stream = "pump"
columns = ["time", "flow"]
"""
PASSWORD = "correct horse battery"


class Answer(NamedTuple):
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]  # the names in lower case; of several cookies, the last
    body: str

    @property
    def location(self) -> str:
        return self.headers["location"]


class RealPage:
    """``fieldwatch-agent page`` for a configuration, which gets a table [page]; its log is kept."""

    def __init__(self, config: Path, table: str = "") -> None:
        self.config = config
        self.port = hold_port(self)
        self.users_file = config.parent / "page-users"
        self._log = config.with_suffix(".page.log")
        self.program = (sys.executable, "-P", "-m", "agent")
        self.tls: ssl.SSLContext | None = None
        if "listen" not in table:
            table = f'listen = "127.0.0.1:{self.port}"\n{table}'
        text = config.read_text()
        needed = "" if "[gateway]" in text else GATEWAY
        config.write_text(f"{text}\n[page]\n{table}\n{needed}")
        self.process: subprocess.Popen[bytes] | None = None

    def add(self, name: str, role: Role = "operator", password: str = PASSWORD) -> None:
        with changing(self.users_file, None) as users:
            users[name] = User(name, role, hashed(password))

    def remove(self, name: str) -> None:
        with changing(self.users_file, None) as users:
            del users[name]

    def launch(self) -> None:
        """Start the process, which may end by itself."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "page", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    def start(self) -> None:
        self.launch()
        wait_until(self._accepts, "the page to listen")

    def _accepts(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the page ended by itself: {self.log()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S_MAX)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), WAIT_S_MAX)

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all until the page hangs up."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def ask(
        self, method: str, path: str, body: str | bytes = b"", headers: Mapping[str, str] = {}
    ) -> Answer:
        """Send a request with exactly these headers, and those that HTTP needs."""
        where = ("127.0.0.1", self.port)
        made: http.client.HTTPConnection
        if self.tls is None:
            made = http.client.HTTPConnection(*where, timeout=WAIT_S_MAX)
        else:
            made = http.client.HTTPSConnection(*where, timeout=WAIT_S_MAX, context=self.tls)
        try:
            made.request(method, path, body or None, dict(headers))
            answer = made.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read().decode())
        finally:
            made.close()


def read_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while True:
        try:
            read = connection.recv(65536)
        except ConnectionResetError:
            return bytes(data)
        if not read:
            return bytes(data)
        data += read


class Visitor:
    """A browser without its window: keeps cookies, names its origin, reads the token of forms."""

    def __init__(self, page: RealPage) -> None:
        self.page = page
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    @property
    def origin(self) -> str:
        scheme = "http" if self.page.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.page.port}"

    def _headers(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": cookies} if cookies else {}

    def get(self, path: str, **headers: str) -> Answer:
        answer = self.page.ask("GET", path, headers=self._headers() | headers)
        if found := re.search('name="csrf" value="([^"]+)"', answer.body):
            self.csrf = found[1]
        return self._kept(answer)

    def post(self, path: str, form: Mapping[str, Any], **headers: str | None) -> Answer:
        """Send a form; a header of None is left out."""
        usual = {
            "Origin": self.origin,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        wanted = {k.replace("_", "-"): v for k, v in headers.items()}
        sent = {k: v for k, v in (self._headers() | usual | wanted).items() if v is not None}
        return self._kept(self.page.ask("POST", path, urlencode(form), sent))

    def log_in(self, name: str, password: str = PASSWORD, **more: str) -> Answer:
        return self.post("/login", {"name": name, "password": password} | more)

    def _kept(self, answer: Answer) -> Answer:
        name, _, rest = answer.headers.get("set-cookie", "").partition("=")
        value = rest.partition(";")[0].strip('"')
        if name and value:
            self.cookies[name] = value
        elif name:
            self.cookies.pop(name, None)
        return answer
