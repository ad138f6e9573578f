"""The hooks of a gateway, as the loop sees them.

The loop asks which notices a commit must contain, and which rows it may delete. Each hook has a
worker thread (``agent.onsite.worker``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agent.onsite.choice import wants
from agent.store.notices import Notice, Totals
from agent.store.record import Origin
from agent.wording.sentence import first_sentence
from models.errors import StoreError

if TYPE_CHECKING:
    from agent.config.onsite import HookTable
    from agent.handling.transition import Transition
    from agent.onsite.worker import Worker

_LOG = logging.getLogger(__name__)

FORM: Final = 1  # of the document; it rises if a receiver must change
_CHANNELS_MAX: Final = 20  # of an alarm, so that a notice stays small
_STOP_S_MAX: Final = 3.0  # for all workers together

Find = Callable[[str, int], dict[str, Any] | None]


class Hooks:
    """All hooks; the loop's thread uses it.

    Args:
        origin: The gateway.
        directory: The store's, which the workers read.
        find: Returns an alarm that is on the disk, by stream and number; None: there is none.

    """

    def __init__(self, origin: Origin, directory: Path, find: Find) -> None:
        self._origin, self._directory, self._find = origin, directory, find
        self._settings: dict[str, HookTable] = {}
        self._workers: dict[str, Worker] = {}
        self._leaving: list[Worker] = []
        self._left: list[int] = []  # settled rows of workers that have ended
        self._running = False
        self._language = "en"

    @property
    def rows_max(self) -> dict[str, int]:
        """How many notices may wait, by hook."""
        return {name: hook.waiting_max for name, hook in self._settings.items()}

    def configure(self, hooks: Sequence[HookTable], language: str) -> None:
        """Take over settings; a hook whose settings are the same goes on as it is."""
        self._language = language
        wanted = {hook.name: hook for hook in hooks}
        for name, before in list(self._settings.items()):
            if wanted.get(name) != before:
                self._end(name)
        for name, hook in wanted.items():
            if name not in self._settings:
                self._begin(name, hook)

    def _end(self, name: str) -> None:
        del self._settings[name]
        worker = self._workers.pop(name)
        worker.ask_to_stop()
        ended = [one for one in self._leaving if not one.alive]
        self._left += [row for one in ended for row in one.settled()]
        self._leaving = [one for one in self._leaving if one not in ended] + [worker]

    def _begin(self, name: str, hook: HookTable) -> None:
        from agent.onsite.worker import Worker  # only if a hook is configured

        before = next((one for one in self._leaving if one.name == name), None)
        self._settings[name], self._workers[name] = hook, Worker(hook, self._directory, before)
        if self._running:
            self._workers[name].start()

    def start(self) -> None:
        """Begin to deliver."""
        self._running = True
        for worker in self._workers.values():
            worker.start()

    def stop(self) -> None:
        """End all workers; what was not delivered waits in the store."""
        workers = [*self._workers.values(), *self._leaving]
        for worker in workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + _STOP_S_MAX
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def notices(self, made: Sequence[Transition], alarms: Sequence[dict[str, Any]]) -> list[Notice]:
        """Return what the hooks must be told of these transitions.

        ``alarms``: those that the same commit writes.
        """
        if not self._settings:
            return []
        found = []
        for one in made:
            names = [name for name, hook in self._settings.items() if wants(hook, one)]
            if names:
                id, document = self._document(one, alarms)
                found += [Notice(name, id, one.stream, one.at, document) for name in names]
        return found

    def _document(self, one: Transition, alarms: Sequence[dict[str, Any]]) -> tuple[str, bytes]:
        origin = self._origin
        named = (origin.epoch, one.stream, one.point, str(one.revision))
        id = hashlib.sha256("\n".join(named).encode()).hexdigest()[:32]
        alarm = self._alarm(one, alarms)
        document = {
            "form": FORM,
            "id": id,
            "site": origin.site,
            "gateway": origin.gateway,
            "text": None if alarm is None else first_sentence(alarm, self._language),
            "transition": one.document(),
            "alarm": alarm,
        }
        return id, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def _alarm(self, one: Transition, alarms: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the alarm of a transition: its newest state, with its first channels."""
        key = (one.stream, one.number)
        alarm = next((a for a in reversed(alarms) if (a["stream"], a["number"]) == key), None)
        if alarm is None:
            try:
                alarm = self._find(*key)
            except StoreError:  # the commit reports it; the notice goes without its alarm
                return None
        return alarm and {**alarm, "channels": alarm["channels"][:_CHANNELS_MAX]}

    def settled(self) -> list[int]:
        """Return the rows to delete: they are delivered, refused, or too old."""
        workers = [*self._workers.values(), *self._leaving]
        left, self._left = self._left, []
        return left + [row for worker in workers for row in worker.settled()]

    def committed(self, deleted: list[int]) -> None:
        """Record that a commit has deleted these rows, and perhaps added others."""
        for worker in self._workers.values():
            worker.committed(deleted)

    def document(self, totals: Totals) -> dict[str, Any]:
        """Return the state of each hook, for ``status``."""
        return {
            name: _told(self._settings[name], worker.document(), totals, name)
            for name, worker in self._workers.items()
        }


def _told(hook: HookTable, state: Mapping[str, Any], totals: Totals, name: str) -> dict[str, Any]:
    excess = totals.excess[name]
    return {
        "to": receiver(hook),
        **state,
        "waiting": totals.waiting[name],
        "dropped": excess + state["expired"] + state["refused"],
        "excess": excess,
    }


def receiver(hook: HookTable) -> str:
    """Return who is told, without what may be secret: the path and query of an address."""
    if hook.command is not None:
        return hook.command[0]
    if hook.url is None:
        return str(hook.url_file)
    url = urlsplit(hook.url)
    return f"{url.scheme}://{url.hostname}" + ("" if url.port is None else f":{url.port}")
