"""Probes an input, and returns the result as one document for people and programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from agent.commands.probe import baud as rates
from agent.commands.probe.guess import Guess, guess
from agent.commands.probe.listen import Heard, Show, listen, listen_to_broker, listen_to_file
from agent.commands.probe.measure import Arrival, measured, plain_channels
from agent.commands.probe.propose import input_name, input_table, stream_table
from agent.config import load as configuration
from agent.config.broker import BrokerTable
from agent.config.inputs import FileTable, InputTable, MqttInputTable, SerialTable
from agent.config.kinds import topic_filter
from agent.config.load import AgentConfig
from agent.inputs.ports import find
from agent.inputs.serial import probe_port, sample
from agent.parsing.measurement import as_bytes
from models import bundle as bundles
from models.errors import ConfigError
from models.formats.header import Preamble, Wanted
from models.manifest import Channel
from models.printable import printable
from models.settings import explain
from models.validation import ValidationError

RAW_MAX: Final = 20  # lines
RAW_CHARACTERS_MAX: Final = 2000  # per line
SOURCES_MAX: Final = 20  # topics
_SAMPLE_S: Final = 2.0  # per rate, at most
_UNDATED: Final = (
    "no time was found, so the agent dates a row when it reads it; of the rows that the file"
    " already has, it uses one. If a column is a time, set time_key and time_format"
)
_SILENT: Final = "is the device on, does it send unasked, are RX and TX swapped?"

Document = dict[str, Any]
Options = dict[str, Any]  # settings of the proposed table
Tell = Callable[[str], None]


def probe_serial(
    port: Path, by_id: Path, options: Options, stream: str, seconds: float, tell: Tell, show: Show
) -> Document:
    """Read a serial port for some seconds; without the option ``baud``, find the rate first."""
    settings = SerialTable.model_validate(
        # a table needs a format; JSON needs no further settings, and the lines are guessed later
        {"name": "probe", "stream": stream, "port": port, "by_id": by_id, "format": "json"}
        | options
    )
    if trouble := probe_port(settings):
        return _failed(seconds, trouble)
    port = find(settings.port, settings.by_id)
    if "baud" not in options:
        rate = _rate(settings, min(_SAMPLE_S, seconds), tell)
        if rate is None:
            return _failed(seconds, f"nothing arrived at any rate: {_SILENT}")
        settings = settings.model_copy(update={"baud": rate})
    heard = listen(settings, seconds, show)
    if len(heard.arrivals) > 2:
        del heard.arrivals[0]  # the beginning of the first line may be missing
    if heard.problem is None and not heard.lines:
        heard.problem = (
            f"{heard.bytes} bytes arrived, but no line end: is {settings.baud} baud right?"
            " Try --baud auto"
            if heard.bytes
            else f"nothing arrived in {seconds:g} s: {_SILENT}"
        )
    given = {"port": str(port), "baud": settings.baud} | options
    return document_of(heard, {"type": "serial"} | given, stream, port.name)


def _rate(settings: SerialTable, seconds: float, tell: Tell) -> int | None:
    samples: dict[int, bytes] = {}
    for rate in rates.RATES:
        samples[rate] = sample(settings.model_copy(update={"baud": rate}), seconds)
        tell(f"{rate} baud: {len(samples[rate])} bytes")
        if samples[rate] and rates.is_clear(samples[rate]):
            return rate
    return rates.choose(samples)


def probe_file(path: Path, stream: str, seconds: float, show: Show) -> Document:
    """Read a file, then its new lines for some seconds."""
    settings = FileTable.model_validate(
        {"name": "probe", "type": "file", "stream": stream, "path": path, "format": "json"}
        | {"poll_interval_s": 0.1}
    )
    try:
        heard = listen_to_file(settings, seconds, show)
    except OSError as error:
        return _failed(seconds, f"{path} cannot be read: {error.strerror}")
    if heard.problem is None and not heard.lines:
        heard.problem = (
            f"{path} has {heard.bytes} bytes, but no line end"
            if heard.bytes
            else f"{path} is empty, and nothing was added in {seconds:g} s"
        )
    given = {"type": "file", "path": str(path.absolute()), "begin": "end"}
    return document_of(heard, given, stream, path.stem)


def probe_mqtt(
    broker: Options, topics: Sequence[str], stream: str, seconds: float, show: Show
) -> Document:
    """Subscribe for some seconds; each topic gets its own input.

    Raises:
        ConfigError: the broker's settings, or a topic filter, are invalid.

    """
    try:
        settings = BrokerTable.model_validate(broker)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(BrokerTable, error))) from error
    for topic in topics:
        try:
            topic_filter(topic)
        except ValueError as error:
            raise ConfigError(f"--topic {printable(topic)!r}: {error}") from error
    heard = listen_to_broker(settings, topics, seconds, show)
    if heard.problem is None and not heard.lines:
        heard.problem = f"nobody published to {', '.join(topics)} in {seconds:g} s"
    return document_of(heard, {"type": "mqtt", "broker": dict(broker)}, stream, "mqtt")


def probe_input(config_file: Path, name: str, seconds: float, show: Show) -> Document:
    """Run a configured input, and read its lines as the agent would.

    Raises:
        ConfigError: the configuration is invalid, or has no input ``name``.
        BundleError: the stream's bundle is refused.

    """
    config = configuration.load(config_file)
    table = next((one for one in config.inputs if one.name == name), None)
    if table is None:
        there = ", ".join(one.name for one in config.inputs)
        raise ConfigError(f"{config_file} has no input {name!r}; its inputs are {there}")
    if isinstance(table, SerialTable) and (trouble := probe_port(table)):
        return _failed(seconds, trouble)
    if isinstance(table, MqttInputTable):
        heard = listen_to_broker(table.broker, table.topics, seconds, show)
    else:
        heard = listen(table, seconds, show)
    if heard.problem is None and not heard.lines:
        heard.problem = f"nothing arrived in {seconds:g} s"
    found = measured(table.lines, _channels(config, table.stream), heard.arrivals)
    return _heard(heard) | {"sources": [{"source": name} | found], "proposal": None, "stream": None}


def _channels(config: AgentConfig, name: str) -> Sequence[Channel]:
    (stream,) = (one for one in config.streams if one.name == name)
    if stream.baseline is None:
        assert stream.bundle is not None  # the configuration's checks ensure it
        return bundles.read(stream.bundle).manifest.source_channels
    return [
        Channel(name=one.name, unit=one.unit, low=one.low, high=one.high, center=0.0, scale=1.0)
        for one in stream.baseline.channels
    ]


def _failed(seconds: float, problem: str) -> Document:
    return document_of(Heard(seconds, problem=problem), {}, "", "")


def _heard(heard: Heard) -> Document:
    return {
        "seconds": heard.seconds,
        "bytes": heard.bytes,
        "lines": heard.lines,
        "raw": [
            printable(as_bytes(arrival.line), RAW_CHARACTERS_MAX)
            for arrival in heard.arrivals[:RAW_MAX]
        ],
        "problem": heard.problem,
        "note": heard.note,
        "retained": heard.retained,
    }


def document_of(heard: Heard, given: Options, stream: str, name: str) -> Document:
    """Return the whole result, and the proposed configuration."""
    by_source: dict[str, list[Arrival]] = {}
    for arrival in heard.arrivals:
        by_source.setdefault(arrival.source, []).append(arrival)
    sources: list[Document] = []
    proposals: list[str] = []
    channels: dict[str, None] = {}
    names: set[str] = set()
    for source, arrivals in list(by_source.items())[:SOURCES_MAX]:
        label = source.rsplit("/", 1)[-1]
        found = guess([as_bytes(arrival.line) for arrival in arrivals], label, frozenset(channels))
        if found is None:
            sources.append({"source": source, "lines": len(arrivals), "format": None})
            continue
        is_file = given.get("type") == "file"
        if is_file and found.time is None:
            found.notes.append(_UNDATED)
        settings = _settings(found, is_file)
        table = InputTable.model_validate({"name": "probe", "stream": "probe"} | settings)
        rows = _without_preamble(table, arrivals)
        about = measured(table, plain_channels(list(found.channels)), rows)
        sources.append(_described(source, found, about))
        where = {"topics": [source]} if source else {}
        if table.format == "csv":
            del settings["format"]
        head = {"name": input_name(source or name, names), "type": given["type"], "stream": stream}
        proposals.append(input_table(head | given | where | settings))
        channels |= dict.fromkeys(found.channels)
    periods = [about["period_s"] for about in sources if about.get("period_s")]
    return _heard(heard) | {
        "sources": sources,
        "sources_left_out": max(0, len(by_source) - SOURCES_MAX),
        "proposal": "\n".join(proposals) or None,
        "stream": stream_table(stream, list(channels), min(periods, default=None))
        if channels
        else None,
    }


def _without_preamble(table: InputTable, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
    """Return the header and the rows; drop the lines around the header, as the agent does."""
    if not table.header:
        return arrivals
    preamble = Preamble(Wanted(table.time_key), table.separator or ",", table.encoding)
    for at, arrival in enumerate(arrivals):
        if not preamble.takes(as_bytes(arrival.line)):
            header = [one for one in arrivals[:at] if one.line == preamble.line]
            return [*header, *arrivals[at:]]
    return arrivals


def _settings(found: Guess, is_file: bool) -> dict[str, Any]:
    """Return the settings that read the lines; in a file, the header finds the columns."""
    settings = dict(found.settings)
    if not is_file or not found.header:
        return settings
    del settings["columns"]
    settings["header"] = True
    if found.time is not None:
        settings["time_key"] = found.time
    keys = {name: label for name, label in found.channels.items() if name != label}
    return settings | ({"keys": keys} if keys else {})


def _described(source: str, found: Guess, about: Document) -> Document:
    ranges = about.pop("channels")
    return {
        "source": source,
        "format": found.settings["format"],
        "separator": found.settings.get("separator"),
        "checksum": found.settings.get("checksum"),
        "time": found.time,
        "notes": found.notes,
        **about,
        "channels": {
            name: {"from": where} | ranges[name] for name, where in found.channels.items()
        },
    }
