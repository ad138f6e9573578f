"""Delivers notices to a web server by POST (RFC 9110); it follows no redirection.

The answer decides: 2xx is done, 4xx refuses the notice for good, except 408 (timeout) and 429 (too
many requests). These, all other answers and a broken connection are tried again.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from agent.config.onsite import web_address
from agent.mqtt.credentials import credential
from agent.onsite.outcome import Done, Failed, Outcome, Refused
from models import __version__
from models.files import open_file, read_file
from models.printable import printable

if TYPE_CHECKING:
    from agent.config.onsite import HookTable

_FILE_BYTES_MAX: Final = 16_384
_ANSWER_BYTES_MAX: Final = 500
_AGAIN: Final = frozenset({408, 429})
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def error_text(error: Exception) -> str:
    """Return an error for people; one of a file without its number."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


class Webhook:
    """A configured address; one thread uses it."""

    def __init__(self, settings: HookTable) -> None:
        self._settings = settings

    def deliver(
        self, id: str, document: bytes, change: Mapping[str, Any], stopping: threading.Event
    ) -> Outcome:
        """Send a notice once, and return what became of it."""
        try:
            url = self.address()
            headers = self.headers() | {
                "Content-Type": "application/json",
                "User-Agent": f"fieldwatch-agent/{__version__}",
                "Idempotency-Key": id,
            }
            return self._post(url, headers, document)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Failed(error_text(error))

    def address(self) -> SplitResult:
        """Return the address.

        Raises:
            OSError: its file cannot be read.
            ValueError: it is no address.

        """
        if self._settings.url is not None:
            return urlsplit(self._settings.url)
        assert self._settings.url_file is not None
        text = read_file(self._settings.url_file, _FILE_BYTES_MAX).decode().strip()
        try:
            return urlsplit(web_address(text))
        except ValueError as error:  # which would quote what may be secret
            raise ValueError(f"{self._settings.url_file} has no valid address: {error}") from None

    def headers(self) -> dict[str, str]:
        """Return the headers of the file, or of the systemd credential ``hook.NAME.headers``.

        Raises:
            OSError: it cannot be read.
            ValueError: a line is no header.

        """
        file = self._settings.headers_file or credential(f"hook.{self._settings.name}.headers")
        if file is None:
            return {}
        lines = read_file(file, _FILE_BYTES_MAX).decode("latin-1").splitlines()
        try:
            return dict(_header(number, line) for number, line in enumerate(lines, 1) if line)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    def connection(self, url: SplitResult) -> http.client.HTTPConnection:
        """Return a connection that is not open yet.

        Raises:
            OSError: the CA file cannot be used.

        """
        assert url.hostname is not None
        seconds = self._settings.timeout_s
        if url.scheme == "http":
            return http.client.HTTPConnection(url.hostname, url.port, timeout=seconds)
        file = self._settings.tls_ca_file
        if file is not None:
            open_file(file).close()  # refuses a pipe, on which OpenSSL would block
        context = ssl.create_default_context(cafile=None if file is None else str(file))
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=seconds, context=context)

    def _post(self, url: SplitResult, headers: Mapping[str, str], document: bytes) -> Outcome:
        deadline = time.monotonic() + self._settings.timeout_s
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        with contextlib.closing(self.connection(url)) as connection:
            connection.connect()
            with _limited(connection.sock, deadline):
                connection.request("POST", target, document, dict(headers))
                with connection.getresponse() as answer:
                    said = printable(answer.read(_ANSWER_BYTES_MAX).strip())
        return self._judged(answer.status, answer.getheader("Retry-After"), said)

    def _judged(self, status: int, retry_after: str | None, said: str) -> Outcome:
        if 200 <= status < 300:
            return Done()
        told = f"the server answers {status}{': ' + said if said else ''}"
        if 400 <= status < 500 and status not in _AGAIN:
            return Refused(told)
        if 300 <= status < 400:
            told += "; the agent follows no redirection, so name the final address"
        after_s = _seconds(retry_after)
        return Failed(told, after_s and min(after_s, self._settings.backoff_max_s))


@contextlib.contextmanager
def _limited(sock: socket.socket, deadline: float) -> Iterator[None]:
    """Shut the connection down at the deadline; a timeout alone would bound each read only.

    Raises:
        TimeoutError: the deadline has passed.

    """
    over = threading.Event()

    def end() -> None:
        over.set()
        with contextlib.suppress(OSError):  # the other side was faster
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if over.is_set():
            raise TimeoutError("no whole answer within timeout_s") from None
        raise
    finally:
        timer.cancel()
    if over.is_set():
        raise TimeoutError("no whole answer within timeout_s")


def _header(number: int, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip()
    if not colon or not _NAME.fullmatch(name) or not value.isprintable():
        raise ValueError(f"line {number} is no header; write one as Name: value")
    if name.lower() in _OURS:
        raise ValueError(f"line {number}: the agent itself sets {name}")
    return name, value


def _seconds(retry_after: str | None) -> float | None:
    """Return the wait that a server asks for (RFC 9110, 10.2.3); None: it asks for none."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
