"""The commands of central ops, as long as they are configured: who listens, and who executes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agent.clock import Clock
from agent.config.commands import CommandsTable
from agent.config.load import AgentConfig
from agent.control.dispatch import Verb
from agent.control.inbox import Command
from agent.mqtt.signer import signer_of
from agent.operating import Operating
from agent.remote.execution import Execution
from agent.store.batch import Batch
from agent.store.orders import Known

if TYPE_CHECKING:
    from agent.remote.listener import Listener


class Central:
    """Accepts and executes the commands of central ops; the loop's thread uses it."""

    def __init__(
        self, config: AgentConfig, operating: Operating, clock: Clock, batch: Batch
    ) -> None:
        self._execution = Execution(_commands(config), operating, clock, batch)
        self._listener: Listener | None = None

    def verbs(self) -> dict[str, Verb]:
        """Return the command by which the listener asks the loop."""
        return self._execution.verbs()

    def restore(self, known: Mapping[str, Known], forgotten_s: float) -> None:
        """Continue with the stored commands; see ``Execution.restore``."""
        self._execution.restore(known, forgotten_s)

    def listen(self, config: AgentConfig, ask: Callable[[Command], None]) -> None:
        """Accept commands from now on, or none, as configured; ``ask`` asks the loop."""
        before, self._listener = self._listener, None
        if before is not None:
            before.ask_to_stop()
        self._execution.settings = _commands(config)
        if config.mqtt is None or not config.mqtt.commands.enabled:
            return
        from agent.remote.listener import Listener, Place

        assert config.keys.directory is not None  # the configuration sees to that
        gateway, directory = config.gateway, config.store.directory
        place = Place(gateway.site, gateway.name, directory, config.keys.directory)
        self._listener = Listener(config.mqtt, place, signer_of(config), ask, before)
        self._listener.start()

    def stop(self) -> None:
        """Accept no more commands."""
        if self._listener is not None:
            self._listener.stop()

    def document(self) -> dict[str, Any]:
        """Return the state of the commands, for ``status``; empty if they are off."""
        if self._listener is None:
            return {}
        return {"remote": self._listener.document() | self._execution.document()}


def _commands(config: AgentConfig) -> CommandsTable:
    return CommandsTable() if config.mqtt is None else config.mqtt.commands
