"""Describes the result of a probe in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.shown import NO_VALUE, shown

Document = Mapping[str, Any]


def ports(found: Sequence[Mapping[str, str]], by_id: object) -> Iterator[str]:
    """Yield the serial devices, a line each."""
    if not found:
        yield f"there is no serial device: {by_id} is empty or absent"
    for device in found:
        yield f"{device['port']} -> {device['target']}"
    yield "probe one with: fieldwatch-agent probe serial PORT"


def lines(document: Document) -> Iterator[str]:
    """Yield the result line by line; the proposal comes last."""
    if document["problem"] and not document.get("lines") and not document.get("polls"):
        return
    if "registers" in document:
        yield from _registers(document)
    else:
        yield f"{document['lines']} lines, {document['bytes']} bytes in {document['seconds']:g} s"
        for source in document["sources"]:
            yield ""
            yield from _source(source)
        if left_out := document.get("sources_left_out"):
            yield f"{left_out} more topics are not shown"
    if retained := document.get("retained"):
        yield (
            f"messages retained by the broker, of unknown age: {retained}."
            " The agent uses a retained message only if it has a time, or if use_retained = true"
        )
    if document["note"]:
        yield f"also: {document['note']}"
    if document["proposal"]:
        yield ""
        yield "# add this to the configuration, and name the channels"
        yield from document["proposal"].rstrip("\n").split("\n")
        yield ""
        yield "# and this, until the stream has a bundle"
        yield from document["stream"].rstrip("\n").split("\n")


def _source(source: Document) -> Iterator[str]:
    where = f"{source['source']}: " if source["source"] else ""
    if source.get("format", "") is None:
        yield (
            f"{where}{source['lines']} lines match no known format;"
            " format = 'regex' with a pattern may read them"
        )
        return
    yield (
        f"{where}{_format(source)}{source['readings']} of {source['lines']} lines contain a reading"
    )
    if source["period_s"]:
        yield f"  one every {source['period_s']:g} s"
    if backwards := source["backwards"]:
        yield (
            f"  {backwards} lines have an earlier time than the line before; the agent uses a late"
            " line only within the stream's lateness_samples: sort the lines by time"
        )
    for cause, count in sorted(source["rejected"].items()):
        yield f"  rejected, {cause}: {count}"
    for reject in source["rejects"]:
        about = f" ({reject['channel']})" if reject["channel"] else ""
        yield f"    {reject['cause']}{about}: {reject['line']}"
    yield from (f"  {note}" for note in source.get("notes", ()))
    if source.get("time"):
        yield f"  time: {source['time']}"
    for name, about in source["channels"].items():
        origin = about.get("from", name)
        yield f"  {name}{f' ({origin})' if origin != name else ''}: {_range(about)}"


def _format(source: Document) -> str:
    if "format" not in source:
        return ""
    parts = [source["format"]]
    if source["separator"]:
        parts.append(f"separator {source['separator']!r}")
    if source["checksum"]:
        parts.append(f"checksum {source['checksum']}")
    return f"{', '.join(parts)}; "


def _range(about: Document) -> str:
    if about["last"] is None:
        return NO_VALUE
    low, high, last = (shown(about[name], "g") for name in ("low", "high", "last"))
    return f"{low} to {high}, last {last}"


def _registers(document: Document) -> Iterator[str]:
    yield f"{document['polls']} polls in {document['seconds']:g} s"
    for seen in document["registers"]:
        rest = {key: value for key, value in seen.items() if key not in ("address", "last")}
        changes = " (changes)" if rest.pop("changes") else ""
        pairs = [f"{key} {shown(value, 'g')}" for key, value in rest.items() if value is not None]
        together = f"  with the next: {', '.join(pairs)}" if pairs else ""
        yield f"  {seen['address']}: {seen['last']}{changes}{together}"
    yield from (f"  {name}: {_range(about)}" for name, about in document["channels"].items())
