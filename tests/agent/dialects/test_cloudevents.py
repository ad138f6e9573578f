"""The default dialect: CloudEvents' names, one number one id, nothing that is not JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from agent.collector.books import Collected
from agent.collector.reading import Message, read_message
from agent.dialects.cloudevents import CloudEvents
from agent.dialects.dialect import LinkState
from agent.dialects.samples import Samples, packed, parted
from agent.store.record import Kind, Origin, Outgoing
from tests.conftest import ROOT

DIALECT = CloudEvents(Origin("plant", "gw-1", "00ff00ff00ff00ff"))
SUMMARY = Outgoing("summary", "pump", 1_700_000_000.25, {"n": 60}, "d" * 64, "telemanom")


def numbered(message: Outgoing, seq: int = 7) -> dict[str, object]:
    document: dict[str, object] = json.loads(DIALECT.record(message.numbered(seq, "synced")).body)
    return document


def test_a_summary_has_every_attribute() -> None:
    assert numbered(SUMMARY) == {
        "specversion": "1.0",
        "id": "gw-1/00ff00ff00ff00ff/7",
        "source": "/plant/gw-1",
        "type": "fieldwatch.summary.v1",
        "time": "2023-11-14T22:13:20.250Z",
        "subject": "pump",
        "datacontenttype": "application/json",
        "epoch": "00ff00ff00ff00ff",
        "seq": 7,
        "stream": "pump",
        "clock": "synced",
        "bundle": "d" * 64,
        "detector": "telemanom",
        "data": {"n": 60},
    }


def test_attribute_names_are_those_that_cloudevents_allows() -> None:
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in numbered(SUMMARY))


def test_a_message_of_the_gateway_has_no_subject() -> None:
    health = numbered(Outgoing("health", None, 0.0, {}))
    assert "subject" not in health
    assert health["stream"] is None


@pytest.mark.parametrize(
    ("kind", "stream", "topic"),
    [
        ("health", None, "fieldwatch/v1/plant/gw-1/health"),
        ("summary", "pump", "fieldwatch/v1/plant/gw-1/summary/pump"),
        ("alarm", "pump", "fieldwatch/v1/plant/gw-1/alarm/pump"),
    ],
)
def test_topics(kind: Kind, stream: str | None, topic: str) -> None:
    record = Outgoing(kind, stream, 0.0, {}).numbered(1, "synced")
    assert DIALECT.record(record).topic == topic


STATUSES: list[tuple[LinkState, str]] = [("offline", "1-lost"), ("online", "1-online")]


def test_statuses_show_the_last_number_but_have_ids_of_their_own() -> None:
    statuses = [
        json.loads(DIALECT.status(state, 0.0, 7, suffix, "unsynced").body)
        for state, suffix in STATUSES
    ]
    assert [status["seq"] for status in statuses] == [7, 7]
    assert [status["data"] for status in statuses] == [{"state": "offline"}, {"state": "online"}]
    ids = {status["id"] for status in statuses} | {numbered(SUMMARY)["id"]}
    assert len(ids) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        numbered(Outgoing("summary", "pump", 0.0, {"score_max": value}))


def test_what_gateway_and_collector_say_to_each_other_is_as_the_asyncapi_document_says(
    tmp_path: Path,
) -> None:
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())

    def check(name: str, body: bytes) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(body))

    check("Gone", DIALECT.gone([(1, 3), (7, 7)], 1_700_000_000.0, 9, "run", "synced").body)
    topic, body = DIALECT.record(SUMMARY.numbered(2, "synced"))
    message = read_message(topic, body, "plant")
    assert isinstance(message, Message)
    with Collected(tmp_path / "central", "plant") as collected:
        assert collected.take(message)
        collected.commit()
        acknowledgement = collected.acknowledgement(message.source)
    assert json.loads(acknowledgement)["also"] == [[2, 2]]
    check("Acknowledged", acknowledgement)
    samples = Samples(["flow"], *(np.ones(1, kind) for kind in ("i8", "f8", "f4", "f4")), None)
    samples = samples._replace(values=samples.values[:, None])
    about, data = packed(samples)
    about |= {"missed": 0}
    _, body = DIALECT.samples("pump", about, data, 1_700_000_000.0, 9, "samples-1-1", "synced")
    check("Samples", parted(body)[0])


@pytest.mark.parametrize("epoch", ["\\ud800", "a\\u0000", "\\n", "ü"])
def test_an_epoch_that_no_database_can_hold_is_refused(epoch: str) -> None:
    body = f'{{"epoch": "{epoch}", "seq": 1, "data": {{}}}}'.encode()
    with pytest.raises(ValueError, match="epoch is not a word"):
        read_message("fieldwatch/v1/plant/gw-1/summary/pump", body, "plant")
