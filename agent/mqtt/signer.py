"""Signs what this gateway sends, so that central ops can tell it from all others.

The signature is the last member of each message (``models.signed``); so it needs nothing of MQTT.
A message is signed as JSON, before it is encoded and compressed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from agent.config.load import AgentConfig
from agent.mqtt.credentials import SIGN, credential
from models.errors import ConfigError
from models.keys import SecretKey, ed25519, read_secret
from models.signed import signed

CONTEXT: Final = "fieldwatch.gateway.v1"
_HALF: Final = b"\\ud"  # begins half of a pair of surrogates; JSON writes it so


class Signer:
    """Signs with the key of a gateway; without one messages stay as they are."""

    def __init__(self, key: SecretKey | None = None) -> None:
        self._key = key

    @property
    def key_id(self) -> str | None:
        """The id of the key, hexadecimal; None: messages are not signed."""
        return self._key.key_id.hex() if self._key else None

    def signed(self, topic: str, body: bytes) -> bytes:
        """Return a JSON message as it is sent on ``topic``."""
        if self._key is None:
            return body
        if _HALF in body:
            body = _without_halves(body)
        return signed(body, topic, CONTEXT, self._key)


def signer_of(config: AgentConfig) -> Signer:
    """Return what signs the messages of this gateway, if a key is configured.

    Raises:
        ConfigError: the key cannot be used.

    """
    return read_signer(key_file(config), config.gateway.site, config.gateway.name)


def key_file(config: AgentConfig) -> Path | None:
    """Return the file with the key of this gateway: ``mqtt.sign``, or a credential of systemd."""
    return None if config.mqtt is None else config.mqtt.sign or credential(SIGN)


def read_signer(file: Path | None, site: str, gateway: str) -> Signer:
    """Return the signer with the key in a file; None: without a key.

    Raises:
        ConfigError: it cannot be read, is of another role or gateway, or ``cryptography`` is
            missing.

    """
    if file is None:
        return Signer()
    key = read_secret(file, "gateway")
    if key.name != f"{site}/{gateway}":
        raise ConfigError(
            f"{file}: the key of {key.name}, and not of {site}/{gateway}; make one with:"
            f" fieldwatch-agent keys new gateway FILE --name {site}/{gateway}"
        )
    ed25519()
    return Signer(key)


def _without_halves(body: bytes) -> bytes:
    """Replace what only JSON can write: CBOR would, and the signature would not match."""
    text = json.dumps(json.loads(body), ensure_ascii=False).encode(errors="replace")
    return json.dumps(json.loads(text), separators=(",", ":")).encode()
