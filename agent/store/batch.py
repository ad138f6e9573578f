"""What one commit contains, and how much of it stays in memory while commits fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent.alarms.lifecycle import SHED_FIRST

if TYPE_CHECKING:
    from agent.handling.states import Standing
    from agent.handling.transition import Transition
    from agent.store.notices import Notice
    from agent.store.orders import Known
    from agent.store.record import Outgoing
    from agent.store.window import Window
    from models.messages import Float32, Samples

WAITING_SAMPLES_MAX: Final = 20_000
WAITING_MESSAGES_MAX: Final = 2000  # some 8 MB
WAITING_ALARMS_MAX: Final = 2000
WAITING_TRANSITIONS_MAX: Final = 10_000
WAITING_NOTICES_MAX: Final = 2000
WAITING_WINDOWS_BYTES_MAX: Final = 8 * 2**20
# part of a stream's state: number of the first stored sample that the other parts do not include
THROUGH: Final = "through"
LISTED: Final = "listed alarm"  # among what was shed: of the list; "alarm" is a message
COUNTER: Final = "counter/"  # prefix of the keys of ``meta`` that hold a counter
EVICTION: Final = ("health", "summary", "transition", "alarm")  # in this order, oldest first


@dataclass(eq=False, slots=True)
class Batch:
    """The contents of one commit; the loop fills it."""

    samples: list[tuple[str, Samples, Float32]] = field(default_factory=list)  # with the scores
    alarms: list[dict[str, Any]] = field(default_factory=list)
    # of these, what the points have not taken yet (``agent.alarms.points``)
    untaken: list[dict[str, Any]] = field(default_factory=list)
    # the samples around alarms, by stream and number of the first alarm
    windows: dict[tuple[str, int], Window] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)  # rows of the logbook
    standings: dict[tuple[str, str], Standing] = field(default_factory=dict)  # by stream and point
    notices: list[Notice] = field(default_factory=list)  # for hooks on site
    settled: list[int] = field(default_factory=list)  # rows of notices to delete
    orders: dict[str, Known] = field(default_factory=dict)  # commands of central ops, by id
    ordered: dict[str, str] = field(default_factory=dict)  # id -> stream that it is about
    messages: list[Outgoing] = field(default_factory=list)
    state: dict[str, dict[str, bytes]] = field(default_factory=dict)  # stream -> part -> data
    # streams whose stored state belongs to another detector: deleted before ``state`` is written
    forgotten: set[str] = field(default_factory=set)
    acked: list[int] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)  # of central ops' messages; only rise
    clock: bytes | None = None  # its state, stored with the samples
    status: Callable[[], str] | None = None  # called last, so that it counts the rest

    def tell(self, alarm: dict[str, Any]) -> None:
        """Add an alarm that was opened, changed or closed."""
        self.alarms.append(alarm)
        self.untaken.append(alarm)

    def rows(self) -> int:
        """Return the number of samples in the batch."""
        return sum(len(samples.times) for _, samples, _ in self.samples)

    @property
    def remembers(self) -> bool:
        """Whether the batch contains a stream's memory of samples."""
        return any(THROUGH in parts for parts in self.state.values())

    def forget(self, stream: str) -> None:
        """Delete the stream's stored state in the transaction that writes the new one."""
        self.forgotten.add(stream)
        self.state.pop(stream, None)

    def forgo(self, streams: Collection[str]) -> None:
        """Drop everything that belongs to these streams."""
        self.samples = [one for one in self.samples if one[0] not in streams]
        self.alarms = [alarm for alarm in self.alarms if alarm["stream"] not in streams]
        self.untaken = [alarm for alarm in self.untaken if alarm["stream"] not in streams]
        self.windows = {key: one for key, one in self.windows.items() if key[0] not in streams}
        self.transitions = [one for one in self.transitions if one.stream not in streams]
        self.notices = [one for one in self.notices if one.stream not in streams]
        self.standings = {key: one for key, one in self.standings.items() if key[0] not in streams}
        self.messages = [one for one in self.messages if one.stream not in streams]
        self.state = {name: parts for name, parts in self.state.items() if name not in streams}
        self.forgotten.difference_update(streams)
        for name in [name for name, of in self.ordered.items() if of in streams]:
            self.orders.pop(name, None)  # it was not done, so it may come again

    def shed_samples(self, rows_max: int) -> int:
        """Drop the oldest samples beyond ``rows_max``; return how many. Nothing else is dropped."""
        rows, dropped = self.rows(), 0
        while rows - dropped > rows_max:
            dropped += len(self.samples.pop(0)[1].times)
        return dropped

    def shed(self) -> Counter[str]:
        """Drop what exceeds the memory limits; return the number dropped, by kind.

        It drops the oldest samples first, and messages in the order in which the outbox drops
        them. It keeps only the latest state of an alarm, and drops alarms in the order of
        ``SHED_FIRST``. It drops the oldest rows of the logbook; the standings stay. It drops the
        windows that have waited longest; their alarms stay.
        """
        shed = Counter(samples=self.shed_samples(WAITING_SAMPLES_MAX))
        for kind in EVICTION:
            excess = len(self.messages) - WAITING_MESSAGES_MAX
            if excess > 0:
                shed[kind] += self._drop(kind, excess)
        latest = {(alarm["stream"], alarm["number"]): alarm for alarm in self.alarms}
        order = sorted(latest, key=lambda key: SHED_FIRST.index(latest[key]["state"]))
        for key in order[:-WAITING_ALARMS_MAX]:
            del latest[key]
            shed[LISTED] += 1
        self.alarms = list(latest.values())
        if excess := self._shed_windows():
            shed["windows"] = excess
        if (excess := len(self.transitions) - WAITING_TRANSITIONS_MAX) > 0:
            shed["logbook"] = excess
            del self.transitions[:excess]
        if (excess := len(self.notices) - WAITING_NOTICES_MAX) > 0:
            shed["notices"] = excess
            del self.notices[:excess]
        return shed

    def _shed_windows(self) -> int:
        size, dropped = sum(one.size for one in self.windows.values()), 0
        while size > WAITING_WINDOWS_BYTES_MAX:
            size -= self.windows.pop(next(iter(self.windows))).size
            dropped += 1
        return dropped

    def _drop(self, kind: str, count: int) -> int:
        """Drop the oldest messages of a kind; return how many."""
        of_kind = [index for index, one in enumerate(self.messages) if one.kind == kind][:count]
        gone = set(of_kind)
        self.messages = [one for index, one in enumerate(self.messages) if index not in gone]
        return len(gone)
