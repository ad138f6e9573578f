"""The parts of the benchmark: what they send, how they count, where they attribute time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from agent.bench import bare
from agent.bench.bundle import REFERENCE_BUNDLE, bench_bundle
from agent.bench.devices import LineLost, MemoryInput, Rounds, Steady
from agent.bench.lines import Lines
from agent.bench.meters import Mark
from agent.bench.rig import Plan, Run, run_from_memory
from agent.bench.run import bytes_written
from agent.bench.stages import COMMIT, LOOP, Stopwatch, watch
from agent.config.broker import MqttTable
from agent.config.inputs import InputTable
from agent.inputs.source import Chunk
from agent.parsing.lines import LineParser
from agent.store.migrations import READINGS, RECORDS
from agent.store.sqlite import open_for_reading
from models import bundle as bundles
from models.bundle import Bundle
from models.messages import Samples
from models.pipeline import Pipeline

LINES = 20_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return bench_bundle([80, 80], 8)


@pytest.fixture(scope="module")
def plan(bundle: Bundle) -> Plan:
    mqtt = MqttTable(host="127.0.0.1", port=1)  # nobody answers: the agent works without
    return Plan(bundle, Pipeline(bundle), Lines(bundle.manifest, 2), 2, 0.0, mqtt)


@pytest.fixture(scope="module")
def watched(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with watch() as stopwatch:
        return run_from_memory(plan, tmp_path_factory.mktemp("run") / "store", 0.1, stopwatch)


def samples(bundle: Bundle, lines: Lines, stream: int, count: int) -> Samples:
    """A stream's lines as the agent reads them."""
    columns = ["time", *bundle.manifest.channel_names]
    settings = InputTable(name="line", stream="stream", columns=columns)
    parser = LineParser(settings, bundle.manifest.channels)
    readings = parser.parse([lines.line(stream, sample) for sample in range(count)], 0.0)
    assert not parser.counters
    return Samples(readings.times, readings.values)


def test_the_bundle_is_consistent_and_its_network_fits(bundle: Bundle, tmp_path: Path) -> None:
    bundles.write(tmp_path / "bench.fieldwatch", bundle.manifest, bundle.parts, None)
    assert bundles.read(tmp_path / "bench.fieldwatch").digest == bundle.digest
    assert bundle.manifest.network.layers == [80, 80]
    Pipeline(bundle)


def test_the_reference_bundles_network_can_be_run_too() -> None:
    assert bench_bundle([64], 8).network == bundles.read(REFERENCE_BUNDLE).network


def test_lines_alarm_at_their_fault_and_nowhere_else(bundle: Bundle) -> None:
    pipeline, lines = Pipeline(bundle), Lines(bundle.manifest, 2)
    state = pipeline.start()
    result = pipeline.step(state, samples(bundle, lines, 0, LINES // 2))
    assert [event.state for event in result.events] == ["opened", "closed"]
    assert {event.kind for event in result.events} == {"anomaly"}


def test_what_was_before_the_lines_joins_on(bundle: Bundle) -> None:
    lines = Lines(bundle.manifest, 2)
    before, after = lines.before(1, 3), samples(bundle, lines, 1, 2)
    times = np.concatenate([before.times, after.times])
    assert np.diff(times) == pytest.approx(bundle.manifest.sampling.period_s)
    assert lines.before(1, 509).values[0] == pytest.approx(after.values[0], abs=1e-6)


def test_a_round_comes_once_the_last_is_scored(bundle: Bundle) -> None:
    sent: list[int] = []
    agent_listens = False
    rounds = Rounds(
        Lines(bundle.manifest, 3), 3, lambda stream, _: sent.append(stream), lambda: agent_listens
    )
    rounds.start(pytest.fail)
    rounds.between_turns(0)
    assert sent == []
    agent_listens = True
    for scored in (0, 1, 2, 3, 5, 6):
        rounds.between_turns(scored)
    assert sent == [0, 1, 2] * 3
    assert [arrival.lines_so_far for arrival in rounds.arrivals] == [3, 6, 9]
    assert rounds.loop_cpu_s() == rounds.cpu_s() > 0
    rounds.stop()
    rounds.between_turns(9)
    rounds.join()
    assert len(sent) == 9


def test_lines_that_nobody_reads_end_the_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.bench.devices.DONE_S_MAX", -1.0)
    gave_up = threading.Event()
    rounds = Rounds(Lines(bundle.manifest, 3), 3, lambda *_: None, lambda: True)
    rounds.start(gave_up.set)
    rounds.between_turns(0)
    assert not gave_up.is_set()
    rounds.between_turns(2)
    assert gave_up.is_set()
    with pytest.raises(LineLost, match="3 lines were sent, and only 2 read"):
        rounds.join()


def test_the_rate_is_kept(bundle: Bundle) -> None:
    """No line comes before its time, and the streams take turns."""
    rate, streams, count = 100.0, 3, 30
    sent: list[tuple[float, int, bytes]] = []
    enough = threading.Event()

    def send(stream: int, line: bytes) -> None:
        sent.append((time.monotonic(), stream, line))
        if len(sent) == count:
            enough.set()

    lines = Lines(bundle.manifest, streams)
    devices = Steady(lines, streams, rate, send, lambda: True)
    began = time.monotonic()
    devices.start(lambda: None)
    assert enough.wait(30.0)
    devices.stop()
    devices.join()
    for number, (time_s, stream, line) in enumerate(sent):
        assert time_s - began >= number / (rate * streams)
        assert (stream, line) == (number % streams, lines.line(stream, number // streams))


def test_a_line_in_memory_is_a_chunk() -> None:
    chunks: list[Chunk] = []
    source = MemoryInput("input", "stream")
    source.send(b"before the start")
    source.start(chunks.append)
    source.send(b"1,2")
    source.stop()
    source.send(b"after the stop")
    assert [(chunk.input_name, chunk.lines) for chunk in chunks] == [("input", [b"1,2"])]
    assert source.status().lines == 1


def test_the_loops_time_is_all_in_the_stages(watched: Run) -> None:
    spent = {
        stage: watched.last.stages_s[stage] - watched.first.stages_s[stage]
        for stage in watched.last.stages_s
    }
    assert all(seconds > 0 for seconds in spent.values()), spent
    assert sum(spent.values()) == pytest.approx(watched.loop_s, rel=0.05)


def test_a_run_is_measured_from_commit_to_commit(watched: Run) -> None:
    counters = watched.status["counters"]
    assert 0 < watched.lines < counters["samples"]
    assert counters["scored"] == counters["samples"]  # the streams have been running
    assert counters["rejected"] == counters["lines_dropped"] == 0
    assert sum(watched.meter.weights) == watched.lines
    assert watched.status["store"]["ring_rows"] == counters["samples"]


def test_the_bare_commit_writes_the_same_rows(watched: Run, tmp_path: Path) -> None:
    committed = watched.meter.committed
    assert committed is not None
    assert bare.commit_s(watched.directory, committed, tmp_path / "bare") > 0
    mine, its = (
        open_for_reading(directory / READINGS)[0].execute("SELECT * FROM samples").fetchall()
        for directory in (tmp_path / "bare", watched.directory)
    )
    assert mine == its
    assert len(its) > 0
    written = open_for_reading(tmp_path / "bare" / RECORDS)[0].execute("SELECT * FROM state")
    expected = {row[:2]: row for rows in committed.states for row in rows}  # the last of each
    assert sorted(written.fetchall()) == sorted(expected.values())


def test_watching_ends(plan: Plan) -> None:
    before = Pipeline.step, LineParser.parse
    with watch() as stopwatch:
        assert (Pipeline.step, LineParser.parse) != before
        readings = plan.lines.before(0, 100)
        plan.detector.step(plan.detector.start(), Samples(readings.times, readings.values))
        spent = stopwatch.spent_s()
    assert (Pipeline.step, LineParser.parse) == before
    assert spent["score"] > 0
    assert spent["detect"] > 0
    assert spent["parse"] == spent[COMMIT] == 0


def test_what_a_commit_calls_is_the_commits() -> None:
    stopwatch = Stopwatch()
    outer = stopwatch.enter(COMMIT)
    inner = stopwatch.enter("score")
    assert sum(range(100_000))
    stopwatch.leave(inner)
    stopwatch.leave(outer)
    spent = stopwatch.spent_s()
    assert spent["score"] == 0
    assert spent[COMMIT] > 0
    assert spent[LOOP] > 0


@pytest.mark.parametrize(
    ("disk_bytes", "expected"),
    [
        ((100, 350), (250, "write_bytes of /proc/self/io")),
        ((None, None), (30, "growth of the store's files")),
        ((100, 100), (30, "growth of the store's files")),  # a file system in memory
    ],
)
def test_bytes_are_counted_by_the_kernel_or_by_the_files(
    watched: Run, disk_bytes: tuple[int | None, int | None], expected: tuple[int, str]
) -> None:
    def mark(disk: int | None, store: int) -> Mark:
        return watched.first._replace(disk_bytes=disk, store_bytes=store)

    first, last = mark(disk_bytes[0], 10), mark(disk_bytes[1], 40)
    assert bytes_written(Run(first, last, watched.meter, {}, watched.directory)) == expected
