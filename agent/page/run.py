"""Puts the page together, and serves it."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from agent.config.location import store_directory
from agent.page.access import Access
from agent.page.app import Page
from agent.page.security import Secured, addresses, refuse_exposed
from agent.page.server import listening, passed_sockets, serve
from agent.page.settings import Settings
from agent.users import Accounts

_LOG = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve the page until it is stopped.

    Raises:
        ConfigError: other machines could see it without a log-in, or the certificate is wrong.
        NoAddress: it cannot listen.

    """
    passed = passed_sockets()
    sockets = passed or [listening(settings.host, settings.port)]
    refuse_exposed(sockets, protected=settings.users is not None)
    accounts = None if settings.users is None else Accounts(settings.users)
    _tell(settings, accounts, sockets)
    page = Page(Path(settings.config_file), store_directory(Path(settings.config_file)))
    access = guarded(page, settings, accounts)
    app = Secured(access, (settings.host, *settings.host_names, *addresses(sockets)))
    idle_s = settings.idle_exit_s if passed and settings.idle_exit_s > 0 else None
    serve(app, sockets, idle_s, lambda: access.in_use, page.watch.close, settings.certificate)


def guarded(page: Page, settings: Settings, accounts: Accounts | None) -> Access:
    """Return the views behind their guard."""
    times = settings.session_idle_s, settings.session_s
    return Access(page.app(), page, accounts, settings.tls, *times)


def _tell(settings: Settings, accounts: Accounts | None, sockets: list[socket.socket]) -> None:
    """Say in the log where the page is, and what is not as it should be."""
    scheme = "https" if settings.tls else "http"
    at = (f"{scheme}://{_place(one)}" for one in sockets)
    _LOG.info("the page is at %s", ", ".join(at))
    if accounts is None:
        _LOG.warning(
            "every user of this machine can read the page, and nobody can handle alarms on it: set"
            " page.users_file"
        )
    if not settings.tls and accounts is not None and _is_seen(sockets):
        _LOG.warning(
            "the page has no certificate: anyone on the network can read passwords and alarms; set"
            " page.certificate_file"
        )


def _place(one: socket.socket) -> str:
    name = one.getsockname()
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return str(name)
    return f"[{name[0]}]:{name[1]}" if one.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _is_seen(sockets: list[socket.socket]) -> bool:
    """Whether other machines can reach the page."""
    return any(not at.startswith("127.") and at != "::1" for at in addresses(sockets))
