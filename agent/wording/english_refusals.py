"""The English texts of what was not done, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str]] = {
    # what the state of an alarm, or a rule, forbids
    "impossible.acknowledge": "it is {state}; only an unacknowledged alarm can be acknowledged",
    "impossible.unacknowledge": "it is {state}; there is no acknowledgement to take back",
    "impossible.reset": "it is {state}; only a latched alarm that is acknowledged can be reset",
    "impossible.not_shelvable": (
        "alarms of this consequence must not be shelved (alarms.not_shelvable)"
    ),
    "impossible.already": "it is {state} already",
    "impossible.not_active": "it is not active, so it cannot clear: shelve it for a fixed time",
    "impossible.shelve_max": "a shelving lasts at most {hours} h (alarms.shelve_h_max)",
    "impossible.shelved_max": (
        "{left} of {hours} h of shelving are left until it has been normal (alarms.shelved_h_max)"
    ),
    "impossible.not_shelved": "it is {state}, not shelved",
    "impossible.not_out": "it is {state}, not out of service",
    "impossible.agent": "only the agent does this",
    # how an alarm stands now
    "standing.none": "there was no such alarm since this version runs",
    "standing.now": "{alarm} is {state}",
    "standing.raised": "{now}, raised {count} times since it was last normal",
    "standing.severity": "{now}, severity {severity}",
    "stale.over": "it is over; {now}",
    "stale.changed": "it has changed since; {now}",
    # arguments
    "wrong.alarm": "stream and number must name an alarm; a label may have a time instead",
    "wrong.revision": "revision must be that of the alarm as you saw it",
    "wrong.no_text": "a text is missing",
    "wrong.no_reason": "a reason is missing",
    "wrong.stream": "there is no stream '{stream}'",
    "wrong.label": "label must be one of {labels}",
    "wrong.future": "to is in the future; only maintenance can be entered in advance",
    "wrong.members": "members must be a list of 1 to {count} pairs [number, revision]",
    "wrong.text": "{what} must be one line of at most {count} printable characters",
    "wrong.the_text": "the text",
    "wrong.the_reason": "reason",
    "wrong.period": "from and to must be times, Unix seconds, and to must not be before from",
    "wrong.whole": "{what} must be a whole number, at least {least}",
    "wrong.hours": "hours must be a number above 0",
    "wrong.flag": "{what} must be true or false",
    # refusals of the agent
    "refused.nothing_done": "nothing was done: {why}",
    "refused.stale": "nothing was done: {why}. Look at it, and ask again",
    "refused.no_alarm": "{stream} has no alarm {number} on the disk",
    "refused.gap": "{stream} {number} is a gap, not an alarm",
    "refused.role": (
        "{name} has the role {role}; it takes the role {needed} to {what}; nothing was done"
    ),
    "refused.group": "{name} is not in the group {group}, which may {what}; nothing was done",
    "refused.may_read": "read",
    "refused.may_handle": "handle alarms",
    "refused.may_take_out": "take alarms out of service and back",
    "refused.not_stored": "done, but not stored: {why}; trying again",
    "refused.busy": "too many commands at once; try again in a few seconds",
    "refused.clients": "{count} clients are connected; try again later",
    "refused.queue": "the agent at {place} has too many clients; try again",
    "refused.stopping": "the agent is stopping; nothing was done. Try again when it runs",
    "refused.page_user": (
        "only {user}, the user of the web page (control.page_user), may ask for other people, and"
        " you are {name}; nothing was done"
    ),
    # what the page cannot send, or cannot show
    "page.wrong.action": "there is no action '{verb}'",
    "page.wrong.label": "choose a label",
    "page.wrong.member": "each member must be a number with its revision",
    "page.wrong.whole": "'{text}' is not a whole number",
    "page.no_stream": "there is no stream '{stream}'",
    "page.no_alarm": "{stream} has no alarm {number}; fieldwatch-agent alarms lists them",
    "page.refused.no_agent": (
        "The agent does not answer. Nothing has changed. Start it with: sudo systemctl start"
        " fieldwatch-agent"
    ),
    "page.refused.not_allowed": (
        "The page may not send commands to the agent. fieldwatch-agent check says how to change"
        " this"
    ),
    "page.refused.no_answer": (
        "The agent has not answered. It is not known whether it is done. See: journalctl -u"
        " fieldwatch-agent"
    ),
    "page.refused.store": "The agent's database cannot be read: {why}",
    "page.refused.configuration": "The configuration is wrong: {why}",
    "page.refused.other": "It did not work: {why}",
    # forecasts and other charts
    "page.undrawn.request": "{why}",
    "page.undrawn.unknown": "{why}",
    "page.undrawn.impossible": "{why}",
    "page.undrawn.configuration": "{why}",
    "page.undrawn.bundle": "{why}",
    "page.undrawn.store": "{why}",
    "page.undrawn.too_large": "the chart is too large: choose fewer channels or points",
    "page.undrawn.busy": "too many charts are asked for at once; try again",
    "page.undrawn.too_long": (
        "the chart was not ready in time: choose a shorter time or fewer points"
    ),
    "page.undrawn.ended": (
        "the process for charts ended without an answer; try again. The log has more"
    ),
    "forecast.none": "no forecast: {reason}: {detail}",
    "forecast.short_history": "short history",
    "forecast.missing_values": "missing values",
    "forecast.no_present_value": (
        "--plan {channel}+=: its present value is not known; give the value itself, as in"
        " --plan {channel}=VALUE"
    ),
    "forecast.not_from_median": (
        "stream {stream}: its baseline makes no forecasts: it compares with the median"
        " (deviations_max or history_samples), or season_s is too short or too long"
    ),
    "forecast.no_forecaster": (
        "{bundle}: this bundle has no forecaster: train it with a table [forecast]"
    ),
    "forecast.rivals_short": (
        "no comparison: short history: {stored} s are stored, {needed} s are needed: the context"
        " of a forecast, its horizon, and a stride"
    ),
    "forecast.rivals_none": (
        "no comparison: no forecast could be made at any of {tried} past times; at the last:"
        " {reason}: {detail}"
    ),
}
