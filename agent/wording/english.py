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
}
