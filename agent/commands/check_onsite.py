"""The part of ``check`` for what tells people on site: hooks and the panel's broker."""

from __future__ import annotations

import contextlib
import http.client
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult

from agent.commands.finding import UNAVAILABLE, Finding
from agent.commands.secrecy import Service, closed_to, local, own_groups, readers, service_of
from agent.config.load import AgentConfig
from agent.config.onsite import HookTable
from agent.mqtt.connection import LinkError
from agent.mqtt.version import probe_broker
from agent.onsite.hooks import receiver
from models.errors import ConfigError


def on_site(config: AgentConfig) -> Iterator[Finding]:
    """Test each hook: its program can be run, or its server be reached. Nothing is sent."""
    for hook in config.on_site.hooks:
        what = f"hook {hook.name}"
        yield from _web(hook, config, what) if hook.is_web else _program(hook, config, what)
    if (panel := config.on_site.mqtt) is not None:
        what = f"panel {panel.host}:{panel.port}"
        client_id = f"fieldwatch-check-panel:{config.gateway.site}:{config.gateway.name}"
        try:
            probe_broker(panel, client_id)
        except LinkError as error:
            yield Finding(False, what, error.without(panel), UNAVAILABLE)
        else:
            yield Finding(True, what, "accepts the connection")


def _program(hook: HookTable, config: AgentConfig, what: str) -> Iterator[Finding]:
    assert hook.command is not None
    path = Path(hook.command[0])
    if (trouble := _not_executable(path, service_of(config))) is not None:
        yield Finding(False, what, trouble, ConfigError.exit_code)
    else:
        yield Finding(True, what, f"{path} can be run; it was not")


def _not_executable(path: Path, service: Service | None) -> str | None:
    """Return why the service cannot run a program; None: it can, as far as can be seen here."""
    try:
        found = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a file"
    if service is None or service.user == os.geteuid():
        return None if os.access(path, os.X_OK) else f"{path} cannot be run; chmod +x {path}"
    for each in (path, *path.parents):
        if not _may_execute(each.stat(), service):
            return f"the user of the store, {service.user}, cannot run {path}: see {each}"
    return None


def _may_execute(found: os.stat_result, service: Service) -> bool:
    if found.st_uid == service.user:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == service.group:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _web(hook: HookTable, config: AgentConfig, what: str) -> Iterator[Finding]:
    from agent.onsite.webhook import Webhook, error_text  # only if there is one

    files = [file for file in (hook.url_file, hook.headers_file) if file is not None]
    for file in files:
        service = service_of(config)
        told = readers(file, own_groups(config)) or (service and closed_to(file, service))
        if told:
            yield Finding(True, what, told, mark="warn")
    webhook = Webhook(hook)
    try:
        url, headers = webhook.address(), webhook.headers()
        connection = webhook.connection(url)
    except (OSError, ValueError) as error:
        yield Finding(False, what, error_text(error), ConfigError.exit_code)
        return
    if url.scheme == "http" and not local(url.hostname or ""):
        secret = " and its headers" if headers else ""
        said = f"sends the alarms{secret} without TLS: anyone on the path can read them. Use https"
        yield Finding(True, what, said, mark="warn")
    yield _reached(connection, url, hook, what)


def _reached(
    connection: http.client.HTTPConnection, url: SplitResult, hook: HookTable, what: str
) -> Finding:
    try:
        with contextlib.closing(connection):
            connection.connect()
    except OSError as error:
        return Finding(False, what, f"{url.hostname}: {error}", UNAVAILABLE)
    return Finding(True, what, f"{receiver(hook)} accepts a connection; nothing was sent")
