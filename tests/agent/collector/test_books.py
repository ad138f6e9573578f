"""What a collector has: messages once, and the books of their numbers, in bounded memory."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from agent.collector.books import Collected
from agent.collector.overview import lines, overview
from agent.collector.reading import Message, Source, read_message
from agent.collector.run import Collector, document
from agent.config.broker import MqttTable
from agent.mqtt.connection import Received
from models.printable import json_text
from tests.hostile import HOSTILE


def message(source: Source, seq: int) -> Message:
    return Message(source, seq, "topic", b"{}", [])


def test_a_collector_without_messages_says_so(tmp_path: Path) -> None:
    with Collected(tmp_path, "plant") as collected:
        assert list(lines(overview(tmp_path, None, 20))) == ["no messages from any gateway"]
        collected.take(message(Source("gw-1", "0" * 16), 1))
        collected.commit()
        (told,) = lines(overview(tmp_path, None, 20))
        assert told.startswith("plant/gw-1 ")


def test_books_that_are_not_in_memory_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.collector.shelf.BOOKS_IN_MEMORY", 2)
    sources = [Source(f"gw-{number}", "0" * 16) for number in range(5)]
    with Collected(tmp_path, "plant") as collected:
        for source in sources:
            assert collected.forgo(source, [(4, 5)]) == [(4, 5)]
            assert {collected.take(message(source, seq)) for seq in (1, 2, 6, 9)} == {"new"}
        assert len(collected.commit()) == 20
        assert len(collected.shelf) == 2
        for source in collected.touched():
            said = json.loads(collected.acknowledgement(source))
            assert (said["through_seq"], said["also"]) == (2, [[4, 6], [9, 9]])
        for source in sources:
            assert collected.take(message(source, 6)) == "repeated"
            assert collected.take(message(source, 3)) == "new"
            assert collected.take(message(source, 4)) == "new"  # it came after all
            collected.commit()
        for source in sources:
            said = json.loads(collected.acknowledgement(source))
            assert (said["through_seq"], said["also"]) == (6, [[9, 9]])
            assert [seq for seq, _ in collected.messages(source)] == [1, 2, 3, 4, 6, 9]


TOPIC = "fieldwatch/v1/plant/gw-1/health"
EPOCH = "0" * 16
GOOD = {
    "id": f"gw-1/{EPOCH}/1",
    "source": "/plant/gw-1",
    "type": "fieldwatch.health.v1",
    "stream": None,
    "epoch": EPOCH,
    "seq": 1,
    "data": {},
}


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_what_is_as_deep_as_may_be_is_taken() -> None:
    assert read_message(TOPIC, json.dumps(GOOD | {"data": nested(31)}).encode(), "plant")


@pytest.mark.parametrize(
    ("topic", "changes", "said"),
    [
        (TOPIC, {"epoch": HOSTILE}, "epoch is not a word"),
        (TOPIC, {"data": nested(32)}, "lists and objects are nested more than 32 deep"),
        (TOPIC, {"data": nested(500)}, "lists and objects are nested more than 32 deep"),
        (TOPIC, {"epoch": "e" * 65}, "epoch is not a word"),
        (TOPIC, {"data": {"score": math.nan}}, "NaN is not JSON"),
        (TOPIC.replace("gw-1", "gw\x1b[2J"), {}, r"gw\\x1b\[2J is not a valid name of a gateway"),
        (TOPIC.replace("gw-1", "+"), {}, r"\+ is not a valid name of a gateway"),
    ],
)
def test_what_no_gateway_would_say_is_refused(
    topic: str, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        read_message(topic, json.dumps(GOOD | changes).encode(), "plant")


def received(body: dict[str, object], topic: str = TOPIC) -> Received:
    return Received(topic, json.dumps(GOOD | body).encode(), 1, False)


def test_a_flood_of_what_is_gone_or_wrong_is_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector = Collector(MqttTable(host="h"), "plant", tmp_path)
    with Collected(tmp_path, "plant") as collected:
        for number in range(1, 200):
            ranges = [[number * 2000, number * 2000 + 39]]
            gone = {"seq": 2**50, "data": {"ranges": ranges}}
            gone |= {"type": "fieldwatch.gone.v1", "id": f"gw-1/{EPOCH}/{2**50}/gone"}
            collector.take(received(gone, TOPIC.replace("health", "gone")), collected)
            collector.take(received({"seq": -1}, f"{TOPIC}\n{number}"), collected)
            collector.tell()
    assert collector.counters == {"gone": 199 * 40, "rejected": 199}
    assert collector.rejected == {"disagrees": 199}
    assert len(caplog.messages) == 2
    assert "\n" not in caplog.text.strip().replace("\nWARNING", "")


def test_a_line_for_a_program_is_json_in_utf_8_and_has_the_topic_it_came_on() -> None:
    body = GOOD | {HOSTILE: [HOSTILE, "°C"]}
    message = read_message(TOPIC, json.dumps(body).encode(), "plant")
    assert isinstance(message, Message)
    printed = json_text(document(message))
    assert printed.isprintable()
    shown = HOSTILE.replace("\ud800", "\\ud800")
    assert json.loads(printed) == GOOD | {"topic": TOPIC, shown: [shown, "°C"]}
