"""Chunks of many inputs, read and scored together: with the same result as one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agent.bundles.load import load
from agent.clock import Clock
from agent.config.inputs import InputTable
from agent.config.load import StreamTable
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump, sudden
from agent.inputs.source import Chunk
from agent.parsing.lines import LineParser
from agent.parsing.measurement import Bad, Measurement
from agent.scoring.fleet import Fleet
from agent.scoring.intake import Intake
from agent.store.batch import Batch
from models.detector import Detector
from models.errors import ConfigError
from tests.conftest import ZOO_BUNDLE

NAMES = [channel.name for channel in CHANNELS]
START_S = 1_700_000_000.0
STREAMS = 3


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load(ZOO_BUNDLE)[1]


class Rig:
    """Three streams of one bundle, the last with two inputs of half of the channels each."""

    def __init__(self, detector: Detector) -> None:
        tables = [StreamTable(name=f"s{n}", bundle=ZOO_BUNDLE) for n in range(STREAMS)]
        self.fleet = Fleet(detector, tables, 60.0, Clock())
        columns = {name: ["time", *NAMES] for name in ("a", "b")}
        columns |= {"c1": ["time", *NAMES[:4]], "c2": ["time", *NAMES[4:]]}
        streams = {"a": "s0", "b": "s1", "c1": "s2", "c2": "s2"}
        channels = detector.manifest.channels
        self.parsers = {
            name: LineParser(InputTable(name=name, stream=streams[name], columns=own), channels)
            for name, own in columns.items()
        }
        self.intake = Intake([self.fleet], streams, self.parsers)
        self.batch = Batch()

    def take(self, chunks: list[Chunk]) -> list[str]:
        return [stream for _, stream in self.intake.take(chunks, self.batch)]

    def stored(self) -> dict[str, list[tuple[float, list[float]]]]:
        self.fleet.flush(self.batch)
        found: dict[str, list[tuple[float, list[float]]]] = {}
        for name, samples, _ in self.batch.samples:
            rows = zip(samples.times.tolist(), samples.values.tolist(), strict=True)
            found.setdefault(name, []).extend(rows)
        return found


def chunk(name: str, *lines: str) -> Chunk:
    return Chunk(name, START_S, 0.0, [line.encode() for line in lines])


def line(sample: int, values: list[float]) -> str:
    return f"{START_S + sample * PERIOD_S:.3f}," + ",".join(f"{value:.3f}" for value in values)


def value(sample: int, stream: int) -> list[float]:
    random = np.random.default_rng([sample, stream])
    return np.round(random.uniform(1, 2, len(NAMES)), 3).tolist()


def round_of(sample: int) -> list[Chunk]:
    half = value(sample, 2)
    return [
        chunk("a", line(sample, value(sample, 0))),
        chunk("b", line(sample, value(sample, 1))),
        chunk("c1", line(sample, half[:4])),
        chunk("c2", line(sample, half[4:])),
    ]


@pytest.mark.parametrize("rounds_together", [1, 4])
def test_every_input_reaches_its_stream(detector: Detector, rounds_together: int) -> None:
    rig, count = Rig(detector), 40
    for begin in range(0, count, rounds_together):
        rounds = [round_of(begin + number) for number in range(rounds_together)]
        assert set(rig.take([one for chunks in rounds for one in chunks])) == {"s0", "s1", "s2"}
    stored = rig.stored()
    for stream in range(STREAMS):
        times, values = zip(*stored[f"s{stream}"], strict=True)
        assert len(times) == count
        expected = [value(sample, stream) for sample in range(count)]
        np.testing.assert_allclose(values, np.array(expected, np.float32))
        assert rig.fleet.streams[stream].counters["readings"] == count * len(NAMES)
        assert rig.fleet.streams[stream].counters["samples"] == count


def test_a_chunk_of_which_all_was_set_aside_costs_nothing(detector: Detector) -> None:
    rig = Rig(detector)
    assert set(rig.take([chunk("a"), *round_of(0)[1:]])) == {"s1", "s2"}
    assert not list(rig.take([chunk("a")]))
    assert not list(rig.take([chunk("a")._replace(again=True)]))


@pytest.mark.parametrize("wild", [False, True])
def test_a_wild_time_now_and_then_holds_back_no_alarm(detector: Detector, wild: bool) -> None:
    rig, rows = Rig(detector), Pump(4, [sudden("blocked_valve", 180.0, 30.0)]).run(1100)
    ahead = START_S + 2_000_000_000
    for sample, row in enumerate(rows.tolist()):
        halves = [chunk("c1", line(sample, row[:4])), chunk("c2", line(sample, row[4:]))]
        if wild and sample % 5 == 4:
            text = line(sample, row[4:]).replace(f"{START_S:.0f}"[:2], f"{ahead:.0f}"[:2], 1)
            halves.insert(1, chunk("c2", text))
        rig.take(halves)
    assert len(rig.stored()["s2"]) == 1100
    assert [alarm["kind"] for alarm in rig.batch.alarms][:1] == ["anomaly"]
    assert rig.parsers["c2"].counters["in_future"] == 220 * wild


def test_an_input_brings_its_own_channels_only(detector: Detector) -> None:
    """What it has of others is counted; a line with nothing else is no reading."""
    channels = detector.manifest.channels
    own = {"c1": NAMES[:4], "c2": NAMES[4:]}
    given = {"stream": "s2", "format": "json", "time_key": "at"}

    def values_of(lines: list[bytes], allowed: bool) -> dict[str, list[list[float]]]:
        parsers = {
            name: LineParser(
                InputTable.model_validate(
                    given | {"name": name} | ({"channels": names} if allowed else {})
                ),
                channels,
            )
            for name, names in own.items()
        }
        found = {}
        for name, parser in parsers.items():
            readings = parser.parse(lines, START_S)
            found[name] = readings.values.tolist()
            refused = parser.counters["not_its_channel"]
            assert refused == (np.isfinite(both).sum() // 2 if allowed else 0)
            if allowed:
                assert {reject.channel for reject in parser.rejects()} <= set(NAMES) - set(
                    own[name]
                )
        return found

    both = np.array([value(sample, 0) for sample in range(6)])
    both[2, :4] = np.nan  # this one has nothing for c1
    both[3, 4:] = np.nan
    lines = [
        json.dumps(
            {"at": START_S + at}
            | {name: one for name, one in zip(NAMES, row, strict=True) if one == one}
        ).encode()
        for at, row in enumerate(both.tolist())
    ]
    np.testing.assert_array_equal(values_of(lines, False)["c1"], both.astype(np.float32))
    kept = values_of(lines, True)
    for name, mine in (("c1", slice(0, 4)), ("c2", slice(4, 8))):
        expected = np.full_like(both, np.nan)
        expected[:, mine] = both[:, mine]
        expected = expected[~np.isnan(expected).all(axis=1)]
        assert len(expected) == 5
        np.testing.assert_array_equal(kept[name], expected.astype(np.float32))


@pytest.mark.parametrize("given", [NAMES, NAMES[1:], NAMES[:1]])
def test_a_block_with_channels_of_others_is_not_clean(detector: Detector, given: list[str]) -> None:
    columns, channels = ["time", *NAMES], detector.manifest.channels
    table = InputTable(name="a", stream="s0", columns=columns, channels=given)
    parser, lines = LineParser(table, channels), [line(at, value(at, 0)).encode() for at in (0, 1)]
    assert (parser.parse_clean(lines, None) is None) == (given != NAMES)
    assert np.isfinite(parser.parse(lines, 0.0).values).sum() == 2 * len(given)
    assert parser.counters["not_its_channel"] == 2 * (len(NAMES) - len(given))


def test_channels_are_the_bundles(detector: Detector) -> None:
    table = InputTable(name="a", stream="s0", columns=["flow"], channels=["flaw"])
    with pytest.raises(
        ConfigError, match=r"channels: 'flaw' is not a channel .* did you mean 'flow'"
    ):
        LineParser(table, detector.manifest.channels)


def test_a_chunk_without_a_line_costs_nothing(detector: Detector) -> None:
    """All that was in it is set aside; alone, and beside one with lines."""
    rig = Rig(detector)
    assert rig.take([chunk("a")]) == []
    assert "s1" in rig.take([chunk("a"), chunk("b", line(0, value(0, 1))), chunk("c1")])
    assert rig.take([chunk("a")._replace(again=True)]) == []


def test_a_bad_line_is_counted_at_its_input_and_costs_no_other(detector: Detector) -> None:
    rig = Rig(detector)
    rig.take([chunk("a", line(0, value(0, 0))), chunk("b", "nonsense", line(0, value(0, 1)))])
    heard = rig.take([chunk("a", line(1, value(1, 0))), chunk("b", "1,2")])
    assert heard == ["s0"]
    assert rig.parsers["a"].counters == {}
    assert rig.parsers["b"].counters == {"truncated": 2}
    assert {name: len(rows) for name, rows in rig.stored().items()} == {"s0": 2, "s1": 1}


def test_a_value_out_of_range_is_counted_as_line_by_line(detector: Detector) -> None:
    """A block with such a value is clean text, and yet not taken as a whole."""
    rig = Rig(detector)
    rows = [value(0, 0), value(0, 1)]
    rows[1][0] = 1e30
    rig.take([chunk(name, line(0, row)) for name, row in zip("ab", rows, strict=True)])
    assert rig.parsers["a"].counters == {}
    assert rig.parsers["b"].counters.total() == 1


@pytest.fixture
def mixed(detector: Detector) -> Rig:
    """The rig, with an input of numbers for the first stream and one of lines for the second."""
    rig = Rig(detector)
    channels = detector.manifest.channels
    columns = ["time", *NAMES]
    readings = InputTable(name="a", stream="s0", format="readings", columns=columns)
    rig.parsers["a"] = LineParser(readings, channels)
    rig.intake = Intake([rig.fleet], {"a": "s0", "b": "s1", "c1": "s2", "c2": "s2"}, rig.parsers)
    return rig


def row(sample: int, values: list[float]) -> Measurement:
    given: list[float | Bad | None] = [float(f"{value:.3f}") for value in values]
    time_s = round(START_S + sample * PERIOD_S, 3)
    return Measurement(dict(zip(NAMES, given, strict=True)), time_s)


def measured(name: str, *rows: Measurement) -> Chunk:
    return Chunk(name, START_S, 0.0, measurements=rows)


def test_numbers_give_the_samples_that_their_text_gives(mixed: Rig) -> None:
    values = Pump(1).run(60).tolist()
    for at in range(0, 60, 3):
        numbers = measured("a", *(row(n, values[n]) for n in range(at, at + 3)))
        text = chunk("b", *(line(n, values[n]) for n in range(at, at + 3)))
        assert sorted(mixed.take([numbers, text])) == ["s0", "s1"]
    found = mixed.stored()
    assert len(found["s0"]) > 50
    np.testing.assert_array_equal(
        [values for _, values in found["s0"]], [values for _, values in found["s1"]]
    )
    assert [time for time, _ in found["s0"]] == [time for time, _ in found["s1"]]
    assert not mixed.parsers["a"].counters


def test_a_bad_value_is_missing_and_its_neighbours_are_used(mixed: Rig) -> None:
    values = Pump(1).run(20).tolist()
    for at, one in enumerate(values):
        good = row(at, one)
        bad = {**good.values, NAMES[0]: Bad("open circuit")}
        mixed.take([measured("a", good if at < 10 else good._replace(values=bad))])
    found = dict(mixed.stored()["s0"])
    last = np.array(found[max(found)])
    assert np.isnan(last[0])
    assert not np.isnan(last[1:]).any()
    assert mixed.parsers["a"].counters == {"bad_quality": 10}


def test_what_an_input_did_not_announce_is_counted_and_ends_nothing(mixed: Rig) -> None:
    values = Pump(1).run(1)[0].tolist()
    both = measured("a", row(0, values))._replace(lines=[b"1,2"])
    assert mixed.take([both, measured("b", row(0, values))]) == ["s0"]
    assert mixed.take([chunk("a", line(1, values)), chunk("b", line(0, values))]) == ["s1"]
    assert mixed.parsers["a"].counters == {"malformed": 2}
    assert mixed.parsers["b"].counters == {"malformed": 1}
    (reject,) = mixed.parsers["b"].rejects()
    assert reject.excerpt.startswith(f"time={START_S:.1f} {NAMES[0]}=")


def test_a_chunk_of_which_nothing_is_left_ends_nothing(mixed: Rig) -> None:
    assert mixed.take([chunk("b"), measured("a")]) == []
    assert mixed.take([chunk("b")._replace(again=True)]) == []


def test_numbers_of_a_time_nobody_knows_are_retained(detector: Detector) -> None:
    rig = Rig(detector)
    settings = InputTable(name="a", stream="s0", format="readings", columns=NAMES)
    rig.parsers["a"] = LineParser(settings, detector.manifest.channels)
    rig.intake = Intake([rig.fleet], {"a": "s0", "b": "s1", "c1": "s2", "c2": "s2"}, rig.parsers)
    old = measured("a", row(0, Pump(1).run(1)[0].tolist()))._replace(old=True)
    assert rig.take([old]) == []
    assert rig.parsers["a"].counters == {"retained": 1}


def test_nothing_usable_is_told_from_nothing(detector: Detector) -> None:
    rig = Rig(detector)
    assert rig.intake.nothing_usable("s0") is None
    for _ in range(3):
        assert rig.take([chunk("a", "x,y", "T=\x1b[2J")]) == []
    why = rig.intake.nothing_usable("s0")
    assert why is not None
    assert why.cause == "unusable"
    assert "nothing usable comes, 6 truncated a minute, last: T=\\x1b[2J" in why.action
    assert rig.intake.nothing_usable("s1") is None
    assert rig.take([chunk("a", line(0, [1.0] * 8), "x,y")]) == ["s0"]
    assert rig.intake.nothing_usable("s0") is None
