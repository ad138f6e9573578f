"""The part of ``check`` for the web page: who may see it, its users and its certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from agent.commands.finding import Finding
from agent.commands.secrecy import readers
from agent.config.load import AgentConfig
from agent.config.page import PageTable
from agent.users import read_users
from models.errors import ConfigError

_WHAT = "page"


def page(config: AgentConfig) -> Iterator[Finding]:
    """Test what the page needs, if the configuration has a table for it."""
    table = config.page
    if not table.model_fields_set:
        return
    yield from _users(table)
    if table.certificate_file is not None:
        yield _certificate(table.certificate_file, table.key_file)
        if (told := readers(table.key_file or table.certificate_file, frozenset({0}))) is not None:
            if told.startswith("every user"):  # the page's group may
                yield Finding(True, _WHAT, told, mark="warn")
    elif not table.address.is_local:
        detail = (
            f"{table.listen} without TLS: anyone on the network can read passwords and alarms. Set"
            " page.certificate_file"
        )
        yield Finding(True, _WHAT, detail, mark="warn")


def _users(table: PageTable) -> Iterator[Finding]:
    path = table.users_file
    if path is None:
        detail = (
            f"{table.listen}: every user of this machine can read it, and nobody can handle alarms"
            " on it. Set page.users_file"
        )
        yield Finding(True, _WHAT, detail, mark="warn")
        return
    try:
        users = read_users(path) if path.exists() else {}
    except PermissionError:
        yield Finding(True, _WHAT, f"{path} cannot be read by this user", mark="unknown")
        return
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            yield Finding(True, _WHAT, f"{error}; check as root can", mark="unknown")
        else:
            yield Finding(False, _WHAT, str(error), error.exit_code)
        return
    if users:
        names = ", ".join(f"{one.name} ({one.role})" for one in users.values())
        yield Finding(True, _WHAT, f"{table.listen}: users {names}")
    else:
        add = "fieldwatch-agent page user add NAME --role operator"
        yield Finding(
            True, _WHAT, f"{path}: no users yet, so nobody can log in. Use: {add}", mark="warn"
        )


def _certificate(certificate: Path, key: Path | None) -> Finding:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: "")
    except PermissionError as error:
        return Finding(
            True,
            _WHAT,
            f"{key or certificate}: {error.strerror}; check as root can",
            mark="unknown",
        )
    except OSError as error:  # ssl.SSLError is one
        files = certificate if key is None else f"{certificate}, {key}"
        return Finding(False, _WHAT, f"{files}: {error}", ConfigError.exit_code)
    return Finding(True, _WHAT, f"certificate {certificate}")
