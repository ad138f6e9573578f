"""``status`` explains why there is no score yet, and names channels that never move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.alarms.document import span
from agent.bundles.load import load
from agent.clock import Clock
from agent.config.load import StreamTable
from agent.health.status import stream_lines
from agent.inputs.plant import PERIOD_S, Pump
from agent.scoring.fleet import Fleet
from agent.store.batch import Batch
from models.messages import Readings
from tests.conftest import ZOO_BUNDLE
from tests.life_rig import START_S, Life, second

WARM_UP = 50  # samples, of the reference bundle


def document(life: Life) -> dict[str, Any]:
    return life.streams.document(lambda _: 9)["pump"]


class Network:
    """The reference bundle's stream, that gets samples of its pump."""

    def __init__(self) -> None:
        table = StreamTable(name="pump", bundle=ZOO_BUNDLE)
        self.detector = load(ZOO_BUNDLE)[1]
        self.fleet = Fleet(self.detector, [table], 60.0, Clock())
        (self.stream,) = self.fleet.streams
        self.rows = Pump(3).run(400)
        self.saved: dict[str, bytes] = {}

    def feed(self, begin: int, end: int) -> dict[str, Any]:
        """Take samples; return what the status says then."""
        batch = Batch()
        times = START_S + np.arange(begin, end) * PERIOD_S
        readings = Readings(times, self.rows[begin:end])
        self.fleet.take(np.zeros(end - begin, np.int64), readings, batch)
        self.fleet.flush(batch)
        self.stream.save(batch, 0)
        self.saved |= batch.state["pump"]
        return self.stream.document()


def lines(stream: dict[str, Any]) -> str:
    return "\n".join(stream_lines("pump", stream))


def test_before_the_first_score_the_status_says_when_it_comes() -> None:
    network = Network()
    nothing = network.stream.document()["warm_up"]
    assert nothing == {"needs_samples": WARM_UP, "has_samples": 0, "left_s": WARM_UP * PERIOD_S}
    now = network.feed(0, 30)
    assert now["warm_up"]["has_samples"] == 30
    assert (
        "scores begin after 4 s more of readings: the network needs 50 samples, and has 30"
        in lines(now)
    )
    now = network.feed(30, 200)
    assert now["last_score"] is not None
    assert now["warm_up"] is None
    assert "scores begin" not in lines(now)


@pytest.mark.parametrize("again", ["interruption", "restart"])
def test_the_warm_up_begins_again_or_goes_on_as_the_networks(again: str) -> None:
    network = Network()
    network.feed(0, 30)
    if again == "restart":
        saved = network.saved
        network = Network()
        assert network.stream.restore(saved, [], 0, Batch())
        assert network.feed(30, 40)["warm_up"]["has_samples"] == 40
        return
    now = network.feed(300, 310)
    assert now["warm_up"]["has_samples"] == 10


def test_before_the_first_forecast_the_status_says_when_it_comes() -> None:
    network = Network()
    forecast = network.feed(0, 200)["forecast"]
    warm_up, step_s = forecast["warm_up"], forecast["step_s"]
    assert warm_up["left_s"] == (warm_up["needs_steps"] - warm_up["has_steps"]) * step_s
    said = lines(network.stream.document())
    assert f"steps of {span(step_s)}, and has {warm_up['has_steps']}" in said
    assert "forecast  begins after " in said


def test_the_baseline_counts_on_over_an_interruption() -> None:
    life = Life()
    life.rows(10)
    assert document(life)["warm_up"]["has_samples"] == 10
    assert "score none by baseline version 1\n" in lines(document(life))
    life.pause(50)
    life.rows(5)
    assert document(life)["warm_up"]["has_samples"] >= 14
    life.rows(30)
    assert document(life)["warm_up"] is None


def test_a_channel_that_never_moves_is_named_with_since_when() -> None:
    life = Life()
    life.rows(5)
    for row in range(150):
        life.pause(1)
        life.line(f"50.0,{row % 7},7.5")
        life.commit()
    since = document(life)["unchanged"]
    assert sorted(since) == ["current", "flow"]
    assert 0 < second(since["flow"]) <= 20
    assert f"flow has not changed since {since['flow']}" in lines(document(life))
    life.restart()
    life.rows(20)
    assert document(life)["unchanged"] == {}


def test_what_does_not_move_is_known_over_a_restart() -> None:
    life = Life()
    for _ in range(90):
        life.pause(1)
        life.line("50.0,2.0,7.5")
        life.commit()
    assert document(life)["unchanged"] == {}  # not for ten intervals
    life.restart()
    for _ in range(60):
        life.pause(1)
        life.line("50.0,2.0,7.5")
        life.commit()
    assert sorted(document(life)["unchanged"]) == ["current", "flow", "pressure"]
