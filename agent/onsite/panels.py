"""Holds the panel, if one is configured, so that the loop need not know which it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agent.onsite.view import Point, view_of
from agent.store.record import Origin

if TYPE_CHECKING:
    from agent.config.onsite import PanelTable
    from agent.onsite.panel import Panel


class Panels:
    """At most one panel; the loop's thread uses it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._settings: PanelTable | None = None
        self._panel: Panel | None = None
        self._leaving: Panel | None = None
        self._running = False

    def configure(self, settings: PanelTable | None) -> None:
        """Take over settings; a panel whose settings are the same goes on as it is."""
        if settings == self._settings:
            return
        self._settings = settings
        if self._panel is not None:
            self._panel.ask_to_stop()
            self._leaving, self._panel = self._panel, None
        if settings is not None:
            from agent.onsite.panel import Panel  # only if one is configured

            self._panel = Panel(settings, self._origin, self._leaving)
            if self._running:
                self._panel.start()

    def start(self) -> None:
        """Begin to show."""
        self._running = True
        if self._panel is not None:
            self._panel.start()

    def show(
        self,
        streams: Callable[[], Mapping[str, Mapping[str, Any]]],
        points: Callable[[], Iterable[Point]],
    ) -> None:
        """Show the present state, if that is due.

        Args:
            streams: Returns the part ``streams`` of the status document.
            points: Returns the points that are not normal.

        """
        if self._panel is not None and self._panel.wants():
            self._panel.show(view_of(streams(), points()))

    def document(self) -> dict[str, Any] | None:
        """Return its state, for ``status``; None: none is configured."""
        return None if self._panel is None else self._panel.document()

    def stop(self) -> None:
        """Say goodbye and end."""
        for panel in (self._panel, self._leaving):
            if panel is not None:
                panel.ask_to_stop()
        for panel in (self._panel, self._leaving):
            if panel is not None:
                panel.join()
