"""paho's client, whose network thread can be stopped at any time."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode


class Client(paho.Client):
    """paho, with one race less.

    paho's ``loop_stop`` looks at its thread, and then waits for it; its thread forgets itself as
    it ends. If it ends in between, there is nothing left to wait for, and ``loop_stop`` raises
    ``AttributeError``. Here the side that stops the thread forgets it.

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
