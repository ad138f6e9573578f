"""What a hostile publisher can make a collector believe: nothing by which a genuine one loses."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agent.collector import numbers
from agent.collector.books import Collected
from agent.collector.enrolled import Enrolled
from agent.collector.quarantine import CAUSE_BYTES_MAX
from agent.collector.reading import Source
from agent.collector.retention import Keeping
from agent.collector.run import Collector
from agent.config.broker import MqttTable
from agent.dialects.cloudevents import CloudEvents
from agent.dialects.dialect import Beside
from agent.mqtt.connection import Received
from agent.store.correction import Correction, correct_messages
from agent.store.migrations import COLLECTED
from agent.store.record import COLUMNS, INSERT, Kind, Origin, Outgoing, Record
from tests.database import asked, bytes_used
from tests.sent import Sent

ENVELOPE = Sent("plant", "gw-1", "0" * 16)
SOURCE = Source("gw-1", "0" * 16)
DAY_S = 86_400


class Central:
    """A collector and its database, without a broker."""

    def __init__(
        self, directory: Path, keeping: Keeping | None = None, enrolled: Enrolled | None = None
    ) -> None:
        self.directory = directory
        self._keeping = keeping or Keeping(bytes_max=None)
        self.collector = Collector(MqttTable(host="h"), "plant", directory, enrolled=enrolled)
        self._stack = contextlib.ExitStack()
        self._open()

    def _open(self) -> None:
        collected = Collected(self.directory, "plant", self._keeping)
        self.collected = self._stack.enter_context(collected)

    def hear(self, topic: str, body: bytes | dict[str, Any]) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        self.collector.take(Received(topic, data, 1, False), self.collected)

    def restart(self) -> None:
        self.collected.commit()
        self.close()
        self._open()

    def close(self) -> None:
        self._stack.close()

    def acknowledged(self, source: Source = SOURCE) -> tuple[int, list[list[int]]]:
        self.collected.commit()
        said = json.loads(self.collected.acknowledgement(source))
        return said["through_seq"], said["also"]

    def here(self, source: Source = SOURCE) -> list[int]:
        self.collected.commit()
        return [seq for seq, _ in self.collected.messages(source)]

    def asked(self, question: str) -> list[Any]:
        self.collected.commit()
        return asked(self.directory / COLLECTED, question)


@pytest.fixture
def central(tmp_path: Path) -> Any:
    made = Central(tmp_path)
    yield made
    made.close()


def topic(kind: Kind | Beside = "summary") -> str:
    return ENVELOPE.topic(kind, "pump" if kind in ("summary", "alarm") else None)


def numbered(seq: int, kind: Kind = "summary", **data: Any) -> bytes:
    stream = "pump" if kind in ("summary", "alarm") else None
    return ENVELOPE.numbered(Outgoing(kind, stream, 1.7e9, {"n": seq} | data), seq, "synced")


def gone(*ranges: tuple[int, int], seq: int = 2**40) -> bytes:
    return ENVELOPE.gone(ranges, 1.7e9, seq, "gone", "synced")


def status(seq: int) -> bytes:
    return ENVELOPE.status("online", 1.7e9, seq, "1-1-online", "synced")


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "/plant/gw-2"},
        {"source": "/other/gw-1"},
        {"source": None},
        {"type": "fieldwatch.alarm.v1"},
        {"type": "fieldwatch.gone.v1"},
        {"stream": "fan"},
        {"stream": None},
        {"subject": "fan"},
        {"id": "gw-2/0000000000000000/7"},
        {"id": "gw-1/0000000000000000/8"},
        {"id": "gw-1/0000000000000000/7/1-1-online"},
        {"id": 7},
        {"epoch": "1" * 16},
        {"seq": 8},
        {"topic": "fieldwatch/v1/plant/gw-2/summary/pump"},
    ],
)
def test_a_body_that_does_not_agree_with_its_topic_is_refused_and_kept_apart(
    central: Central, changes: dict[str, Any]
) -> None:
    central.hear(topic(), json.loads(numbered(7)) | changes)
    assert central.here() == []
    assert central.acknowledged() == (0, [])
    assert central.collector.rejected == {"disagrees": 1}
    kept = central.asked("SELECT gateway, epoch, cause, topic FROM quarantine")
    assert kept == [("gw-1", None, "disagrees", topic())]
    assert central.asked("SELECT site, cause, count FROM refused") == [("plant", "disagrees", 1)]
    central.hear(topic(), numbered(7))
    assert central.here() == [7]


@pytest.mark.parametrize(
    "where",
    [
        "fieldwatch/v1/plant/gw-2/summary/pump",
        "fieldwatch/v1/plant/gw-1/summary/fan",
        "fieldwatch/v1/plant/gw-1/alarm/pump",
        "fieldwatch/v1/plant/gw-1/health",
        "fieldwatch/v1/plant/gw-1/gone",
        "fieldwatch/v1/other/gw-1/summary/pump",
        "fieldwatch/v1/plant/gw-1/summary",
        "fieldwatch/v1/plant/gw-1/summary/pump/more",
        "fieldwatch",
    ],
)
def test_a_message_on_another_topic_is_refused(central: Central, where: str) -> None:
    central.hear(where, numbered(7))
    assert central.collector.rejected == {"disagrees": 1}
    assert central.asked("SELECT count(*) FROM messages") == [(0,)]


def test_what_a_message_replaces_stays_and_counts_no_more(central: Central) -> None:
    for seq in (1, 2, 4):
        central.hear(topic(), numbered(seq))
    central.hear(topic("alarm"), numbered(3, "alarm"))
    central.hear(topic(), numbered(6, merged=[[1, 5]]))
    found = central.asked("SELECT seq, superseded FROM messages ORDER BY seq")
    assert found == [(1, 6), (2, 6), (3, None), (4, 6), (6, None)]  # an alarm is no summary
    assert central.here() == [3, 6]
    assert central.acknowledged() == (6, [])
    central.restart()
    assert central.acknowledged() == (6, [])
    central.hear(topic(), numbered(5))  # on its way for long
    central.hear(topic(), numbered(5))
    assert central.collector.counters["repeated"] == 1
    assert central.here() == [3, 6]
    assert central.asked("SELECT superseded FROM messages WHERE seq = 5") == [(6,)]
    central.hear(topic(), numbered(9, merged=[[6, 8]]))
    central.hear(topic(), numbered(8))  # before the commit
    assert central.here() == [3, 9]


def test_what_comes_after_it_was_replaced_by_another_kind_is_filed(central: Central) -> None:
    central.hear(topic(), numbered(9, merged=[[1, 8]]))
    central.hear(topic("alarm"), numbered(3, "alarm"))  # before the commit
    central.hear(topic(), numbered(4))
    central.restart()
    central.hear(topic("alarm"), numbered(5, "alarm"))
    central.hear(topic(), numbered(6))
    assert central.here() == [3, 5, 9]
    assert central.asked("SELECT seq FROM messages WHERE superseded = 9") == [(4,), (6,)]


def test_what_replaces_beyond_a_gap_is_known_after_a_restart(central: Central) -> None:
    central.hear(topic(), numbered(9, merged=[[3, 5], [7, 8]]))
    assert central.acknowledged() == (0, [[3, 5], [7, 9]])
    central.restart()
    assert central.acknowledged() == (0, [[3, 5], [7, 9]])


def test_a_message_that_replaces_all_is_refused(central: Central) -> None:
    central.hear(topic(), numbered(1))
    central.hear(topic(), numbered(2**40, merged=[[1, 2**40 - 1]]))
    assert central.collector.rejected == {"implausible": 1}
    assert central.acknowledged() == (1, [])


def test_a_far_number_is_filed_and_acknowledged_once_its_gateway_is_there(central: Central) -> None:
    far = 2**50
    central.hear(topic(), numbered(far))
    central.hear(topic(), numbered(far + 2))
    for seq in (1, 2, 5):
        central.hear(topic(), numbered(seq))
    assert central.collector.counters == {"new": 5, "far": 1}
    assert central.here() == [1, 2, 5, far, far + 2]
    assert central.acknowledged() == (2, [[5, 5]])
    central.hear(topic("gone"), gone((3, 4), (6, far - 1), seq=far))
    assert central.collector.rejected == {"implausible": 1}
    central.hear(topic("gone"), gone((3, 4)))
    assert central.acknowledged() == (5, [])
    central.restart()
    assert central.acknowledged() == (5, [])
    central.hear(topic("status"), status(far + 2))  # its gateway says that it has come so far
    assert central.acknowledged() == (5, [[far, far], [far + 2, far + 2]])
    central.hear(topic("gone"), gone((6, far - 1), (far + 1, far + 1), seq=far + 2))
    assert central.acknowledged() == (far + 2, [])


def test_what_is_gone_takes_no_memory_for_each_number(central: Central) -> None:
    central.hear(topic("status"), status(2**62))
    central.hear(topic("gone"), gone((2, 2**62 - 1), seq=2**62))
    assert central.acknowledged() == (0, [[2, 2**62 - 1]])
    central.restart()
    assert central.acknowledged() == (0, [[2, 2**62 - 1]])


def test_a_status_that_says_too_much_holds_until_the_next_one(central: Central) -> None:
    far = 2**50
    central.hear(topic("status"), status(far))
    central.hear(topic(), numbered(far))
    assert central.acknowledged() == (0, [[far, far]])
    central.hear(topic("status"), status(3))
    assert central.acknowledged() == (0, [])


def test_a_gateway_that_was_long_away_is_known_by_its_status(central: Central) -> None:
    """Or by the one that the broker retained, where the collector lost its database."""
    last = 300 * numbers.JUMP_MAX
    central.hear(topic("status"), status(last))
    central.hear(topic("gone"), gone((1, last - 11), seq=last))
    for seq in range(last - 10, last + 3):
        central.hear(topic(), numbered(seq))
    assert central.collector.counters == {"gone": last - 11, "new": 13}
    assert central.acknowledged() == (last + 2, [])


def test_a_number_that_is_taken_has_both_messages(central: Central) -> None:
    central.hear(topic(), numbered(1, forged=1))
    central.hear(topic(), numbered(1))
    central.hear(topic("alarm"), numbered(1, "alarm"))
    assert central.collector.counters == {"new": 1, "conflict": 2}
    for body in (numbered(1, forged=1), numbered(1)):
        central.hear(topic(), body)
    assert central.collector.counters["repeated"] == 2
    central.restart()
    central.hear(topic(), numbered(1))
    assert central.collector.counters == {"new": 1, "conflict": 2, "repeated": 3}
    assert [body for _, body in central.collected.messages(SOURCE)] == [numbered(1, forged=1)]
    kept = central.asked("SELECT cause, epoch, seq, body FROM quarantine")
    assert kept == [
        ("conflict", SOURCE.epoch, 1, numbered(1)),
        ("conflict", SOURCE.epoch, 1, numbered(1, "alarm")),
    ]
    assert central.acknowledged() == (1, [])
    for number in range(20):
        central.hear(topic(), numbered(1, forged=number))
    assert central.asked("SELECT count(*) FROM quarantine") == [(8,)]
    assert central.asked("SELECT count FROM refused") == [(21,)]


@pytest.mark.parametrize("kind", ["summary", "alarm", "health"])
def test_a_message_sent_again_with_its_times_put_right_is_no_conflict(
    central: Central, kind: Kind
) -> None:
    times = {"from": 100.0, "to": 160.0, "onset": 100.0, "opened": 100.0, "started": 100.0}
    given = {name: f"1970-01-01T00:{at / 60:02.0f}:00.000Z" for name, at in times.items()}
    data = given | {"n": 3, "closed": None, "limit": {"made": given["from"], "value": 4}}
    stream = None if kind == "health" else "pump"
    message = Outgoing(kind, stream, 100.0, data)
    before = ENVELOPE.numbered(message, 1, "unsynced")
    after = corrected(message.numbered(1, "unsynced"))
    assert after != before
    central.hear(topic(kind), before)
    central.hear(topic(kind), after)
    central.hear(topic(kind), after)
    assert central.collector.counters == {"new": 1, "corrected": 1, "repeated": 1}
    assert central.asked("SELECT cause, body FROM quarantine") == [("corrected", after)]
    central.hear(topic(kind), after.replace(b'"n":3', b'"n":4'))
    assert central.collector.counters["conflict"] == 1


def corrected(record: Record) -> bytes:
    """Have a gateway correct it in its outbox."""
    with contextlib.closing(sqlite3.connect(":memory:")) as outbox:
        outbox.execute(f"CREATE TABLE outbox ({COLUMNS})")
        outbox.execute(INSERT, record)
        correct_messages(outbox, Correction(1.7e9, 0.0, 1000.0, frozenset({"pump"}), 0, 2, 0, 0, 0))
        (found,) = outbox.execute(f"SELECT {COLUMNS} FROM outbox").fetchall()
    return CloudEvents(Origin("plant", "gw-1", "0" * 16)).record(Record(*found)).body


def test_the_quarantine_is_bounded_and_a_flood_displaces_only_its_like(tmp_path: Path) -> None:
    central = Central(tmp_path)
    central.hear(topic(), b"{")
    central.hear("fieldwatch/v1/plant/gw-2/health", b"{")
    for number in range(3000):
        central.hear("fieldwatch/v1/plant/gw-2/health", numbered(number))
        central.hear("fieldwatch/v1/plant/gw-2/health", numbered(number, "health", x="x" * 10_000))
        if number % 100 == 0:
            central.collected.commit()
    sizes = dict(
        central.asked(
            "SELECT gateway || ' ' || cause, sum(length(body)) FROM quarantine GROUP BY 1"
        )
    )
    assert sizes["gw-1 unreadable"] == sizes["gw-2 unreadable"] == 1
    assert CAUSE_BYTES_MAX / 2 < sizes["gw-2 disagrees"] <= CAUSE_BYTES_MAX
    assert bytes_used(tmp_path / COLLECTED) < 2 * CAUSE_BYTES_MAX
    newest = central.asked("SELECT topic FROM quarantine ORDER BY id DESC LIMIT 1")
    assert newest == [("fieldwatch/v1/plant/gw-2/health",)]
    assert central.asked("SELECT count FROM refused WHERE cause = 'disagrees'") == [(6000,)]
    central.close()


def test_floods_in_many_names_have_a_share_and_displace_no_message(tmp_path: Path) -> None:
    central = Central(tmp_path, Keeping(bytes_max=4 * 2**20))
    for seq in range(1, 50):
        central.hear(topic(), numbered(seq))
    for number in range(2000):
        central.hear(f"fieldwatch/v1/plant/gw-{number}/health", b"x" * 1000)
        if number % 100 == 0:
            central.collected.commit()
    assert central.here() == list(range(1, 50))
    assert central.asked("SELECT sum(length(body)) FROM quarantine")[0][0] < 2**20 / 4
    assert central.collected.quarantine.size_bytes <= 2**20 / 4
    central.close()


def test_what_is_too_old_leaves_the_quarantine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.collector.books.LOOK_S", 0.0)
    central = Central(tmp_path, Keeping(days_max=30))
    central.hear(topic(), b"{")
    central.collected.commit()
    with contextlib.closing(sqlite3.connect(tmp_path / COLLECTED)) as connection:
        connection.execute("UPDATE quarantine SET received = received - ?", [40 * DAY_S])
        connection.commit()
    central.hear(topic(), b"[")
    central.collected.commit()
    central.collected.drop_old()
    assert central.asked("SELECT body FROM quarantine") == [(b"[",)]
    central.close()


def test_each_cause_is_logged_once_a_minute(
    central: Central, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1, 100):
        central.hear(topic(), b"{")
        central.hear(topic("health"), numbered(number))
        central.hear(topic(), numbered(number))
        central.hear(topic(), numbered(number, forged=True))
        central.hear(topic(), numbered(2**40 + number * 2**21))
        central.collector.tell()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4
    assert {"unreadable", "disagrees"} <= {word for line in told for word in line.split(" ")} | {
        word.strip(";") for line in told for word in line.split(" ")
    }


GENUINE = 30
KEPT = "SELECT body FROM messages UNION ALL SELECT body FROM quarantine"
Step = tuple[str, int, int]
STEPS = st.tuples(
    st.sampled_from(
        [
            *("forged", "replaces", "gone", "foreign", "unreadable", "far", "far gone", "status"),
            *("gap", "commit", "restart"),
        ]
    ),
    st.integers(1, GENUINE + 5),
    st.integers(1, 40),
)


def say_hostile(central: Central, step: Step) -> None:
    """As a client that may publish on the topics of the gateway, and has no key."""
    what, seq, count = step
    match what:
        case "forged":
            central.hear(topic(), numbered(seq, forged=count))
        case "replaces":
            central.hear(topic(), numbered(seq + count, merged=[[seq, seq + count - 1]]))
        case "gone":
            central.hear(topic("gone"), gone((seq, seq + count)))
        case "foreign":
            central.hear(topic(), json.loads(numbered(seq)) | {"source": "/plant/gw-2"})
        case "unreadable":
            central.hear(topic(), numbered(seq)[:-count])
        case "far":
            central.hear(topic(), numbered(seq + 1000 * count))
        case "far gone":
            central.hear(topic("gone"), gone((seq, 1000 * count)))
        case "status":
            central.hear(topic("status"), status(seq))
        case "gap":
            central.hear(topic(), numbered(GENUINE + 2 * count, forged=True))
        case "commit":
            central.collected.commit()
        case "restart":
            central.restart()


@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    order=st.permutations(range(1, GENUINE + 1)),
    hostile=st.lists(st.lists(STEPS, max_size=3), min_size=GENUINE, max_size=GENUINE),
)
def test_whatever_comes_between_them_each_genuine_message_is_kept_and_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], hostile: list[list[Step]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.collector.numbers.JUMP_MAX", 100)
        patch.setattr("agent.collector.numbers.RANGES_MAX", 8)
        with contextlib.closing(Central(tmp_path_factory.mktemp("central"))) as central:
            for seq, steps in zip(order, hostile, strict=True):
                for step in steps:
                    say_hostile(central, step)
                central.hear(topic(), numbered(seq))
            through, also = central.acknowledged()
            for _ in range(2):
                assert through >= GENUINE
                assert not any(last > through + 300 for _, last in also)  # none that is far
                kept = central.asked(
                    "SELECT body FROM messages UNION ALL SELECT body FROM quarantine"
                )
                assert {numbered(seq) for seq in order} <= {body for (body,) in kept}
                central.restart()
                through, also = central.acknowledged()
