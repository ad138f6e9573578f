"""Describes a collector's database: gateways, messages not accepted, and whether it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.collector.quarantine import CAUSES
from agent.collector.trouble import trouble_in
from agent.store.migrations import COLLECTED
from agent.store.sqlite import Connection, errors_of, lock_of, locked, open_for_reading, outdated
from models.errors import StoreError
from models.settings import nearest
from models.times import iso_time

_BODY_CHARACTERS_MAX: Final = 2000
_GATEWAYS: Final = """
    SELECT site, gateway, epoch, count(*) AS messages, max(seq) AS last_seq,
        max(received) AS last_received,
        (SELECT through_seq FROM books WHERE books.site = messages.site
            AND books.gateway = messages.gateway AND books.epoch = messages.epoch) AS through_seq,
        (SELECT count(*) FROM messages AS replaced WHERE replaced.site = messages.site
            AND replaced.gateway = messages.gateway AND replaced.epoch = messages.epoch
            AND superseded IS NOT NULL) AS superseded,
        (SELECT count(DISTINCT seq) FROM quarantine WHERE quarantine.site = messages.site
            AND quarantine.gateway = messages.gateway AND quarantine.epoch = messages.epoch
            AND cause = 'conflict') AS conflicts
    FROM messages GROUP BY site, gateway, epoch"""
_SAMPLES: Final = """
    SELECT site, gateway, epoch, stream, samples, newest, missed, received AS last_received,
        (SELECT count(*) FROM chunks WHERE chunks.site = sampled.site
            AND chunks.gateway = sampled.gateway AND chunks.epoch = sampled.epoch
            AND chunks.stream = sampled.stream) AS chunks_waiting
    FROM sampled ORDER BY site, gateway, epoch, stream"""
_ENTRIES: Final = """
    SELECT id, received, cause, reason, site, gateway, epoch, seq, topic, body FROM quarantine
    WHERE ? IN (cause, '') ORDER BY id DESC LIMIT ?"""


class UnknownCause(ValueError):
    """There is no such cause; the text names the existing ones."""


def overview(directory: Path, cause: str | None, entries_max: int) -> dict[str, Any]:
    """Return gateways, counts by cause, newest quarantine entries, and whether a collector runs.

    Raises:
        StoreError: there is no database of a collector, or it cannot be read.
        UnknownCause: there is no such cause.

    """
    path = directory / COLLECTED
    with errors_of(path):
        if not path.exists():
            raise StoreError(f"{path}: no such database; has a collector run with this directory?")
        if outdated(path):
            raise StoreError(f"{path}: an older version made it; run fieldwatch-agent collect once")
        connection, _ = open_for_reading(path)
        with contextlib.closing(connection):
            refused = _rows(connection, "SELECT * FROM refused ORDER BY site, cause")
            _check_cause(cause, {*CAUSES, *(row["cause"] for row in refused)})
            gateways = [
                row | {"last_received": _time(row["last_received"])}
                for row in _rows(connection, _GATEWAYS)
            ]
            samples = [
                row | {"last_received": _time(row["last_received"]), "newest": _time(row["newest"])}
                for row in _rows(connection, _SAMPLES)
            ]
            running = locked(lock_of(path))
            signs = [row["last_received"] for row in gateways if row["last_received"]]
            return {
                "collector": {
                    "running": running,
                    "last_received": max(signs, default=None),
                    # what an earlier one left is no trouble of a collector that does not run
                    "trouble": None if running is False else trouble_in(directory),
                },
                "gateways": gateways,
                "samples": samples,
                "refused": [row | {"last": iso_time(row["last"])} for row in refused],
                "quarantine": [
                    row | {"received": iso_time(row["received"]), "body": _text(row["body"])}
                    for row in _rows(connection, _ENTRIES, (cause or "", entries_max))
                ],
            }


def _check_cause(cause: str | None, known: set[str]) -> None:
    if cause is not None and cause not in known:
        advice = nearest(cause, known)
        raise UnknownCause(f"no cause {cause!r}{advice}; there are {', '.join(sorted(known))}")


def not_collecting(document: Mapping[str, Any]) -> str | None:
    """Return a line that says that no collector runs; None if one runs, or may run."""
    collector = document["collector"]
    if collector["running"] is not False:  # None: unknown
        return None
    newest = collector["last_received"]
    told = "" if newest is None else f"; the newest message arrived at {newest}"
    return f"NOT COLLECTING: no collector runs with this directory{told}"


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what ``overview`` returned, for a terminal."""
    if (trouble := document["collector"]["trouble"]) is not None:
        yield f"WRONG: {trouble}"
    if not document["gateways"]:
        yield "no messages from any gateway"
    for one in document["gateways"]:
        yield (
            f"{one['site']}/{one['gateway']} epoch {one['epoch']}: {one['messages']} messages"
            f" up to {one['last_seq']}, complete through {one['through_seq'] or 0},"
            f" {one['superseded']} superseded, {one['conflicts']} in conflict; the newest arrived"
            f" at {one['last_received'] or 'an unknown time'}"
        )
    for one in document["samples"]:
        missed = f"; its gateway dropped {one['missed']} before" if one["missed"] else ""
        yield (
            f"{one['site']}/{one['gateway']} epoch {one['epoch']}: {one['samples']} samples of"
            f" {one['stream']} up to {one['newest']}, {one['chunks_waiting']} chunks in no file"
            f" yet{missed}"
        )
    for one in document["refused"]:
        yield f"{one['site']}: {one['count']} not accepted, {one['cause']}; the last {one['last']}"
    for one in document["quarantine"]:
        number = "" if one["seq"] is None else f" (epoch {one['epoch']}, number {one['seq']})"
        yield f"{one['id']}  {one['received']}  {one['cause']}  {one['topic']}{number}"
        yield f"    {one['reason']}"
        yield f"    {one['body']}"


def _rows(
    connection: Connection, question: str, values: tuple[object, ...] = ()
) -> list[dict[str, Any]]:
    found = connection.execute(question, values)
    names = [name for name, *_ in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _time(unix_s: float | None) -> str | None:
    return None if unix_s is None else iso_time(unix_s)  # older versions stored no time


def _text(body: bytes) -> str:
    return body[:_BODY_CHARACTERS_MAX].decode(errors="backslashreplace")
