"""Formats the status as Prometheus text, for node-exporter's textfile collector.

Imports neither numpy nor pydantic: a timer starts this once a minute on a small gateway.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from models.errors import StoreError
from models.printable import printable

Document = Mapping[str, Any]
_MB = 2**20


class Value(NamedTuple):
    """One value of a metric; None is omitted."""

    value: float | None
    labels: Mapping[str, str] = {}


class Metric(NamedTuple):
    """A metric with all its values. Its name ends in the unit, a counter's name in ``_total``."""

    name: str  # without the prefix
    kind: Literal["counter", "gauge"]
    help: str
    values: Iterable[Value]


def text(document: Document, up: bool = True) -> str:
    """Return the status in Prometheus' text format, version 0.0.4; ``up``: an agent is running.

    Raises:
        StoreError: an older agent stored the status.

    """
    if "loop" not in document:
        raise StoreError(f"fieldwatch {document['version']} wrote the status; restart the agent")
    return "".join(line + "\n" for metric in _metrics(document, up) for line in _lines(metric))


def write(text: str, path: Path) -> None:
    """Replace a file with ``text`` atomically: a reader sees the old one or the new one.

    Raises:
        StoreError: it cannot be written.

    """
    partial = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            partial = Path(file.name)
            file.write(text)
        partial.chmod(0o644)  # another user reads it
        partial.replace(path)
    except OSError as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error


def _lines(metric: Metric) -> Iterator[str]:
    values = [value for value in metric.values if value.value is not None]
    if not values:
        return
    name = f"fieldwatch_{metric.name}"
    yield f"# HELP {name} {metric.help}"
    yield f"# TYPE {name} {metric.kind}"
    for value in values:
        labels = ",".join(f'{key}="{_escaped(label)}"' for key, label in value.labels.items())
        yield f"{name}{{{labels}}} {value.value:.15g}" if labels else f"{name} {value.value:.15g}"


def _escaped(label: str) -> str:
    return printable(label).replace("\\", "\\\\").replace('"', '\\"')


def _metrics(document: Document, up: bool) -> Iterator[Metric]:
    yield from _agent(document, up)
    yield from _inputs(document["inputs"])
    yield from _streams(document["streams"])
    yield from _store(document)
    if document["uplink"]:
        yield from _uplink(document["uplink"])
    if document.get("control"):  # absent in old statuses
        yield from _control(document["control"])
    yield from _hooks(document.get("hooks", {}))  # absent in old statuses
    if panel := document.get("panel"):  # likewise
        yield Metric("panel_up", "gauge", "Whether the panel is online.", [Value(panel["online"])])
        yield _count("panel_published_total", "Messages to the panel.", panel["published"])
        yield _count("panel_failures_total", "Connections of the panel lost.", panel["failures"])


def _agent(document: Document, up: bool) -> Iterator[Metric]:
    def one(name: str, help: str, value: float | None) -> Metric:
        return Metric(name, "gauge", help, [Value(value)])

    loop, pace = document["loop"], document["inference"]
    machine, latency = document["machine"], document["latency"]
    about = {"version": document["version"], "gateway": document["gateway"]}
    yield Metric("info", "gauge", "Version and name of the agent.", [Value(1, about)])
    yield one("up", "Whether the agent runs and answers.", int(up))
    yield one("start_time_seconds", "When the agent started.", _seconds(document["started"]))
    yield one("status_time_seconds", "When this was measured.", _seconds(document["updated"]))
    yield one("clock_synced", "Whether the clock is set.", int(document["clock"] == "synced"))
    yield one("resident_memory_bytes", "Resident memory.", document["rss_mb"] * _MB)
    yield one(
        "cpu_temperature_celsius",
        "Temperature of the hottest CPU zone.",
        machine["cpu_temperature_c"],
    )
    yield one(
        "disk_free_bytes",
        "Free space of the store's file system.",
        _scaled(machine["disk_free_mb"], _MB),
    )
    yield one("loop_lag_seconds", "Delay of the last tick.", loop["lag_ms_last"] / 1000)
    yield one("loop_lag_max_seconds", "Longest delay of a tick.", loop["lag_ms_max"] / 1000)
    yield one("loop_turn_max_seconds", "Longest turn of the loop.", loop["turn_ms_max"] / 1000)
    yield Metric(
        "commit_latency_seconds",
        "gauge",
        "Time from reading to commit of the newest readings.",
        [
            Value(
                _scaled(latency[f"reading_to_commit_ms_p{percent}"], 1e-3), {"quantile": quantile}
            )
            for percent, quantile in ((50, "0.5"), (99, "0.99"))
        ],
    )
    yield _count("inference_seconds_total", "Time spent on scoring.", pace["seconds"])
    yield _count("inference_samples_total", "Samples in that time.", pace["samples"])
    yield one("queue_chunks", "Reads that wait for the loop.", document["queues"]["chunks"])
    dropped = document["counters"]["lines_dropped"]
    yield _count("lines_dropped_total", "Lines dropped because the loop was too slow.", dropped)
    aside = document["counters"].get("set_aside", 0)
    yield _count("set_aside_total", "Lines set aside because they ended the agent.", aside)


def _inputs(inputs: Mapping[str, Document]) -> Iterator[Metric]:
    def each(key: str) -> list[Value]:
        return [Value(source.get(key), {"input": name}) for name, source in inputs.items()]

    yield Metric("input_connected", "gauge", "Whether the input is connected.", each("connected"))
    yield Metric("input_lines_total", "counter", "Lines received.", each("lines"))
    yield Metric("input_received_bytes_total", "counter", "Bytes received.", each("bytes"))
    yield Metric("input_reconnects_total", "counter", "Reconnections.", each("reconnects"))
    yield Metric(
        "input_messages_too_large_total",
        "counter",
        "Messages discarded because they were too large.",
        each("messages_too_large"),
    )
    yield Metric(
        "input_messages_without_topic_total",
        "counter",
        "Messages discarded because their topic is not text.",
        each("messages_without_topic"),
    )
    yield Metric(
        "input_topics_given_up",
        "gauge",
        "Topics not subscribed to, because they deliver too large messages.",
        [
            Value(len(source.get("topics_given_up", ())), {"input": name})
            for name, source in inputs.items()
        ],
    )
    yield Metric(
        "input_registers_refused",
        "gauge",
        "Registers that the device refuses.",
        [
            Value(len(source.get("registers_refused", ())), {"input": name})
            for name, source in inputs.items()
        ],
    )
    yield Metric(
        "rejected_total",
        "counter",
        "Rejected lines and values, by cause.",
        [
            Value(count, {"input": name, "cause": cause})
            for name, source in inputs.items()
            for cause, count in source["rejected"].items()
        ],
    )


_STREAM_COUNTERS = (
    ("readings", "Readings accepted."),
    ("samples", "Samples aligned to the grid."),
    ("scored", "Samples scored."),
    ("late", "Rows too late for their sample."),
    ("duplicate", "Rows whose sample already existed."),
    ("out_of_order", "Rows out of order but used."),
    ("values_held", "Values held from an earlier sample."),
    ("values_interpolated", "Values interpolated."),
    ("values_missing", "Values missing in a sample."),
    ("raw_late", "Raw values too late for their window."),
    ("windows_short", "Windows with too few raw values."),
    ("uncertain", "Samples scored with values that were not measured."),
    ("alarms_opened", "Alarms opened."),
    ("alarms_closed", "Alarms closed."),
    ("alarms_unwatched", "Alarms closed because nothing watches them any more."),
    ("gaps", "Gaps in the samples, of any cause, each counted at its end."),
    ("lines_unwatched", "Lines not stored because nothing watches the stream."),
)


def _streams(streams: Mapping[str, Document]) -> Iterator[Metric]:
    for key, told in _STREAM_COUNTERS:
        values = [
            Value(stream["counters"].get(key, 0), {"stream": name})
            for name, stream in streams.items()
        ]
        yield Metric(f"stream_{key}_total", "counter", told, values)
    watched = [
        Value(int(one.get("watched", True)), {"stream": name})  # absent in old statuses
        for name, one in streams.items()
    ]
    yield Metric("stream_watched", "gauge", "Whether anything watches the stream.", watched)
    refused = [
        Value(int(one.get("refused") is not None), {"stream": name})
        for name, one in streams.items()
    ]
    yield Metric("stream_bundle_refused", "gauge", "Whether its bundle is refused.", refused)
    opened = [Value(len(one["open_alarms"]), {"stream": name}) for name, one in streams.items()]
    yield Metric("stream_alarms_open", "gauge", "Alarms open now.", opened)
    scores = [Value(one["last_score"], {"stream": name}) for name, one in streams.items()]
    yield Metric("stream_score", "gauge", "Last score; 1 is the threshold.", scores)
    last = [Value(_seconds(one["last_sample"]), {"stream": name}) for name, one in streams.items()]
    yield Metric("stream_last_sample_time_seconds", "gauge", "Time of the last sample.", last)


def _store(document: Document) -> Iterator[Metric]:
    store, counters = document["store"], document["counters"]
    committed, lost = counters["samples_committed"], counters["samples_not_stored"]
    yield _count("samples_committed_total", "Samples stored.", committed)
    yield _count("samples_not_stored_total", "Samples that could not be stored.", lost)
    yield Metric(
        "messages_not_stored_total",
        "counter",
        "Messages that could not be stored.",
        [Value(counters.get("messages_not_stored", 0))],
    )
    lost = counters.get("logbook_not_stored", 0)  # absent in old statuses, as alarms
    yield _count("logbook_not_stored_total", "Rows of the logbook that could not be stored.", lost)
    lost = counters.get("windows_not_stored", 0)
    yield _count("windows_not_stored_total", "Windows of alarms that could not be stored.", lost)
    states = [Value(count, {"state": state}) for state, count in document.get("alarms", {}).items()]
    yield Metric("alarms_not_normal", "gauge", "Alarms by their state of ISA-18.2.", states)
    yield Metric(
        "damaged_files", "gauge", "Set aside since the start.", [Value(len(store["set_aside"]))]
    )
    yield Metric("outbox_messages", "gauge", "Messages waiting.", [Value(store["outbox_rows"])])
    yield Metric("ring_samples", "gauge", "Samples kept.", [Value(store["ring_rows"])])
    evicted = [Value(count, {"kind": kind}) for kind, count in store["evicted"].items()]
    yield Metric("evicted_total", "counter", "Lost because the store was full.", evicted)
    dropped = [Value(count, {"kind": kind}) for kind, count in store.get("dropped", {}).items()]
    yield Metric("dropped_total", "counter", "Dropped because of age or number.", dropped)


def _uplink(link: Document) -> Iterator[Metric]:
    online = Value(int(link["state"] in ("online", "held")))
    yield Metric("uplink_connected", "gauge", "Whether the broker is connected.", [online])
    yield _count("uplink_connections_total", "Connections made.", link["connections"])
    yield _count("uplink_published_total", "Messages sent.", link["published"])
    yield _count("uplink_acknowledged_total", "Messages acknowledged.", link["acknowledged"])
    refused = link.get("refused", 0)
    yield _count("uplink_refused_total", "Messages not read because they ended the agent.", refused)
    in_flight = [Value(link["in_flight"])]
    yield Metric("uplink_in_flight_messages", "gauge", "Sent, not yet acknowledged.", in_flight)
    twin = link.get("twin")  # absent in old statuses
    if twin is not None:
        found = [Value(int(twin["state"] == "found"))]
        yield Metric("uplink_name_used_twice", "gauge", "Another gateway has our name.", found)
        taken_over = twin["taken_over"]
        yield _count("uplink_taken_over_total", "Connections another client took over.", taken_over)
    denied = [Value(len(link.get("denied", ())))]  # absent in old statuses
    yield Metric("uplink_denied_topics", "gauge", "Topics we may not publish to.", denied)
    if link.get("central"):
        yield from _central(link["central"])
    if link.get("samples"):  # absent in old statuses
        yield from _samples(link["samples"])


def _samples(samples: Document) -> Iterator[Metric]:
    yield _count("uplink_samples_sent_total", "Samples confirmed.", samples["sent"])
    missed = samples["missed"]
    yield _count("uplink_samples_missed_total", "Samples dropped before they were sent.", missed)
    refused = samples["refused"]
    yield _count("uplink_samples_refused_total", "Samples that are not accepted.", refused)
    behind, used = [Value(samples["behind"])], [Value(samples["day_bytes"])]
    yield Metric("uplink_samples_behind", "gauge", "Samples still to be sent.", behind)
    yield Metric("uplink_samples_day_bytes", "gauge", "Bytes of samples sent that day.", used)


def _central(central: Document) -> Iterator[Metric]:
    rejected = [Value(count, {"cause": cause}) for cause, count in central["rejected"].items()]
    yield Metric(
        "uplink_acknowledgements_rejected_total",
        "counter",
        "Ignored messages of a collector, by cause.",
        rejected,
    )
    trust = central.get("trust")  # absent in old statuses
    if trust is None:
        return
    unsigned, keys = [Value(int(trust["unsigned"]))], [Value(len(trust["keys"]))]
    yield Metric("uplink_unsigned", "gauge", "Whether a collector needs no key.", unsigned)
    yield Metric("uplink_collector_keys", "gauge", "Keys of collectors that are trusted.", keys)


def _hooks(hooks: Document) -> Iterator[Metric]:
    def each(key: str) -> list[Value]:
        return [Value(hook[key], {"hook": name}) for name, hook in hooks.items()]

    if not hooks:
        return
    yield Metric("hook_sent_total", "counter", "Notices that a hook has delivered.", each("sent"))
    yield Metric("hook_retried_total", "counter", "Attempts that failed.", each("retried"))
    dropped = [
        Value(hook[cause], {"hook": name, "cause": cause})
        for name, hook in hooks.items()
        for cause in ("refused", "expired", "excess")
    ]
    yield Metric("hook_dropped_total", "counter", "Notices that were dropped.", dropped)
    yield Metric("hook_waiting", "gauge", "Notices that wait for a hook.", each("waiting"))
    up = [Value(int(not hook["failing"]), {"hook": name}) for name, hook in hooks.items()]
    yield Metric("hook_up", "gauge", "Whether the last attempt did not fail.", up)


def _control(control: Document) -> Iterator[Metric]:
    def each(key: str, label: str) -> list[Value]:
        return [Value(count, {label: name}) for name, count in control.get(key, {}).items()]

    yield Metric("commands_total", "counter", "Commands done.", each("commands", "command"))
    refused = each("refused", "cause")
    yield Metric("commands_refused_total", "counter", "Commands refused, by cause.", refused)
    dropped = each("clients_dropped", "cause")
    yield Metric("control_clients_dropped_total", "counter", "Clients dropped.", dropped)
    if (remote := control.get("remote")) is not None:  # absent if they are off
        yield from _remote(remote)
    if control["socket"] is not None:
        usable = [Value(int(control["error"] is None))]
        yield Metric("control_up", "gauge", "Whether commands can be sent.", usable)


def _remote(remote: Document) -> Iterator[Metric]:
    listening = [Value(int(remote["listening"]))]
    yield Metric("remote_up", "gauge", "Whether commands of central ops are received.", listening)
    outcomes: Counter[str] = Counter(remote["counts"]) + Counter(remote["refused"])
    counts = [Value(count, {"outcome": name}) for name, count in outcomes.items()]
    yield Metric("remote_commands_total", "counter", "Commands of central ops.", counts)


def _count(name: str, help: str, value: float) -> Metric:
    return Metric(name, "counter", help, [Value(value)])


def _seconds(time: str | None) -> float | None:
    return None if time is None else datetime.fromisoformat(time).timestamp()


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
