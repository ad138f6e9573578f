"""What the bundle and the configuration say about an alarm: rarity, coverage, names."""

from __future__ import annotations

import pytest

from agent.alarms.context import Context, context_of, trained_ranges
from agent.bundles.load import load
from agent.config.load import StreamTable
from agent.demo.run import ZOO_BUNDLE
from models.manifest import LevelPart, TelemanomManifest
from models.messages import Contribution, Event
from models.score_tail import FORESIGHT, ScoreTail

UNITS = {"flow": "m3/h", "speed": "1/min", "head": "bar"}


def event(*channels: str) -> Event:
    return Event(
        number=1,
        kind="anomaly",
        detector="hampel",
        onset=0.0,
        opened=0.0,
        score=2.0,
        probability=None,
        severity="low",
        channels=tuple(Contribution(one, 2.0, 1.0, 2.0) for one in channels),
    )


@pytest.fixture(scope="module")
def manifest() -> TelemanomManifest:
    found = load(ZOO_BUNDLE)[0].manifest
    assert isinstance(found, TelemanomManifest)
    return found


def test_how_rare_a_score_is_follows_from_period_and_tail(manifest: TelemanomManifest) -> None:
    table = StreamTable(name="pump", bundle=ZOO_BUNDLE)
    context = context_of(table, manifest, "d" * 64)
    assert manifest.tail is not None
    period_s, samples = manifest.sampling.period_s, manifest.tail.samples
    often, least = context.rarity(1e-4), context.rarity(ScoreTail(manifest.tail).least)
    assert often == {
        "every_s": pytest.approx(period_s * 1e4),
        "seen_s": pytest.approx(period_s * samples, rel=1e-5),
        "at_least": False,
    }
    assert least is not None
    assert least["at_least"]
    assert least["every_s"] == pytest.approx(period_s * samples * FORESIGHT, rel=1e-5)
    assert context.rarity(None) is None
    assert Context().rarity(1e-4) is None
    assert context.bundle == "pump version 1"


@pytest.mark.parametrize(
    ("trained", "values", "covered"),
    [
        ({"flow": (10.0, 20.0), "speed": (1.0, 2.0)}, (15.0, 1.5), True),
        ({"flow": (10.0, 20.0), "speed": (1.0, 2.0)}, (10.0, 2.0), True),
        ({"flow": (10.0, 20.0), "speed": (1.0, 2.0)}, (15.0, 2.5), False),
        ({"flow": (10.0, 20.0), "speed": (1.0, 2.0)}, (9.0, 1.5), False),
        ({"flow": (10.0, 20.0)}, (15.0, 1.5), None),
        ({"flow": (10.0, 20.0)}, (21.0, 1.5), False),
        ({"flow": (10.0, 20.0), "speed": (1.0, 2.0)}, (15.0, None), None),
        ({}, (15.0, 1.5), None),
    ],
)
def test_training_covered_a_point_only_if_it_had_all_its_values(
    trained: dict[str, tuple[float, float]],
    values: tuple[float, float | None],
    covered: bool | None,
) -> None:
    context = Context(point=("flow", "speed"), trained=trained)
    known = dict(zip(("flow", "speed"), values, strict=True)) | {"head": 3.0}
    found = context.operating(event("head"), UNITS, known)
    assert (found["named"], found["covered"]) == (True, covered)
    assert [one["value"] for one in found["channels"]] == list(values)


def test_without_a_named_point_it_is_the_channels_that_do_not_contribute() -> None:
    found = Context().operating(event("head"), UNITS, {"flow": 1.0, "speed": 2.0, "head": 3.0})
    assert not found["named"]
    assert [one["channel"] for one in found["channels"]] == ["flow", "speed"]


def test_the_ranges_of_training_are_the_levels_of_the_bundle(manifest: TelemanomManifest) -> None:
    assert trained_ranges(manifest) == {}  # this bundle has none
    count = len(manifest.scored)
    level = LevelPart(span_samples=100.0, middle=[0.5] * count, half=[2.0] * count)
    ranges = trained_ranges(manifest.model_copy(update={"level": level}))
    flow = next(one for one in manifest.channels if one.name == "flow")
    assert ranges["flow"] == pytest.approx(
        (flow.center - 1.5 * flow.scale, flow.center + 2.5 * flow.scale)
    )
