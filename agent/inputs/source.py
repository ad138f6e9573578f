"""The interface of an input: a source of chunks with five methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from agent.parsing.measurement import Measurement, Raw


class Chunk(NamedTuple):
    """The result of one read: complete lines of text, or measurements of a numeric input."""

    input_name: str
    arrived_s: float  # Unix seconds, by the gateway's clock
    arrived_mono_s: float  # ``time.monotonic``, which no clock step changes
    lines: Sequence[bytes] = ()  # whole lines, without their ends
    token: int = 0  # identifies the chunk to its input after the commit; 0: not needed
    again: bool = False  # it may have been received before: rows with a past time are not new
    old: bool = False  # of unknown age: without its own time it is useless
    origin: str = ""  # its source within the input, such as a topic
    measurements: Sequence[Measurement] = ()  # of an input with ``format = "readings"``
    refused: bool = False  # it has ended a thread of its input too often: do not parse it

    @property
    def rows(self) -> Sequence[Raw]:
        """The lines, or the measurements."""
        return self.lines or self.measurements


class InputStatus(NamedTuple):
    """The state of an input; counts since the agent started."""

    connected: bool
    since: float | None  # Unix seconds of the last change of ``connected``; None before any
    last_error: str | None  # kept after the source is back
    bytes: int
    lines: int  # or measurements
    lines_cut: int  # partial lines at the ends of a connection, which are not used
    reconnects: int
    messages_too_large: int = 0  # discarded while receiving
    messages_without_topic: int = 0  # discarded, because their topic is not text
    topics_given_up: tuple[
        str, ...
    ] = ()  # because each connection delivered a too large message on them
    registers_refused: tuple[str, ...] = ()  # by the device: register, channels and reason


class Input(Protocol):
    """One source of lines, or of measurements.

    The loop's thread calls ``start`` once, then ``status`` any number of times (a few times a
    minute), then ``ask_to_stop`` and ``stop`` once; never two of them at the same time. The input's
    own thread calls ``put`` for each read that completed any rows; ``put`` returns immediately.
    """

    name: str
    stream: str  # the stream that its readings belong to

    def start(self, put: Callable[[Chunk], None]) -> None:
        """Begin to read; an absent device is a normal state, not an error."""

    def ask_to_stop(self) -> None:
        """Request the end of reading; does not wait for it."""

    def stop(self) -> None:
        """End the reading within a second; nothing is put after it returns."""

    def status(self) -> InputStatus:
        """Return its state."""

    def committed(self, tokens: Sequence[int]) -> None:
        """Note that these chunks are on the disk. The loop calls this; it returns immediately."""
