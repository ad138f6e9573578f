"""The reference of the agent's configuration; see ``models.reference``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.config.load import AgentConfig
from agent.config.reload import takes_effect
from models import reference
from models.validation import BaseModel

_RELOAD = reference.Column("reload", lambda place: "yes" if takes_effect(place) else "restart")


def schema(root: type[BaseModel] = AgentConfig) -> dict[str, Any]:
    """Return the JSON schema of a whole configuration; a drop-in may lack needed keys."""
    return reference.schema(root, "Fieldwatch agent", "The configuration of one gateway.")


def markdown(root: type[BaseModel] = AgentConfig) -> Iterator[str]:
    """Yield the reference of every table and setting, line by line."""
    return reference.markdown(root, _RELOAD)
