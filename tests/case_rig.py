"""A report as a folder: what the agent was told, what came to it, what it should have made of it.

    agent.toml                 ──> an agent of its own; ports, paths and broker are replaced
    line.bin, bus.jsonl, …     ──> a serial line, a broker, a file that it reads
    expected.toml <── compared ──  the agent's status, alarms and samples, messages at ops

The format is described in ``tests/cases/README.md``. All of the input is taken in before the agent
is stopped, and a stop commits all that was taken in: so no result hangs on how fast anything is.
"""

from __future__ import annotations

import base64
import json
import math
import os
import select
import shutil
import subprocess
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paho.mqtt.client as paho

from agent.mqtt.client import Client
from agent.store.reader import Reader
from models import bundle as bundles
from models.errors import StoreError
from models.messages import Float32, Float64
from tests.agent_rig import Ops
from tests.conftest import ROOT, WAIT_S_MAX, RealAgent, RealBroker, wait_until
from tests.database import make_files
from tests.serial_line import Line

CASES = ROOT / "tests" / "cases"
ZOO = ROOT / "models" / "zoo"
SUFFIX = {"serial": ".bin", "mqtt": ".jsonl", "file": ".csv", "replay": ".csv"}
_SAID_S_MAX = 20.0  # within which messages come; less than until a stream is said to be silent
_NO_SUBSCRIBER = 16  # reason code of MQTT 5
_ROUNDED = 1e-5  # values are stored as float32
_CLOCK_S = 0.001  # times of alarms are printed in milliseconds

Document = Mapping[str, Any]


class Table(NamedTuple):
    """The stored samples of a stream."""

    names: Sequence[str]  # of C channels
    times: Float64  # (n,)
    values: Float32  # (n, C)


class Seen(NamedTuple):
    """What the agent made of a case."""

    status: Document
    alarms: Sequence[Document]
    samples: Mapping[str, Table]
    messages: Sequence[tuple[str, Document]]  # kind/stream, body
    ran: tuple[float, float]  # Unix seconds


class Case:
    """A folder that is run in a copy of it."""

    def __init__(self, folder: Path, directory: Path) -> None:
        self.name = folder.name
        self.directory = directory / folder.name
        shutil.copytree(folder, self.directory)
        self.expected: Document = tomllib.loads((folder / "expected.toml").read_text())
        self.config = self.directory / "agent.toml"
        self.log = self.config.with_suffix(".log")
        self._agent = RealAgent(self.config)
        self._settings: dict[str, Any] = {}
        self._lines: dict[str, Line] = {}
        self._broker: RealBroker | None = None
        self._publisher: Publisher | None = None
        self._ops: Ops | None = None
        self._began_s = time.time()

    def differences(self) -> list[str]:
        """Run the case; return what was not as expected, a sentence each."""
        with ExitStack() as parts:
            parts.callback(self._end_agent)
            self._set_up(parts)
            if "refused" in self.expected:
                found = list(self._refusal())
            else:
                found = [*self._played(), *differences(self.expected, self._seen())]
        return [f"tests/cases/{self.name}: {one}" for one in found]

    def _set_up(self, parts: ExitStack) -> None:
        make_files(self.directory / "data")
        try:
            self._settings = tomllib.loads(self.config.read_text())
        except tomllib.TOMLDecodeError:
            return  # which the agent is to refuse
        inputs = self._settings.get("inputs", [])
        if "mqtt" in self._settings or any(kind(one) == "mqtt" for one in inputs):
            self._broker = RealBroker(self.directory)
            parts.callback(self._broker.kill)
            self._broker.start()
            self._publisher = Publisher(self._broker.port)
            parts.callback(self._publisher.close)
        if self._broker and "mqtt" in self._settings:
            self._ops = Ops(self._broker.port)
            parts.callback(self._ops.close)
        for one in inputs:
            file = self._input_file(one)
            given = file.exists() or "refused" in self.expected
            assert given, f"tests/cases/{self.name}: no file {file.name}, for an input of this name"
            if kind(one) == "serial":
                self._lines[one["name"]] = line = Line(self.directory / f"tty-{one['name']}")
                parts.callback(line.close)
        self._write_drop_in()

    def _write_drop_in(self) -> None:
        """Let the user's configuration be as it is, and lay what the rig needs over it."""
        tables = [table("[store]", directory=str(self.directory / "data"))]
        if "refused" not in self.expected:
            tables.append("flush_interval_s = 0.1")
        if self._ops and self._broker:
            tables.append(table("[mqtt]", host="127.0.0.1", port=self._broker.port))
        for stream in self._settings.get("streams", []):
            if "bundle" in stream and (bundle := self._bundle(stream["bundle"])):
                tables.append(table("[[streams]]", name=stream["name"], bundle=str(bundle)))
        for one in self._settings.get("inputs", []):
            tables.append(table("[[inputs]]", name=one["name"]) + self._place_of(one))
        drop_ins = self.directory / "conf.d"
        drop_ins.mkdir(exist_ok=True)
        (drop_ins / "zz-case.toml").write_text("\n".join(tables) + "\n")

    def _place_of(self, one: Document) -> str:
        path = str(self._input_file(one))
        match kind(one):
            case "serial":
                return table("", port=str(self._lines[one["name"]].path))
            case "mqtt":
                assert self._broker is not None
                return f'\nbroker = {{ host = "127.0.0.1", port = {self._broker.port} }}'
            case "file":
                return table("", path=f"{path}.there", begin="start", poll_interval_s=0.02)
            case "replay":
                return table("", path=path, times="recorded", speed=10_000)
        raise AssertionError(f"{self.name}: no case can have an input of type {kind(one)} yet")

    def _bundle(self, named: str) -> Path | None:
        """Return the bundle of this name in the folder or the zoo; None where none is there."""
        places = (directory / Path(named).name for directory in (self.directory, ZOO))
        return next((place for place in places if place.exists()), None)

    def _input_file(self, one: Document) -> Path:
        return self.directory / f"{one['name']}{SUFFIX.get(kind(one), '')}"

    def _refusal(self) -> Iterator[str]:
        """Run an agent that is to end at once."""
        assert self._agent.process is None
        self._agent.start()
        assert self._agent.process is not None
        try:
            code = self._agent.process.wait(WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            yield f"the agent was to refuse this, and runs; its log is {self.log}"
            return
        wanted = self.expected["refused"]
        yield from unlike("refused.exit_code", wanted["exit_code"], code)
        for text in wanted["says"]:
            if text not in self._agent.log():
                yield f"refused.says: {text!r} is not in the log: {self._agent.log()}"

    def _played(self) -> Iterator[str]:
        """Give the agent its input, one after the other, and end it; yield what went wrong."""
        inputs = self._settings.get("inputs", [])
        for one in inputs:
            self._publish(one, retained=True)
        self._agent.start()
        self._await(lambda: bool(self._status()), "its first status")
        for one in inputs:
            self._await_connected(one)
            self._await_taken(one, self._give(one))
        self._await_said()
        if code := self._end_agent():
            yield f"the agent ended with {code}; its log is {self.log}"

    def _give(self, one: Document) -> int:
        """Let an input have what came; return how many bytes there are of it."""
        file = self._input_file(one)
        match kind(one):
            case "serial":
                write(self._lines[one["name"]], file.read_bytes())
            case "mqtt":
                self._publish(one, retained=False)
                return sum(len(payload(message)) for message in messages_in(file))
            case "file":
                file.rename(f"{file}.there")
                return Path(f"{file}.there").stat().st_size
        return file.stat().st_size

    def _publish(self, one: Document, retained: bool) -> None:
        if kind(one) == "mqtt":
            assert self._publisher is not None
            for message in messages_in(self._input_file(one)):
                if bool(message.get("retain")) == retained:
                    self._publisher.publish(message)

    def _await_connected(self, one: Document) -> None:
        if kind(one) in ("serial", "mqtt"):
            self._await(
                lambda: bool(self._status()["inputs"][one["name"]]["connected"]),
                f"the input {one['name']} to be connected",
            )

    def _await_taken(self, one: Document, size: int) -> None:
        def taken() -> bool:
            source = self._status()["inputs"][one["name"]]
            if kind(one) == "replay":  # which says so at its end
                return bool(not source["connected"] and source["last_error"])
            return bool(source["bytes"] >= size)

        self._await(taken, f"the input {one['name']} to be taken in")

    def _await_said(self) -> None:
        """Wait for alarms and messages: an alarm may be for silence, a message is on its way."""
        deadline = time.monotonic() + _SAID_S_MAX
        while time.monotonic() < deadline:
            seen = self._seen()
            if not [*_alarms(self.expected, seen), *_messages(self.expected, seen)]:
                return
            time.sleep(0.05)

    def _await(self, condition: Any, what: str) -> None:
        def held() -> bool:
            process = self._agent.process
            ended = process is None or process.poll() is not None
            assert not ended, (
                f"tests/cases/{self.name}: the agent ended; its log:\n{self._agent.log()}"
            )
            return bool(condition())

        wait_until(held, f"{what}; tests/cases/{self.name}, the agent's log is {self.log}")

    def _end_agent(self) -> int:
        """Stop the agent if it runs; return its exit code."""
        process = self._agent.process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _status(self) -> dict[str, Any]:
        try:
            with Reader(self.directory / "data") as reader:
                return reader.status()
        except StoreError:  # not yet
            return {}

    def _seen(self) -> Seen:
        streams = self._settings.get("streams", [])
        with Reader(self.directory / "data") as reader:
            alarms = reader.alarms(10_000)
            samples = {one["name"]: self._samples(reader, one) for one in streams}
        sent = list(self._ops.messages) if self._ops else []
        messages = [("/".join(topic.split("/")[4:]), body) for topic, body in sent]
        return Seen(self._status(), alarms, samples, messages, (self._began_s, time.time()))

    def _samples(self, reader: Reader, stream: Document) -> Table:
        if "bundle" in stream:
            path = self._bundle(stream["bundle"])
            assert path is not None, f"{self.name}: no bundle {stream['bundle']}"
            names: Sequence[str] = bundles.read(path).manifest.channel_names
        else:
            names = [channel["name"] for channel in stream["baseline"]["channels"]]
        chunks = reader.newest_samples(stream["name"], 10**6)
        times = np.frombuffer(b"".join(chunk[0] for chunk in chunks), np.float64)
        values = np.frombuffer(b"".join(chunk[1] for chunk in chunks), np.float32)
        return Table(names, times, values.reshape(-1, len(names)))


class Publisher:
    """Who publishes the messages of an input, and waits until a subscriber has been found."""

    def __init__(self, port: int) -> None:
        self._client = Client(protocol=paho.MQTTv5)
        self._reasons: dict[int, int] = {}
        self._answered = threading.Condition()
        self._client.on_publish = self._on_publish
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_publish(self, _: Any, __: Any, number: int, reason: Any, ___: Any) -> None:
        with self._answered:
            self._reasons[number] = reason.value
            self._answered.notify_all()

    def publish(self, message: Document) -> None:
        """Publish a message; what is not retained until somebody gets it."""
        if message.get("retain"):
            self._once(message)
        else:
            wait_until(
                lambda: self._once(message) != _NO_SUBSCRIBER,
                f"a subscription to {message['topic']}",
            )

    def _once(self, message: Document) -> int:
        """Publish a message; return the reason code of the broker's answer."""
        retain, qos = bool(message.get("retain")), message.get("qos", 1)
        sent = self._client.publish(message["topic"], payload(message), qos, retain)
        with self._answered:
            answered = self._answered.wait_for(lambda: sent.mid in self._reasons, WAIT_S_MAX)
        assert answered, f"the broker does not take a message on {message['topic']}"
        return self._reasons.pop(sent.mid)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def kind(one: Document) -> str:
    """Return the type of an input's table."""
    return str(one.get("type", "serial"))


def messages_in(file: Path) -> list[dict[str, Any]]:
    """Return the messages of a file, one JSON object a line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def payload(message: Document) -> bytes:
    """Return the body of a message, given as text or, where it is none, as base64."""
    if "payload_base64" in message:
        return base64.b64decode(message["payload_base64"], validate=True)
    return str(message["payload"]).encode()


def table(head: str, **values: str | float) -> str:
    """Return a table as TOML."""
    return "\n".join([head, *(f"{key} = {json.dumps(value)}" for key, value in values.items())])


def write(line: Line, data: bytes) -> None:
    """Write to a line as fast as it is read; fail where nobody reads it any more."""
    while data:
        _, ready, _ = select.select([], [line.descriptor], [], WAIT_S_MAX)
        assert ready, f"{line.path}: nobody reads; {len(data)} bytes are left"
        data = data[os.write(line.descriptor, data[:1024]) :]


def differences(expected: Document, seen: Seen) -> Iterator[str]:
    """Yield what was not as expected, a sentence each."""
    yield from unknown_keys(expected)
    for name, wanted in expected.get("inputs", {}).items():
        yield from unlike(f"inputs.{name}", wanted, seen.status["inputs"].get(name))
    for name, wanted in expected.get("streams", {}).items():
        yield from _stream(name, wanted, seen)
    yield from _alarms(expected, seen)
    yield from _messages(expected, seen)


def _stream(name: str, wanted: Document, seen: Seen) -> Iterator[str]:
    where = f"streams.{name}"
    if name not in seen.samples:
        yield f"{where}: no such stream in agent.toml"
        return
    own = {key: value for key, value in wanted.items() if key not in ("stored", "sample")}
    yield from unlike(where, own, seen.status["streams"].get(name))
    samples = seen.samples[name]
    if "stored" in wanted:
        yield from unlike(f"{where}.stored", wanted["stored"], len(samples.times))
    for one in wanted.get("sample", []):
        yield from _sample(f"{where}.sample {one['number']}", one, samples, seen.ran)


def _sample(
    where: str, wanted: Document, samples: Table, ran: tuple[float, float]
) -> Iterator[str]:
    number = wanted["number"]
    if not 0 <= number < len(samples.times):
        yield f"{where}: there are {len(samples.times)} samples, counted from 0"
        return
    row = dict(zip(samples.names, samples.values[number].tolist(), strict=True))
    values = {name: value for name, value in wanted.items() if name not in ("number", "time")}
    yield from unlike(where, values, row)
    at = float(samples.times[number])
    match wanted.get("time"):
        case None:
            pass
        case "arrival":
            if not ran[0] <= at <= ran[1]:
                yield f"{where}.time: expected that of arrival, seen {at}"
        case time_s:
            if abs(at - time_s) > _CLOCK_S:
                yield f"{where}.time: expected {time_s}, seen {at}"


def _alarms(expected: Document, seen: Seen) -> Iterator[str]:
    if "alarms" not in expected:
        return
    wanted = expected["alarms"]
    shown = [f"{one['stream']} #{one['number']} {one['kind']}" for one in seen.alarms]
    if len(wanted) != len(seen.alarms):
        yield f"alarms: expected {len(wanted)}, seen {len(seen.alarms)}: {', '.join(shown)}"
        return
    for number, (one, alarm) in enumerate(zip(wanted, seen.alarms, strict=True)):
        yield from _alarm(f"alarms[{number}]", one, alarm, seen)


def _alarm(where: str, wanted: Document, alarm: Document, seen: Seen) -> Iterator[str]:
    own = {
        key: value
        for key, value in wanted.items()
        if key not in ("channels", "opened_at", "closed_at")
    }
    yield from unlike(where, own, alarm)
    named = {channel["channel"] for channel in alarm["channels"]}
    if not named >= set(wanted.get("channels", [])):
        yield f"{where}.channels: expected {wanted['channels']}, seen {sorted(named)}"
    times = seen.samples[alarm["stream"]].times
    for word in ("opened", "closed"):
        if window := wanted.get(f"{word}_at"):
            first, last = window
            number = sample_at(times, alarm[word])
            if number is None or not first <= number <= last:
                yield f"{where}.{word}_at: expected sample {first} to {last}, seen {number}"


def sample_at(times: Float64, moment: str | None) -> int | None:
    """Return the number of the last sample up to this moment, counted from 0."""
    if moment is None:
        return None
    until = datetime.fromisoformat(moment).timestamp() + _CLOCK_S
    return int(np.searchsorted(times, until, side="right")) - 1


def _messages(expected: Document, seen: Seen) -> Iterator[str]:
    for number, wanted in enumerate(expected.get("messages", [])):
        where = f"messages[{number}]"
        own = {key: value for key, value in wanted.items() if key not in ("topic", "count")}
        unlikes = [
            list(unlike(where, own, body))
            for topic, body in seen.messages
            if topic == wanted["topic"]
        ]
        if not unlikes:
            topics = ", ".join(sorted({topic for topic, _ in seen.messages}))
            yield f"{where}: expected one on {wanted['topic']}, seen only {topics or 'none'}"
        elif all(unlikes):
            nearest = min(unlikes, key=lambda one: len(one))
            yield f"of {len(unlikes)} on {wanted['topic']} the nearest: {'; '.join(nearest)}"
        elif "count" in wanted and (count := unlikes.count([])) != wanted["count"]:
            yield f"{where}: expected {wanted['count']} of them, seen {count}"


def unlike(where: str, wanted: Any, found: Any) -> Iterator[str]:
    """Yield where ``found`` is not as wanted: of a table, the keys that are named.

    A counter that is absent is 0. What was rejected is compared as a whole.
    """
    if where.endswith(".rejected"):
        wanted = dict.fromkeys(found or (), 0) | wanted
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        counts = where.endswith((".rejected", ".counters"))
        for key, value in wanted.items():
            yield from unlike(f"{where}.{key}", value, found.get(key, 0 if counts else None))
    elif not _same(wanted, found):
        yield f"{where}: expected {wanted!r}, seen {found!r}"


def _same(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, float) and isinstance(found, int | float):
        both = math.isnan(wanted) and math.isnan(found)
        return both or math.isclose(wanted, found, rel_tol=_ROUNDED)
    return bool(wanted == found)


def unknown_keys(expected: Document) -> Iterator[str]:
    """Yield what nobody looks at: a mistyped expectation must not hold."""
    known = ("about", "inputs", "streams", "alarms", "messages")
    for key in expected.keys() - set(known):
        yield f"expected.toml: {key} is no key; there are {', '.join(known)}"
