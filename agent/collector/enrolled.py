"""Knows which gateways have a key, and checks that their messages are signed with it.

A gateway with a key must sign. A message that is unsigned, or signed with another key, is not from
it. A gateway without a key is believed, unless signatures are required from all. The keys are read
again when something in their directory changes. If they cannot be read then, the keys that were
read before stay valid: to believe nobody would stop all alarms, and to believe everybody would make
the keys useless. But the readable lines of the file ``revoked`` apply, and the log repeats the
error.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.collector.reading import Refused, gateway_of
from agent.collector.reminder import Reminder
from agent.mqtt.signer import CONTEXT
from agent.uplink.trust import files_of
from models.errors import ConfigError, NotAuthentic
from models.keys import (
    REVOKED,
    Keyring,
    SecretKey,
    ed25519,
    names,
    read_keyring,
    understood_revoked,
)
from models.signed import parted, text

_LOG = logging.getLogger(__name__)

LOOK_S: Final = 5.0  # between two checks for new keys


class Enrolled:
    """The keys of a site's gateways."""

    def __init__(self, directory: Path, site: str, required: bool = False) -> None:
        """Read the keys; if ``required``, a gateway without a key is not believed.

        Raises:
            ConfigError: the keys cannot be read, or ``cryptography`` is missing.

        """
        self._directory = directory
        self._site = site
        self._required = required
        self._next_look_s = time.monotonic() + LOOK_S
        self._files = files_of(directory)
        self._problem: str | None = None  # why the keys cannot be read
        self._reminder = Reminder("the keys of gateways can be read again")
        self.keyring = self._read()

    def _read(self) -> Keyring:
        keyring = read_keyring(self._directory)
        ed25519()
        # revoked keys are included, because their gateways still have to sign
        self._names = {key.name for key in keyring.keys if key.role == "gateway"}
        told = names(keyring.of("gateway")) or "none"
        _LOG.info("keys of gateways in %s: %s", self._directory, told)
        return keyring

    def renew(self) -> None:
        """Read the keys again if they changed. Call this often; it checks every ``LOOK_S``."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + LOOK_S
        files = files_of(self._directory)
        if files != self._files or self._problem is not None:  # the error may be temporary
            self._files = files
            self._read_again()
        self._reminder.look(self._problem)

    def _read_again(self) -> None:
        try:
            self.keyring, self._problem = self._read(), None
        except ConfigError as error:
            understood = understood_revoked(self._directory / REVOKED)
            revoked = {**self.keyring.revoked, **understood}
            self.keyring = replace(self.keyring, revoked=revoked)
            self._problem = (
                f"the keys of gateways stay as before, and {len(revoked)} keys or bundles are"
                f" revoked, until you correct this: {error}"
            )

    def why_revoked(self, key: SecretKey) -> str | None:
        """Return why a key is revoked, maybe ""; None if it is not revoked."""
        return self.keyring.revoked.get(f"key {key.key_id.hex()}")

    def check(self, topic: str, body: bytes) -> None:
        """Check who sent a message, before any of it is parsed.

        Raises:
            Refused: the signature that the gateway's key or ``required`` demands is missing or
                wrong.

        """
        message, signature = parted(body)
        name = f"{self._site}/{gateway_of(topic)}"
        enrolled = name in self._names
        if not (enrolled or self._required):
            return
        if signature is None:
            raise Refused("unsigned", f"it is not signed, and {self._why(enrolled, name)}")
        try:
            key = self.keyring.verify("gateway", CONTEXT, text(topic, message), signature)
        except NotAuthentic as error:
            raise Refused(error.cause, str(error)) from error
        if key.name != name:
            raise Refused("wrong_gateway", f"signed with the key of {key.name}")

    @staticmethod
    def _why(enrolled: bool, name: str) -> str:
        return f"{name} has a key" if enrolled else "all gateways must sign"
