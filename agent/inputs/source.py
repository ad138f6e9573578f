"""What an input is to the agent: a source of chunks with a life of five calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from agent.parsing.measurement import Measurement, Raw


class Chunk(NamedTuple):
    """What one read completed: lines of text, or measurements of an input that has numbers."""

    input_name: str
    arrived_s: float  # Unix seconds, by the gateway's clock
    arrived_mono_s: float  # ``time.monotonic``, which no clock step changes
    lines: Sequence[bytes] = ()  # whole lines, without their ends
    token: int = 0  # identifies the chunk to its input after the commit; 0: not needed
    again: bool = False  # it may have come before: rows of a past time are not new
    old: bool = False  # of unknown age: without its own time it is useless
    origin: str = ""  # where in the input it came from: a topic
    measurements: Sequence[Measurement] = ()  # of an input with ``format = "readings"``
    refused: bool = False  # it has ended a thread of its input too often: do not read it

    @property
    def rows(self) -> Sequence[Raw]:
        """Its lines, or its measurements."""
        return self.lines or self.measurements


class InputStatus(NamedTuple):
    """The state of an input; counts since the agent started."""

    connected: bool
    since: float | None  # Unix seconds of the last change of ``connected``; None before any
    last_error: str | None  # kept after the port is back
    bytes: int
    lines: int  # or measurements
    lines_cut: int  # pieces of lines at the ends of a connection, which are not used
    reconnects: int
    messages_too_large: int = 0  # discarded while receiving
    messages_without_topic: int = 0  # discarded, because their topic is not text
    topics_given_up: tuple[
        str, ...
    ] = ()  # because each connection delivered a too large message on them
    registers_refused: tuple[str, ...] = ()  # by the device: which, of which channels, and why


class Input(Protocol):
    """One source of lines, or of measurements.

    The loop's thread calls ``start`` once, then ``status`` as often as it likes (a few times a
    minute), then ``ask_to_stop`` and ``stop`` once; never two of them at a time. ``put`` is called
    from the input's own thread, for each read that completed any, and returns at once.
    """

    name: str
    stream: str  # the stream that its readings belong to

    def start(self, put: Callable[[Chunk], None]) -> None:
        """Begin to read; an absent device is a normal state, not an error."""

    def ask_to_stop(self) -> None:
        """Let the reading end; does not wait for it."""

    def stop(self) -> None:
        """End the reading within a second; nothing is put after it returns."""

    def status(self) -> InputStatus:
        """Return its state."""

    def committed(self, tokens: Sequence[int]) -> None:
        """Learn that these chunks are on the disk. The loop calls this; it returns at once."""
