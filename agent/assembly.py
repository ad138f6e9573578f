"""Creates all parts of the agent from its configuration, and goes on where the store ended.

    configuration ─> detectors ─> store ─> points and streams restored ─> inputs, uplink ─> Parts

Nothing is started: ``agent.daemon`` connects the parts and runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.alarms.handled import check_suppressions, handling_of
from agent.alarms.lifecycle import closed_as_removed
from agent.alarms.points import Points
from agent.bundles.load import Loader
from agent.clock import Clock
from agent.commits import CLOCK, HANDLING
from agent.config.checker import Checker
from agent.config.load import AgentConfig, StoreTable
from agent.control.door import Door
from agent.control.inbox import Inbox
from agent.defects.quarantine import Quarantine
from agent.fleets import CHOICE_S_MAX, Choice, Chooser, fleets_of, log_refused, unwatched_of
from agent.guard import Guard
from agent.health.sdnotify import Notifier
from agent.inputs.kinds import open_input
from agent.inputs.queue import ChunkQueue
from agent.inputs.source import Input
from agent.mqtt.signer import signer_of
from agent.parsing.lines import LineParser
from agent.scoring.fleet import Fleet
from agent.scoring.origin import BASELINE, Unwatched
from agent.scoring.stream import Stream
from agent.store.batch import Batch
from agent.store.maintenance import bring_up_to_date, mend_meanwhile
from agent.store.obstacles import refuse_directory
from agent.store.retention import Retention
from agent.store.writer import Store
from agent.uplink.sender import Uplink
from models.manifest import manifest_of

S = TypeVar("S", bound=Store)


@dataclass(eq=False, kw_only=True)
class Parts:
    """The parts of an agent, not started yet.

    ``batch`` is the first to be committed; ``parsers`` excludes inputs of ``unwatched`` streams.
    """

    config: AgentConfig
    config_file: Path
    loader: Loader
    store: Store
    fleets: Sequence[Fleet]
    unwatched: Sequence[Unwatched] = ()
    inputs: Sequence[Input]
    parsers: Mapping[str, LineParser]
    chunks: ChunkQueue
    uplink: Uplink | None
    notifier: Notifier
    clock: Clock
    points: Points
    quarantine: Quarantine
    batch: Batch = field(default_factory=Batch)
    inbox: Inbox = field(default_factory=Inbox)
    door: Door | None = None


def assembled(config: AgentConfig, config_file: Path, checker: Checker, inbox: Inbox) -> Parts:
    """Create all parts, with what the store has of an earlier run.

    Raises:
        ConfigError: a setting is wrong.
        NoStreamRuns: each bundle is refused, and nothing stands in.
        InterpreterMissing: no interpreter is installed that can run a network.
        StoreError: the database cannot be used.

    """
    notifier = Notifier()
    notifier.check(config.store.flush_interval_s)
    refuse_directory(config.store.directory)  # before other parts search for their files in it
    config.keys.check()
    signer_of(config)
    clock, loader = Clock(), Loader.of(config)
    choices = _chosen(config, loader, checker, notifier)
    fleets = fleets_of(choices, config.summary.interval_s, clock)
    streams = {stream.name: stream for fleet in fleets for stream in fleet.streams}
    _check_channels(config, streams)
    store = store_of(config, Store)
    parsers = _parsers(config, streams)
    notifier.status("starting: the database")
    _open(store, streams, clock)
    batch, points = Batch(), Points(*handling_of(config))
    _restore_points(points, config, store, clock, batch)
    _restore_streams(streams, store, batch)
    loader.note_running(
        {choice.table.name: choice.bundle for choice in choices if choice.bundle is not None},
        {table.name for table in config.streams if table.bundle is not None},
    )
    quarantine = quarantine_of(config)
    return Parts(
        config=config,
        config_file=config_file,
        loader=loader,
        store=store,
        fleets=fleets,
        unwatched=unwatched_of(choices, store.records.open_alarms),
        inputs=[open_input(source, quarantine.guard) for source in config.inputs],
        parsers=parsers,
        chunks=_queue(config),
        uplink=uplink_of(config, store, quarantine.guard),
        notifier=notifier,
        clock=clock,
        points=points,
        quarantine=quarantine,
        batch=batch,
        inbox=inbox,
        door=_door(config),
    )


def _chosen(
    config: AgentConfig, loader: Loader, checker: Checker, notifier: Notifier
) -> list[Choice]:
    """Choose the detector of each stream, and log what is refused."""
    chooser = Chooser(config, loader, lambda source, data: checker.call(manifest_of, source, data))
    choices = []
    for table in config.streams:
        notifier.starting(CHOICE_S_MAX, f"starting: the bundle of stream {table.name}")
        choices.append(chooser.choose(table))
    log_refused(choices)
    return choices


def _check_channels(config: AgentConfig, streams: Mapping[str, Stream]) -> None:
    """Check the channels of suppressions; a baseline in place of a bundle may lack some."""
    check_suppressions(
        config,
        {
            name: stream.manifest.channel_names
            for name, stream in streams.items()
            if stream.origin.stands_in != BASELINE
        },
    )


def _parsers(config: AgentConfig, streams: Mapping[str, Stream]) -> dict[str, LineParser]:
    return {
        source.name: LineParser(source.lines, streams[source.stream].manifest.source_channels)
        for source in config.inputs
        if source.stream in streams
    }


def _open(store: Store, streams: Mapping[str, Stream], clock: Clock) -> None:
    """Open the database, and let the clock continue from what it has."""
    store.readings.history.describe(
        {name: stream.manifest.channel_names for name, stream in streams.items()}
    )
    bring_up_to_date(store.directory)
    store.open(mend_meanwhile)
    saved = (store.records.state(CLOCK).get(CLOCK), store.readings.clock())
    if known := [one for one in saved if one]:
        clock.restore(*known)


def _restore_points(
    points: Points, config: AgentConfig, store: Store, clock: Clock, batch: Batch
) -> None:
    """Continue the points, and close the alarms of streams that are gone."""
    records = store.records
    points.restore(records.standings(), clock.wall_s(), records.state(HANDLING))
    open_alarms, configured = records.all_open_alarms(), {table.name for table in config.streams}
    points.compare(open_alarms, clock.wall_s())
    for alarm in open_alarms:
        if alarm["stream"] not in configured:
            batch.tell(closed_as_removed(alarm, clock.wall_s()))


def _restore_streams(streams: Mapping[str, Stream], store: Store, batch: Batch) -> None:
    records = store.records
    for name, stream in streams.items():
        number = records.last_alarm_number(name)
        goes_on = stream.restore(records.state(name), records.open_alarms(name), number, batch)
        stream.windows.resume(records.unfinished_windows(name), goes_on, batch)


def _queue(config: AgentConfig) -> ChunkQueue:
    runtime = config.runtime
    return ChunkQueue(runtime.queue_chunks_max, runtime.gather_s, len(config.inputs))


def _door(config: AgentConfig) -> Door | None:
    if config.control_socket is None:
        return None
    return Door(config.control_socket, config.control.page_user)


def quarantine_of(config: AgentConfig) -> Quarantine:
    """Return the quarantine of chunks that may have ended the agent."""
    headed = [source.name for source in config.inputs if source.lines.header]
    return Quarantine(config.store.directory, headed)


def retention_of(table: StoreTable) -> Retention:
    """Return how long the store keeps what it has."""
    return Retention(table.samples_days_max, table.alarms_days_max, table.history_days_max)


def store_of(config: AgentConfig, kind: type[S]) -> S:
    """Return the configured store, of the given class, not opened yet."""
    return kind(
        config.store.directory,
        config.gateway.site,
        config.gateway.name,
        config.store.outbox_rows_max,
        config.store.ring_rows_max,
        alarm_rows_max=config.store.alarm_rows_max,
        logbook_rows_max=config.store.logbook_rows_max,
        bytes_max=config.store.bytes_max,
        history_bytes_max=config.store.history_bytes_max,
        windows_bytes_max=config.store.windows_bytes_max,
        retention=retention_of(config.store),
    )


def uplink_of(config: AgentConfig, store: Store, guard: Guard) -> Uplink | None:
    """Return the configured uplink, not started yet; None if none is configured."""
    if config.mqtt is None:
        return None
    return Uplink(
        config.mqtt,
        store.origin,
        store.directory,
        lambda: store.last_seq,
        guard,
        config.keys.directory,
        signer_of(config),
    )
