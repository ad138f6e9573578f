"""All streams of a gateway, with the interface that the loop uses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config.load import StreamTable
from agent.health.measured import inference
from agent.inputs.source import Chunk
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet, misfit
from agent.scoring.intake import Intake
from agent.scoring.origin import BASELINE, Origin, Unwatched
from agent.scoring.silence import Links, Silence
from agent.store.batch import Batch
from models.detector import Detector
from models.messages import stored_samples

if TYPE_CHECKING:
    from agent.store.correction import Correction


class Streams:
    """The streams with the fleets that score them; one thread uses it.

    Args:
        fleets: Of all streams.
        inputs: Each input's stream, by the input's name.
        parsers: Of each input whose stream is watched.
        unwatched: Streams that nothing watches, because their bundles are refused.
        links: The state of each input's link, by the input's name.

    """

    def __init__(
        self,
        fleets: Sequence[Fleet],
        inputs: Mapping[str, str],
        parsers: Mapping[str, LineParser],
        unwatched: Sequence[Unwatched] = (),
        links: Links | None = None,
    ) -> None:
        self._fleets, self._clock = list(fleets), fleets[0].clock
        self._by_name = {stream.name: stream for fleet in fleets for stream in fleet.streams}
        self._unwatched = {stream.name: stream for stream in unwatched}
        self._inputs = inputs
        watched = {name: stream for name, stream in inputs.items() if stream in self._by_name}
        self._intake = Intake(fleets, watched, parsers)
        self._silence = Silence(self._by_name, inputs, links or {}, self._intake.nothing_usable)

    def __len__(self) -> int:
        """Return how many streams are watched."""
        return len(self._by_name)

    def start(
        self,
        samples_from: Callable[[str, int], Sequence[tuple[bytes, bytes, bytes | None]]],
        batch: Batch,
    ) -> None:
        """Score the samples again that were stored after the streams' memory was last saved.

        ``samples_from``: returns a stream's stored samples from a number on.
        """
        self._silence.begin(self._clock.monotonic_s())
        for stream in self._by_name.values():
            if stream.saved_through is not None and (
                rows := samples_from(stream.name, stream.saved_through)
            ):
                samples = stored_samples(rows, len(stream.manifest.channels))
                stream.catch_up(samples, batch)
            stream.gaps.begin()

    def watched(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Return the chunks of watched streams; count the lines of the others."""
        if not self._unwatched:
            return chunks
        watched = []
        for chunk in chunks:
            stream = self._unwatched.get(self._inputs[chunk.input_name])
            if stream is None:
                watched.append(chunk)
            else:
                stream.counters["lines_unwatched"] += len(chunk.rows)
        return watched

    def take(self, chunks: Sequence[Chunk], batch: Batch) -> None:
        """Parse and score chunks."""
        self._silence.heard(self._intake.take(chunks, batch))

    def stood_still(self, since: float, until: float) -> None:
        """Record a time (monotonic) in which the agent stood still."""
        self._silence.stood_still(since, until)

    def tick(self, batch: Batch) -> None:
        """Score held rows that have become usable, and raise alarms for silent streams."""
        now = self._clock.monotonic_s()
        for name in self._intake.look(batch):
            self._silence.over(name, now)
        self._silence.look(now, batch)

    def flush(self, batch: Batch) -> None:
        """Put everything scored since the last call into ``batch``."""
        for fleet in self._fleets:
            fleet.flush(batch)

    def save(self, batch: Batch, next_sample: int, whole: bool, stopping: bool) -> None:
        """Put the streams' memory into ``batch``; see ``Stream.save``."""
        for stream in self._by_name.values():
            stream.save(batch, next_sample, whole, stopping)

    def check(self, table: StreamTable) -> None:
        """Raise ConfigError if the settings do not fit the stream's bundle."""
        if table.name in self._by_name:
            self._by_name[table.name].check(table)

    def reconfigure(
        self, tables: Iterable[StreamTable], summary_interval_s: float, batch: Batch
    ) -> None:
        """Continue with settings that passed ``check``."""
        for table in tables:
            if table.name in self._by_name:
                self._by_name[table.name].reconfigure(table, summary_interval_s, batch)

    def misfit(self, name: str, detector: Detector) -> str | None:
        """Return the reason why a running stream cannot get this detector; None: it can."""
        if name in self._unwatched:
            return "nothing watches the stream now"
        return misfit(self._by_name[name].manifest, detector.manifest)

    def detectors(self) -> dict[str, Detector]:
        """Return the detector of each stream that is watched, by the stream's name."""
        return {name: stream.detector for name, stream in self._by_name.items()}

    def refused(self) -> dict[str, Path]:
        """Return the configured bundles that are refused, by their streams' names."""
        found = {name: stream.origin.refused for name, stream in self._by_name.items()}
        found |= {name: stream.refused for name, stream in self._unwatched.items()}
        return {name: refusal.bundle for name, refusal in found.items() if refusal is not None}

    def exchange(self, fleet: Fleet, batch: Batch) -> None:
        """Replace running streams by those of the same names in a new fleet.

        If only some streams of a fleet leave, their places in it stay unused until a restart.
        """
        self.flush(batch)
        for number, stream in enumerate(fleet.streams):
            self._intake.exchange(fleet, number, batch)
            self._by_name[stream.name] = stream
        self._silence.streams_changed()
        used = set(map(id, self._by_name.values()))
        for gone in [one for one in self._fleets if used.isdisjoint(map(id, one.streams))]:
            self._fleets.remove(gone)
            fleet.pace.seconds += gone.pace.seconds
            fleet.pace.samples += gone.pace.samples
        self._fleets.append(fleet)

    def mend(self, name: str, origin: Origin) -> None:
        """Record that a stream's substitute is now its own bundle; its memory continues."""
        self._by_name[name].origin.replace(origin)

    def channels(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each stream's channels, in the order of its samples."""
        return {name: stream.manifest.channel_names for name, stream in self._by_name.items()}

    def own_channels(self) -> dict[str, tuple[str, ...]]:
        """Return the same, without streams that a baseline watches in place of their bundle."""
        channels = self.channels()
        return {
            name: channels[name]
            for name, stream in self._by_name.items()
            if stream.origin.stands_in != BASELINE
        }

    def correct(self, by: Correction) -> None:
        """Correct what the streams keep in memory of the time when the clock was wrong."""
        for name in self._by_name.keys() & by.streams:
            self._by_name[name].windows.correct(by)

    def leave(self, names: Collection[str]) -> None:
        """Save no more data of these streams, because a defect may have affected them."""
        for name in self._by_name.keys() & names:
            del self._by_name[name]

    def timed_by_arrival(self) -> frozenset[str]:
        """Return the names of the streams whose samples get their times from the gateway."""
        return frozenset(n for n, stream in self._by_name.items() if stream.teller.timed_by_arrival)

    def document(self, last_alarm: Callable[[str], int]) -> dict[str, dict[str, Any]]:
        """Return the state of each; ``last_alarm``: a stream's highest alarm number on the disk."""
        watched = {n: stream.document(last_alarm(n)) for n, stream in self._by_name.items()}
        return watched | {n: stream.document() for n, stream in self._unwatched.items()}

    def inference(self) -> dict[str, float | int | None]:
        """Return the durations of scoring."""
        return inference(fleet.pace for fleet in self._fleets)

    def rejects(self, name: str) -> dict[str, Any]:
        """Return the rejects of an input."""
        stream = self._inputs[name]
        if stream in self._unwatched:
            return {"rejected": {}, "rejects": []}
        parser = self._intake.parser(name)
        correction_s = self._by_name[stream].teller.correction_s
        return {
            "rejected": dict(parser.counters),
            "rejects": [
                reject._asdict() | {"time": reject.time + correction_s}
                for reject in parser.rejects()
            ],
        }
