"""Connects the parts of the agent, and runs its only loop.

    reader threads ─chunks─> [queue] ─> loop: parse, align, score, alarms ─> commit (SQLite)
                                          │  ▲         ▲ acknowledged                │ wake
                                 watchdog ┘  │         └───── [queue] <── uplink <───┘
    signals, socket ─commands─> [inbox] ─────┘ each answered after its commit

Other threads only enqueue. Everything between a reading and its commit happens here, in order, so
that data that belongs together is committed together. Only this thread writes to the database.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.alarms.handled import handling_of
from agent.assembly import Parts, assembled, retention_of, uplink_of
from agent.central import Central
from agent.commits import Commits
from agent.config import load as configuration
from agent.config.checker import Checker
from agent.config.load import AgentConfig, AlarmsTable
from agent.control.control import Control
from agent.control.dispatch import Verb
from agent.control.inbox import Command, Inbox
from agent.control.protocol import Refused
from agent.corrections import Corrections
from agent.defects.threads import Watch
from agent.health.measured import LoopTimes, Machine
from agent.health.status_line import StatusLine
from agent.inputs.first_rows import FirstRows
from agent.inputs.source import Chunk, Input
from agent.journal import set_level, start_logging
from agent.onsite.hooks import Hooks
from agent.onsite.panels import Panels
from agent.operating import Labelling, Operating, Roles
from agent.overview import Overview
from agent.reloading import Prepared, Reloads
from agent.scoring.streams import Streams
from agent.store.record import Outgoing
from agent.store.writer import Store
from agent.uplink.handover import Relay
from agent.uplink.progress import SAMPLES, Progress
from models.errors import Defect, StoreError
from models.times import iso_time

_LOG = logging.getLogger(__name__)


class Daemon:
    """One gateway's agent: its inputs, streams, store and uplink, and the loop between them."""

    def __init__(self, parts: Parts) -> None:
        """Connect the parts."""
        config, store, clock = parts.config, parts.store, parts.clock
        self._config, self._store, self._clock = config, store, clock
        self._points, self._quarantine, self._chunks = parts.points, parts.quarantine, parts.chunks
        self._inputs = {source.name: source for source in parts.inputs}
        self._streams = _streams_of(parts)
        self._relay = Relay(parts.uplink, _progress(store))
        self._hooks = Hooks(store.origin, store.directory, store.records.alarm)
        self._panels = Panels(store.origin)
        self._tell_on_site(config)
        self._notifier, self._status_line = parts.notifier, StatusLine(parts.notifier)
        self._commits = self._commits_of(parts)
        self._batch = self._commits.batch
        self._corrections = Corrections(store, clock)
        self._reloads = self._reloads_of(parts)
        self._operating = _operating_of(parts)
        self._central = Central(config, self._operating, clock, self._batch)
        self._control = self._control_of(parts)
        self._first_rows = FirstRows(self._inputs)
        self._reading: list[Input] = []  # the inputs that were started
        self._in_hand: Sequence[Chunk] = ()  # the chunks being scored
        self._exchanging: set[str] = set()  # streams whose detector is being exchanged
        self._stopping = False
        self._aborted = False
        self._loop = LoopTimes()
        self._overview = self._overview_of()

    def _commits_of(self, parts: Parts) -> Commits:
        return Commits(
            self._store,
            self._streams,
            self._inputs,
            self._relay,
            self._notifier,
            self._clock,
            parts.batch,
            self._config.store.state_interval_s,
            self._points,
            self._hooks,
        )

    def _reloads_of(self, parts: Parts) -> Reloads:
        wake = self._chunks.wake
        return Reloads(
            parts.config_file, self._streams, parts.loader, self._clock, self._notifier, wake
        )

    def _control_of(self, parts: Parts) -> Control:
        """Return what people and programs may ask of the loop."""
        own = {
            "reload": Verb(lambda _: self._reloads.ask()),
            "flush": Verb(self._flush),
            "state": Verb(self._state, changes=False),
        }
        verbs = own | self._operating.verbs() | self._central.verbs()
        return Control(parts.inbox, parts.door, verbs, self._chunks.wake)

    def _overview_of(self) -> Overview:
        return Overview(
            self._config.gateway,
            self._clock,
            Machine(self._config.store.directory),
            self._loop,
            self._chunks,
            self._inputs,
            self._streams,
            self._commits,
            self._store,
            self._relay,
            self._quarantine,
            self._reloads,
            self._control,
            self._points,
            self._hooks,
            self._panels,
            self._central.document,
        )

    def stop(self) -> None:
        """Make ``run`` return soon; safe in a signal handler."""
        self._stopping = True
        self._chunks.wake()

    def abort(self) -> None:
        """Stop because a defect ended a thread; the next agent will be careful."""
        self._aborted = True
        self.stop()

    def reload(self) -> None:
        """Make the loop read its configuration again soon; safe in a signal handler."""
        self._control.signal("reload", "SIGHUP")

    def run(self) -> None:
        """Loop until ``stop``. Everything that has arrived is committed before it returns.

        Raises:
            StoreError: the stored data cannot be read.
            Defect: a bug in the code that the loop calls.

        """
        try:
            self._start()
            self._loop_until_stopped()
            self._take_what_is_left()
        except StoreError:
            raise
        except BaseException as error:  # a parser of another package may raise anything
            _LOG.critical("a defect ended the loop; start the agent again", exc_info=error)
            self._rescue()
            raise Defect("a defect ended the loop; the log has its traceback") from error
        self._finish()

    def _start(self) -> None:
        """Start all parts."""
        self._next_health = time.monotonic() + self._config.health.interval_s
        self._quarantine.open()
        self._streams.start(self._store.readings.samples_from, self._batch)
        for source in self._inputs.values():
            source.start(self._chunks.put)
            self._reading.append(source)
        self._relay.start()
        self._hooks.start()
        self._panels.start()
        self._central.restore(*self._store.records.orders())
        self._commit()  # stores a first status, for commands before the first reading
        self._control.open()
        self._central.listen(self._config, self._control.ask)
        self._notifier.ready()
        _LOG.info("ready: %d streams, %d inputs", len(self._streams), len(self._inputs))

    def _loop_until_stopped(self) -> None:
        next_tick = time.monotonic()
        while not self._stopping:
            chunks = self._chunks.take(max(0.0, next_tick - time.monotonic()))
            woke = time.monotonic()
            self._streams.stood_still(next_tick, woke)
            self._take(chunks)
            at_once = self._batch.alarms and not self._commits.error
            if at_once or time.monotonic() >= next_tick:
                self._loop.ticked(time.monotonic() - next_tick)
                self._tick()
                next_tick = time.monotonic() + self._commits.interval_s(
                    self._config.store.flush_interval_s
                )
            self._reload()
            self._control.obey(self._commit)
            ended = time.monotonic()
            self._streams.stood_still(woke, ended)  # a stopped process may stop in a turn, too
            self._loop.turned(ended - woke)

    def _take(self, chunks: Sequence[Chunk]) -> None:
        """Process chunks. One that may have ended the agent before is processed alone."""
        chunks = self._streams.watched(chunks)
        if self._quarantine.at_rest:
            self._take_together(chunks)
            return
        together: list[Chunk] = []
        for chunk in chunks:
            if chunk.refused or not (self._quarantine.careful and chunk.again):
                together.append(self._quarantine.cleared(chunk))
                continue
            self._take_together(together)
            together = []
            self._take_alone(chunk)
        self._take_together(together)
        self._quarantine.settle(committed=not self._commits.error)

    def _take_alone(self, chunk: Chunk) -> None:
        """Process and commit a chunk part by part: if the agent ends, that part is the cause."""
        for digest, part in self._quarantine.parts(chunk):
            if self._stopping:  # its input delivers it again
                return
            self._quarantine.hold(digest)
            self._take_together([part])
            self._tick()
            self._quarantine.passed(digest, committed=not self._commits.error)

    def _take_together(self, chunks: Sequence[Chunk]) -> None:
        """Parse and score chunks."""
        self._in_hand = chunks
        if _LOG.isEnabledFor(logging.DEBUG):
            self._first_rows.look(chunks)
        self._streams.take(chunks, self._batch)
        self._commits.took(chunks)
        self._in_hand = ()

    def _tick(self) -> None:
        """Do the periodic work. It feeds the watchdog, because only a live loop gets here."""
        now = time.monotonic()
        quality = self._clock.quality()  # before the look, which finds what made it better
        if (step := self._clock.look()) is not None:
            self._commits.save_soon()  # data stored from now on has corrected times
            self._points.clock_set(step.by_s)
            streams = self._streams.timed_by_arrival()
            if (by := self._corrections.begin(step, streams, self._batch)) is not None:
                self._streams.correct(by)
        self._streams.tick(self._batch)
        if now >= self._next_health:
            self._next_health = now + self._config.health.interval_s
            self._batch.messages.append(
                Outgoing("health", None, self._clock.wall_s(), self._overview.document(True))
            )
        self._commit()
        if not self._commits.error:
            self._corrections.go_on()
        self._relay.progress.timely = quality != "unsynced" and not self._corrections.busy
        self._panels.show(
            lambda: self._streams.document(self._store.records.last_alarm_number),
            self._points.not_normal,
        )
        self._notifier.watchdog()

    def _commit(self, with_status: bool = True) -> str | None:
        """Commit the batch; if that fails, return why: the next tick retries."""
        if self._commits.commit(self._status if with_status else None, self._stopping):
            self._next_health = time.monotonic()  # report the damage to central ops soon
        return self._commits.error

    def _state(self, _: Command) -> dict[str, Any]:
        """Return the current status, including everything scored since the last commit."""
        self._streams.flush(self._batch)
        return self._overview.document(True) | {"unstored": self._commits.unstored()}

    def _flush(self, _: Command) -> dict[str, Any]:
        """Process everything that has arrived; the commit that follows syncs it to the disk."""
        waiting = self._chunks.waiting
        while waiting > 0 and (chunks := self._chunks.take(0.0)):
            self._take(chunks)
            waiting -= len(chunks)
        self._commits.save_soon()
        return {"stored": iso_time(self._clock.wall_s())}

    def _reload(self) -> None:
        """Apply a new configuration that is ready; a commit and then the answer follow."""
        prepared = self._reloads.turn(self._config)
        if prepared is None:
            return
        if prepared.changed or prepared.fleets or prepared.mended:
            self._commit()  # scored data belongs to the old settings and detectors
            if prepared.fleets and self._commits.error:
                self._reloads.done(
                    Refused(
                        "not_stored",
                        "a stream can get another detector only while the store works; nothing"
                        f" has changed. Reload again when it works: {self._commits.error}",
                    )
                )
                return
            self._apply(prepared)
        self._reloads.done(prepared)

    def _apply(self, prepared: Prepared) -> None:
        before, self._config = self._config, prepared.config
        config, store = prepared.config, prepared.config.store
        if config.log != before.log:
            set_level(config.log.level)
        self._store.limit(
            store.outbox_rows_max,
            store.ring_rows_max,
            store.alarm_rows_max,
            store.bytes_max,
            retention_of(store),
            store.history_bytes_max,
            store.logbook_rows_max,
            store.windows_bytes_max,
        )
        self._points.configure(*handling_of(config))
        self._operating.roles = _roles(config)
        self._operating.labelling = _labelling(config.alarms)
        self._tell_on_site(config)
        now = time.monotonic()
        self._next_health = min(self._next_health, now + config.health.interval_s)
        for fleet in prepared.fleets:
            self._exchanging = {stream.name for stream in fleet.streams}
            self._streams.exchange(fleet, self._batch)
        self._exchanging = set()
        for choice in prepared.mended:
            self._streams.mend(choice.table.name, choice.origin)
        if prepared.fleets or prepared.mended:
            self._next_health = now  # tell central ops soon
        if prepared.fleets:
            self._store.readings.history.describe(self._streams.channels())
        self._streams.reconfigure(config.streams, config.summary.interval_s, self._batch)
        if config.mqtt != before.mqtt:
            self._relay.replace(uplink_of(config, self._store, self._quarantine.guard))
            self._central.listen(config, self._control.ask)

    def _tell_on_site(self, config: AgentConfig) -> None:
        """Take over who is told on site; the next commit drops notices of removed hooks."""
        self._hooks.configure(config.on_site.hooks, config.language.default)
        self._panels.configure(config.on_site.mqtt)
        self._store.records.notices.rows_max = self._hooks.rows_max

    def _rescue(self) -> None:
        """Commit data that the defect did not affect, and close; the rest is lost as after a kill.

        It commits nothing of streams that were being scored or exchanged: their samples, memory and
        messages belong together, and some of these are wrong. It commits no status, because the
        code that creates it may have failed.
        """
        self._control.stop()
        touched = {self._inputs[chunk.input_name].stream for chunk in self._in_hand}
        touched |= self._exchanging
        self._streams.flush(self._batch)
        self._streams.leave(touched)
        self._commits.forgo(
            touched, [name for name, one in self._inputs.items() if one.stream in touched]
        )
        self._commit(with_status=False)
        self._stop_inputs()
        self._panels.stop()
        self._central.stop()
        self._hooks.stop()
        self._relay.stop()
        self._commit(with_status=False)
        self._control.close()
        self._store.close()
        self._reloads.stop()

    def _stop_inputs(self) -> None:
        for source in self._reading:
            source.ask_to_stop()  # all at the same time, because each may take a moment
        while self._reading:
            self._reading.pop().stop()

    def _take_what_is_left(self) -> None:
        """Stop the inputs, and process what has arrived."""
        self._notifier.stopping()
        self._control.stop()
        self._stop_inputs()
        while chunks := self._chunks.take(0.0):
            self._take(chunks)

    def _finish(self) -> None:
        """Commit, end the uplink, and then commit what was acknowledged meanwhile."""
        self._commit()
        self._panels.stop()
        self._central.stop()
        self._hooks.stop()
        self._relay.stop()
        self._commit()
        self._quarantine.close(clean=not self._aborted)
        self._control.close()
        self._store.close()
        self._reloads.stop()
        if self._commits.error is not None:
            rows, messages = self._batch.rows(), len(self._batch.messages)
            _LOG.error("could not store %d samples and %d messages; they are lost", rows, messages)
        _LOG.info("stopped")

    def _status(self) -> str:
        document = self._overview.document(not self._stopping)
        if not self._stopping:
            self._status_line.show(document, time.monotonic())
        return json.dumps(document)


def run(config_file: Path, checker: Checker) -> int:
    """Run the agent with this configuration until SIGTERM or SIGINT; ``checker`` ends earlier.

    Raises:
        ConfigError: a setting is wrong.
        BundleError: a bundle is refused.
        InterpreterMissing: no interpreter is installed that can run a network.
        StoreError: the database cannot be used.
        NotChecked: the checking process failed.
        Defect: a bug ended the loop or a thread; all unaffected data is committed.

    """
    start_logging()
    inbox = Inbox()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, exit codes of hooks are lost
    # SIGHUP may arrive while the bundles load
    signal.signal(signal.SIGHUP, lambda *_: inbox.signal("reload", "SIGHUP"))
    with checker:
        config = checker.call(configuration.load, config_file)
        set_level(config.log.level)
        daemon = Daemon(assembled(config, config_file, checker, inbox))
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    with Watch(daemon.abort):
        daemon.run()
    return 0


def _progress(store: Store) -> Progress:
    """Return how far the samples are sent; no new sample gets the number of one of them."""
    progress = Progress.of(store.records.state(SAMPLES).get(SAMPLES))
    store.readings.number_from(progress.at.next or 0)
    progress.newest = store.readings.next_sample
    return progress


def _streams_of(parts: Parts) -> Streams:
    return Streams(
        parts.fleets,
        {one.name: one.stream for one in parts.inputs},
        parts.parsers,
        parts.unwatched,
        {one.name: one.status for one in parts.inputs},
    )


def _operating_of(parts: Parts) -> Operating:
    return Operating(
        parts.points,
        parts.store.records.alarm,
        parts.clock.wall_s,
        _roles(parts.config),
        _labelling(parts.config.alarms),
    )


def _roles(config: AgentConfig) -> Roles:
    return Roles(config.control.operators, config.control.maintainers)


def _labelling(table: AlarmsTable) -> Labelling:
    return Labelling(table.fault_kinds, table.ask_again_days * 86_400.0)
