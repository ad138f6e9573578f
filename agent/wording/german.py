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
    # what to do
    "advice.anomaly": (
        "Maschine ansehen: die genannten Kanäle verhielten sich anders als im Normalbetrieb"
    ),
    "advice.stuck": "Sensor prüfen: sein Wert ändert sich nicht mehr",
    "advice.missing": "Sensor und Kabel prüfen: kein brauchbarer Wert",
    "advice.silent": "Gerät, Kabel und Stromversorgung prüfen: vom Gerät kommt nichts",
    "advice.link": "prüfen, woraus der Eingang liest: {lost}",
    "advice.unusable": (
        "Format des Eingangs und Einstellungen des Geräts prüfen: nichts Brauchbares kommt,"
        " {rejects} pro Minute, zuletzt: {last}"
    ),
    "advice.limit_high": (
        "herausfinden, warum {channel} steigt, und handeln, bevor die Grenze erreicht ist"
    ),
    "advice.remaining_life": (
        "die Reparatur planen: Maschinen mit solchen Messwerten sind etwa dann ausgefallen"
    ),
    "advice.limit_low": (
        "herausfinden, warum {channel} fällt, und handeln, bevor die Grenze erreicht ist"
    ),
    "advice.warning_high": (
        "herausfinden, warum {channel} so hoch ist, und die nötige Arbeit an der Maschine planen"
    ),
    "advice.warning_low": (
        "herausfinden, warum {channel} so niedrig ist, und die nötige Arbeit an der Maschine planen"
    ),
    "advice.critical_high": (
        "sofort handeln: {channel} ist gefährlich hoch; Wert zurückholen, oder Maschine in einen"
        " sicheren Zustand bringen"
    ),
    "advice.critical_low": (
        "sofort handeln: {channel} ist gefährlich niedrig; Wert zurückholen, oder Maschine in einen"
        " sicheren Zustand bringen"
    ),
    "advice.wait": (
        "warten: {channel} ist seit {back_at} zurück; der Alarm endet, sobald das seit {delay_s} so"
        " ist. Falls nicht: {action}"
    ),
    "advice.gap_agent": (
        "nichts: der Agent lief nicht, wegen eines Neustarts oder weil das Gateway aus war"
    ),
    "advice.gap_still": (
        "jetzt nichts; falls es wieder geschieht, siehe journalctl -u fieldwatch-agent: der Agent"
        " stand still, weil ihn etwas anhielt oder das Gateway überlastet war"
    ),
    "advice.gap_device": (
        "jetzt nichts; falls es wieder geschieht, Gerät, Kabel und Stromversorgung prüfen"
    ),
    "advice.gap_link": (
        "jetzt nichts; falls es wieder geschieht, prüfen, woraus der Eingang liest: {lost}"
    ),
    "advice.gap_times": (
        "jetzt nichts: Werte kamen weiter, aber keiner mit einer Zeit dazwischen. Das Gerät verlor"
        " sie, oder seine Uhr wurde gestellt"
    ),
}
