"""The German texts. They address nobody, and need no gender of a name that is put into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str]] = {
    # numbers and durations; a duration stands in the dative
    "number.point": ",",
    "number.absent": "kein Wert",
    "share": "{percent} %",
    "share.most": "über 99 %",
    "share.least": "unter 1 %",
    "duration.seconds": "{count} s",
    "duration.minutes": "{count} min",
    "duration.hours": "{count} h",
    "duration.day": "{count} Tag",
    "duration.days": "{count} Tagen",
    "duration.years": "{count} Jahren",
    "list.and": "{first} und {last}",
    # the first sentence
    "sentence.for": "{sentence}, seit {lasted_s}",
    "sentence.over": "{sentence}; vorbei nach {lasted_s}",
    "anomaly.lower": "{machine}: {channel} niedriger als erwartet",
    "anomaly.higher": "{machine}: {channel} höher als erwartet",
    "anomaly.lower_for": "{machine}: {channel} niedriger als erwartet, gemessen an {point}",
    "anomaly.higher_for": "{machine}: {channel} höher als erwartet, gemessen an {point}",
    "anomaly.level_lower": "{machine}: {channel} niedriger als je im Training",
    "anomaly.level_higher": "{machine}: {channel} höher als je im Training",
    "anomaly.unusual": "{machine}: {channel} ungewöhnlich",
    "anomaly.plain": "{machine}: ungewöhnliches Verhalten",
    "stuck.channel": "{machine}: Wert von {channel} ändert sich nicht mehr",
    "stuck.plain": "{machine}: ein Wert ändert sich nicht mehr",
    "missing.channel": "{machine}: kein brauchbarer Wert von {channel}",
    "missing.plain": "{machine}: keine brauchbaren Werte",
    "silent.device": "{machine}: vom Gerät kommt nichts",
    "silent.link": "{machine}: keine Verbindung zum Gerät",
    "silent.unusable": "{machine}: vom Gerät kommt nichts Brauchbares",
    "gap.device": "{machine}: Gerät sendete nichts, Lücke von {lasted_s}",
    "gap.link": "{machine}: keine Verbindung zum Gerät, Lücke von {lasted_s}",
    "gap.agent": "{machine}: nicht überwacht, Lücke von {lasted_s}",
    "gap.times": "{machine}: Zeiten des Geräts haben eine Lücke von {lasted_s}",
    "gap.plain": "{machine}: keine Werte, Lücke von {lasted_s}",
    "limit.rises": "{machine}: {channel} steigt wahrscheinlich über {limit} {unit} ({level})",
    "limit.falls": "{machine}: {channel} fällt wahrscheinlich unter {limit} {unit} ({level})",
    "limit.rises_in": (
        "{machine}: {channel} steigt wahrscheinlich in {left_s} über {limit} {unit} ({level})"
    ),
    "limit.falls_in": (
        "{machine}: {channel} fällt wahrscheinlich in {left_s} unter {limit} {unit} ({level})"
    ),
    "limit.rises_now": ("{machine}: {channel} steigt jeden Moment über {limit} {unit} ({level})"),
    "limit.falls_now": ("{machine}: {channel} fällt jeden Moment unter {limit} {unit} ({level})"),
    "limit_passed.above": "{machine}: {channel} über {limit} {unit} ({level})",
    "limit_passed.below": "{machine}: {channel} unter {limit} {unit} ({level})",
    "level.warning": "Warngrenze",
    "level.critical": "kritische Grenze",
    "other": "{machine}: {kind}",
}
