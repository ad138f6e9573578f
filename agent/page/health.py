"""The view of the agent's own state: inputs, link, store, clock, bundles, and what was rejected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.commands.life import Life
from agent.page.words import Words
from models.printable import printable

Row = tuple[str, str, bool]  # name, text, whether it is as it should be
_MB = 1e6


def sections(status: Mapping[str, Any], life: Life, words: Words) -> Iterator[dict[str, Any]]:
    """Yield the sections of the view, each with its rows."""
    t, told = words.text, words.told
    yield {"title": t("health.agent"), "rows": list(_agent(status, life, words))}
    if not status:
        return
    yield {"title": t("health.inputs"), "rows": list(_inputs(status, words))}
    yield {"title": t("health.link"), "rows": list(_link(status, words))}
    store = status["store"]
    free = status["machine"]["disk_free_mb"]
    rows: list[Row] = [
        (t("health.kept"), t("health.samples", count=told.whole(store["ring_rows"])), True),
        (t("health.size"), f"{told.number(store['bytes'] / _MB)} MB", True),
        (t("health.free"), t("unknown") if free is None else f"{told.whole(free)} MB", True),
    ]
    rows += [(t("health.damage"), printable(str(one)), False) for one in store.get("damage", ())]
    yield {"title": t("health.store"), "rows": rows}
    yield {"title": t("health.bundles"), "rows": list(_bundles(status, words))}


def _agent(status: Mapping[str, Any], life: Life, words: Words) -> Iterator[Row]:
    t = words.text
    if life.watching:
        yield t("health.watching"), t("yes"), True
    else:
        since = words.moments.full(life.last_sign)
        yield t("health.watching"), t("health.not_since", since=since), False
        yield t("health.why"), printable(life.said(words.told)), False
    if not status:
        return
    yield t("health.version"), status["version"], True
    yield t("health.started"), words.moments.full(status["started"]), True
    yield t("health.clock"), t(f"clock.{status['clock']}"), status["clock"] == "synced"
    yield t("health.memory"), f"{words.told.number(status['rss_mb'])} MB", True
    if (unstored := status.get("unstored")) is not None:
        yield t("health.cannot_store"), printable(str(unstored.get("error"))), False
    refused = status["configuration"]["refused"]
    if refused:
        yield t("health.configuration"), printable(str(refused), 1000), False


def _inputs(status: Mapping[str, Any], words: Words) -> Iterator[Row]:
    t = words.text
    for name, source in status["inputs"].items():
        fine = bool(source["connected"])
        count = words.told.whole(source["lines"])
        said = t("health.connected", count=count)
        if not fine:
            said = t("health.not_connected", why=printable(str(source["last_error"])))
        yield name, said, fine
        for cause, rejected in source["rejected"].items():
            yield name, t("health.rejected", cause=cause, count=words.told.whole(rejected)), False
        for one in source["rejects"]:
            yield name, f"{one['cause']}: {printable(one['excerpt'])}", False


def _link(status: Mapping[str, Any], words: Words) -> Iterator[Row]:
    t, uplink = words.text, status["uplink"]
    waiting = words.told.whole(status["store"]["outbox_rows"])
    if uplink is None:
        yield t("health.state"), t("health.no_uplink"), True
        return
    fine = uplink["state"] == "connected"
    yield t("health.state"), printable(str(uplink["state"])), fine
    if uplink.get("last_error"):
        yield t("health.why"), printable(str(uplink["last_error"])), False
    yield t("health.waiting"), t("health.messages", count=waiting), True


def _bundles(status: Mapping[str, Any], words: Words) -> Iterator[Row]:
    t = words.text
    for name, stream in status["streams"].items():
        signer = stream.get("signer")
        by = t("health.unsigned") if signer is None else t("health.signed", key_id=signer["key_id"])
        yield name, f"{printable(str(stream['bundle']))}, {by}", True
        if refused := stream.get("refused"):
            yield name, t("health.refused", why=printable(str(refused["why"]), 500)), False
