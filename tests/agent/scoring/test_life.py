"""The remaining life in a stream: predicted, shown, watched by limits, saved and restored."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from agent.clock import Clock
from agent.config.load import StreamTable
from agent.scoring.fleet import Fleet
from agent.scoring.stream import Stream
from agent.store.batch import Batch
from models.bundle import Bundle
from models.errors import ConfigError
from models.families import detector_of
from models.manifest import RemainingPart
from models.messages import Readings
from models.times import iso_time

START_S = 1_700_000_000.0
BATCH = 20
LIMIT = {"channel": "remaining_life", "unit": "h", "low_warning": 40.0, "action": "order bearings"}


@pytest.fixture(scope="module")
def bundle(zoo_bundle: Bundle) -> Bundle:
    """The reference bundle; its machine lives 60 h, an hour a sample, whatever it measures."""
    inputs = len(zoo_bundle.manifest.scored) + 1
    part = RemainingPart(
        unit="h",
        unit_samples=1.0,
        cap=60.0,
        spans_samples=[5.0],
        by_age=True,
        mean=[0.0] * inputs,
        scale=[0.0] * (inputs - 1) + [10.0],
        weights=[0.0] * (inputs - 1) + [-10.0] + [0.0] * inputs + [60.0],
        stride_samples=2,
        levels=[0.1, 0.5, 0.9],
        offsets=[[-3.0, 0.0, 5.0]],
    )
    manifest = zoo_bundle.manifest.model_copy(update={"remaining": part, "metrics": {}})
    return Bundle(manifest, manifest.to_bytes(), dict(zoo_bundle.parts), None, "life")


class Machine:
    """A stream of the bundle, with rows of its channels' middles."""

    def __init__(self, bundle: Bundle, **settings: Any) -> None:
        self.table = StreamTable.model_validate(
            {"name": "pump", "bundle": "pump.fieldwatch", "limits": [LIMIT]} | settings
        )
        self.fleet = Fleet(detector_of(bundle), [self.table], 10.0, Clock())
        self.middle = np.array([each.center for each in bundle.manifest.channels], np.float32)
        self.period_s = bundle.manifest.sampling.period_s
        self.batch, self.rows = Batch(), 0

    @property
    def stream(self) -> Stream:
        return self.fleet.streams[0]

    def run(self, samples: int, at_once: int = BATCH) -> list[dict[str, Any]]:
        """Take samples; return the alarms that they opened or closed."""
        for begin in range(0, samples, at_once):
            count = min(at_once, samples - begin)
            times = START_S + (self.rows + np.arange(count)) * self.period_s
            readings = Readings(times, np.tile(self.middle, (count, 1)))
            self.fleet.take(np.zeros(count, np.int64), readings, self.batch)
            self.fleet.flush(self.batch)
            self.rows += count
        batch, self.batch = self.batch, Batch()
        return [alarm for alarm in batch.alarms if alarm["kind"] == "limit"]

    @property
    def life(self) -> dict[str, Any]:
        found: dict[str, Any] = self.stream.document()["remaining_life"]
        return found


def test_the_status_has_the_life_and_its_interval(bundle: Bundle) -> None:
    machine = Machine(bundle)
    machine.run(11)
    made = START_S + 9 * machine.period_s  # the tenth sample: a prediction after every second one
    assert machine.life == {
        "made": iso_time(made),
        "unit": "h",
        "predicted": 50.0,
        "low_80": 47.0,
        "high_80": 55.0,
        "cap": 60.0,
    }


def test_a_limit_of_the_life_is_an_alarm_with_the_advice_of_the_configuration(
    bundle: Bundle,
) -> None:
    machine = Machine(bundle)
    assert machine.run(18) == []
    (alarm,) = machine.run(10)
    assert alarm["channels"][0]["channel"] == "remaining_life"
    assert alarm["channels"][0]["unit"] == "h"
    assert alarm["limit"]["value"] == 40.0
    assert alarm["action"] == "order bearings"
    assert alarm["severity"] == "medium"


def test_how_samples_are_grouped_changes_nothing(bundle: Bundle) -> None:
    by_one, by_many = Machine(bundle), Machine(bundle)
    (one,), (other,) = by_one.run(30, at_once=1), by_many.run(30, at_once=30)
    assert one["opened"] == other["opened"]
    assert by_one.life == by_many.life


def test_a_restart_goes_on_with_the_age_and_the_alarm(bundle: Bundle) -> None:
    before, after = Machine(bundle), Machine(bundle)
    (opened,) = before.run(30)
    before.stream.save(before.batch, 0)
    saved = before.batch.state["pump"]
    assert after.stream.restore(saved, [opened], opened["number"], after.batch)
    after.rows = before.rows
    assert [alarm["state"] for alarm in after.run(2)] == []  # still open, and told once
    assert after.life["predicted"] == 60.0 - 32


def test_another_bundle_keeps_the_age_and_the_alarm(bundle: Bundle) -> None:
    before, after = Machine(bundle), Machine(bundle)
    before.run(30)
    after.stream.replace(before.stream, after.batch)
    after.rows = before.rows
    assert [alarm for alarm in after.run(2) if alarm["state"] == "closed"] == []
    assert after.life["predicted"] == 60.0 - 32


def test_the_age_counts_from_when_the_machine_was_new(bundle: Bundle) -> None:
    period_s = bundle.manifest.sampling.period_s
    since = {"in_service_since": iso_time(START_S - 30 * period_s)}
    machine = Machine(bundle, remaining=since)
    machine.run(2)
    assert machine.life["predicted"] == pytest.approx(60 - 31)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "is no time as in RFC 3339, e.g. 2026-03-01T00:00:00Z"),
        ("2026-13-02T08:00:00Z", "is no time as in RFC 3339"),
        ("2026-11-02T08:00:00", "there is no zone: end it with Z or an offset"),
    ],
)
def test_what_is_no_time_with_a_zone_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        StreamTable.model_validate(
            {"name": "pump", "bundle": "b", "remaining": {"in_service_since": text}}
        )


def test_a_bundle_without_a_life_has_no_such_limit(zoo_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="its bundle does not predict it: train it with"):
        Machine(zoo_bundle)
