"""The German texts. They address nobody, and need no gender of a name that is put into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.wording import german_page, german_refusals

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
    "sentence.further": "{sentence} (weitere Störung neben Alarm #{number})",
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
    # how sure, and what it rests on
    "course.spike": "bisher eine kurze Spitze",
    "course.persistent": "eine anhaltende Abweichung",
    "during.alarm": "eine eigene Störung; sie begann, als Alarm #{number} offen war",
    "sure.certain": "sicher: es wurde gemessen",
    "sure.limit": "sicher: gemessene Werte lagen jenseits der Grenze",
    "sure.forecast": "eine Vorhersage; Wahrscheinlichkeit {chance_share}",
    "sure.score": "Abweichung {score} (1 ist die Schwelle)",
    "sure.once": "{score}; im Normalbetrieb sieht es etwa einmal in {every_s} so aus",
    "sure.beyond": (
        "{score}; im Normalbetrieb sieht es etwa einmal in {every_s} so aus, geschätzt aus {seen_s}"
        " Normalbetrieb"
    ),
    "sure.rarer": (
        "{score}; im Normalbetrieb sieht es seltener als einmal in {every_s} so aus; mehr sagen"
        " Daten von {seen_s} nicht"
    ),
    "sure.samples": "{score}; der Normalbetrieb erreicht sie in 1 von {count} Messungen",
    # can it wait
    "outlook.waits": (
        "bis {shift_at}, ja: mit einer Wahrscheinlichkeit unter 10 % erreicht {channel} vorher"
        " {limit} {unit}"
    ),
    "outlook.doubtful": (
        "bis {shift_at}, vielleicht nicht: {channel} erreicht {limit} {unit} frühestens"
        " {earliest_at}"
    ),
    "outlook.doubtful_median": (
        "bis {shift_at}, vielleicht nicht: {channel} erreicht {limit} {unit} frühestens"
        " {earliest_at}, wahrscheinlich {median_at}"
    ),
    "outlook.does_not_wait": (
        "bis {shift_at}, nein: {channel} erreicht {limit} {unit} frühestens {earliest_at},"
        " wahrscheinlich {median_at}"
    ),
    "outlook.passed": "bis {shift_at}, nein: {channel} liegt jenseits von {limit} {unit}",
    "outlook.no_limit": "nicht zu sagen: für diese Kanäle ist keine Grenze gesetzt",
    "outlook.no_forecast": "nicht zu sagen: es gibt keine Vorhersage",
    "outlook.short": (
        "nicht zu sagen: die Vorhersage endet {until_at}, vor {shift_at}. Bis dahin erreicht"
        " {channel} mit einer Wahrscheinlichkeit unter 10 % {limit} {unit}"
    ),
    # machine or sensor
    "suspect.sensor": (
        "nur {channel} weicht ab, die Nachbarn passen zusammen ({neighbours}): zuerst den Sensor"
        " prüfen; ein Handmessgerät sollte {expected} zeigen"
    ),
    "suspect.machine": (
        "mehrere Kanäle weichen zusammen ab ({neighbours}): zuerst die Maschine ansehen"
    ),
    "plus_minus": "{value} ± {spread} {unit}",
    # operating point at the onset
    "operating.covered": "{point}; im Training kam das vor",
    "operating.outside": "{point}; im Training kam das nicht vor, der Alarm ist weniger sicher",
    "operating.unknown": "{point}; nicht bekannt, ob das im Training vorkam",
    "operating.channel": "{channel} {value}",
    "operating.range": "{channel} {value} (Training: {low} bis {high})",
    # what found it
    "found.by": "{detector}; Paket {bundle}",
    "found.digest": "{detector}; Paket {bundle}, Prüfsumme {digest}",
    "found.detector": "{detector}",
    # similar alarms
    "similar.nothing_said": "niemand schrieb, was es war",
    "similar.said": "{what}, von {by}",
    "similar.said_why": "{what}, von {by}: {why}",
    # words of the terminal
    "time.brief": "%d.%m. %H:%M",
    "time.year": "%d.%m.%Y",
    "time.full": "%d.%m.%Y %H:%M:%S %Z",
    "age.under": "unter 1 min",
    "terminal.times": "Zeiten in {zone}. Einzelheiten: fieldwatch-agent alarms show ALARM",
    "terminal.head": "ALARM PRIO SEIT VOR ZUSTAND",
    "terminal.none": "keine Alarme",
    "terminal.none_open": "kein Alarm ist offen",
    "terminal.to_do": "Zu tun: {action}",
    "terminal.help": "Hilfe: {help}",
    "terminal.next": "Weiter: {command}",
    "terminal.interruption": "{stream}: keine Messwerte von {begin} bis {end}",
    "terminal.interruption_s": "{stream}: keine Messwerte von {begin} bis {end} ({lasted})",
    "terminal.until": "bis {end}",
    "terminal.others": "{found}; {count} weitere Kanäle",
    "terminal.other": "{found}; 1 weiterer Kanal",
    "terminal.channel": "{channel} {observed}, erwartet {expected}",
    "terminal.channel_level": "{channel} {observed}, bekannte Werte enden bei {expected}",
    "terminal.channel_alone": "{channel} {observed}",
    "terminal.around": "um den Beginn: {begin} bis {end}",
    "terminal.logbook": "Logbuch",
    "terminal.similar": "ähnliche Alarme",
    "terminal.columns": "Kanal Spitze erwartet zuletzt Anteil",
    "terminal.not_measured": "beim Öffnen nicht gemessen: {channels}",
    "terminal.drawn": "{channel}: * gemessen, - erwartet, + beides",
    "terminal.drawn_limit": "{channel}: * gemessen, - erwartet, + beides, = Grenze",
    "terminal.drawn_score": "Abweichung, logarithmisch: * Abweichung, = Schwelle",
    "terminal.to_come": "das Bild wächst noch: {count} Messungen fehlen",
    "terminal.score": "Abweichung (Schwelle: 1)",
    "section.unacknowledged": "NICHT QUITTIERT",
    "section.acknowledged": "QUITTIERT",
    "section.suppressed": "ZURÜCKGESTELLT, UNTERDRÜCKT, AUSSER BETRIEB",
    "section.over": "VORBEI",
    "section.interruptions": "UNTERBRECHUNGEN (zur Kenntnis: nichts zu quittieren)",
    "label.state": "Zustand",
    "label.priority": "Priorität",
    "label.sure": "wie sicher",
    "label.course": "Verlauf",
    "label.during": "weitere",
    "label.outlook": "kann warten",
    "label.suspect": "prüfen",
    "label.operating": "Betrieb",
    "label.found_by": "gefunden von",
    "label.onset": "Beginn",
    "label.opened": "geöffnet",
    "label.worst": "Spitze",
    "label.newest": "zuletzt",
    "label.closed": "beendet",
    "label.shelved": "Pause",
    "label.raised": "ausgelöst",
    "show.priority": "{priority}: Schwere {severity}, Folgen {consequence}",
    "show.shelved": "bis {end}",
    "show.shelved_clear": "bis {end}, oder bis er vorbei ist",
    "show.again": "{text}; {count}-mal hintereinander",
    "show.raised": "{count}-mal, seit zuletzt alles normal war",
    "show.unwatched": "{state}, nicht mehr überwacht",
    "state.active": "aktiv",
    "state.over": "vorbei",
    "state.returned": "wieder normal",
    "state.unknown": "unbekannt",
    "state.latched": "{state}, gehalten",
    "state.by_design": "planmäßig",
    "state.advisory": "ein Hinweis",
    "state.NORM": "normal",
    "state.UNACK": "nicht quittiert",
    "state.ACKED": "quittiert",
    "state.RTNUN": "wieder normal, nicht quittiert",
    "state.LATUN": "gehalten, nicht quittiert",
    "state.LATAK": "gehalten, quittiert",
    "state.SHLVD": "zurückgestellt",
    "state.DSUPR": "planmäßig unterdrückt",
    "state.OOSRV": "außer Betrieb",
    "grade.low": "niedrig",
    "grade.medium": "mittel",
    "grade.high": "hoch",
    "grade.minor": "gering",
    "grade.major": "groß",
    "grade.severe": "schwer",
    "row.by": "{text}, von {by}",
    "row.now": "{text}: jetzt {state}",
    "row.why": "{text} ({why})",
    "row.raised": "ausgelöst",
    "row.worsened": "schlimmer",
    "row.cleared": "wieder normal",
    "row.unwatched": "nicht mehr überwacht",
    "row.superseded": "von einem anderen Alarm abgelöst",
    "row.acknowledged": "quittiert",
    "row.unacknowledged": "Quittierung zurückgenommen",
    "row.reset": "Haltung gelöst",
    "row.shelved": "zurückgestellt",
    "row.unshelved": "Rückstellung beendet",
    "row.out_of_service": "außer Betrieb genommen",
    "row.in_service": "wieder in Betrieb",
    "row.suppressed": "planmäßig unterdrückt",
    "row.unsuppressed": "Unterdrückung beendet",
    "row.noted": "Notiz",
    "row.labelled": "Befund",
    "labelled.confirmed": "bestätigt",
    "labelled.false": "Fehlalarm",
    "labelled.nothing-found": "noch nichts gefunden",
    "labelled.maintenance": "Wartung",
    "terminal.shelved": "Zurückgestellt {until}",
    "flood.alarms": "{stream}: {count} Alarme",
    "flood.active": "{count} aktiv, in einer Flut",
    "flood.kinds": "{kinds}. Am dringendsten ist {alarm}:",
    "flood.more": "und {count} weitere, die in der Liste stehen, sobald diese quittiert sind",
    "section.advisories": "HINWEISE (zur Kenntnis: jetzt nichts zu tun, nichts zu quittieren)",
    "state.chatters": ", flattert x{count}",
    "label.advisory": "Hinweis",
    "label.chatters": "flattert",
    "label.flood": "Flut",
    "mark.advisory": "jetzt nichts zu tun, es wird niemand gerufen",
    "mark.chatters": "{count}-mal ausgelöst; nicht jedes Mal gemeldet",
    "mark.flood": "wird zusammen mit anderen Alarmen gemeldet",
    "row.due": "jetzt zu handeln",
    "row.settled": "flattert nicht mehr",
    "row.ungrouped": "die Flut von Alarmen ist vorbei",
    "row.reminded": "Erinnerung: quittiert und noch aktiv",
    "row.look_again": "Erinnerung: noch einmal ansehen, noch nichts gefunden",
    "row.advisory": ", ein Hinweis",
    "row.chattering": ", flattert ({count}-mal ausgelöst)",
    "row.grouped": ", in einer Flut",
    "kind.anomaly": "Abweichung",
    "kind.stuck": "Stillstand eines Werts",
    "kind.missing": "fehlende Werte",
    "kind.silent": "Stille",
    "kind.limit": "Grenze in Sicht",
    "kind.limit_passed": "Grenze überschritten",
    # why the agent made a transition
    "reason.time_is_over": "die Zeit ist abgelaufen",
    "reason.done": "es ist nichts mehr zu tun",
    "reason.chattered": "{count}-mal ausgelöst",
    "reason.still_active": "noch aktiv: {alarms}",
    "reason.still_active_more": "noch aktiv: {alarms} und {count} weitere",
    "reason.another_fault": "eine andere Störung hat begonnen; die Zurückstellung ist beendet",
    "reason.normal": "wieder normal",
    "reason.accepted": "seine Werte gelten jetzt als normal",
    "reason.unwatched": (
        "ein anderer Detektor überwacht den Strom, oder sein Gedächtnis ging verloren"
    ),
    "reason.limit_passed": "die Grenze ist überschritten, ein anderer Alarm meldet das",
    "reason.limit_removed": "seine Grenze ist nicht mehr gesetzt",
    "reason.stream_removed": "der Strom wird nicht mehr überwacht",
    "reason.over": "vorbei: {reason}",
    "reason.unknown": (
        "unbekannt, ob die Bedingung noch gilt, ohne einen Wert von {stream} {source} seit"
        " {unknown_s}: {reason}"
    ),
    "reason.not_configured": "nicht mehr eingestellt",
    "when.alarm": "{stream} hat den Alarm {kind}",
    "when.above": "{stream} {channel} über {above}",
    "when.below": "{stream} {channel} unter {below}",
    "when.above_below": "{stream} {channel} über {above} und unter {below}",
    # whether an agent watches, and can store
    "life.not_watching": "NICHT ÜBERWACHT: {why}",
    "life.not_watching_since": "NICHT ÜBERWACHT seit {since}: {why}",
    "life.stopped": "der Agent wurde angehalten",
    "life.killed": "der Agent wurde beendet, oder der Strom fiel aus; er wurde nicht neu gestartet",
    "life.hangs": "der Agent hängt oder kann nicht speichern; siehe journalctl -u fieldwatch-agent",
    "life.again": "ein Agent überwacht wieder",
    "unstored.title": "UNVOLLSTÄNDIG {told}",
    "unstored.one": "seit {since}: {error}; 1 Änderung eines Alarms wartet im Arbeitsspeicher",
    "unstored.many": (
        "seit {since}: {error}; {count} Änderungen von Alarmen warten im Arbeitsspeicher"
    ),
    # what --follow adds
    "follow.advisory": "(ein Hinweis: jetzt nichts zu tun)",
    "follow.suppressed": "(unterdrückt: {why})",
    "follow.chatters": "(flattert: x{count})",
    "follow.opened": (
        "{stream}: {count} Alarme in einer Flut ausgelöst ({kinds}); fieldwatch-agent alarms listet"
        " sie auf"
    ),
    "follow.closed": (
        "{stream}: {count} Alarme einer Flut beendet ({kinds}); fieldwatch-agent alarms listet sie"
        " auf"
    ),
    # what was done, and the labels
    "done.logbook": "{alarm}: {done}; steht im Logbuch",
    "done.kinds": "die Fehlerarten dieses Gateways sind {kinds}",
    "labels.times": "Zeiten in {zone}.",
    "labels.head": "ALARM BEFUND VON BIS PERSON",
    "labels.none": (
        "noch kein Alarm hat einen solchen Befund: fieldwatch-agent alarms label ALARM confirmed"
    ),
    "labels.no_alarm": "(kein Alarm)",
    "labels.again": "ab {time} noch einmal ansehen",
    "labels.due": "Noch nichts gefunden, also noch einmal ansehen und Befund eintragen: {alarms}",
    "chart.to": "bis",
    **german_page.TEXTS,
    **german_refusals.TEXTS,
}
