"""Listens to an input for some seconds; uses the agent's own inputs where it can."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty
from typing import Final

from agent.commands.probe.measure import Arrival
from agent.config.broker import BrokerTable
from agent.config.inputs import AnyInput, FileTable
from agent.inputs.kinds import open_input
from agent.inputs.source import Chunk, InputStatus
from agent.mqtt.connection import (
    RECEIVED_BYTES_MAX,
    Connection,
    LinkError,
    Lost,
    Received,
    Subscribed,
    TooLarge,
)
from agent.mqtt.version import connected
from agent.parsing.documents import OVER_LINES, documents, go_over_lines
from agent.parsing.measurement import as_bytes
from models.files import open_file
from models.formats.encodings import is_utf16
from models.formats.lines import ends_with_cr, whole_lines
from models.printable import printable

LINES_MAX: Final = 20_000  # lines kept; later lines are only counted
BYTES_MAX: Final = 16 * 2**20  # in those lines
_HEAD_BYTES: Final = 16_384  # read from the beginning of a file, for its header
_TAIL_BYTES: Final = 65_536  # read from the end of a file

Show = Callable[[bytes], None]


@dataclass
class Heard:
    """What was received."""

    seconds: float
    arrivals: list[Arrival] = field(default_factory=list)
    lines: int = 0
    bytes: int = 0
    bytes_kept: int = 0
    problem: str | None = None  # why nothing arrived, or why the input stopped
    note: str | None = None  # a lesser fault
    retained: int = 0  # messages that the broker had retained

    def add(self, arrival: Arrival, show: Show) -> None:
        """Keep a line or measurement, within the limits, and show it."""
        line = as_bytes(arrival.line)
        self.lines += 1
        if len(self.arrivals) < LINES_MAX and self.bytes_kept < BYTES_MAX:
            self.arrivals.append(arrival)
            self.bytes_kept += len(line)
        show(b"%b %b" % (arrival.source.encode(), line) if arrival.source else line)


def listen(table: AnyInput, seconds: float, show: Show) -> Heard:
    """Run an input for ``seconds``, or until Ctrl-C.

    Raises:
        ConfigError: the input cannot be used.

    """
    heard, lock = Heard(seconds), threading.Lock()
    source = open_input(table)

    def take(chunk: Chunk) -> None:
        with lock:
            for line in chunk.rows:
                heard.add(Arrival("", chunk.arrived_mono_s, line), show)
        if chunk.token:
            source.committed([chunk.token])

    began = time.monotonic()
    try:
        source.start(take)
        time.sleep(seconds)
    except KeyboardInterrupt:  # use what has arrived
        heard.seconds = round(time.monotonic() - began, 1)
    status: InputStatus = source.status()
    source.stop()
    heard.bytes = status.bytes
    if heard.lines and status.connected:
        heard.note = status.last_error
    else:
        heard.problem = status.last_error
    return heard


def listen_to_file(table: FileTable, seconds: float, show: Show) -> Heard:
    """Return the first lines of a file, its last lines, and new lines.

    Raises:
        OSError: the file cannot be read.

    """
    heard = Heard(seconds)
    with open_file(table.path) as file:
        size = os.fstat(file.fileno()).st_size
        begin = file.read(_HEAD_BYTES)
        if is_utf16(begin):
            raise OSError(errno.EILSEQ, "it is UTF-16; make the program that writes it use UTF-8")
        if go_over_lines(begin):
            raise OSError(errno.EILSEQ, OVER_LINES)
        cr = bool(ends_with_cr(begin))
        head = begin[: begin.rfind(b"\r" if cr else b"\n") + 1]
        rest_at = max(len(head), size - _TAIL_BYTES)
        file.seek(rest_at)
        tail = file.read(_TAIL_BYTES)
    lines, _ = whole_lines(head)
    if tail:
        more, unended = whole_lines((b"\r" if cr else b"\n") + tail)
        more = more[:-1] if unended else more
        lines += more[2:] if rest_at > len(head) else more
    for line in lines:
        if line:
            heard.add(Arrival("", None, line), show)
    live = listen(table, seconds, show)
    heard.arrivals += live.arrivals
    heard.lines, heard.bytes = heard.lines + live.lines, size + live.bytes
    heard.seconds = live.seconds
    heard.problem = live.problem
    return heard


def listen_to_broker(
    broker: BrokerTable, topics: Sequence[str], seconds: float, show: Show
) -> Heard:
    """Subscribe for some seconds; leave no session and no message at the broker."""
    heard = Heard(seconds)
    client_id = f"fieldwatch-probe:{secrets.token_hex(6)}"
    try:
        with connected(broker, client_id) as (connection, _):
            connection.subscribe(topics)
            with contextlib.suppress(KeyboardInterrupt):  # use what has arrived
                _receive(connection, heard, show)
    except LinkError as error:
        heard.problem = str(error)
    return heard


def _receive(connection: Connection, heard: Heard, show: Show) -> None:
    until = time.monotonic() + heard.seconds
    while (left := until - time.monotonic()) > 0:
        try:
            event = connection.events.get(timeout=left)
        except Empty:
            return
        match event:
            case Received() as received:
                heard.bytes += len(received.body)
                heard.retained += received.retained
                came = None if received.retained else time.monotonic()
                for line in documents(received.body):
                    if line:
                        heard.add(Arrival(received.topic, came, line), show)
            case TooLarge() as message:
                heard.note = (
                    f"a message of {message.size_bytes} bytes on {printable(message.topic)} was not"
                    f" taken: probe and the agent take at most {RECEIVED_BYTES_MAX} bytes"
                )
            case Lost(reason):
                raise LinkError(reason)
            case Subscribed(str(refusal)):
                raise LinkError(f"the broker refuses the subscription: {refusal}")
