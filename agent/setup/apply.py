"""Does what a plan says: files first, then secrets, then the service."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.config.broker import BrokerTable
from agent.mqtt.credentials import CERTIFICATE, KEY, PASSWORD
from agent.setup import credentials
from agent.setup.broker import Trouble, try_broker
from agent.setup.credentials import Way
from agent.setup.place import Place, make_directory, writing
from agent.setup.plan import Plan
from models.errors import FieldwatchError
from models.files import replace

_UNIT: Final = "fieldwatch-agent.service"
_PUBLIC: Final = 0o644


class ServiceFailed(FieldwatchError):
    """systemd could not enable or start the service."""

    exit_code = 69


def try_planned(plan: Plan) -> Trouble | None:
    """Try the broker with the secrets and files that the plan has; nothing is stored."""
    broker = plan.config.mqtt
    if broker is None:
        return None
    new = {one.name: one.data for one in plan.copies}
    with credentials.readable(plan.place, plan.secrets, new) as files:
        settings = _reached(broker, plan, files)
        gateway = plan.config.gateway
        return try_broker(settings, gateway.site, gateway.name)


def _reached(broker: BrokerTable, plan: Plan, files: dict[str, Path]) -> BrokerTable:
    """Return the broker's settings with files that exist already."""
    directory = plan.place.config_file.parent
    names = ("password_file", "tls_ca_file", "tls_cert_file", "tls_key_file")
    given: dict[str, Path | None] = {name: getattr(broker, name) for name in names}
    for name, path in given.items():
        if path is not None and not path.is_relative_to(directory):
            given[name] = plan.place.inside(path)
    stored = {"password_file": PASSWORD, "tls_cert_file": CERTIFICATE, "tls_key_file": KEY}
    if broker.username is None:
        del stored["password_file"]
    for name, secret in stored.items():
        given[name] = given[name] or files.get(secret)
    ca = given["tls_ca_file"]
    if ca is not None and ca.parent == directory:
        given["tls_ca_file"] = files.get(ca.name, ca)
    return broker.model_copy(update=given)


def write(plan: Plan, way: Way) -> list[Path]:
    """Write the files and the secrets; return those that were written.

    Raises:
        NotPermitted: this user may not write one of them.
        CannotWrite: the disk does not take one, or a secret cannot be encrypted.

    """
    directory = plan.place.config_file.parent
    written = [directory / one.name for one in plan.copies]
    with writing():
        make_directory(directory, 0o755)
        for one, path in zip(plan.copies, written, strict=True):
            replace(path, one.data, _PUBLIC)
        if plan.secrets:
            written += credentials.store(plan.place, plan.secrets, way)
        if plan.text != plan.before:  # last: after a power cut, it names nothing that is missing
            replace(plan.place.config_file, plan.text.encode(), _PUBLIC)
            written.append(plan.place.config_file)
    return written


def enable(place: Place, restart: bool) -> str:
    """Let the service start now and with the machine, if systemd runs here; return what was done.

    ``restart``: also if it runs already, since it has a new configuration.

    Raises:
        ServiceFailed: systemd refuses.

    """
    if place.root is not None:
        return f"the service was not enabled: {place.root} is a folder, not this machine"
    if not place.is_running_system:
        return "the service was not enabled: systemd does not run here"
    verb = "restart" if restart else "start"
    for words in (("daemon-reload",), ("enable", _UNIT), (verb, _UNIT)):
        _systemctl(words)
    return f"{_UNIT} is enabled and runs"


def _systemctl(words: Sequence[str]) -> None:
    command = ["systemctl", "--quiet", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    if ended.returncode:
        raise ServiceFailed(
            f"systemctl {' '.join(words)}: {ended.stderr.strip()}. journalctl -u {_UNIT} says why"
        )


def told(place: Place, written: Sequence[Path], way: Way) -> Iterator[str]:
    """Yield a line for each file that was written."""
    for path in written:
        if path.parent == place.encrypted:
            yield f"stored: {path} (encrypted for this machine)"
        elif path.parent == place.plain:
            yield f"stored: {path} (only root can read it)"
        else:
            yield f"written: {path}"
    if not written:
        yield "nothing changed"
