"""The one path from samples to scores: no cut, restart or odd value changes what it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inputs.plant import CHANNELS, PERIOD_S
from models.bundle import Bundle
from models.detector import BatchResult, Result
from models.events import severity_of
from models.messages import ALL, Event, Samples
from models.pipeline import Pipeline
from models.score_tail import ScoreTail
from models.state import StateMismatch
from tests.models.conftest import START_S, Change, recorded

NAMES = [channel.name for channel in CHANNELS]


@pytest.fixture(scope="module")
def pipeline(changed: Change) -> Pipeline:
    return Pipeline(
        changed(
            sampling={"warm_up_samples": 20},
            smoothing={"spans_samples": [5]},
            threshold={"history_samples": 300, "update_samples": 25},
        )
    )


@pytest.fixture(scope="module")
def whole(pipeline: Pipeline, eventful: Samples) -> Result:
    return pipeline.step(pipeline.start(), eventful)


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.state) for event in events]


def test_the_recording_has_every_kind_of_event(whole: Result) -> None:
    assert {"anomaly", "stuck", "missing"} <= {event.kind for event in whole.events}
    numbers = [event.number for event in whole.events if event.state == "opened"]
    assert numbers == list(range(1, len(numbers) + 1))
    times = [event.time for event in whole.events]
    assert times == sorted(times)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 2400), max_size=20), restarts=st.randoms(use_true_random=False))
def test_cuts_and_restarts_change_nothing(
    pipeline: Pipeline, eventful: Samples, whole: Result, cuts: list[int], restarts: object
) -> None:
    state, saved = pipeline.start(), {}
    scores, events = [], []
    for begin, end in pairwise([0, *sorted(cuts), 2400]):
        part = Samples(eventful.times[begin:end], eventful.values[begin:end])
        result = pipeline.step(state, part)
        scores.append(result.scores.score)
        events += result.events
        saved |= pipeline.changed_parts(state)  # only what changed is written
        if restarts.random() < 0.5:  # type: ignore[attr-defined]
            state = pipeline.restore(saved)
    assert np.array_equal(np.concatenate(scores), whole.scores.score, equal_nan=True)
    assert events == whole.events


def test_probabilities_do_not_depend_on_cuts_and_restarts(
    pipeline: Pipeline, eventful: Samples, whole: Result
) -> None:
    state, saved, found = pipeline.start(), dict[str, bytes](), []
    for begin in range(0, 2400, 37):
        result = pipeline.step(state, eventful.part(begin, min(begin + 37, 2400)))
        found.append(result.scores.probability)
        saved |= pipeline.changed_parts(state)
        state = pipeline.restore(saved)
    np.testing.assert_array_equal(np.concatenate(found), whole.scores.probability)


def test_a_stream_that_is_livelier_than_its_calibration_learns_its_own_tail(
    pipeline: Pipeline,
) -> None:
    """These errors are smoothed less than those of the calibration, so their scores are higher."""
    scores = pipeline.step(pipeline.start(), recorded(5, 1500)).scores
    tail = pipeline.manifest.tail
    assert tail is not None
    calibrated = ScoreTail(tail).probability(scores.score)
    assert np.mean(calibrated[500:] <= 0.01) > 0.1
    assert np.mean(scores.probability[500:] <= 0.01) < 0.03
    assert (scores.probability[21:] >= calibrated[21:]).all()


def test_an_event_has_the_probability_of_its_worst_sample(
    pipeline: Pipeline, whole: Result
) -> None:
    rated = 0
    tail = pipeline.manifest.tail
    assert tail is not None
    for event in whole.events:
        at = np.flatnonzero(whole.scores.score == np.float32(event.score))
        if event.kind == "anomaly" and len(at):
            rated += 1
            assert event.probability == whole.scores.probability[at[0]]
            assert event.probability >= ScoreTail(tail).probability(np.array([event.score]))[0]
            cautious = ScoreTail(tail).cautious(event.score)
            assert event.severity == severity_of(cautious, pipeline.manifest.severities)
    assert rated > 1


def test_while_a_stream_settles_no_score_has_a_probability(changed: Change) -> None:
    settling = Pipeline(changed(threshold={"settle_samples": 100}))
    state, samples = settling.start(), recorded(40, 500)
    scores = [settling.step(state, samples.part(at, at + 50)).scores for at in range(0, 500, 50)]
    known = ~np.isnan(np.concatenate([each.score for each in scores]))
    rated = ~np.isnan(np.concatenate([each.probability for each in scores]))
    assert np.array_equal(rated, known & (np.cumsum(known) > 100))


def test_a_save_writes_little_and_only_what_changed(pipeline: Pipeline, eventful: Samples) -> None:
    state = pipeline.start()
    pipeline.step(state, Samples(eventful.times[:400], eventful.values[:400]))
    pipeline.changed_parts(state)
    assert pipeline.changed_parts(state).keys() == {"head"}
    pipeline.step(state, Samples(eventful.times[400:405], eventful.values[400:405]))
    parts = pipeline.changed_parts(state)
    assert len(parts) <= 3
    assert sum(map(len, parts.values())) < 27_000  # 20,700 of it after each step of the forecaster


def test_state_of_another_bundle_or_damaged_is_refused(
    pipeline: Pipeline, eventful: Samples, changed: Change
) -> None:
    state = pipeline.start()
    pipeline.step(state, eventful)
    saved = pipeline.changed_parts(state)
    other = Pipeline(changed(events={"on_samples": 7}))
    with pytest.raises(StateMismatch, match="or of other settings"):
        other.restore(saved)
    for damaged in (
        {},
        saved | {"head": b""},
        saved | {"head": saved["head"][:-100]},
        saved | {"head": saved["head"].replace(b'"stuck"', b'"stick"')},
        {name: data for name, data in saved.items() if name != "history.0"},
        saved | {"history.0": saved["history.0"][:-4]},
    ):
        with pytest.raises(StateMismatch):
            pipeline.restore(damaged)


def test_a_flipped_bit_of_a_saved_state_is_noticed(pipeline: Pipeline, eventful: Samples) -> None:
    state = pipeline.start()
    pipeline.step(state, eventful)
    saved = pipeline.changed_parts(state)
    random = np.random.default_rng(39)
    for name, data in saved.items():
        for place in random.integers(0, len(data), 20):
            damaged = bytearray(data)
            damaged[place] ^= 1 << int(random.integers(8))
            with pytest.raises(StateMismatch):
                pipeline.restore(saved | {name: bytes(damaged)})


def test_a_jump_in_time_starts_the_network_anew(pipeline: Pipeline) -> None:
    samples = recorded(32, 400)
    samples.times[200:] += 50.0
    score = pipeline.step(pipeline.start(), samples).scores.score
    warm_up = np.isnan(score)
    assert warm_up[:21].all()
    assert warm_up[200:221].all()
    assert not warm_up[21:200].any()
    assert not warm_up[221:].any()


def test_nothing_looks_at_the_future(pipeline: Pipeline, eventful: Samples, whole: Result) -> None:
    values = eventful.values.copy()
    values[1000:] = 0.0
    half = pipeline.step(pipeline.start(), Samples(eventful.times, values))
    assert np.array_equal(half.scores.score[:1000], whole.scores.score[:1000], equal_nan=True)


@pytest.mark.parametrize("value", [np.nan, 0.0, 3e38, -3e38, np.inf, -np.inf])
def test_no_value_breaks_it_or_lasts(pipeline: Pipeline, value: float) -> None:
    samples = recorded(33, 900)
    samples.values[300:320] = value
    result = pipeline.step(pipeline.start(), samples)
    assert not np.isinf(result.scores.score).any()
    told = [number for event in result.events for c in event.channels for number in (c.observed,)]
    assert not any(number is not None and np.isinf(number) for number in told)
    assert not np.isnan(result.scores.score[330:]).any()
    assert result.scores.score[-1] < 1


def test_a_whole_stream_of_nothing_has_no_score_and_no_sensor_is_blamed(
    pipeline: Pipeline,
) -> None:
    samples = recorded(34, 200)
    samples.values[50:] = np.nan
    result = pipeline.step(pipeline.start(), samples)
    assert np.isnan(result.scores.score[50:]).all()
    assert "missing" not in {event.kind for event in result.events}


def test_channels_that_go_missing_together_are_one_event_until_the_last_is_back(
    pipeline: Pipeline,
) -> None:
    samples = recorded(34, 200)
    samples.values[50:100, 1:4] = np.nan
    samples.values[100:120, 2] = np.nan
    samples.values[60:80] = np.nan  # a gap of all, which neither counts nor breaks the run
    state, whole = pipeline.start(), pipeline.step(pipeline.start(), samples)
    saved: dict[str, bytes] = {}
    opened, closed = [event for event in whole.events if event.kind == "missing"]
    assert [channel.channel for channel in opened.channels] == NAMES[1:4]
    assert round((opened.opened - START_S) / PERIOD_S) == 50 + 20 + 25 - 1
    assert (opened.kind, closed.state, closed.number) == ("missing", "closed", opened.number)
    assert closed.closed == samples.times[120]
    told = []
    for begin in range(0, 200, 7):  # and a restart after each piece
        told += pipeline.step(state, samples.part(begin, min(begin + 7, 200))).events
        if begin == 98:
            kinds_open = [event.kind for event in pipeline.open_events(state)]
            assert kinds_open.count("missing") == 1
        saved |= pipeline.changed_parts(state)
        state = pipeline.restore(saved)
    assert told == whole.events


def test_a_contribution_names_the_channel_with_what_was_seen_and_expected(
    pipeline: Pipeline,
) -> None:
    samples = recorded(35, 400)
    voltage = NAMES.index("voltage")
    samples.values[300:320, voltage] += 40.0
    opened = pipeline.step(pipeline.start(), samples).events[0]
    worst = opened.channels[0]
    assert worst.channel == "voltage"
    assert worst.observed == pytest.approx(float(samples.values[:, voltage].max()), abs=3)
    assert worst.expected is not None
    assert opened.onset == pytest.approx(START_S + 300 * PERIOD_S)


def test_silence_opens_once_and_the_next_sample_closes_it(pipeline: Pipeline) -> None:
    state = pipeline.start()
    opened = pipeline.open_silence(state, START_S, START_S - 30)
    assert kinds(opened) == [("silent", "opened")]
    assert opened[0].onset == START_S - 30
    assert pipeline.open_silence(state, START_S + 1, START_S - 30) == []
    state = pipeline.restore(pipeline.changed_parts(state))
    closed = pipeline.step(state, recorded(36, 5)).events
    assert kinds(closed) == [("silent", "closed")]
    assert closed[0].number == opened[0].number


def test_an_open_event_is_shown_with_its_worst_so_far(pipeline: Pipeline) -> None:
    samples = recorded(37, 400)
    samples.values[300:] += 20.0
    state = pipeline.start()
    opened = pipeline.step(state, samples).events[0]
    shown = [event for event in pipeline.open_events(state) if event.number == opened.number]
    assert shown[0].score > opened.score


STREAMS = 5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_together_is_as_one_by_one(pipeline: Pipeline, eventful: Samples, seed: int) -> None:
    """Streams with interruptions, silences and places of their own, in rounds of any size."""
    random = np.random.default_rng(seed)
    streams = [_somewhere(eventful, random) for _ in range(STREAMS)]
    memory, alone = pipeline.start(STREAMS), [pipeline.start() for _ in range(STREAMS)]
    at = [0] * STREAMS
    while max(at) < 740:
        size = int(random.integers(1, 60)) if random.random() < 0.2 else 1
        who = np.flatnonzero(random.random(STREAMS) < 0.7)
        pieces = [slice(at[stream], at[stream] + size) for stream in who]
        parts = [
            Samples(streams[stream].times[piece], streams[stream].values[piece])
            for stream, piece in zip(who, pieces, strict=True)
        ]
        if len(who) == 0:
            continue
        batch = pipeline.step_together(
            memory,
            ALL if len(who) == STREAMS else who,
            np.stack([part.times for part in parts], axis=1),
            np.stack([part.values for part in parts], axis=1),
        )
        for column, (stream, part) in enumerate(zip(who, parts, strict=True)):
            at[stream] += size
            _same(batch, column, pipeline.step(alone[stream], part))
    for stream in range(STREAMS):
        assert pipeline.changed_parts(memory, stream) == pipeline.changed_parts(alone[stream])


def _somewhere(samples: Samples, random: np.random.Generator) -> Samples:
    """A piece of a recording, with one interruption."""
    begin = int(random.integers(0, 1600))
    piece = slice(begin, begin + 800)
    times = samples.times[piece].copy()
    times[int(random.integers(1, 800)) :] += 40.0
    return Samples(times, samples.values[piece])


def _same(batch: BatchResult, column: int, one: Result) -> None:
    for got, expected in (
        (batch.score, one.scores.score),
        (batch.predicted, one.scores.predicted),
        (batch.smoothed, one.smoothed),
        (batch.threshold, one.threshold),
    ):
        np.testing.assert_array_equal(got[:, column], expected)
    assert [event for where, event in batch.events if where == column] == one.events


def test_streams_of_one_pipeline_do_not_touch_each_other(
    pipeline: Pipeline, eventful: Samples, whole: Result
) -> None:
    one, other, scores = pipeline.start(), pipeline.start(), []
    noise = recorded(38, 2400)
    for begin in range(0, 2400, 100):
        piece = slice(begin, begin + 100)
        scores.append(
            pipeline.step(one, Samples(eventful.times[piece], eventful.values[piece])).scores.score
        )
        pipeline.step(other, Samples(noise.times[piece], noise.values[piece]))
    assert np.array_equal(np.concatenate(scores), whole.scores.score, equal_nan=True)


def test_the_manifest_and_the_network_must_agree(zoo_bundle: Bundle) -> None:
    from models.errors import BundleCorrupt
    from tests.models.conftest import sealed

    manifest = zoo_bundle.manifest.model_copy(
        update={
            "network": zoo_bundle.manifest.network.model_copy(
                update={"layers": [8], "state_size": 16}
            )
        }
    )
    with pytest.raises(BundleCorrupt, match="but the manifest has"):
        Pipeline(sealed(manifest, dict(zoo_bundle.parts)))
    broken = dict(zoo_bundle.parts) | {"network.tflite": b"TFL3 no network"}
    with pytest.raises(BundleCorrupt, match="cannot load"):
        Pipeline(sealed(zoo_bundle.manifest, broken))
