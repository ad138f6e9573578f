"""Asks a person; each question has what is there as its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from agent.config.kinds import NAME, topic_name
from agent.inputs.ports import devices
from agent.mqtt.credentials import PASSWORD
from agent.setup import credentials, ports
from agent.setup.answers import Answers, answers_of
from agent.setup.place import Place
from agent.setup.plan import Present, defaults
from models.console import say

_ALONE: Final = "none"
_TLS_PORT: Final = 8883
_PORT: Final = 1883
_OPTIONAL: Final = ("tls_ca_file", "username")


def ask(place: Place, present: Present, given: Answers, by_id: Path, seconds: float) -> Answers:
    """Ask for what ``given`` does not have, and return all."""
    asked = _gateway(present, given)
    if "mqtt" not in given.settings and not given.alone:
        asked = _broker(place, present, asked).over(asked)
    if "inputs" not in given.settings:
        asked = asked.over(answers_of(_inputs(present, by_id, seconds), Path.cwd()))
    return given.over(asked)


def _gateway(present: Present, given: Answers) -> Answers:
    known = defaults(present) | given.settings.get("gateway", {})
    told = given.settings.get("gateway", {})
    gateway = {
        "name": told.get("name") or _text("Name of this gateway", known["name"], _topic),
        "site": told.get("site") or _text("Site or plant", known["site"], _topic),
    }
    return Answers({"gateway": gateway})


def _broker(place: Place, present: Present, asked: Answers) -> Answers:
    there: dict[str, Any] = {} if present.is_sample else present.document.get("mqtt", {})
    host = _text(f"Broker of central ops (or {_ALONE!r})", there.get("host", _ALONE))
    if host == _ALONE:
        return Answers({}, alone=True)
    broker: dict[str, Any] = {"host": host}
    ca = there.get("tls_ca_file")
    if click.confirm("TLS?", default=not there or ca is not None, err=True):
        broker["tls_ca_file"] = _text("File with the CA's certificates (PEM)", ca)
    port = there.get("port", _TLS_PORT if "tls_ca_file" in broker else _PORT)
    broker["port"] = click.prompt("Port", port, type=click.IntRange(1, 65535), err=True)
    gateway = asked.settings["gateway"]
    user = there.get("username", _ALONE if there else f"{gateway['site']}/{gateway['name']}")
    username = _text(f"User (or {_ALONE!r})", user)
    if username != _ALONE:
        broker["username"] = username
        broker |= _password(place, there)
    gone: list[str] = [key for key in _OPTIONAL if key in there and key not in broker]
    if "username" in gone:
        gone.append("password_file")
    kept = {"tls_ca_file": ca} if ca is not None and broker.get("tls_ca_file") == ca else {}
    told = {key: value for key, value in broker.items() if key not in kept}
    answers = answers_of({"mqtt": told}, Path.cwd())
    settings = {"mqtt": answers.settings["mqtt"] | kept}
    return answers._replace(settings=settings, removed=tuple(("mqtt", key) for key in gone))


def _password(place: Place, there: dict[str, Any]) -> dict[str, str]:
    """Ask for a password; empty if the one that is there stays."""
    stored = credentials.present(place, PASSWORD) is not None or "password_file" in there
    hint = "empty: as it is" if stored else "not shown"
    password = click.prompt(
        f"Password ({hint})", default="", hide_input=True, show_default=False, err=True
    )
    return {"password": password} if password else {}


def _inputs(present: Present, by_id: Path, seconds: float) -> dict[str, Any]:
    """Show the inputs and the ports; probe those that a person names."""
    streams: ports.Rows = [] if present.is_sample else present.document.get("streams", [])
    inputs: ports.Rows = [] if present.is_sample else present.document.get("inputs", [])
    for one in inputs:
        where = one.get("port") or one.get("path") or one.get("host") or ""
        say(f"input {one.get('name')}: {one.get('type', 'serial')} {where}")
    used = {one.get("port") for one in inputs}
    found = [port for port in devices(by_id) if str(port) not in used]
    for port in found:
        say(f"serial port {port} -> {port.resolve()}")
    if not found:
        say(f"no other serial port below {by_id}")
    for port in found:
        if click.confirm(f"Probe {port.name}?", default=True, err=True):
            streams, inputs = _probe(streams, inputs, port, by_id, seconds)
    while port_name := _text("Another serial port (empty: no more)", ""):
        streams, inputs = _probe(streams, inputs, Path(port_name), by_id, seconds)
    say("other inputs (Modbus, MQTT, files): fieldwatch-agent probe proposes their tables")
    return {"streams": streams, "inputs": inputs} if inputs else {}


def _probe(
    streams: ports.Rows, inputs: ports.Rows, port: Path, by_id: Path, seconds: float
) -> tuple[ports.Rows, ports.Rows]:
    seen = ports.look(port, by_id, f"stream-{len(streams) + 1}", seconds, say)
    for line in seen.lines:
        say(line)
    if seen.input is None or not click.confirm("Use it?", default=True, err=True):
        return streams, inputs
    assert seen.stream is not None
    name = _text("Name of its machine (stream)", seen.input["stream"], _plain)
    source = seen.input | {"stream": name}
    seen = seen._replace(input=source, stream=seen.stream | {"name": name})
    if "columns" in source:
        seen = seen.named(_channels(seen.channels))
    if all(one.get("name") != name for one in streams):
        bundle = _text("Its bundle, in this directory (empty: none yet)", "")
        seen = seen.with_bundle(bundle) if bundle else seen
    return ports.added(streams, inputs, seen)


def _channels(found: list[str]) -> list[str]:
    def checked(text: str) -> str:
        names = [_plain(one.strip()) for one in text.split(",")]
        if len(names) != len(found) or len(set(names)) != len(names):
            raise click.UsageError(f"give {len(found)} different names with commas between them")
        return ",".join(names)

    return _text("Its channels", ",".join(found), checked).split(",")


def _text(question: str, default: str | None, checked: Any = None) -> str:
    answer: str = click.prompt(question, default, value_proc=checked, err=True)
    return answer


def _topic(text: str) -> str:
    try:
        return topic_name(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _plain(text: str) -> str:
    if not NAME.fullmatch(text):
        raise click.UsageError("give 1 to 64 letters, digits, '_', '.' and '-'")
    return text
