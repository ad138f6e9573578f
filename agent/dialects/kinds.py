"""Which class implements which dialect; only the one in use is loaded."""

from __future__ import annotations

from agent.config.broker import DialectName
from agent.dialects.dialect import Dialect
from agent.mqtt.signer import Signer
from agent.store.record import Origin


def dialect_of(name: DialectName, origin: Origin, signer: Signer | None = None) -> Dialect:
    """Return the dialect of this name for a gateway's messages, which ``signer`` signs."""
    match name:
        case "json":
            from agent.dialects.cloudevents import CloudEvents

            return CloudEvents(origin, signer)
        case "cbor":
            from agent.dialects.cbor import Cbor

            return Cbor(origin, signer)
