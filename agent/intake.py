"""From chunks of lines, of many inputs, to readings of many streams: at once where all is clean.

Inputs whose lines look alike, for streams of one fleet, are read as one block of lines. A block
that is not clean is read input by input, where each line is judged and each reject counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agent.fleet import Fleet
from agent.inputs import Chunk
from agent.inputs.lines import LineParser
from agent.store import Batch
from agent.stream import Stream
from models.messages import Float64, Int64


class _Lane(NamedTuple):
    """Where the lines of an input go."""

    fleet: Fleet
    stream: int  # number in the fleet
    parser: LineParser

    @property
    def target(self) -> Stream:
        """The stream itself."""
        return self.fleet.streams[self.stream]


class Intake:
    """Reads chunks and gives what they hold to the fleets; one thread uses it."""

    def __init__(
        self,
        fleets: Sequence[Fleet],
        streams: Mapping[str, str],
        parsers: Mapping[str, LineParser],
    ) -> None:
        lanes = {
            stream.name: (fleet, number)
            for fleet in fleets
            for number, stream in enumerate(fleet.streams)
        }
        self._lanes: dict[str, _Lane] = {}
        self._kinds: dict[str, int] = {}  # input -> the same for those that are read alike
        numbers: dict[Hashable, int] = {}
        inputs = Counter(streams.values())
        for name, parser in parsers.items():
            fleet, number = lanes[streams[name]]
            self._lanes[name] = _Lane(fleet, number, parser)
            if inputs[streams[name]] == 1:
                alike = (id(fleet), parser.layout)
                self._kinds[name] = numbers.setdefault(alike, len(numbers))
        for lane in self._lanes.values():
            parts = [other for other in self._lanes.values() if other.target is lane.target]
            lane.target.timed_by_arrival = not any(part.parser.has_time for part in parts)

    def take(self, chunks: Sequence[Chunk], batch: Batch) -> list[tuple[Chunk, str]]:
        """Score what chunks hold; return those with readings, each with its stream's name."""
        heard: list[tuple[Chunk, str]] = []
        kinds: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            kind = self._kinds.get(chunk.input_name)
            # what several inputs bring for one stream must stay in order
            if kind is None or chunk.again:
                heard += self._take_alike([chunk], batch)
            else:
                kinds.setdefault(kind, []).append(chunk)
        for alike in kinds.values():
            heard += self._take_alike(alike, batch)
        return heard

    def _take_alike(self, chunks: Sequence[Chunk], batch: Batch) -> list[tuple[Chunk, str]]:
        lanes = [self._lanes[chunk.input_name] for chunk in chunks]
        fleet, parser = lanes[0].fleet, lanes[0].parser
        lines = [line for chunk in chunks for line in chunk.lines]
        arrived_s, streams = _of_each_line(chunks, lanes)
        again = any(chunk.again for chunk in chunks)
        readings = None if again else parser.parse_clean(lines, arrived_s)
        if readings is not None:
            fleet.take(streams, readings, batch)
            return [(chunk, lane.target.name) for chunk, lane in zip(chunks, lanes, strict=True)]
        heard = []
        for chunk, lane in zip(chunks, lanes, strict=True):
            readings = lane.parser.parse(chunk.lines, _arrived_s(chunk, lane))
            if chunk.again and lane.parser.has_time:
                readings = fleet.news(lane.stream, readings)
            if count := len(readings.times):
                fleet.take(np.full(count, lane.stream), readings, batch)
                heard.append((chunk, lane.target.name))
        return heard


def _of_each_line(chunks: Sequence[Chunk], lanes: Sequence[_Lane]) -> tuple[Float64, Int64]:
    counts = [len(chunk.lines) for chunk in chunks]
    arrived_s = [_arrived_s(chunk, lane) for chunk, lane in zip(chunks, lanes, strict=True)]
    return np.repeat(arrived_s, counts), np.repeat([lane.stream for lane in lanes], counts)


def _arrived_s(chunk: Chunk, lane: _Lane) -> float:
    return lane.target.arrived_s(chunk.arrived_mono_s)
