"""The English texts. Their keys and parameters are those of every language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
}
