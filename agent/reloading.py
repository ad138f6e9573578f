"""A reload: a thread reads and checks the new configuration, the loop applies it.

    command, SIGHUP ─> Reloads.ask          thread "reload"
                           └─ turn ────────> configuration ─> Prepared
                       turn <──────────────────────┘
                        └─> the loop applies it between two commits ─> commit ─> answer

A configuration that is refused changes nothing. A reload that is requested while one is in progress
follows it: the file may have changed since it was read. All that wait are answered by the one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.config import load as configuration
from agent.config.checker import Checker, NotChecked
from agent.config.load import AgentConfig
from agent.config.reload import differences, take_over
from agent.control.dispatch import Later
from agent.control.inbox import Answer
from agent.control.protocol import Refused
from agent.health.sdnotify import Notifier
from models.errors import ConfigError
from models.times import iso_time

_LOG = logging.getLogger(__name__)

_STOP_S_MAX: Final = 3.0  # of the five that a stop may take


class Prepared(NamedTuple):
    """A valid configuration, ready to be applied."""

    config: AgentConfig  # to be in effect
    changed: list[str]  # keys that take effect with it
    needs_restart: list[str]  # keys that do not


class Reloads:
    """Carries reloads out, one after the other; the loop's thread uses it.

    Args:
        config_file: The configuration.
        check: Raises ConfigError where a configuration does not fit the running agent. The thread
            calls it.
        wake: Makes the loop turn soon.

    """

    def __init__(
        self,
        config_file: Path,
        check: Callable[[AgentConfig], None],
        notifier: Notifier,
        wake: Callable[[], None],
    ) -> None:
        self._file, self._check = config_file, check
        self._notifier, self._wake = notifier, wake
        self._asked: Later | None = None  # for a reload that has not begun
        self._answer = Later()  # of the one that is in progress
        self._thread: threading.Thread | None = None  # while one is
        self._checker = Checker()
        self._outcome: Prepared | Refused | None = None
        self._loaded_s = time.time()
        self._refused: str | None = None  # why, if the last one was
        self._needs_restart: list[str] = []

    def ask(self) -> Later:
        """Have the configuration read again; return the answer to be."""
        if self._asked is None:
            self._asked = Later()
            self._wake()
        return self._asked

    def turn(self, now: AgentConfig) -> Prepared | None:
        """Begin and end what is due; return what is to be applied, of which ``done`` then tells.

        ``now`` is the configuration in effect. To be called in each turn of the loop.
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
        """Answer and log what became of a reload."""
        self._notifier.reloaded()
        self._answer.answer = self._told(outcome)
        if self._asked is not None:
            self._wake()

    def _told(self, outcome: Prepared | Refused) -> Answer:
        if isinstance(outcome, Refused):
            self._refused = str(outcome)
            problems = self._refused.replace("\n", "; ")
            _LOG.error("configuration refused, the previous one stays in effect: %s", problems)
            return outcome
        self._loaded_s, self._refused = time.time(), None
        self._needs_restart = outcome.needs_restart
        _LOG.info("configuration loaded; changed: %s", ", ".join(outcome.changed) or "nothing")
        if self._needs_restart:
            _LOG.warning("these need a restart: %s", ", ".join(self._needs_restart))
        return {"changed": outcome.changed, "needs_restart": outcome.needs_restart}

    def document(self) -> dict[str, Any]:
        """Say what is in effect, for ``status``."""
        return {
            "file": str(self._file),
            "loaded": iso_time(self._loaded_s),
            "refused": self._refused,
            "needs_restart": self._needs_restart,
        }

    def stop(self) -> None:
        """Give up what is in progress, and wait for its thread as long as a stop may."""
        if self._thread is not None:
            self._checker.kill()
            self._thread.join(_STOP_S_MAX)

    def _begin(self, now: AgentConfig, answer: Later) -> None:
        self._asked, self._answer = None, answer
        self._notifier.reloading()
        try:
            self._checker = Checker()
            self._checker.start()
        except NotChecked as error:
            self.done(_refusal(error))
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
            self._outcome = _refusal(error)
        finally:
            self._wake()

    def _prepare(self, now: AgentConfig, checker: Checker) -> Prepared:
        new = checker.call(configuration.load, self._file)
        wanted = take_over(now, new)
        self._check(wanted)
        return Prepared(wanted, list(differences(now, wanted)), list(differences(wanted, new)))


def _refusal(error: Exception) -> Refused:
    return Refused("configuration", str(error))
