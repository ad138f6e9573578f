"""Puts the page together, and serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.config.location import store_directory
from agent.page.app import Page
from agent.page.server import listening, passed_sockets, serve

HOST: Final = "127.0.0.1"
PORT: Final = 8377


def run(config_file: Path, idle_exit_s: float | None = None) -> None:
    """Serve the page of the agent with this configuration until it is stopped."""
    sockets = passed_sockets() or [listening(HOST, PORT)]
    serve(Page(config_file, store_directory(config_file)).app(), sockets, idle_exit_s)
