"""No message ends the thread that reads commands, and only a whole, proven one is accepted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dialects.topics import command_topic
from agent.remote.asking import Gateway, body_of, order_for
from agent.remote.message import CAUSES, Order, Rejected, id_in, parse
from agent.remote.proof import Proof
from models.keys import SecretKey, new_key, read_secret

TOPIC = command_topic("plant", "gw-1")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
FIELDS = ["v", *Order._fields]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SecretKey:
    directory = tmp_path_factory.mktemp("keys")
    new_key(directory / "anna.key", "operate", "anna")
    return read_secret(directory / "anna.key", "operate")


def proof(key: SecretKey) -> Proof:
    return Proof(Path(key.source).parent, "plant", "gw-1", TOPIC)


def order(key: SecretKey) -> Order:
    return order_for(Gateway("plant", "gw-1"), key, "alarm.note", {"stream": "pump"}, 60.0)


def test_a_signed_command_is_read_as_it_was_sent(key: SecretKey) -> None:
    sent = order(key)
    assert proof(key).read(body_of(sent, key)) == sent
    assert sent.expires > time.time()


@given(st.binary(max_size=400) | JSON.map(lambda one: json.dumps(one).encode()))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_with_a_cause(body: bytes) -> None:
    id_in(body)
    with pytest.raises(Rejected) as refused:
        parse(body)
    assert refused.value.cause in CAUSES


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
@settings(max_examples=200, deadline=None)
def test_any_values_of_the_fields_are_refused_or_read(changed: dict[str, Any]) -> None:
    good = Order("0f" * 16, "plant", "gw-1", "anna", 1.0, "samples", {})
    document = json.loads(good.body()) | changed
    try:
        assert isinstance(parse(json.dumps(document).encode()), Order)
    except Rejected as error:
        assert error.cause == "malformed"


@given(at=st.integers(min_value=0, max_value=10_000), bit=st.integers(min_value=0, max_value=7))
@settings(max_examples=100, deadline=None)
def test_one_changed_bit_is_refused(key: SecretKey, at: int, bit: int) -> None:
    body = bytearray(body_of(order(key), key))
    body[at % len(body)] ^= 1 << bit
    with pytest.raises(Rejected):
        proof(key).read(bytes(body))
