"""The English texts. Their keys and parameters are those of every language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.wording import english_page, english_refusals

TEXTS: Final[Mapping[str, str]] = {
    # numbers and durations
    "number.point": ".",
    "number.absent": "no value",
    "share": "{percent} %",
    "share.most": "over 99 %",
    "share.least": "under 1 %",
    "duration.seconds": "{count} s",
    "duration.minutes": "{count} min",
    "duration.hours": "{count} h",
    "duration.day": "{count} day",
    "duration.days": "{count} days",
    "duration.years": "{count} years",
    "list.and": "{first} and {last}",
    # the first sentence
    "sentence.further": "{sentence} (a further fault beside alarm #{number})",
    "sentence.for": "{sentence}, for {lasted_s}",
    "sentence.over": "{sentence}; over after {lasted_s}",
    "anomaly.lower": "{machine}: {channel} lower than expected",
    "anomaly.higher": "{machine}: {channel} higher than expected",
    "anomaly.lower_for": "{machine}: {channel} lower than expected for its {point}",
    "anomaly.higher_for": "{machine}: {channel} higher than expected for its {point}",
    "anomaly.level_lower": "{machine}: {channel} lower than in all of its training",
    "anomaly.level_higher": "{machine}: {channel} higher than in all of its training",
    "anomaly.unusual": "{machine}: {channel} unusual",
    "anomaly.plain": "{machine}: unusual behaviour",
    "stuck.channel": "{machine}: the value of {channel} does not change any more",
    "stuck.plain": "{machine}: a value does not change any more",
    "missing.channel": "{machine}: no usable value of {channel}",
    "missing.plain": "{machine}: no usable values",
    "silent.device": "{machine}: nothing comes from the device",
    "silent.link": "{machine}: no connection to the device",
    "silent.unusable": "{machine}: nothing usable comes from the device",
    "gap.device": "{machine}: the device sent nothing for {lasted_s}",
    "gap.link": "{machine}: no connection to the device for {lasted_s}",
    "gap.agent": "{machine}: not watched for {lasted_s}",
    "gap.times": "{machine}: the device's times have a gap of {lasted_s}",
    "gap.plain": "{machine}: no values for {lasted_s}",
    "limit.rises": "{machine}: {channel} will probably rise above {limit} {unit} ({level})",
    "limit.falls": "{machine}: {channel} will probably fall below {limit} {unit} ({level})",
    "limit.rises_in": (
        "{machine}: {channel} will probably rise above {limit} {unit} ({level}) in {left_s}"
    ),
    "limit.falls_in": (
        "{machine}: {channel} will probably fall below {limit} {unit} ({level}) in {left_s}"
    ),
    "limit.rises_now": (
        "{machine}: {channel} will rise above {limit} {unit} ({level}) at any moment"
    ),
    "limit.falls_now": (
        "{machine}: {channel} will fall below {limit} {unit} ({level}) at any moment"
    ),
    "limit_passed.above": "{machine}: {channel} above {limit} {unit} ({level})",
    "limit_passed.below": "{machine}: {channel} below {limit} {unit} ({level})",
    "level.warning": "warning limit",
    "level.critical": "critical limit",
    "other": "{machine}: {kind}",
    # what to do
    "advice.anomaly": (
        "look at the machine: the channels named moved as they did not in normal operation"
    ),
    "advice.stuck": "check the sensor: its value does not change any more",
    "advice.missing": "check the sensor and its cable: it gives no usable value",
    "advice.silent": "check the device, its cable and power: nothing comes from it",
    "advice.link": "check what the input reads from: {lost}",
    "advice.unusable": (
        "check the format of the input and the device's settings: nothing usable comes, {rejects} a"
        " minute, last: {last}"
    ),
    "advice.limit_high": "find out why {channel} rises, and act before it passes the limit",
    "advice.remaining_life": "plan the repair: machines that measured like this failed about then",
    "advice.limit_low": "find out why {channel} falls, and act before it passes the limit",
    "advice.warning_high": (
        "find out why {channel} is so high, and plan the work that the machine needs"
    ),
    "advice.warning_low": (
        "find out why {channel} is so low, and plan the work that the machine needs"
    ),
    "advice.critical_high": (
        "act now: {channel} is dangerously high; bring it back, or the machine into a safe state"
    ),
    "advice.critical_low": (
        "act now: {channel} is dangerously low; bring it back, or the machine into a safe state"
    ),
    "advice.wait": (
        "wait: {channel} is back since {back_at}, and the alarm closes once it has been back for"
        " {delay_s}. If it does not stay back: {action}"
    ),
    "advice.gap_agent": (
        "nothing: the agent did not run, because of a restart or because the gateway was off"
    ),
    "advice.gap_still": (
        "nothing now; if it happens again, see journalctl -u fieldwatch-agent: the agent stood"
        " still, because something stopped it or the gateway was too busy"
    ),
    "advice.gap_device": "nothing now; if it happens again, check the device, its cable and power",
    "advice.gap_link": "nothing now; if it happens again, check what the input reads from: {lost}",
    "advice.gap_times": (
        "nothing now: readings kept coming, but none has a time in between. The device lost them,"
        " or its clock was set"
    ),
    "course.spike": "a short peak so far",
    "course.persistent": "a persistent deviation",
    "during.alarm": "a fault of its own, which began while alarm #{number} was open",
    # how sure, and what it rests on
    "sure.certain": "certain: it was measured",
    "sure.limit": "certain: measured values were beyond the limit",
    "sure.forecast": "a forecast; chance {chance_share}",
    "sure.score": "score {score} (1 is the threshold)",
    "sure.once": "{score}; normal operation looks like this about once in {every_s}",
    "sure.beyond": (
        "{score}; normal operation looks like this about once in {every_s}, estimated from {seen_s}"
        " of it"
    ),
    "sure.rarer": (
        "{score}; normal operation looks like this less than once in {every_s}; {seen_s} of it"
        " cannot tell more"
    ),
    "sure.samples": "{score}; normal operation reaches it in 1 of {count} samples",
    # can it wait
    "outlook.waits": (
        "until {shift_at}, yes: the chance is under 10 % that {channel} passes {limit} {unit}"
        " before"
    ),
    "outlook.doubtful": (
        "until {shift_at}, perhaps not: {channel} passes {limit} {unit} at {earliest_at} at the"
        " earliest"
    ),
    "outlook.doubtful_median": (
        "until {shift_at}, perhaps not: {channel} passes {limit} {unit} at {earliest_at} at the"
        " earliest, and probably at {median_at}"
    ),
    "outlook.does_not_wait": (
        "until {shift_at}, no: {channel} passes {limit} {unit} at {earliest_at} at the earliest,"
        " and probably at {median_at}"
    ),
    "outlook.passed": "until {shift_at}, no: {channel} is beyond {limit} {unit}",
    "outlook.no_limit": "cannot say: no limit is set for its channels",
    "outlook.no_forecast": "cannot say: there is no forecast",
    "outlook.short": (
        "cannot say: the forecast ends at {until_at}, before {shift_at}. Until then {channel}"
        " passes {limit} {unit} with a chance under 10 %"
    ),
    # machine or sensor
    "suspect.sensor": (
        "{channel} alone is off, its neighbours fit ({neighbours}): check the sensor first; a hand"
        " gauge should show {expected}"
    ),
    "suspect.machine": (
        "several channels are off together ({neighbours}): look at the machine first"
    ),
    "plus_minus": "{value} ± {spread} {unit}",
    # operating point at the onset
    "operating.covered": "{point}; training covered this",
    "operating.outside": "{point}; training did not cover this, so the alarm is less sure",
    "operating.unknown": "{point}; not known whether training covered this",
    "operating.channel": "{channel} {value}",
    "operating.range": "{channel} {value} (training: {low} to {high})",
    # what found it
    "found.by": "{detector}; bundle {bundle}",
    "found.digest": "{detector}; bundle {bundle}, digest {digest}",
    "found.detector": "{detector}",
    # similar alarms
    "similar.nothing_said": "nobody wrote what it was",
    "similar.said": "{what} by {by}",
    "similar.said_why": "{what} by {by}: {why}",
    # words of the terminal
    "time.brief": "%d %b %H:%M",
    "time.year": "%d %b %Y",
    "time.full": "%d %b %Y %H:%M:%S %Z",
    "age.under": "under 1 min",
    "terminal.times": "Times are {zone}. Details: fieldwatch-agent alarms show ALARM",
    "terminal.head": "ALARM PRIORITY SINCE AGO STATE",
    "terminal.none": "no alarms",
    "terminal.none_open": "no alarm is open",
    "terminal.to_do": "To do: {action}",
    "terminal.help": "Help: {help}",
    "terminal.next": "Next: {command}",
    "terminal.interruption": "{stream}: no samples from {begin} to {end}",
    "terminal.interruption_s": "{stream}: no samples from {begin} to {end} ({lasted})",
    "terminal.until": "until {end}",
    "terminal.others": "{found}; {count} other channels",
    "terminal.other": "{found}; 1 other channel",
    "terminal.channel": "{channel} {observed}, expected {expected}",
    "terminal.channel_level": "{channel} {observed}, known levels end at {expected}",
    "terminal.channel_alone": "{channel} {observed}",
    "terminal.around": "around the onset: {begin} to {end}",
    "terminal.logbook": "logbook",
    "terminal.similar": "similar alarms",
    "terminal.columns": "channel worst expected newest share",
    "terminal.not_measured": "not measured when it opened: {channels}",
    "terminal.drawn": "{channel}: * observed, - expected, + both",
    "terminal.drawn_limit": "{channel}: * observed, - expected, + both, = limit",
    "terminal.drawn_score": "score, logarithmic: * score, = threshold",
    "terminal.to_come": "the drawing grows: {count} samples are still to come",
    "terminal.score": "score (1 is the threshold)",
    "section.unacknowledged": "NOT ACKNOWLEDGED",
    "section.acknowledged": "ACKNOWLEDGED",
    "section.suppressed": "SHELVED, SUPPRESSED, OUT OF SERVICE",
    "section.over": "OVER",
    "section.interruptions": "INTERRUPTIONS (for information: nothing to acknowledge)",
    "label.state": "state",
    "label.priority": "priority",
    "label.sure": "how sure",
    "label.course": "course",
    "label.during": "further",
    "label.outlook": "can wait",
    "label.suspect": "check",
    "label.operating": "operation",
    "label.found_by": "found by",
    "label.onset": "onset",
    "label.opened": "opened",
    "label.worst": "peak",
    "label.newest": "newest",
    "label.closed": "closed",
    "label.shelved": "shelved",
    "label.raised": "raised",
    "show.priority": "{priority}: severity {severity}, consequence {consequence}",
    "show.shelved": "until {end}",
    "show.shelved_clear": "until {end}, or until it clears",
    "show.again": "{text}; {count} times in a row",
    "show.raised": "{count} times since it was last normal",
    "show.unwatched": "{state}, no longer watched",
    "state.active": "active",
    "state.over": "over",
    "state.returned": "returned",
    "state.unknown": "not watched",
    "state.latched": "{state}, latched",
    "state.by_design": "by design",
    "state.advisory": "an advisory",
    "state.NORM": "normal",
    "state.UNACK": "unacknowledged",
    "state.ACKED": "acknowledged",
    "state.RTNUN": "returned to normal, unacknowledged",
    "state.LATUN": "latched, unacknowledged",
    "state.LATAK": "latched, acknowledged",
    "state.SHLVD": "shelved",
    "state.DSUPR": "suppressed by design",
    "state.OOSRV": "out of service",
    "grade.low": "low",
    "grade.medium": "medium",
    "grade.high": "high",
    "grade.minor": "minor",
    "grade.major": "major",
    "grade.severe": "severe",
    "row.by": "{text} by {by}",
    "row.now": "{text}: now {state}",
    "row.why": "{text} ({why})",
    "row.raised": "raised",
    "row.worsened": "worse",
    "row.cleared": "returned to normal",
    "row.unwatched": "no longer watched",
    "row.superseded": "another alarm took over",
    "row.acknowledged": "acknowledged",
    "row.unacknowledged": "acknowledgement taken back",
    "row.reset": "latch reset",
    "row.shelved": "shelved",
    "row.unshelved": "shelving ended",
    "row.out_of_service": "taken out of service",
    "row.in_service": "back in service",
    "row.suppressed": "suppressed by design",
    "row.unsuppressed": "suppression ended",
    "row.noted": "note",
    "row.labelled": "label",
    "labelled.confirmed": "confirmed",
    "labelled.false": "false alarm",
    "labelled.nothing-found": "nothing found yet",
    "labelled.maintenance": "maintenance",
    "terminal.shelved": "Shelved {until}",
    "flood.alarms": "{stream}: {count} alarms",
    "flood.active": "{count} active, in a flood",
    "flood.kinds": "{kinds}. The most urgent is {alarm}:",
    "flood.more": "and {count} more, which the list names once these are acknowledged",
    "section.advisories": "ADVISORIES (for information: nothing to do now, nothing to acknowledge)",
    "state.chatters": ", chatters x{count}",
    "label.advisory": "advisory",
    "label.chatters": "chatters",
    "label.flood": "flood",
    "mark.advisory": "it needs no action now, and calls nobody",
    "mark.chatters": "raised {count} times; it is not announced each time",
    "mark.flood": "it is announced with others of its stream",
    "row.due": "needs action now",
    "row.settled": "does not chatter any more",
    "row.ungrouped": "the flood of alarms is over",
    "row.reminded": "reminder: acknowledged, and still active",
    "row.look_again": "reminder: look again, nothing was found yet",
    "row.advisory": ", an advisory",
    "row.chattering": ", it chatters (raised {count} times)",
    "row.grouped": ", in a flood",
    "kind.anomaly": "anomaly",
    "kind.stuck": "stuck",
    "kind.missing": "missing",
    "kind.silent": "silent",
    "kind.limit": "limit",
    "kind.limit_passed": "limit passed",
    # why the agent made a transition
    "reason.time_is_over": "its time is over",
    "reason.done": "nothing needs to be done any more",
    "reason.chattered": "it was raised {count} times",
    "reason.still_active": "still active: {alarms}",
    "reason.still_active_more": "still active: {alarms} and {count} more",
    "reason.another_fault": "another fault has begun, so its shelving has ended",
    "reason.normal": "back to normal",
    "reason.accepted": "its values are taken as the new normal",
    "reason.unwatched": "another detector watches the stream, or its memory is lost",
    "reason.limit_passed": "the limit has been passed, and another alarm says so",
    "reason.limit_removed": "its limit is no longer set",
    "reason.stream_removed": "the stream is no longer watched",
    "reason.over": "it is over: {reason}",
    "reason.unknown": (
        "it is unknown whether it still applies, without a value of {stream} {source} for"
        " {unknown_s}: {reason}"
    ),
    "reason.not_configured": "it is no longer configured",
    "when.alarm": "{stream} has the alarm {kind}",
    "when.above": "{stream} {channel} is above {above}",
    "when.below": "{stream} {channel} is below {below}",
    "when.above_below": "{stream} {channel} is above {above} and below {below}",
    # whether an agent watches, and can store
    "life.not_watching": "NOT WATCHING: {why}",
    "life.not_watching_since": "NOT WATCHING since {since}: {why}",
    "life.stopped": "the agent was stopped",
    "life.killed": "the agent was killed, or the power failed, and it was not started again",
    "life.hangs": "the agent hangs, or cannot store; see journalctl -u fieldwatch-agent",
    "life.again": "an agent watches again",
    "unstored.title": "NOT COMPLETE {told}",
    "unstored.one": "since {since}: {error}; 1 change of an alarm waits in memory",
    "unstored.many": "since {since}: {error}; {count} changes of alarms wait in memory",
    # what --follow adds
    "follow.advisory": "(an advisory: nothing to do now)",
    "follow.suppressed": "(suppressed: {why})",
    "follow.chatters": "(it chatters: x{count})",
    "follow.opened": (
        "{stream}: {count} alarms opened in a flood ({kinds}); fieldwatch-agent alarms lists them"
    ),
    "follow.closed": (
        "{stream}: {count} alarms closed in a flood ({kinds}); fieldwatch-agent alarms lists them"
    ),
    # what was done, and the labels
    "done.logbook": "{alarm}: {done}; it is in the logbook",
    "done.kinds": "the kinds of fault of this gateway are {kinds}",
    "labels.times": "Times are {zone}.",
    "labels.head": "ALARM LABEL FROM TO BY",
    "labels.none": "no alarm has such a label yet: fieldwatch-agent alarms label ALARM confirmed",
    "labels.no_alarm": "(no alarm)",
    "labels.again": "look at it again from {time} on",
    "labels.due": "Nothing was found yet, so look again, and label it: {alarms}",
    "chart.to": "to",
    **english_page.TEXTS,
    **english_refusals.TEXTS,
}
