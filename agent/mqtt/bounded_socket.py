"""The socket between the network and paho: it bounds the size of what paho receives."""

from __future__ import annotations

import socket
from collections.abc import Callable

from agent.mqtt.packets import PIECE_BYTES, Packets


class BoundedSocket:
    """A socket to a broker; paho's network thread reads from it, in small pieces.

    Args:
        sock: The socket, which may be a TLS one. It is read in large pieces.
        packet_bytes_max: See ``Packets``.
        mqtt5: See ``Packets``.
        wait_for_room: See ``Packets``.

    """

    def __init__(
        self,
        sock: socket.socket,
        packet_bytes_max: int,
        mqtt5: bool,
        wait_for_room: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._within_tls = getattr(sock, "pending", None)
        self._starved = False  # ``packets`` needs more bytes to continue
        self.packets = Packets(packet_bytes_max, mqtt5, wait_for_room)

    def recv(self, buffer_size: int) -> bytes:
        """Return at most ``buffer_size`` bytes; none at the end of the connection.

        Raises:
            OSError: the socket fails; ConnectionAbortedError if the data is not MQTT or too large.

        """
        while not (data := self.packets.take(buffer_size)):
            if not self._read():
                break
        return data

    def _read(self) -> bool:
        """Read more; return whether the broker is still connected."""
        try:
            data = self._sock.recv(PIECE_BYTES)
        except OSError:  # usually because nothing has arrived yet
            self._starved = True
            raise
        self.packets.feed(data)
        self._starved = False
        return bool(data)

    def pending(self) -> int:
        """Return how many bytes are ready to be read without ``select`` knowing of them."""
        waiting = 0 if self._starved else len(self.packets)
        return waiting + (self._within_tls() if self._within_tls else 0)

    # paho's other calls of a socket

    def send(self, buffer: bytes | bytearray) -> int:
        """See ``socket.send``."""
        return self._sock.send(buffer)

    def close(self) -> None:
        """See ``socket.close``."""
        self._sock.close()

    def shutdown(self, how: int) -> None:
        """See ``socket.shutdown``."""
        self._sock.shutdown(how)

    def fileno(self) -> int:
        """See ``socket.fileno``."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """See ``socket.setblocking``."""
        self._sock.setblocking(flag)
