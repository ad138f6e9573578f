"""Formats the status that the agent stores as lines of text.

Does not import numpy: the command must be fast on small gateways and over slow links.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from agent.alarms.document import describe as describe_alarm
from agent.alarms.document import gravest_first, not_stored, span, time_to_limit
from models.names import UNTRAINED
from models.printable import printable
from models.shown import shown

_REFUSED_SHOWN_MAX = 10  # registers of an input
_EXCERPT_CHARS = 100  # of what a program or a server says

Document = Mapping[str, Any]


def describe(document: Document, not_watching: str | None = None) -> Iterator[str]:
    """Yield the status line by line; ``not_watching`` states why the agent does not run."""
    yield f"gateway   {document['gateway']}, fieldwatch {document['version']}"
    yield f"agent     {not_watching or 'running since ' + document['started']}"
    latency = document["latency"]
    if latency["reading_to_commit_ms_p50"] is not None:
        yield (
            f"latency   reading to commit {latency['reading_to_commit_ms_p50']} ms"
            f" (p99 {latency['reading_to_commit_ms_p99']} ms)"
        )
    if unstored := document.get("unstored"):  # only ``state`` knows of it
        yield f"store     CANNOT STORE {not_stored(unstored)}"
    yield from _not_stored(document.get("counters", {}))
    yield from _machine(document)
    for name, source in document["inputs"].items():
        yield from input_lines(name, source)
    for name, stream in document["streams"].items():
        yield from stream_lines(name, stream)
    yield from set_aside_lines(document.get("set_aside"))  # absent in old statuses
    yield from _store(document["store"], document["uplink"] is not None)
    yield from uplink_lines(document["uplink"])
    yield from _control(document.get("control"))  # absent in old statuses
    yield from _hooks(document.get("hooks", {}))  # likewise
    yield from _panel(document.get("panel"))  # likewise
    yield from _configuration(document.get("configuration"))  # likewise


def _not_stored(counters: Document) -> Iterator[str]:
    lost = {name: counters.get(f"{name}_not_stored", 0) for name in ("samples", "messages")}
    if any(lost.values()):
        yield f"LOST      because they could not be stored: {_counts(lost)}"


def _machine(document: Document) -> Iterator[str]:
    yield f"memory    {document['rss_mb']} MB, clock {document['clock']}"
    if "machine" not in document:  # absent in old statuses
        return
    machine, loop, pace = document["machine"], document["loop"], document["inference"]
    free, celsius = machine["disk_free_mb"], machine["cpu_temperature_c"]
    warm = "" if celsius is None else f", CPU {shown(celsius, '.0f')} °C"
    yield f"machine   disk {'unknown' if free is None else f'{free:.0f} MB free'}{warm}"
    scoring = pace["us_per_sample"]
    yield (
        f"loop      tick {loop['lag_ms_last']} ms late (at most {loop['lag_ms_max']} ms), longest"
        f" turn {loop['turn_ms_max']} ms, {document['queues']['chunks']} reads waiting"
        f"{'' if scoring is None else f', scoring {scoring} µs a sample'}"
    )
    if counts := _counts(document["counters"]):
        yield f"counted   {counts}"


def input_lines(name: str, source: Document) -> Iterator[str]:
    """Yield the state of an input as lines of text."""
    state = "connected" if source["connected"] else f"NOT CONNECTED: {source['last_error']}"
    yield (f"input     {name}: {state}; {source['lines']} lines, {source['reconnects']} reconnects")
    if source["rejected"]:
        yield f"          rejected: {_counts(source['rejected'])}"
    if count := source.get("messages_too_large"):  # absent in old statuses
        yield f"          {count} messages were too large and were discarded"
    if count := source.get("messages_without_topic"):
        yield f"          {count} messages were discarded, because their topic is not text"
    if given_up := source.get("topics_given_up"):
        yield (
            f"          NOT SUBSCRIBED to {', '.join(given_up)}: each connection brings a retained"
            " message that is too large; clear it at the broker, then restart the agent"
        )
    refused = source.get("registers_refused", ())
    for one in refused[:_REFUSED_SHOWN_MAX]:
        yield f"          REFUSED by the device: {one}"
    if len(refused) > _REFUSED_SHOWN_MAX:
        yield f"          REFUSED by the device: {len(refused) - _REFUSED_SHOWN_MAX} more"
    for reject in source["rejects"]:
        channel = f" ({reject['channel']})" if reject["channel"] else ""
        yield f"            {reject['cause']}{channel}: {reject['excerpt']}"


def set_aside_lines(aside: Document | None) -> Iterator[str]:
    """Yield the lines of input that repeatedly ended the agent, as lines of text."""
    if not aside or not aside["count"]:
        return
    yield (
        f"SET ASIDE {aside['count']} lines, because the agent ended {aside['ends']} times while it"
        " handled each of them; please report this:"
    )
    for one in aside["last"]:
        no_copy = "" if one.get("kept", True) else ", no copy kept"  # absent in old ones
        yield (
            f"          {one['time']} {one['input']} {one['origin']}, {one['bytes']} bytes,"
            f" {one['digest'][:12]}{no_copy}: {one['excerpt']}"
        )


_STANDS_IN = {"previous_bundle": "the bundle that ran before", "baseline": "the baseline"}


def stream_lines(name: str, stream: Document) -> Iterator[str]:
    """Yield the state of a stream as lines of text."""
    score = stream["last_score"]
    if not stream.get("watched", True):  # absent in old statuses
        yield f"stream    {name}: NOT WATCHED, its readings are not stored"
        yield f"          {_counts(stream['counters']) or 'nothing received yet'}"
        yield from _refused(stream)
        for alarm in gravest_first(stream["open_alarms"]):
            yield f"  ALARM   open when the stream was last watched: {describe_alarm(alarm)}"
        return
    yield (
        f"stream    {name}: last sample {stream['last_sample'] or 'none yet'}, score"
        f" {'none' if score is None else format(score, '.2f')} by {stream['bundle']}"
        + ("" if _by_baseline(stream) else f" on {stream['interpreter']}")
    )
    if warm_up := stream.get("warm_up"):  # absent in old statuses
        yield f"          {_warm_up(stream, warm_up)}"
    if signer := stream.get("signer"):  # absent in old statuses
        yield f"          signed by key {signer['key_id']} ({signer['comment']})"
    yield from _refused(stream)
    yield f"          {_counts(stream['counters']) or 'nothing yet'}"
    if quality := stream.get("quality"):  # absent in old statuses
        told = ", ".join(f"{channel} {what}" for channel, what in quality.items())
        yield f"          not measured: {told}"
    for channel, since in stream.get("unchanged", {}).items():
        yield f"          {channel} has not changed since {since}: is that right?"
    if stream.get("forecast"):  # a status stored before there were forecasts has none
        yield from _forecast(stream["forecast"])
    if life := stream.get("remaining_life"):  # absent if the bundle does not predict it
        yield (
            f"          remaining life {life['predicted']:g} {life['unit']}"
            f" (80 %: {life['low_80']:g} to {life['high_80']:g}), from {life['made']}"
        )
    for alarm in gravest_first(stream["open_alarms"]):
        yield f"  ALARM   {describe_alarm(alarm)}"


def _warm_up(stream: Document, warm_up: Document) -> str:
    """Describe when scores begin, and why there is none now."""
    by = "the baseline" if _by_baseline(stream) else "the network"
    needs = f"{by} needs {warm_up['needs_samples']} samples, and has {warm_up['has_samples']}"
    if not warm_up["left_s"]:
        return f"no score: {needs}, but too few values of the channels that have a score"
    # a duration of readings, not a time of day: perhaps no readings arrive
    return f"scores begin after {_duration(warm_up['left_s'])} more of readings: {needs}"


def _by_baseline(stream: Document) -> bool:
    return stream["detector"] in UNTRAINED


def _duration(seconds: float) -> str:
    """Format a duration in its two largest units.

    >>> _duration(130), _duration(7320), _duration(12.4)
    ('2 min 10 s', '2 h 2 min', '13 s')
    """
    whole = math.ceil(seconds)
    for unit, size, lower, part in (("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def _refused(stream: Document) -> Iterator[str]:
    if (refused := stream.get("refused")) is None:  # or an old status
        return
    yield f"          BUNDLE REFUSED: {refused['why']}"
    if stream["stands_in"] is not None:
        yield f"          until corrected, {_STANDS_IN[stream['stands_in']]} runs in its place"


def _forecast(forecast: Document) -> Iterator[str]:
    if warm_up := forecast.get("warm_up"):  # absent in old statuses
        yield (
            f"forecast  begins after {_duration(warm_up['left_s'])} more of readings: it needs"
            f" {warm_up['needs_steps']} steps of {span(forecast['step_s'])}, and has"
            f" {warm_up['has_steps']}"
        )
    elif forecast["refused"]:
        yield f"forecast  none: {forecast['refused']}"
    else:
        made = forecast["last_forecast"] or "nothing yet"
        yield f"forecast  {span(forecast['horizon_s'])} ahead, from {made}"
    judged = {name: one for name, one in forecast["accuracy"].items() if one["judged"]}
    if judged:
        yield f"          {_coverage(judged.values())}off on average by {_errors(judged)}"
    for limit in forecast["limits"]:
        if limit["probability"] is not None:
            yield f"  LIMIT   {limit['channel']} {time_to_limit(limit)}"


def _coverage(judged: Collection[Document]) -> str:
    """Format the coverage of the published intervals, if the bundle has them."""
    weight = sum(one["judged"] for one in judged)
    shares = {
        level: sum(one[f"coverage_{level}"] * one["judged"] for one in judged) / weight
        for level in (80, 95)
        if all(f"coverage_{level}" in one for one in judged)
    }
    told = (
        f"{level} % intervals covered {shown(100 * share, '.0f')} %"
        for level, share in shares.items()
    )
    return f"{', '.join(told)}; " if shares else ""


def _errors(judged: Document) -> str:
    return ", ".join(
        f"{name} {shown(one['mae'], '.3g')} {one['unit']}".rstrip() for name, one in judged.items()
    )


def _store(store: Document, has_uplink: bool) -> Iterator[str]:
    waiting = "messages waiting" if has_uplink else "messages kept for an uplink"
    yield f"store     {store['ring_rows']} samples kept, {store['outbox_rows']} {waiting}"
    if store.get("samples_evicted"):
        yield f"          samples dropped because the store is full: {store['samples_evicted']}"
    evicted = {kind: count for kind, count in store["evicted"].items() if count}
    if evicted:
        yield f"          LOST because the outbox was full: {_counts(evicted)}"
    if store.get("merged"):  # a status stored by an older version has none
        yield f"          {store['merged']} summaries merged because the outbox was crowded"
    if old := _counts(store.get("dropped", {})):
        yield f"          dropped because of age or number: {old}"
    for report in store.get("damage", []):
        yield from _damage(report)


def _damage(report: Document) -> Iterator[str]:
    yield f"          DAMAGED at {report['time']}: set aside as {report['file']}"
    lost = ", ".join(
        f"{table} {'an unknown number' if count is None else count}"
        for table, count in report["lost"].items()
        if count != 0
    )
    yield f"          saved {_counts(report['saved']) or 'nothing'}; lost: {lost or 'nothing'}"


def uplink_lines(link: Document | None) -> Iterator[str]:
    """Yield the state of the link as lines of text."""
    if link is None:
        yield "uplink    none configured; messages wait, within limits, until [mqtt] names a broker"
        return
    error = _elsewhere(link["last_error"], link["broker"])
    trouble = f" ({error})" if link["state"] != "online" and error else ""
    yield (
        f"uplink    {link['broker']} {link['state']} since {link['since']}{trouble};"
        f" {link['published']} published, {link['acknowledged']} acknowledged,"
        f" {link['failures']} failures"
    )
    yield from _twin(link.get("twin"))  # absent in old statuses
    if link["central"]:
        yield from _central(link["central"])
    if (samples := link.get("samples")) is not None:  # absent in old statuses
        yield from _samples(samples)
    if link["expired"]:
        yield f"          {link['expired']} health messages were too old to be sent"
    if refused := link.get("refused"):  # absent in old statuses
        yield (
            f"          {refused} messages of the collector are not read, because the agent"
            " ended several times while it handled them: see the log"
        )
    if link["held"]:
        yield f"          held until the broker takes them: {', '.join(link['held'])}"
    if denied := link.get("denied"):  # absent in old statuses
        yield f"          DENIED by the broker, messages wait: {', '.join(denied)}"
    if link["parked"]:
        yield f"          {link['parked']} messages that the broker does not accept: see the log"


_WAITS: Final = {
    "budget": "the budget of the day is used up",
    "clock": "the clock is not synchronised, or times are being corrected",
    "collector": "no collector says that it takes samples",
    "store": "the store cannot be read",
    "retry": "the last chunk was not taken; another try follows",
}


def _samples(samples: Document) -> Iterator[str]:
    waits = _WAITS.get(samples["waits_for"] or "", "")
    yield (
        f"          samples: {samples['sent']} sent, {samples['behind']} to send;"
        f" {samples['day_bytes']} of {samples['day_bytes_max']} bytes on {samples['day']}"
        + (f"; WAITING: {waits}" if waits else "")
    )
    lost = {key: samples[key] for key in ("missed", "refused") if samples[key]}
    if lost:
        yield f"          samples NOT SENT: {_counts(lost)}"


def _twin(twin: Document | None) -> Iterator[str]:
    if twin is None:
        return
    if twin["state"] == "found":
        yield (
            f"          NAME USED TWICE since {twin['since']}: another gateway has the same name"
            f" (its epoch is {twin['epoch']}), and each ends the other's connection"
        )
    if count := twin["taken_over"]:
        yield f"          {count} connections were taken over by a client with our client id"


def _configuration(configuration: Document | None) -> Iterator[str]:
    if configuration is None:
        return
    for problem in (configuration["refused"] or "").splitlines():
        yield f"config    NOT APPLIED: {problem}"
    if configuration["needs_restart"]:
        yield f"config    needs a restart: {'; '.join(configuration['needs_restart'])}"


def _panel(panel: Document | None) -> Iterator[str]:
    if panel is None:
        return
    error = _elsewhere(panel["last_error"], panel["broker"])
    state = "online" if panel["online"] else f"OFFLINE ({error})"
    yield (
        f"panel     {panel['broker']} {state}; {panel['published']} published,"
        f" {panel['failures']} failures"
    )


def _hooks(hooks: Document) -> Iterator[str]:
    for name, hook in hooks.items():
        state = f"FAILING ({_short(hook['last_error'])})" if hook["failing"] else "ok"
        yield (
            f"hook      {name}: {hook['to']} {state}; {hook['sent']} sent, {hook['waiting']}"
            f" waiting, {hook['retried']} retried"
        )
        lost = {key: hook[key] for key in ("refused", "expired", "excess")}
        if said := _counts(lost):
            yield f"          DROPPED notices: {said}"


def _control(control: Document | None) -> Iterator[str]:
    if control is None:
        return
    if remote := control.get("remote"):  # absent in old statuses, and if they are off
        yield from _remote(remote)
    if control["socket"] is None:
        return
    if control["error"]:
        yield f"control   NO COMMANDS can be sent: {control['error']}"
        return
    yield f"control   {control['socket']}; commands: {_counts(control['commands']) or 'none yet'}"
    if refused := _counts(control["refused"]):
        yield f"          commands refused: {refused}"
    if dropped := _counts(control["clients_dropped"]):
        yield f"          clients dropped: {dropped}"


def _remote(remote: Document) -> Iterator[str]:
    """Yield the state of the commands of central ops."""
    error = remote["error"] or "not connected yet"
    state = "are accepted" if remote["listening"] else f"DO NOT ARRIVE: {error}"
    yield f"ops       commands of central ops {state}; {_counts(remote['counts']) or 'none yet'}"
    if refused := _counts(remote["refused"]):
        yield f"          refused before they were read: {refused}"


def _central(central: Document) -> Iterator[str]:
    through = central["through_seq"]
    has = "has sent nothing yet" if through is None else f"has all through {through}"
    yield (
        f"          collector {central['state']}, {has}; {central['unconfirmed']} to be confirmed,"
        f" {central['resent']} sent again"
    )
    if any(central["rejected"].values()):
        yield f"          acknowledgements rejected: {_counts(central['rejected'])}"
    yield from _trust(central.get("trust", {"unsigned": False, "keys": [""], "problem": None}))


def _trust(trust: Document) -> Iterator[str]:
    """Yield a line if collectors are trusted without a signature, or not at all."""
    if trust["unsigned"]:
        yield (
            "          UNSIGNED acknowledgements are accepted: any client of the broker can delete"
            " messages that no collector has"
        )
    elif trust["problem"]:
        yield f"          NO COLLECTOR is trusted: {trust['problem']}"
    elif not trust["keys"]:
        yield "          NO COLLECTOR is trusted: keys.directory has no valid key of a collector"


def _short(text: str | None) -> str:
    """Return the beginning of a text of another program; ``--json`` has all of it."""
    return printable(text or "no reason", _EXCERPT_CHARS)


def _elsewhere(error: str | None, broker: str) -> str | None:
    """Return an error without the address, which the line has already."""
    return error and error.removeprefix(f"{broker}: ")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in sorted(counts.items()) if count)
