"""The serial input: one thread that reads a port, and reopens it after unplugging."""

from __future__ import annotations

import errno
import os
import select
import termios
import time
from collections.abc import Callable
from typing import Final

import serial

from agent.backoff import Backoff
from agent.config.inputs import SerialTable
from agent.inputs.ports import explain, find
from agent.inputs.source import Chunk
from agent.inputs.threaded import ThreadedInput
from models.formats.cells import IGNORED, TIME
from models.formats.lines import Framer

_READ_BYTES_MAX: Final = 4096  # Linux's buffer of a port; more only wastes memory
_READ_TIMEOUT_S = 0.25  # bounds the delay of a stop
RECONNECT_DELAY_S = 0.5  # bound of the first wait; doubles up to reconnect_delay_max_s
_PARITY = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
    "mark": serial.PARITY_MARK,
    "space": serial.PARITY_SPACE,
}


PSEUDO_TERMINALS = range(136, 144)  # major numbers of devices that have no real speed


class Port(serial.Serial):
    """A port that keeps waiting bytes when it is opened; pyserial would discard them.

    Bytes received at another speed are noise, and are discarded.
    """

    _noise = False  # whether the waiting bytes are noise

    def _reconfigure_port(self, force_update: bool = False) -> None:
        assert self.fd is not None
        before = _line_settings(self.fd)
        super()._reconfigure_port(force_update)  # type: ignore[misc]  # the stubs lack it
        self._noise = before is not None and before != _line_settings(self.fd)

    def _reset_input_buffer(self) -> None:
        if self._noise:
            self.discard()

    def discard(self) -> None:
        """Discard the waiting bytes."""
        assert self.fd is not None
        termios.tcflush(self.fd, termios.TCIFLUSH)


def _line_settings(descriptor: int) -> list[int] | None:
    """Return speed, bits and parity; None if there are none."""
    try:
        _, _, flags, _, speed, _, _ = termios.tcgetattr(descriptor)
    except termios.error:
        return None
    if os.major(os.fstat(descriptor).st_rdev) in PSEUDO_TERMINALS:
        return None
    return [speed, flags & (termios.CSIZE | termios.CSTOPB | termios.PARENB | termios.PARODD)]


class SerialInput(ThreadedInput):
    """Reads lines from a serial port; see ``agent.inputs.Input``."""

    def __init__(self, settings: SerialTable) -> None:
        super().__init__(settings)
        self._settings = settings
        self._framer = Framer(
            settings.line_bytes_max, _first_may_mislead(settings), settings.line_end
        )

    def _lines_cut(self) -> int:
        return self._framer.lines_cut

    def _run(self, put: Callable[[Chunk], None]) -> None:
        backoff = Backoff(RECONNECT_DELAY_S, self._settings.reconnect_delay_max_s)
        while not self._stopping.is_set():
            bytes_before = self._bytes
            try:
                with open_port(self._settings) as port:
                    self._found(f"reading {port.port}")
                    self._read(port, put)
            except OSError as error:
                self._lost(explain(self._settings.port, self._settings.by_id, error))
            if self._bytes > bytes_before:  # a port that opens but delivers nothing is not back yet
                backoff.succeeded()
            backoff.failed()
            self._stopping.wait(backoff.wait_s())

    def _read(self, port: Port, put: Callable[[Chunk], None]) -> None:
        """Read until the stop, or until the port fails."""
        arriving = Arriving(port.fileno())
        try:
            while not self._stopping.is_set():
                data = arriving.read()
                lines = self._framer.push(data)
                self._bytes += len(data)
                if lines:
                    put(Chunk(self.name, time.time(), time.monotonic(), lines))
                self._lines += len(lines)  # after put: a flush finds all counted lines
        finally:
            self._framer.end()


class Arriving:
    """Reads an open port by its descriptor.

    A read takes two system calls instead of the six of ``Serial.read``. At each call a thread
    releases the interpreter lock, and with many ports it has to wait to get it back.
    """

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def read(self) -> bytes:
        """Return the bytes received, or none after ``_READ_TIMEOUT_S``.

        Raises:
            OSError: the port is gone.

        """
        if not self._poll.poll(1000 * _READ_TIMEOUT_S):
            return b""
        try:
            data = os.read(self._fd, _READ_BYTES_MAX)
        except BlockingIOError:  # another program was faster
            return b""
        if not data:  # a port that is gone is always ready
            raise OSError(errno.ENODEV, "the device is gone")
        return data


def _first_may_mislead(settings: SerialTable) -> bool:
    """Whether a line whose beginning is missing could be mistaken for a whole one.

    A time or a JSON object without its beginning is rejected. '12.5' cut to '2.5' is not rejected,
    nor is 'inflow=7' cut to 'flow=7'.
    """
    if settings.format == "csv":
        assert settings.columns is not None  # the configuration sees to it
        return settings.columns[0] not in (TIME, IGNORED)
    return settings.format != "json"


def open_port(settings: SerialTable) -> Port:
    """Open the port for this process only; the bytes waiting there can be read.

    Raises:
        OSError: absent, not permitted, in use, not a serial port, or it refuses the settings.

    """
    port = find(settings.port, settings.by_id)
    try:
        return Port(
            port=str(port),
            baudrate=settings.baud,
            bytesize=settings.bytesize,
            parity=_PARITY[settings.parity],
            stopbits=settings.stopbits,
            rtscts=settings.flow_control == "rtscts",
            xonxoff=settings.flow_control == "xonxoff",
            exclusive=True,
        )
    except (ValueError, termios.error) as error:  # some drivers refuse a setting this way
        raise OSError(f"cannot be set to {settings.baud} baud: {error}") from error


def sample(settings: SerialTable, seconds: float) -> bytes:
    """Return the bytes received within some seconds; raises OSError like ``open_port``."""
    data, until = b"", time.monotonic() + seconds
    with open_port(settings) as port:
        port.discard()  # bytes received at another speed
        arriving = Arriving(port.fileno())
        while time.monotonic() < until:
            data += arriving.read()
    return data


def probe_port(settings: SerialTable) -> str | None:
    """Open the port as the agent would; return what is wrong and how to fix it, or None."""
    try:
        open_port(settings).close()
    except OSError as error:
        return explain(settings.port, settings.by_id, error)
    return None
