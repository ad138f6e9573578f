"""What every answer of the page tells the browser, and to which names the page listens.

The page's scripts and styles are files of its own: the policy allows nothing else, so a text that
would become markup by some mistake could still not run.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import ConfigError

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: with that, browsers send the page's own forms with the origin "null"
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ASSETS: Final = "/assets/"
_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class Secured:
    """Adds the headers to all answers of ``app``, and refuses requests to foreign names.

    A page of a foreign name that resolves to this gateway (DNS rebinding) would count as the
    browser's same origin, and so could read everything and send forms. ``names`` are without port.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app, self._names = app, frozenset(names) | frozenset(_LOCAL_NAMES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                _secure(MutableHeaders(scope=message), scope["path"])
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if host_of(host) in self._names:
            await self._app(scope, receive, secured)
            return
        refused = PlainTextResponse(
            "This page does not answer to this name. Use the address of the gateway, or add the"
            " name to host_names in the table [page] of its configuration.\n",
            421,
        )
        await refused(scope, receive, secured)


def _secure(headers: MutableHeaders, path: str) -> None:
    for name, value in HEADERS.items():
        headers[name] = value
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-cache" if path.startswith(ASSETS) else "no-store"


def host_of(text: str) -> str | None:
    """Return the name or address in a ``Host`` header, without port; None: it is none."""
    if not text or any(letter in text for letter in "@/?#\\ \t"):
        return None
    try:
        found = urlsplit(f"//{text}")
        _ = found.port  # raises ValueError for a wrong one
        name = found.hostname or ""
    except ValueError:
        return None
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name or None


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser sent a request from this page, and not from another site.

    A browser names the origin of each form and of each request that a script sends by POST. The
    scheme is not compared: a server before the page may add TLS.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return site == "same-origin"
    scheme, mark, place = origin.partition("://")
    return bool(mark) and _bare(scheme, place) == _bare(scheme, headers.get("host", ""))


def _bare(scheme: str, place: str) -> str:
    """Return host and port in one form: without the port that the scheme has anyway."""
    return place.lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, ":"))


def addresses(sockets: Iterable[socket.socket]) -> Iterator[str]:
    """Yield the addresses at which TCP sockets listen."""
    for one in sockets:
        if one.family in (socket.AF_INET, socket.AF_INET6):
            yield str(one.getsockname()[0])


def refuse_exposed(sockets: Iterable[socket.socket], protected: bool) -> None:
    """Refuse to show the page to other machines without users who log in.

    The configuration refuses that for ``page.listen``; systemd may pass other sockets.

    Raises:
        ConfigError: a socket can be reached by other machines, and the page is not ``protected``.

    """
    for address in addresses(sockets):
        if not protected and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            raise ConfigError(
                f"the page got a socket at {address}, which other machines can reach, and has no"
                " users: set page.users_file, and create the first user: fieldwatch-agent page"
                " user add NAME --role operator"
            )
