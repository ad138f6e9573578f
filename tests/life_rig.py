"""A stream's life in a world whose time only tests pass: pauses, steps of the clock, restarts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.bundles.load import baseline
from agent.config.inputs import InputTable
from agent.config.load import StreamTable
from agent.inputs.source import Chunk, InputStatus
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.scoring.streams import Streams
from agent.store.batch import Batch
from models.times import unix_s
from tests.agent.test_clock import World

START_S = 1_700_000_000.0
CHANNELS = ("flow", "pressure", "current")
MISSING = 20  # samples, of one second
Inputs = Sequence[Sequence[str]]


class Life:
    """The stream ``pump``, a row of it a second; what was told of it is in ``told``.

    Args:
        inputs: The channels that each input brings: 0, 1 …
        timed: The lines have the device's times, which are right; else those of their arrival.

    """

    def __init__(self, inputs: Inputs = (CHANNELS,), timed: bool = False, **settings: Any) -> None:
        self.world, self.timed, self.inputs = World(START_S), timed, inputs
        self.clock = self.world.clock()
        self.device_s = 0.0  # how far the device's clock is off
        self.link = InputStatus(True, START_S, None, 0, 0, 0, 0)
        self.told: list[dict[str, Any]] = []  # alarms, as sent
        self.stored = 0  # writes of alarms
        self.detector = 6.0
        self._settings = {"silent_after_s": 60.0} | settings
        self._saved: dict[str, bytes] = {}
        self._open: dict[int, dict[str, Any]] = {}
        self._samples = self._row = 0
        self._last_number = 0
        self._begin()

    def _table(self) -> StreamTable:
        of_baseline = {
            "period_s": 1.0,
            "channels": [{"name": name, "unit": "m"} for name in CHANNELS],
            "history_samples": 40,
            "update_samples": 5,
            "warm_up_samples": 20,
            "off_samples": 5,
            "missing_samples": MISSING,
            "deviations_max": self.detector,
        }
        return StreamTable.model_validate(
            {"name": "pump", "baseline": of_baseline} | self._settings
        )

    def _fleet(self) -> Fleet:
        table = self._table()
        assert table.baseline is not None
        return Fleet(baseline(table.baseline), [table], 10.0, self.clock)

    def _begin(self) -> None:
        self.batch = Batch()
        fleet = self._fleet()
        first = ["time"] if self.timed else []
        self.streams = Streams(
            [fleet],
            {str(at): "pump" for at in range(len(self.inputs))},
            {
                str(at): LineParser(
                    InputTable(name=f"i{at}", stream="pump", columns=[*first, *channels]),
                    fleet.streams[0].manifest.source_channels,
                )
                for at, channels in enumerate(self.inputs)
            },
            links={str(at): lambda: self.link for at in range(len(self.inputs))},
        )
        open_alarms = [self._open[number] for number in sorted(self._open)]
        (stream,) = fleet.streams
        stream.restore(self._saved, open_alarms, self._last_number, self.batch)
        self.streams.start(lambda *_: [], self.batch)

    def rows(self, seconds: int, inputs: Sequence[int] | None = None, about: float = 1.0) -> None:
        """Let a row a second come, of these inputs; commit after each."""
        for _ in range(seconds):
            self.pause(1)
            self.row(inputs, about)

    def row(self, inputs: Sequence[int] | None = None, about: float = 1.0) -> None:
        """Let a row come now."""
        self._row += 1
        time = [f"{self.world.wall_s + self.device_s:.3f}"] if self.timed else []
        for at in range(len(self.inputs)) if inputs is None else inputs:
            values = [
                f"{about * 10 * (1 + CHANNELS.index(name)) + self._row * 7 % 10 / 10:.3f}"
                for name in self.inputs[at]
            ]
            self.line(",".join([*time, *values]), at)
        self.commit()

    def line(self, text: str, at: int = 0) -> None:
        """Let a line come of an input."""
        chunk = Chunk(str(at), self.world.wall_s, self.clock.monotonic_s(), [text.encode()])
        self.streams.take([chunk], self.batch)

    def pause(self, seconds: float) -> None:
        """Let time pass, in which nothing comes; a tick each second, as the loop has them."""
        while seconds > 0:
            self.world.wait(min(1.0, seconds))
            seconds -= 1.0
            self.tick()

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which the agent does nothing, as a process that was stopped."""
        since = self.clock.monotonic_s()
        self.world.wait(seconds)
        self.streams.stood_still(since, self.clock.monotonic_s())

    def tick(self) -> None:
        """Do what the loop does in an interval."""
        self.clock.look()
        self.streams.tick(self.batch)
        self.commit()

    def commit(self, stopping: bool = False) -> None:
        """Take over what the batch has, as the store does."""
        self.streams.flush(self.batch)
        samples = self._samples + self.batch.rows()
        self.streams.save(self.batch, samples, whole=True, stopping=stopping)
        batch, self.batch = self.batch, Batch()
        self._samples = samples
        if batch.forgotten:
            self._saved = {}
        self._saved |= batch.state.get("pump", {})
        self.stored += len(batch.alarms)
        for alarm in batch.alarms:
            self._last_number = max(self._last_number, alarm["number"])
            if alarm["state"] == "opened":
                self._open[alarm["number"]] = alarm
            else:
                self._open.pop(alarm["number"], None)
        self.told += [one.data for one in batch.messages if one.kind == "alarm"]

    def restart(self, away_s: float = 0.0, clock_s: float = 0.0, detector: float = 6.0) -> None:
        """Stop the agent and start it again; ``clock_s``: by how much the clock was set."""
        self.commit(stopping=True)
        saved = self.clock.to_bytes()
        self.world.wait(away_s)
        self.world.wall_s += clock_s
        self.clock, self.detector = self.world.clock(saved), detector
        self._begin()
        self.commit()

    def set_clock(self, by_s: float) -> None:
        """Set the gateway's clock."""
        self.world.wall_s += by_s
        self.tick()

    def exchange(self, detector: float) -> None:
        """Give the stream another detector while it runs."""
        self.commit()
        self.detector = detector
        self.streams.exchange(self._fleet(), self.batch)
        self.commit()

    def brief(self) -> list[tuple[str, str, str | None]]:
        """Kind, state and cause of what was told."""
        return [(one["kind"], one["state"], one.get("cause")) for one in self.told]

    def between(self, one: dict[str, Any]) -> tuple[float, float]:
        """From when to when an alarm was, seconds after the start."""
        times = [second(one["onset"]), second(one["closed"])]
        return times[0], times[1]


def second(moment: str) -> float:
    """Return a time of an alarm in seconds after the start."""
    return round(unix_s(moment) - START_S, 3)
