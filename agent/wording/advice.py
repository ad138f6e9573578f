"""What to do about an alarm: the default advice for each kind of event, and to wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agent.wording.language import Language
from agent.wording.message import Message, message_of
from agent.wording.sentence import title_of
from models.names import REMAINING_LIFE

if TYPE_CHECKING:
    from models.messages import Event


def default_advice(event: Event) -> Message:
    """Return the advice about an event, by its kind or its limit."""
    limit = event.limit
    if limit is None:
        return Message(f"advice.{event.kind}")
    channel = {"channel": event.channels[0].channel}
    if event.channels[0].channel == REMAINING_LIFE:
        return Message("advice.remaining_life")
    if event.kind == "limit":
        return Message(f"advice.limit_{limit.side}", channel)
    return Message(f"advice.{limit.level}_{limit.side}", channel)


Name = Callable[[Mapping[str, Any]], str]  # returns the name of a channel for the reader


def to_do(alarm: Mapping[str, Any], told: Language, name: Name = title_of) -> str:
    """Return the advice for now: while the off-delay of a limit runs, it is to wait."""
    action = _action(alarm, told, name)
    limit = alarm.get("limit") or {}
    if alarm["closed"] or limit.get("back_since") is None:
        return action
    parameters = {
        "channel": name(alarm["channels"][0]),
        "back_at": limit["back_since"],
        "delay_s": limit["off_delay_s"],
        "action": action,
    }
    return told.text(Message("advice.wait", parameters))


def _action(alarm: Mapping[str, Any], told: Language, name: Name) -> str:
    """Return the advice of an alarm; the plant's own words stay as they are."""
    advice = alarm.get("advice")
    if not advice:
        return str(alarm["action"])
    message = message_of(advice)
    named = [
        one for one in alarm["channels"] if one["channel"] == message.parameters.get("channel")
    ]
    own = {"channel": name(named[0])} if named else {}
    return told.text(Message(message.key, {**message.parameters, **own}))
