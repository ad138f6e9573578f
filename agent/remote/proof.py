"""Verifies that a trusted key with the role operate signed a command for this gateway."""

from __future__ import annotations

from pathlib import Path

from agent.remote.message import COMMAND_BYTES_MAX, CONTEXT, Order, Rejected, parse
from models.errors import ConfigError, NotAuthentic
from models.keys import PublicKey, read_keyring
from models.signed import parted, text


def issuer_of(key: PublicKey) -> str:
    """Return the name for the logbook: that of the trusted key, or its id if it has no name."""
    return key.name or key.key_id.hex()


class Proof:
    """Verifies commands; the listener's thread uses it."""

    def __init__(self, keys: Path, site: str, gateway: str, topic: str) -> None:
        self._keys, self._site, self._gateway, self._topic = keys, site, gateway, topic

    def read(self, body: bytes) -> Order:
        """Return a command that this gateway may execute, with the issuer as its key names it.

        It reads the keys each time, so that a revocation applies at once.

        Raises:
            Rejected: the command is not accepted.

        """
        if len(body) > COMMAND_BYTES_MAX:
            raise Rejected("too_large", f"a command may have {COMMAND_BYTES_MAX} bytes")
        message, signature = parted(body)
        if signature is None:
            parse(message)
            raise Rejected("unsigned", "the command is not signed")
        key = self._verified(message, signature)
        order = parse(message)
        if (order.site, order.gateway) != (self._site, self._gateway):
            raise Rejected("wrong_gateway", f"this gateway is {self._site}/{self._gateway}")
        if order.issuer != issuer_of(key):
            raise Rejected("wrong_issuer", f"the trusted key's name is {issuer_of(key)}")
        return order

    def _verified(self, message: bytes, signature: bytes) -> PublicKey:
        try:
            keyring = read_keyring(self._keys)
            return keyring.verify("operate", CONTEXT, text(self._topic, message), signature)
        except NotAuthentic as error:
            # a file's name and the reason of a revocation are not for everybody at the broker
            raise Rejected(error.cause, "no trusted key with the role operate signed it") from error
        except ConfigError as error:
            raise Rejected("failed", "the gateway cannot read its trusted keys") from error
