"""Probes serial ports for ``setup``, and adds what was found to streams and inputs."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from agent.commands.probe import report, run
from agent.commands.probe.propose import input_name

Rows = list[dict[str, Any]]
Say = Callable[[str], None]


class Seen(NamedTuple):
    """What a port sends."""

    lines: tuple[str, ...]  # for people
    input: dict[str, Any] | None  # the proposed table; None: nothing that can be read
    stream: dict[str, Any] | None

    def named(self, channels: list[str]) -> Seen:
        """Return it with other names of the channels, in the order of the columns."""
        assert self.input is not None and self.stream is not None
        names = dict(zip(self.channels, channels, strict=True))
        columns = [names.get(one, one) for one in self.input["columns"]]
        baseline = self.stream["baseline"]
        rows = [row | {"name": names[row["name"]]} for row in baseline["channels"]]
        return self._replace(
            input=self.input | {"columns": columns},
            stream=self.stream | {"baseline": baseline | {"channels": rows}},
        )

    def with_bundle(self, bundle: str) -> Seen:
        """Return it with a bundle in place of the baseline."""
        assert self.stream is not None
        return self._replace(stream={"name": self.stream["name"], "bundle": bundle})

    @property
    def channels(self) -> list[str]:
        """The channels that were found."""
        rows = [] if self.stream is None else self.stream["baseline"]["channels"]
        return [row["name"] for row in rows]


def look(port: Path, by_id: Path, stream: str, seconds: float, say: Say) -> Seen:
    """Listen to a port; find its rate and its format."""
    document = run.probe_serial(port, by_id, {}, stream, seconds, say, lambda _: None)
    shown = tuple(f"> {line}" for line in document["raw"][:3])
    if not document["proposal"]:
        problem = document["problem"] or "data arrived, but none of it can be read"
        return Seen((*shown, f"{port}: {problem}"), None, None)
    about = report.lines(document | {"proposal": None})
    (source,) = tomllib.loads(document["proposal"])["inputs"]
    (table,) = tomllib.loads(document["stream"])["streams"]
    return Seen((*shown, *about), source, table)


def added(streams: Rows, inputs: Rows, seen: Seen) -> tuple[Rows, Rows]:
    """Return the rows with what was found.

    An input at the same port stays as it is: people have named its channels. A stream of this name
    gets the channels that its baseline lacks; a bundle has its own.
    """
    assert seen.input is not None and seen.stream is not None
    source = seen.input
    if any(one.get("port") == source["port"] for one in inputs):
        return streams, inputs
    name = input_name(source["name"], {str(one.get("name")) for one in inputs})
    if all(one.get("name") != source["stream"] for one in streams):
        streams = [*streams, seen.stream]
    streams = [_with_channels(one, seen) for one in streams]
    return streams, [*inputs, source | {"name": name}]


def _with_channels(stream: dict[str, Any], seen: Seen) -> dict[str, Any]:
    """Return a stream's row; its baseline has the channels that were found, if they are its."""
    assert seen.stream is not None
    if stream["name"] != seen.stream["name"]:
        return stream
    if "baseline" not in stream or "baseline" not in seen.stream:
        return stream
    rows = stream["baseline"]["channels"]
    known = {row["name"] for row in rows}
    more = [row for row in seen.stream["baseline"]["channels"] if row["name"] not in known]
    return stream | {"baseline": stream["baseline"] | {"channels": [*rows, *more]}}
