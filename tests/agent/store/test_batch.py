"""What is kept in memory while nothing can be stored, and what goes first."""

from __future__ import annotations

import numpy as np

from agent.store.batch import (
    LISTED,
    WAITING_ALARMS_MAX,
    WAITING_MESSAGES_MAX,
    WAITING_SAMPLES_MAX,
    Batch,
)
from agent.store.record import Kind, Outgoing
from models.messages import Samples


def messages(kind: Kind, count: int) -> list[Outgoing]:
    return [Outgoing(kind, "pump", float(number), {}) for number in range(count)]


def test_what_fits_is_kept() -> None:
    batch = Batch(messages=[*messages("alarm", 5), *messages("health", 5)])
    assert batch.shed().total() == 0
    assert len(batch.messages) == 10


def test_health_goes_first_then_summaries_and_alarms_last() -> None:
    half = WAITING_MESSAGES_MAX // 2
    batch = Batch(
        messages=[*messages("alarm", half), *messages("summary", half), *messages("health", 10)]
    )
    assert +batch.shed() == {"health": 10}
    batch.messages += messages("alarm", 4)
    assert +batch.shed() == {"summary": 4}
    assert next(one.time for one in batch.messages if one.kind == "summary") == 4.0
    batch.messages += messages("alarm", WAITING_MESSAGES_MAX)
    shed = batch.shed()
    assert shed["summary"] == half - 4
    assert shed["alarm"] == half + 4
    assert len(batch.messages) == WAITING_MESSAGES_MAX


def test_the_oldest_samples_go() -> None:
    chunk = Samples(np.arange(1000.0), np.ones((1000, 2), np.float32))
    batch = Batch(samples=[("pump", chunk, np.ones(1000, np.float32))] * 23)
    assert batch.shed() == {"samples": 1000 * 23 - WAITING_SAMPLES_MAX}
    assert batch.rows() == WAITING_SAMPLES_MAX


def test_of_an_alarm_the_latest_state_is_kept_and_closed_ones_go_first() -> None:
    opened = [
        {"stream": "pump", "number": number, "state": "opened", "score": score}
        for score in (1.0, 2.0)
        for number in range(WAITING_ALARMS_MAX)
    ]
    closed = [{"stream": "fan", "number": number, "state": "closed"} for number in range(7)]
    batch = Batch(alarms=[*opened, *closed])
    assert +batch.shed() == {LISTED: 7}
    assert len(batch.alarms) == WAITING_ALARMS_MAX
    assert {alarm["score"] for alarm in batch.alarms} == {2.0}


def test_what_a_defect_touched_keeps_its_old_state_whole() -> None:
    batch = Batch(state={"pump": {"head": b"old"}, "fan": {"head": b"old"}})
    for stream in ("pump", "fan"):
        batch.forget(stream)
        assert stream not in batch.state
        batch.state[stream] = {"head": b"new"}
    batch.forgo({"pump"})
    assert batch.state == {"fan": {"head": b"new"}}
    assert batch.forgotten == {"fan"}
