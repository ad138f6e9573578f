"""The part of ``check`` for secrets: files that others can read, or that the service cannot read.

It also warns of passwords sent without TLS.
"""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.commands.finding import Finding
from agent.config.broker import BrokerTable, MqttTable
from agent.config.inputs import MqttInputTable
from agent.config.load import AgentConfig
from agent.mqtt.credentials import PASSWORD, credential
from models.keys import REVOKED


class Service(NamedTuple):
    """The user of the agent: the owner of the store's directory."""

    user: int
    group: int


def secrets(config: AgentConfig) -> Iterator[Finding]:
    """Warn of each secret of the configuration that is not protected."""
    brokers: dict[str, BrokerTable] = {"mqtt": config.mqtt} if config.mqtt else {}
    if config.mqtt is not None and config.mqtt.commands.has_own_user:
        brokers["mqtt.commands"] = config.mqtt.for_commands
    if config.on_site.mqtt is not None:
        brokers["on_site.mqtt"] = config.on_site.mqtt
    brokers |= {
        f"input {source.name}": source.broker
        for source in config.inputs
        if isinstance(source, MqttInputTable)
    }
    for what, broker in brokers.items():
        if broker.username is not None and broker.tls_ca_file is None and not local(broker.host):
            detail = (
                f"sends its user and password without TLS: anyone on the path to {broker.host} can"
                " read them. Set tls_ca_file"
            )
            yield Finding(True, what, detail, mark="warn")
    if config.mqtt is not None and not password_is_known(config.mqtt):
        detail = (
            f"no password for user {config.mqtt.username} is known here, so check uses none."
            f" If it is in /etc/credstore/{PASSWORD} or /etc/credstore.encrypted/{PASSWORD}, only"
            " the service gets it, from systemd"
        )
        yield Finding(True, "mqtt", detail, mark="warn")
    files = sorted({file for broker in brokers.values() for file in _secret_files(broker)})
    readable = [told for file in files if (told := readers(file, own_groups(config)))]
    trusted = _trusted(config.keys.directory)
    service = service_of(config)
    closed = [told for file in (*files, *trusted) if service and (told := closed_to(file, service))]
    writable = [told for path in trusted if (told := _writers(path))]
    for told in (*readable, *closed, *writable):
        yield Finding(True, "secrets", told, mark="warn")
    there = [str(file) for file in files if file.exists()]
    if there and not readable:
        yield Finding(True, "secrets", f"nobody else can read {', '.join(there)}")


def other_user(config: AgentConfig) -> Iterator[Finding]:
    """Warn root of its greater permissions: the service runs as the owner of the store."""
    service = service_of(config)
    if service is None or os.geteuid() != 0 or service.user == 0:
        return
    user = _user(service.user)
    detail = (
        f"root has more permissions than {user}, who owns the store, so the agent may fail where"
        f" check reports ok. Run check as {user}: sudo -u {user} fieldwatch-agent check"
    )
    yield Finding(True, "user", detail, mark="warn")


def service_of(config: AgentConfig) -> Service | None:
    """Return the agent's user; None if unknown."""
    try:
        found = config.store.directory.stat()
    except OSError:
        return None
    return Service(found.st_uid, found.st_gid)


def password_is_known(broker: MqttTable) -> bool:
    """Whether this process has what the broker asks for; else only the service may have it."""
    given = broker.password_file or broker.tls_cert_file or credential(PASSWORD)
    return broker.username is None or given is not None


def local(host: str) -> bool:
    """Whether a host is this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _secret_files(broker: BrokerTable) -> list[Path]:
    key = broker.tls_key_file or broker.tls_cert_file  # the latter may contain the key
    sign = broker.sign if isinstance(broker, MqttTable) else None
    return [file for file in (broker.password_file, key, sign) if file is not None]


def own_groups(config: AgentConfig) -> frozenset[int]:
    """Return the groups that may read secrets: the service's, the current user's, and root's."""
    service = service_of(config)
    return frozenset({0, os.getegid()} | ({service.group} if service else set()))


def readers(file: Path, own_groups: frozenset[int]) -> str | None:
    """Return who besides its owner can read a file, and how to prevent that; None: nobody.

    A parent directory that others cannot enter protects the file. A file that does not exist, or
    that we cannot access, has no readers.
    """
    try:
        resolved = file.resolve(strict=True)
        found = resolved.stat()
        on_the_way = [directory.stat() for directory in resolved.parents]
    except OSError:
        return None
    if found.st_mode & stat.S_IROTH and all(each.st_mode & stat.S_IXOTH for each in on_the_way):
        return f"every user can read {file}; chmod o= {file} prevents that"
    group = found.st_gid
    if found.st_mode & stat.S_IRGRP and group not in own_groups and _enters(group, on_the_way):
        return (
            f"the group {_name(group)}, which is not the service's, can read {file};"
            f" chmod g= {file} prevents that"
        )
    return None


def _trusted(keys: Path | None) -> list[Path]:
    return [] if keys is None else [keys, *sorted(keys.glob("*.pub")), keys / REVOKED]


def _writers(path: Path) -> str | None:
    """Return a warning if users other than the owner and root's group can change the keys."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not (found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid)):
        return None
    return (
        f"other users can write to {path}, and so change whom the gateway trusts;"
        f" chmod go-w {path} prevents that"
    )


def closed_to(file: Path, service: Service) -> str | None:
    """Return a warning if the service cannot read a file that another user owns.

    The service's user owns the store's directory. Reading the file as root would prove nothing.
    """
    try:
        found = file.stat()
    except OSError:
        return None
    if service.user in (0, os.geteuid()):
        return None
    if found.st_uid == service.user:
        may = found.st_mode & stat.S_IRUSR
    elif found.st_gid == service.group:
        may = found.st_mode & stat.S_IRGRP
    else:
        may = found.st_mode & stat.S_IROTH
    if may:
        return None
    user = _user(service.user)
    return (
        f"the user {user}, who owns the store, cannot read {file}; chown {user} {file} permits it"
    )


def _enters(group: int, directories: Sequence[os.stat_result]) -> bool:
    return all(
        each.st_mode & stat.S_IXOTH or (each.st_gid == group and each.st_mode & stat.S_IXGRP)
        for each in directories
    )


def _name(group: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(group).gr_name
    return str(group)


def _user(number: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)
