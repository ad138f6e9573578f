"""Logs, at level debug, the first row of each connection of an input."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from agent.inputs.source import Chunk, Input
from agent.journal import INPUT
from agent.parsing.measurement import as_bytes
from models.printable import printable

_LOG = logging.getLogger(__name__)


class FirstRows:
    """Logs the first rows of the inputs; the loop's thread uses it."""

    def __init__(self, inputs: Mapping[str, Input]) -> None:
        self._inputs = inputs
        self._connections: dict[str, int] = {}  # the one whose first row was logged, by input

    def look(self, chunks: Sequence[Chunk]) -> None:
        """Log first rows; call it only at level debug, because it checks each chunk."""
        for chunk in chunks:
            name = chunk.input_name
            connection = self._inputs[name].status().reconnects
            if not chunk.rows or self._connections.get(name) == connection:
                continue
            self._connections[name] = connection
            row = printable(as_bytes(chunk.rows[0]))
            _LOG.debug(
                "input %s: the first row of connection %d: %s",
                *(name, connection + 1, row),
                extra={INPUT: name},
            )
