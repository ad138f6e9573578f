"""Reloads: a thread reads the new configuration and loads its bundles, the loop applies them.

    command, SIGHUP ─> Reloads.ask           thread "reload"
                          └─ turn ──> configuration ─> bundles that are new ─> Prepared
                             turn <───────────────────────────────────────────────┘
                              └─> the loop applies it between two commits ─> commit ─> answer

A refused configuration or bundle changes nothing. A stream gets another detector if the contents of
its bundle differ (the path does not matter), or if the settings of its baseline differ. A request
during a reload starts another reload after it, because the files may have changed since they were
read. One reload answers all waiting requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.alarms.handled import check_suppressions
from agent.bundles.load import Loaded, Loader
from agent.clock import Clock
from agent.config import load as configuration
from agent.config.checker import Checker, NotChecked
from agent.config.load import AgentConfig, StreamTable
from agent.config.reload import differences, kept, take_over
from agent.control.dispatch import Later
from agent.control.inbox import Answer
from agent.control.protocol import Refused
from agent.fleets import Choice, fleets_of, its_baseline, its_bundle
from agent.health.sdnotify import Notifier
from agent.journal import STREAM
from agent.mqtt.signer import signer_of
from agent.scoring.fleet import Fleet
from agent.scoring.streams import Streams
from models.bundle import Bundle
from models.detector import Detector
from models.errors import BundleError, ConfigError, InterpreterMissing
from models.manifest import Manifest, manifest_of
from models.times import iso_time

_LOG = logging.getLogger(__name__)

_STOP_S_MAX: Final = 3.0  # the agent may take five seconds to stop


class Prepared(NamedTuple):
    """A valid configuration, ready to be applied."""

    config: AgentConfig  # the running one with the settings that take effect
    changed: list[str]  # keys that take effect
    needs_restart: list[str]  # keys that do not, some with the reason
    still_refused: Mapping[str, str]  # why a stream's bundle still cannot run, by the stream's name
    choices: Sequence[Choice] = ()  # of the streams that get another detector
    fleets: Sequence[Fleet] = ()  # of those streams
    mended: Sequence[Choice] = ()  # of streams whose bundle is valid again and already runs

    def answer(self) -> dict[str, Any]:
        """Return the result for the client."""
        return {
            "changed": self.changed,
            "exchanged": {
                stream.name: stream.watched_by for fleet in self.fleets for stream in fleet.streams
            },
            "needs_restart": self.needs_restart,
            "still_refused": dict(self.still_refused),
            "mended": [choice.table.name for choice in self.mended],
        }


class _Choices:
    """Chooses the detectors of the streams in a new configuration; the thread uses it.

    Args:
        running: The current detector of each watched stream.
        refused: The configured bundles that are refused, by stream name.
        loader: Loads bundles, with the trust settings of the configuration in effect.
        manifest_of: Reads a manifest in the checking process.

    """

    def __init__(
        self,
        running: Mapping[str, Detector],
        refused: Mapping[str, Path],
        loader: Loader,
        manifest_of: Callable[[str, bytes], Manifest],
    ) -> None:
        self._running, self._refused = running, refused
        self._loader, self._manifest_of = loader, manifest_of
        self.still_refused: dict[str, str] = {}  # why, by the stream's name
        self.mended: list[Choice] = []  # bundles valid again that already run as substitutes
        self._read: dict[Path, Bundle] = {}
        # by digest; streams with the same bundle contents share one, and its network
        self._detectors = {detector.digest: detector for detector in running.values()}

    def of(self, table: StreamTable) -> Choice | None:
        """Choose the detector of a stream; None: keep the current one.

        The substitute for a refused bundle continues while the bundle is refused.

        Raises:
            BundleError: the bundle is refused.
            InterpreterMissing: no interpreter is installed that can run it.
            ConfigError: the trusted keys cannot be read.

        """
        try:
            return self._other(table)
        except BundleError as error:
            if table.bundle != self._refused.get(table.name):
                raise
            self.still_refused[table.name] = str(error)
            return None

    def _other(self, table: StreamTable) -> Choice | None:
        own = self._running.get(table.name)
        refused = table.name in self._refused
        if table.bundle is None:
            choice = its_baseline(table)
            assert choice.detector is not None
            same = own is not None and own.digest == choice.detector.digest
            return None if same and not refused else choice
        path = table.bundle
        if path not in self._read:
            self._read[path] = self._loader.read(path, self._manifest_of)
        bundle = self._read[path]
        if own is not None and own.digest == bundle.digest:
            if refused:
                self.mended.append(its_bundle(table, Loaded(bundle, own)))
            return None
        if bundle.digest not in self._detectors:
            bundle, detector = self._loader.load(path, self._manifest_of)
            self._read[path], self._detectors[bundle.digest] = bundle, detector
        return its_bundle(table, Loaded(bundle, self._detectors[bundle.digest]))


class Reloads:
    """Carries out reloads, one after the other; the loop's thread uses it.

    Args:
        config_file: The configuration.
        streams: The running streams; the thread reads their detectors and checks settings.
        loader: Loads bundles; the thread calls it.
        clock: The streams' clock.
        notifier: Reports begin and end to systemd.
        wake: Makes the loop run its next turn soon.

    """

    def __init__(
        self,
        config_file: Path,
        streams: Streams,
        loader: Loader,
        clock: Clock,
        notifier: Notifier,
        wake: Callable[[], None],
    ) -> None:
        self._file, self._streams, self._loader = config_file, streams, loader
        self._clock, self._notifier, self._wake = clock, notifier, wake
        self._asked: Later | None = None  # for a reload that has not begun
        self._answer = Later()  # of the reload in progress
        self._thread: threading.Thread | None = None  # while a reload is in progress
        self._checker = Checker()
        self._outcome: Prepared | Refused | None = None
        self._loaded_s = time.time()
        self._refused: str | None = None  # reason, if the last reload was refused
        self._needs_restart: list[str] = []

    def ask(self) -> Later:
        """Request a reload; return its future answer."""
        if self._asked is None:
            self._asked = Later()
            self._wake()
        return self._asked

    def turn(self, now: AgentConfig) -> Prepared | None:
        """Start a requested reload, or return a prepared one; the loop calls it in each turn.

        The caller applies the returned configuration, and then calls ``done``. ``now`` is the
        configuration in effect.
        """
        if self._thread is None:
            if self._asked is not None:
                self._begin(now, self._asked)
            return None
        if self._outcome is None:
            return None
        self._thread.join()
        outcome, self._thread, self._outcome = self._outcome, None, None
        if isinstance(outcome, Prepared):
            return outcome
        self.done(outcome)
        return None

    def done(self, outcome: Prepared | Refused) -> None:
        """Answer and log the outcome of a reload."""
        self._notifier.reloaded()
        self._answer.answer = self._told(outcome)
        if self._asked is not None:
            self._wake()

    def _told(self, outcome: Prepared | Refused) -> Answer:
        if isinstance(outcome, Refused):
            self._refused = str(outcome)
            problems = self._refused.replace("\n", "; ")
            _LOG.error("reload refused, nothing has changed: %s", problems)
            return outcome
        self._loaded_s, self._refused = time.time(), None
        with_bundle = {table.name for table in outcome.config.streams if table.bundle is not None}
        choices = (*outcome.choices, *outcome.mended)
        bundles = {one.table.name: one.bundle for one in choices if one.bundle is not None}
        self._loader.note_running(bundles, with_bundle)
        self._needs_restart = outcome.needs_restart
        _LOG.info("configuration loaded; changed: %s", ", ".join(outcome.changed) or "nothing")
        for fleet in outcome.fleets:
            for stream in fleet.streams:
                _LOG.warning(
                    "stream %s: now watched by %s version %d, digest %s",
                    *(stream.name, stream.manifest.name, stream.manifest.version),
                    stream.detector.digest,
                    extra={STREAM: stream.name},
                )
        for choice in outcome.mended:
            name = choice.table.name
            _LOG.warning("stream %s: its bundle is valid; %s", name, choice, extra={STREAM: name})
        for name, why in outcome.still_refused.items():
            _LOG.warning("stream %s: bundle still refused: %s", name, why, extra={STREAM: name})
        if self._needs_restart:
            _LOG.warning("these settings need a restart: %s", "; ".join(self._needs_restart))
        return outcome.answer()

    def document(self) -> dict[str, Any]:
        """Return the state of the configuration, for ``status``."""
        return {
            "file": str(self._file),
            "loaded": iso_time(self._loaded_s),
            "refused": self._refused,
            "needs_restart": self._needs_restart,
        }

    def stop(self) -> None:
        """Abort a reload in progress, and wait some seconds for its thread."""
        if self._thread is not None:
            self._checker.kill()
            self._loader.abandon()
            self._thread.join(_STOP_S_MAX)

    def _begin(self, now: AgentConfig, answer: Later) -> None:
        self._asked, self._answer = None, answer
        self._notifier.reloading()
        try:
            self._checker = Checker()
            self._checker.start()
        except NotChecked as error:
            self.done(Refused("configuration", str(error)))
            return
        self._thread = threading.Thread(
            target=self._run, args=(now, self._checker), name="reload", daemon=True
        )
        self._thread.start()

    # ---- the thread

    def _run(self, now: AgentConfig, checker: Checker) -> None:
        try:
            with checker:
                self._outcome = self._prepare(now, checker)
        except (ConfigError, NotChecked) as error:
            self._outcome = Refused("configuration", str(error))
        except (BundleError, InterpreterMissing) as error:
            self._outcome = Refused("bundle", str(error))
        finally:
            self._wake()

    def _prepare(self, now: AgentConfig, checker: Checker) -> Prepared:
        new = checker.call(configuration.load, self._file)
        choices = _Choices(
            self._streams.detectors(),
            self._streams.refused(),
            self._loader,
            lambda source, data: checker.call(manifest_of, source, data),
        )
        wanted = take_over(now, new)
        self._notifier.check(wanted.store.flush_interval_s)
        wanted.keys.check()
        signer_of(wanted)
        others: list[Choice] = []
        stay: dict[str, str] = {}  # streams that cannot get another detector now, and why
        for table in wanted.streams:
            choice = choices.of(table)
            if choice is None or choice.detector is None:
                self._streams.check(table)
            elif (reason := self._streams.misfit(table.name, choice.detector)) is not None:
                stay[table.name] = reason
            else:
                others.append(choice)
        wanted = kept(now, wanted, stay)
        check_suppressions(wanted, self._streams.own_channels())
        interval_s = wanted.summary.interval_s
        return Prepared(
            wanted,
            list(differences(now, wanted)),
            _needs_restart(wanted, new, stay),
            choices.still_refused,
            others,
            fleets_of(others, interval_s, self._clock) if others else [],
            choices.mended,
        )


def _needs_restart(wanted: AgentConfig, new: AgentConfig, stay: Mapping[str, str]) -> list[str]:
    """Return the keys that need a restart; the key of a bundle or baseline with the reason."""
    keys = {table.name: "bundle" if table.bundle else "baseline" for table in new.streams}
    reasons = {f"streams.{name}.{keys[name]}": reason for name, reason in stay.items()}
    places = tuple(f"streams.{name}.{key}" for name in stay for key in ("bundle", "baseline"))
    others = [key for key in differences(wanted, new) if not key.startswith(places)]
    return others + [f"{key} ({reason})" for key, reason in reasons.items()]
