"""Turns chunks of many inputs into readings of many streams.

Lines of inputs with the same layout, for streams of one fleet, are parsed as one block. If a line
of the block has an error, each input is parsed separately: each line is checked, and each reject is
counted.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.alarms.document import Reason, nothing_usable
from agent.inputs.source import Chunk
from agent.parsing.lines import LineParser
from agent.parsing.measurement import Raw
from agent.scoring.fleet import Fleet
from agent.scoring.leaps import Leaps
from agent.scoring.stream import Stream
from agent.store.batch import Batch
from models.formats.times import TIME_MIN
from models.messages import Float64, Int64, Readings
from models.times import iso_time


class _Route(NamedTuple):
    """The route of an input's lines."""

    name: str  # of the input
    fleet: Fleet
    stream: int  # number in the fleet
    parser: LineParser
    target: Stream
    kind: int | None  # inputs of one kind are parsed together; None: alone, to keep the order
    leaps: Leaps | None  # of the stream; None: times from the agent, or times that may run ahead


@dataclass
class _Unusable:
    """Unusable rows of a stream since its last reading."""

    since_mono_s: float
    counts: Counter[str] = field(default_factory=Counter)
    last: str = ""


class Intake:
    """Parses chunks and passes their readings to the fleets; one thread uses it."""

    def __init__(
        self,
        fleets: Sequence[Fleet],
        streams: Mapping[str, str],
        parsers: Mapping[str, LineParser],
    ) -> None:
        self._clock = fleets[0].clock
        self._mono_s, self._wall_s = self._clock.monotonic_s(), 0.0  # time of the current chunks
        # monotonic time of each stream's last reading, while the clock is not synchronised
        self._heard_mono_s = {id(one): np.full(len(one.streams), self._mono_s) for one in fleets}
        self._parsers = dict(parsers)
        self._routes: dict[str, _Route] = {}
        self._holding: dict[Leaps, _Route] = {}  # those with held rows
        self._unusable: dict[str, _Unusable] = {}  # by stream
        self._kinds: dict[tuple[int, Hashable], int] = {}  # by fleet and layout
        self._unused_kinds = itertools.count()
        for fleet in fleets:
            for number, target in enumerate(fleet.streams):
                names = [name for name in parsers if streams[name] == target.name]
                target.teller.timed_by_arrival = not any(parsers[name].has_time for name in names)
                ahead_max_s = {name: parsers[name].ahead_max_s for name in names}
                leaps = Leaps(target.leap_agreed_s, ahead_max_s, self._drop)
                for name in names:
                    parser = parsers[name]
                    # the rows of several inputs of one stream must stay in order
                    kind = self._kind(fleet, parser) if len(names) == 1 else None
                    timed = not target.teller.timed_by_arrival
                    judged = timed and math.isfinite(parser.ahead_max_s)
                    self._routes[name] = _Route(
                        name, fleet, number, parser, target, kind, leaps if judged else None
                    )

    def _kind(self, fleet: Fleet, parser: LineParser) -> int:
        key = id(fleet), parser.layout
        if key not in self._kinds:
            self._kinds[key] = next(self._unused_kinds)
        return self._kinds[key]

    def exchange(self, fleet: Fleet, number: int, batch: Batch) -> None:
        """Replace a stream by the one of the same name in a new fleet; see ``misfit``.

        Held rows, the parsers' headers and counts, and the position on the grid carry over.
        """
        target = fleet.streams[number]
        names = [name for name, route in self._routes.items() if route.target.name == target.name]
        before = self._routes[names[0]]
        channels = target.manifest.source_channels
        columns = [channel.name for channel in before.target.manifest.source_channels]
        order = np.array([columns.index(channel.name) for channel in channels])
        target.teller.timed_by_arrival = before.target.teller.timed_by_arrival
        fleet.replace(number, before.fleet, before.stream, batch)
        heard_mono_s = self._heard_mono_s[id(before.fleet)][before.stream]
        never = np.full(len(fleet.streams), self._mono_s)
        self._heard_mono_s.setdefault(id(fleet), never)[number] = heard_mono_s
        for name in names:
            parser = self._parsers[name] = self._parsers[name].for_channels(channels)
            route = self._routes[name]
            self._routes[name] = route._replace(
                fleet=fleet,
                stream=number,
                parser=parser,
                target=target,
                kind=None if route.kind is None else self._kind(fleet, parser),
            )
        for leaps, route in self._holding.items():
            if route.name in names:
                leaps.reorder(order)
                self._holding[leaps] = self._routes[route.name]
        # a later fleet may get the id of a deleted one
        used = {id(route.fleet) for route in self._routes.values()}
        self._heard_mono_s = {key: one for key, one in self._heard_mono_s.items() if key in used}
        self._kinds = {key: kind for key, kind in self._kinds.items() if key[0] in used}

    def take(self, chunks: Sequence[Chunk], batch: Batch) -> list[tuple[Chunk, str]]:
        """Score the chunks; return those with readings, each with its stream's name."""
        self._look_at_the_clock()
        heard: list[tuple[Chunk, str]] = []
        kinds: dict[int, list[tuple[Chunk, _Route]]] = {}
        for chunk in chunks:
            route = self._routes[chunk.input_name]
            if not (chunk.lines or chunk.measurements):  # nothing is left of it
                continue
            if chunk.lines if route.parser.reads_measurements else chunk.measurements:
                chunk = self._without_strays(chunk, route)
            if chunk.old and not route.parser.has_time:
                before = route.parser.counters.copy()
                route.parser.refuse(chunk.rows, "retained", _arrived_s(chunk, route))
                self._note_unusable(route, before)
            elif route.kind is None or chunk.again:
                heard += self._take_alike([(chunk, route)], batch)
            elif route.kind in kinds:
                kinds[route.kind].append((chunk, route))
            else:
                kinds[route.kind] = [(chunk, route)]
        for alike in kinds.values():
            heard += self._take_alike(alike, batch)
        return heard

    def _without_strays(self, chunk: Chunk, route: _Route) -> Chunk:
        """Return a chunk with only the lines or measurements that its input's settings allow."""
        announced = route.parser.reads_measurements
        strays: Sequence[Raw] = chunk.lines if announced else chunk.measurements
        route.parser.refuse(strays, "malformed", _arrived_s(chunk, route))
        return chunk._replace(lines=()) if announced else chunk._replace(measurements=())

    def parser(self, name: str) -> LineParser:
        """Return the parser of an input."""
        return self._parsers[name]

    def nothing_usable(self, stream: str) -> Reason | None:
        """Return the reason of a silence if rows arrive but none is usable; None if none arrive."""
        found = self._unusable.get(stream)
        if found is None:
            return None
        return nothing_usable(found.counts, self._mono_s - found.since_mono_s, found.last)

    def _note_unusable(self, route: _Route, before: Counter[str]) -> None:
        """Record why no row of a chunk was used; ``before``: the parser's earlier counts."""
        counts = route.parser.counters - before
        if not counts:  # blank lines or held rows
            return
        name = route.target.name
        found = self._unusable.setdefault(name, _Unusable(self._mono_s))
        found.counts.update(counts)
        if last := route.parser.rejects():
            found.last = last[-1].excerpt

    def look(self, batch: Batch) -> list[str]:
        """Score held rows that have become usable; return the names of their streams."""
        self._look_at_the_clock()
        heard: list[str] = []
        for leaps, route in list(self._holding.items()):
            if self._clock.synced:
                readings = leaps.settle(self._latest_s(route, np.array([route.stream])))
            else:
                readings = leaps.look(self._mono_s)
            self._note_held(route)
            if readings is not None:
                self._give(route, np.full(len(readings.times), route.stream), readings, batch)
                heard.append(route.target.name)
        return heard

    def _look_at_the_clock(self) -> None:
        self._mono_s = self._clock.monotonic_s()
        self._wall_s = self._clock.wall_s(self._mono_s)

    def _take_alike(
        self, alike: Sequence[tuple[Chunk, _Route]], batch: Batch
    ) -> list[tuple[Chunk, str]]:
        first, route = alike[0]
        parser = route.parser
        lines = [line for chunk, _ in alike for line in chunk.lines or chunk.measurements]
        if not lines:  # of what was set aside, or not announced
            return []
        streams = _of_each_line(alike, _stream)
        arrived_s = None if parser.has_time else _of_each_line(alike, _arrived_s)
        # what comes again is alone
        one_by_one = first.again or (
            self._holding and any(route.leaps in self._holding for _, route in alike)
        )
        readings = None
        if not one_by_one:
            readings = parser.parse_clean(lines, arrived_s, self._latest_s(route, streams))
        if readings is not None:
            if route.kind is None and route.leaps is not None and not self._clock.synced:
                route.leaps.goes_on(route.name, self._mono_s)
            self._give(route, streams, readings, batch)
            heard = [(chunk, route.target.name) for chunk, route in alike]
            return self._usable(heard) if self._unusable else heard
        heard = []
        for chunk, route in alike:
            before = route.parser.counters.copy()
            readings = self._read(chunk, route)
            if count := len(readings.times):
                self._give(route, np.full(count, route.stream), readings, batch)
                heard.append((chunk, route.target.name))
            else:
                self._note_unusable(route, before)
        return self._usable(heard)

    def _usable(self, heard: list[tuple[Chunk, str]]) -> list[tuple[Chunk, str]]:
        """Delete the unusable rows of streams that have readings again."""
        for _, name in heard:
            self._unusable.pop(name, None)
        return heard

    def _give(self, route: _Route, streams: Int64, readings: Readings, batch: Batch) -> None:
        if route.leaps is not None and not self._clock.synced:
            heard_mono_s = self._heard_mono_s[id(route.fleet)]
            heard_mono_s[route.stream if len(streams) == 1 else streams] = self._mono_s
        route.fleet.take(streams, readings, batch)

    def _read(self, chunk: Chunk, route: _Route) -> Readings:
        """Return the usable readings of a chunk and of rows that were held before."""
        synced = self._clock.synced
        latest_s = self._latest_s(route, np.array([route.stream]))
        readings = route.parser.parse(
            chunk.rows, _arrived_s(chunk, route), latest_s if synced else math.inf
        )
        if chunk.again and route.parser.has_time:
            readings = route.fleet.news(route.stream, readings)
        if route.leaps is not None and not synced:
            readings = route.leaps.judge(route.name, readings, latest_s, self._mono_s)
            self._note_held(route)
        return readings

    def _latest_s(self, route: _Route, streams: Int64) -> float:
        """Return the latest time that is accepted at once from each of these streams, (n,).

        It is a fixed distance ahead of the clock. If the clock is not synchronised, it is this
        distance ahead of the clock or of the stream's own past, whichever is later.
        """
        if route.leaps is None:
            return math.inf
        now_s = self._wall_s
        if not self._clock.synced:
            if not route.parser.has_time:  # its times come from the clock, so it cannot check them
                now_s = -math.inf
            now_s = self._by_their_past(route, streams, now_s)
            if now_s < TIME_MIN:  # a clock that was never set proves nothing
                return math.inf
        return now_s + route.parser.ahead_max_s

    def _by_their_past(self, route: _Route, streams: Int64, now_s: float) -> float:
        """Return the earliest of the streams' own present times, each at least ``now_s``."""
        newest_s, heard_mono_s = route.fleet.newest_s, self._heard_mono_s[id(route.fleet)]
        if len(streams) == 1:  # takes a third of the time
            alone_s = newest_s.item(route.stream) - heard_mono_s.item(route.stream) + self._mono_s
            return alone_s if alone_s > now_s else now_s  # NaN is not
        each_s = (newest_s - heard_mono_s)[streams] + self._mono_s
        return float(np.minimum.reduce(np.fmax(each_s, now_s)))

    def _note_held(self, route: _Route) -> None:
        assert route.leaps is not None
        if route.leaps.held:
            self._holding[route.leaps] = route
        else:
            self._holding.pop(route.leaps, None)

    def _drop(self, name: str, times: Float64) -> None:
        """Count held rows that are not used."""
        said = [iso_time(time).encode() for time in times.tolist()]
        self._parsers[name].refuse(said, "in_future", self._wall_s)


def _of_each_line(
    alike: Sequence[tuple[Chunk, _Route]], value: Callable[[Chunk, _Route], float]
) -> npt.NDArray[Any]:
    """Return, for each line of the chunks, the value that belongs to its chunk."""
    values = np.array([value(chunk, route) for chunk, route in alike])
    counts = [len(chunk.lines or chunk.measurements) for chunk, _ in alike]
    return values if counts.count(1) == len(counts) else np.repeat(values, counts)


def _stream(_: Chunk, route: _Route) -> int:
    return route.stream


def _arrived_s(chunk: Chunk, route: _Route) -> float:
    return route.target.teller.arrived_s(chunk.arrived_mono_s)
