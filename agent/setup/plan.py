"""What a set-up would change. It reads files, and writes none."""

from __future__ import annotations

import copy
import difflib
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.config.layers import Layers, leaves
from agent.config.load import AgentConfig, load_layers
from agent.mqtt.credentials import PASSWORD
from agent.setup.answers import Answers, Copy
from agent.setup.edit import Editor
from agent.setup.place import Place
from models.errors import ConfigError
from models.files import read_file
from models.plain_names import plain_name
from models.settings import dotted

_EXAMPLE_HOST: Final = "mqtt.example.org"  # of the sample that an installation puts there
_BYTES_MAX: Final = 2**20
_ROWS: Final = ("streams", "inputs")
_NEW: Final = """\
# Fieldwatch agent, configuration of one gateway. `fieldwatch-agent setup` wrote it, and changes it.
# docs/configuration.md and `fieldwatch-agent schema` have all settings. Put no secret here.

[gateway]

[control]
socket = "/run/fieldwatch/control.sock"

[page]
users_file = "page-users"     # who may log in: fieldwatch-agent page user add
"""


class Present(NamedTuple):
    """What a gateway has: its main file; drop-ins are no answers."""

    text: str | None  # None: there is no file
    document: dict[str, Any]

    @property
    def is_sample(self) -> bool:
        """Whether it is the sample, whose names mean nothing."""
        return bool(self.document.get("mqtt", {}).get("host") == _EXAMPLE_HOST)


class Plan(NamedTuple):
    """Everything that will change, and the configuration after it."""

    place: Place
    before: str | None
    text: str
    copies: tuple[Copy, ...]  # that differ from what is there
    secrets: dict[str, bytes]
    config: AgentConfig

    @property
    def changes_files(self) -> bool:
        """Whether a file other than a secret's changes."""
        return self.text != self.before or bool(self.copies)

    def difference(self) -> Iterator[str]:
        """Yield a unified diff of the configuration, and a line for each other file."""
        path = str(self.place.config_file)
        old = [] if self.before is None else self.before.splitlines()
        there = "/dev/null" if self.before is None else path
        yield from difflib.unified_diff(old, self.text.splitlines(), there, path, lineterm="")
        for one in self.copies:
            file = self.place.config_file.parent / one.name
            verb = "replaced" if file.exists() else "new"
            digest = hashlib.sha256(one.data).hexdigest()[:12]
            yield f"{verb}: {file} ({len(one.data)} bytes, sha256 {digest}…)"


def read_present(place: Place) -> Present:
    """Return what is there.

    Raises:
        ConfigError: the main file is not readable, or not TOML.

    """
    path = place.config_file
    try:
        text = read_file(path, _BYTES_MAX).decode()
    except FileNotFoundError:
        return Present(None, {})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return Present(text, Editor(text, str(path)).document)


def defaults(present: Present) -> dict[str, str]:
    """Return site and name to offer: those that are there, and no sample's."""
    given = {} if present.is_sample else dict(present.document.get("gateway", {}))
    host = plain_name(socket.gethostname().partition(".")[0], "-")
    return {"name": host or "gateway-1", "site": "plant-1"} | given


def plan(place: Place, present: Present, answers: Answers) -> Plan:
    """Return what the answers change.

    Raises:
        ConfigError: the configuration would be wrong, or a drop-in overrides an answer.

    """
    text = present.text
    editor = Editor(_NEW if text is None else text, str(place.config_file))
    _change(editor, present, answers)
    document = copy.deepcopy(editor.document)
    if not document.get("inputs"):
        raise ConfigError(
            "there is no input: attach a device and give --serial PORT, or give [[inputs]] and"
            " [[streams]] in a file with --answers. `fieldwatch-agent probe` proposes them"
        )
    config, layers = load_layers(place.config_file, document)
    _refuse_overridden(place, layers, answers)
    directory = place.config_file.parent
    copies = tuple(one for one in answers.copies if _differs(directory / one.name, one.data))
    return Plan(place, text, editor.text(), copies, dict(answers.secrets), config)


def _change(editor: Editor, present: Present, answers: Answers) -> None:
    names = defaults(present)
    for key in ("site", "name"):
        editor.set(("gateway", key), answers.settings.get("gateway", {}).get(key, names[key]))
    host = answers.settings.get("mqtt", {}).get("host")
    if answers.alone or (present.is_sample and host is None):
        editor.remove_table("mqtt")
    for place in answers.removed:
        editor.remove(place)
    for location, value in leaves(answers.settings):
        if location[0] not in _ROWS:
            editor.set(_keys(location), value)
    if PASSWORD in answers.secrets:
        editor.remove(("mqtt", "password_file"))  # it would override the credential
    for name in _ROWS:
        if name in answers.settings:
            editor.replace_rows(name, answers.settings[name])


def _keys(location: tuple[int | str, ...]) -> tuple[str, ...]:
    if not all(isinstance(step, str) for step in location):
        raise ConfigError(f"{dotted(location)}: answers may have lists of streams and inputs only")
    return tuple(map(str, location))


def _refuse_overridden(place: Place, layers: Layers, answers: Answers) -> None:
    for location, value in leaves(answers.settings):
        effective: Any = layers.document
        if location[0] in _ROWS:
            continue
        for step in location:
            effective = effective[step]
        if effective != value:
            source = layers.origins(location)[-1].source
            raise ConfigError(f"{source} overrides {dotted(location)} of {place.config_file}")


def _differs(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() != data
    except FileNotFoundError:
        return True
