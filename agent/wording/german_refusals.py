"""The German texts of what was not done, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str]] = {
    "impossible.acknowledge": (
        "der Zustand ist {state}; nur ein nicht quittierter Alarm kann quittiert werden"
    ),
    "impossible.unacknowledge": (
        "der Zustand ist {state}; es gibt keine Quittierung, die man zurücknehmen kann"
    ),
    "impossible.reset": (
        "der Zustand ist {state}; nur ein gehaltener Alarm, der quittiert ist, kann zurückgesetzt"
        " werden"
    ),
    "impossible.not_shelvable": (
        "Alarme mit diesen Folgen dürfen nicht zurückgestellt werden (alarms.not_shelvable)"
    ),
    "impossible.already": "der Zustand ist schon {state}",
    "impossible.not_active": (
        "er ist nicht aktiv und kann daher nicht gehen: für eine feste Zeit zurückstellen"
    ),
    "impossible.shelve_max": (
        "eine Zurückstellung dauert höchstens {hours} h (alarms.shelve_h_max)"
    ),
    "impossible.shelved_max": (
        "von {hours} h Zurückstellung sind noch {left} h übrig, bis er wieder normal war"
        " (alarms.shelved_h_max)"
    ),
    "impossible.not_shelved": "der Zustand ist {state}, nicht zurückgestellt",
    "impossible.not_out": "der Zustand ist {state}, nicht außer Betrieb",
    "impossible.agent": "das tut nur der Agent",
    "standing.none": "seit diese Version läuft, gab es keinen solchen Alarm",
    "standing.now": "Zustand von {alarm}: {state}",
    "standing.raised": "{now}, {count}-mal ausgelöst, seit er zuletzt normal war",
    "standing.severity": "{now}, Schwere {severity}",
    "stale.over": "der Alarm ist vorbei; {now}",
    "stale.changed": "der Alarm hat sich seitdem geändert; {now}",
    "wrong.alarm": (
        "stream und number müssen einen Alarm nennen; ein Befund darf stattdessen eine Zeit haben"
    ),
    "wrong.revision": "revision muss die des Alarms sein, wie Sie ihn gesehen haben",
    "wrong.no_text": "ein Text fehlt",
    "wrong.no_reason": "ein Grund fehlt",
    "wrong.stream": "es gibt keinen Strom '{stream}'",
    "wrong.label": "der Befund muss einer von diesen sein: {labels}",
    "wrong.future": "to liegt in der Zukunft; nur eine Wartung kann man im Voraus eintragen",
    "wrong.members": "members muss eine Liste von 1 bis {count} Paaren [number, revision] sein",
    "wrong.text": "{what} muss eine Zeile von höchstens {count} druckbaren Zeichen sein",
    "wrong.the_text": "der Text",
    "wrong.the_reason": "der Grund",
    "wrong.period": (
        "from und to müssen Zeiten sein, Unix-Sekunden, und to darf nicht vor from sein"
    ),
    "wrong.whole": "{what} muss eine ganze Zahl sein, mindestens {least}",
    "wrong.hours": "die Stunden müssen eine Zahl über 0 sein",
    "wrong.flag": "{what} muss true oder false sein",
    "refused.nothing_done": "Es wurde nichts getan: {why}",
    "refused.stale": (
        "Es wurde nichts getan: {why}. Sehen Sie ihn sich an, und versuchen Sie es erneut"
    ),
    "refused.no_alarm": "{stream} hat keinen gespeicherten Alarm {number}",
    "refused.gap": "{stream} {number} ist eine Lücke, kein Alarm",
    "refused.role": (
        "{name} hat die Rolle {role}; nötig ist die Rolle {needed}: {what}. Es wurde nichts getan"
    ),
    "refused.group": (
        "{name} ist nicht in der Gruppe {group}, die das darf: {what}. Es wurde nichts getan"
    ),
    "refused.may_read": "lesen",
    "refused.may_handle": "Alarme bearbeiten",
    "refused.may_take_out": "Alarme außer Betrieb nehmen und wieder in Betrieb",
    "refused.not_stored": (
        "Es wurde getan, aber nicht gespeichert: {why}; der Agent versucht es weiter"
    ),
    "refused.busy": "Zu viele Befehle auf einmal; versuchen Sie es in einigen Sekunden erneut",
    "refused.clients": (
        "{count} Programme sind mit dem Agenten verbunden; versuchen Sie es später erneut"
    ),
    "refused.queue": "Zu viele Programme warten auf den Agenten ({place}); versuchen Sie es erneut",
    "refused.stopping": (
        "Der Agent wird beendet; es wurde nichts getan. Versuchen Sie es erneut, wenn er läuft"
    ),
    "refused.page_user": (
        "Nur {user}, der Benutzer der Webseite (control.page_user), darf für andere fragen, und"
        " Sie sind {name}; es wurde nichts getan"
    ),
    "page.wrong.action": "Die Aktion '{verb}' gibt es nicht",
    "page.wrong.label": "Wählen Sie einen Befund",
    "page.wrong.member": "Jeder Alarm der Gruppe braucht seine Nummer und seine Revision",
    "page.wrong.whole": "'{text}' ist keine ganze Zahl",
    "page.no_stream": "Es gibt keinen Strom '{stream}'",
    "page.no_alarm": "{stream} hat keinen Alarm {number}",
    "page.refused.no_agent": (
        "Der Agent antwortet nicht. Es wurde nichts geändert. Er startet mit: sudo systemctl start"
        " fieldwatch-agent"
    ),
    "page.refused.not_allowed": (
        "Die Seite darf dem Agenten keine Befehle senden. Wie man das ändert, sagt"
        " fieldwatch-agent check"
    ),
    "page.refused.no_answer": (
        "Der Agent hat nicht geantwortet. Es ist nicht bekannt, ob es getan ist. Mehr sagt:"
        " journalctl -u fieldwatch-agent"
    ),
    "page.refused.store": "Die Datenbank des Agenten ist nicht lesbar: {why}",
    "page.refused.configuration": "Die Konfiguration ist falsch: {why}",
    "page.refused.other": "Das hat nicht funktioniert: {why}",
    "page.undrawn.request": "Diese Anfrage ist nicht möglich: {why}",
    "page.undrawn.unknown": "Diesen Strom oder Kanal gibt es nicht: {why}",
    "page.undrawn.impossible": "Die gespeicherten Werte reichen nicht: {why}",
    "page.undrawn.configuration": "Das lässt die Konfiguration nicht zu: {why}",
    "page.undrawn.bundle": "Das Modell wird abgelehnt: {why}",
    "page.undrawn.store": "Die Datenbank des Agenten ist nicht lesbar: {why}",
    "page.undrawn.too_large": "Das Diagramm ist zu groß: weniger Kanäle oder Punkte wählen",
    "page.undrawn.busy": "Zu viele Diagramme auf einmal; versuchen Sie es erneut",
    "page.undrawn.too_long": (
        "Das Diagramm wurde nicht rechtzeitig fertig: eine kürzere Zeit oder weniger Punkte wählen"
    ),
    "page.undrawn.ended": (
        "Der Prozess für Diagramme endete ohne Antwort; versuchen Sie es erneut. Mehr steht im Log"
    ),
    "forecast.none": "keine Vorhersage: {reason}: {detail}",
    "forecast.short_history": "zu kurze Vorgeschichte",
    "forecast.missing_values": "fehlende Werte",
    "forecast.no_present_value": (
        "--plan {channel}+=: der jetzige Wert ist nicht bekannt; geben Sie den Wert selbst an:"
        " --plan {channel}=WERT"
    ),
    "forecast.not_from_median": (
        "Strom {stream}: ohne Modell gibt es hier keine Vorhersage: es wird mit dem Median"
        " verglichen (deviations_max oder history_samples), oder season_s ist zu kurz oder zu lang"
    ),
    "forecast.no_forecaster": (
        "{bundle}: dieses Modell macht keine Vorhersagen; es braucht ein Training mit einer Tabelle"
        " [forecast]"
    ),
    "forecast.rivals_short": (
        "kein Vergleich: zu kurze Vorgeschichte: {stored} s sind gespeichert, {needed} s sind nötig"
    ),
    "forecast.rivals_none": (
        "kein Vergleich: an keinem von {tried} früheren Zeitpunkten war eine Vorhersage möglich;"
        " am letzten: {reason}: {detail}"
    ),
}
