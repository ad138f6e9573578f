"""From chunks of lines, of many inputs, to readings of many streams: at once where all is clean.

Inputs whose lines look alike, for streams of one fleet, are read as one block of lines. A block
that is not clean is read input by input, where each line is judged and each reject counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.fleet import Fleet
from agent.inputs import Chunk
from agent.inputs.lines import LineParser
from agent.store import Batch
from agent.stream import Stream


class _Lane(NamedTuple):
    """Where the lines of an input go."""

    fleet: Fleet
    stream: int  # number in the fleet
    parser: LineParser
    target: Stream
    kind: int | None  # the same for those that are read alike; None: alone, to stay in order


class Intake:
    """Reads chunks and gives what they hold to the fleets; one thread uses it."""

    def __init__(
        self,
        fleets: Sequence[Fleet],
        streams: Mapping[str, str],
        parsers: Mapping[str, LineParser],
    ) -> None:
        places = {
            stream.name: (fleet, number)
            for fleet in fleets
            for number, stream in enumerate(fleet.streams)
        }
        self._lanes: dict[str, _Lane] = {}
        numbers: dict[Hashable, int] = {}
        inputs = Counter(streams.values())
        for name, parser in parsers.items():
            fleet, number = places[streams[name]]
            kind = None  # what several inputs bring for one stream must stay in order
            if inputs[streams[name]] == 1:
                kind = numbers.setdefault((id(fleet), parser.layout), len(numbers))
            self._lanes[name] = _Lane(fleet, number, parser, fleet.streams[number], kind)
        for lane in self._lanes.values():
            parts = [other for other in self._lanes.values() if other.target is lane.target]
            lane.target.timed_by_arrival = not any(part.parser.has_time for part in parts)

    def take(self, chunks: Sequence[Chunk], batch: Batch) -> list[tuple[Chunk, str]]:
        """Score what chunks hold; return those with readings, each with its stream's name."""
        heard: list[tuple[Chunk, str]] = []
        kinds: dict[int, list[tuple[Chunk, _Lane]]] = {}
        for chunk in chunks:
            lane = self._lanes[chunk.input_name]
            if chunk.old and not lane.parser.has_time:
                lane.parser.refuse(chunk.lines, "retained", _arrived_s(chunk, lane))
            elif lane.kind is None or chunk.again:
                heard += self._take_alike([(chunk, lane)], batch)
            elif lane.kind in kinds:
                kinds[lane.kind].append((chunk, lane))
            else:
                kinds[lane.kind] = [(chunk, lane)]
        for alike in kinds.values():
            heard += self._take_alike(alike, batch)
        return heard

    def _take_alike(
        self, alike: Sequence[tuple[Chunk, _Lane]], batch: Batch
    ) -> list[tuple[Chunk, str]]:
        _, (fleet, _, parser, *_) = alike[0]
        lines = [line for chunk, _ in alike for line in chunk.lines]
        arrived_s = None if parser.has_time else _of_each_line(alike, _arrived_s)
        again = alike[0][0].again  # then there is no other
        readings = None if again else parser.parse_clean(lines, arrived_s)
        if readings is not None:
            streams = _of_each_line(alike, _stream)
            fleet.take(streams, readings, batch)
            return [(chunk, lane.target.name) for chunk, lane in alike]
        heard = []
        for chunk, lane in alike:
            readings = lane.parser.parse(chunk.lines, _arrived_s(chunk, lane))
            if chunk.again and lane.parser.has_time:
                readings = fleet.news(lane.stream, readings)
            if count := len(readings.times):
                fleet.take(np.full(count, lane.stream), readings, batch)
                heard.append((chunk, lane.target.name))
        return heard


def _of_each_line(
    alike: Sequence[tuple[Chunk, _Lane]], value: Callable[[Chunk, _Lane], float]
) -> npt.NDArray[Any]:
    """Return what each line of the chunks has of its chunk."""
    values = np.array([value(chunk, lane) for chunk, lane in alike])
    counts = [len(chunk.lines) for chunk, _ in alike]
    return values if counts.count(1) == len(counts) else np.repeat(values, counts)


def _stream(_: Chunk, lane: _Lane) -> int:
    return lane.stream


def _arrived_s(chunk: Chunk, lane: _Lane) -> float:
    return lane.target.arrived_s(chunk.arrived_mono_s)
