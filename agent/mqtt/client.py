"""paho's client, whose network thread can be stopped at any time."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode


class Client(paho.Client):
    """paho's client without the race between ``loop_stop`` and the end of the network thread.

    paho's ``loop_stop`` checks ``_thread`` and then joins it, but the thread sets ``_thread`` to
    None when it ends. If it ends in between, ``loop_stop`` raises ``AttributeError``. Here only
    ``loop_stop`` sets ``_thread`` to None.

    ``_thread_main`` and ``_thread`` are not in paho's public interface. Tests fail if paho no
    longer uses them.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, **settings)

    def _thread_main(self) -> None:
        self.loop_forever(retry_first_connection=True)

    def loop_stop(self) -> MQTTErrorCode:
        """Stop the network thread, and wait for its end."""
        result = super().loop_stop()
        self._thread = None
        return result
