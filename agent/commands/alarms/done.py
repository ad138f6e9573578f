"""What the agent did for a person, in lines: the new state of an alarm, a note or a label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.handling.transition import SAID
from agent.wording.language import ENGLISH, Language
from agent.wording.message import Message


def lines(made: Mapping[str, Any], told: Language = ENGLISH) -> Iterator[str]:
    """Yield what was done; ``made``: the transition as the agent returned it."""
    revision = f"#{made['number']}.{made['revision']}" if made["number"] else ""
    known = {"alarm": f"{made['stream']}{revision}", "done": _done(made, told)}
    yield told.text(Message("done.logbook", known))
    if kinds := made.get("kinds"):
        yield told.text(Message("done.kinds", {"kinds": ", ".join(kinds)}))


def _done(made: Mapping[str, Any], told: Language) -> str:
    if made["what"] not in ("noted", "labelled"):
        return told.phrase(f"state.{made['after']}", made["told"])
    said = told.phrase(f"row.{made['what']}", SAID[made["what"]])
    if made["label"] is None:
        return said
    return f"{said} {told.phrase('labelled.' + made['label'], made['label'])}"
