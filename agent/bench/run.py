"""Runs the measurements in order, and returns the resulting document.

The first run, from memory, measures the figures. The second run is watched: it measures the loop's
time by stage (``agent.bench.stages``), and records the work that the bare parts repeat. The third
run goes through pseudo-terminals. A stage is its share in the watched run times the first run's
loop. The uplink is the rest of the process's time, without loop and devices: its own thread and
paho's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.bench import bare, machine
from agent.bench.bundle import bench_bundle
from agent.bench.cold_start import cold_start_s
from agent.bench.drain import Rates, drain
from agent.bench.lines import Lines
from agent.bench.mqtt import Subscriber
from agent.bench.rig import Plan, Run, run_from_memory, run_from_terminals
from agent.bench.stages import watch
from agent.config.broker import MqttTable
from agent.demo.broker import Broker
from models.families import detector_of

TERMINALS_MAX: Final = 64  # each takes a thread and four descriptors
_WATCHED_S_MAX = 3.0  # short, because all commits stay in memory


def bench(
    streams: int, channels: int, rate: float, seconds: float, layers: Sequence[int]
) -> dict[str, Any]:
    """Measure; return the document that ``docs/speed.md`` describes.

    Args:
        streams: number of streams; one network scores all.
        channels: number of channels of each stream.
        rate: lines per second and stream; 0 is as fast as possible.
        seconds: minimum duration of a run.
        layers: cells per layer of the network.

    Raises:
        ConfigError: there is no network of this size.
        BrokerMissing: no broker can be started.

    """
    bundle = bench_bundle(layers, channels)
    with (
        tempfile.TemporaryDirectory(prefix="fieldwatch-bench-") as name,
        Broker(Path(name)) as broker,
        Subscriber(broker.port),
    ):
        directory = Path(name)
        mqtt = MqttTable.model_validate(
            {"host": "127.0.0.1", "port": broker.port, "protocol": broker.protocol}
        )
        lines = Lines(bundle.manifest, streams)
        plan = Plan(bundle, detector_of(bundle), lines, streams, rate, mqtt)
        plain = run_from_memory(plan, directory / "plain", seconds)
        with watch() as stopwatch:
            watched_s = min(seconds, _WATCHED_S_MAX)
            watched = run_from_memory(plan, directory / "watched", watched_s, stopwatch)
        assert watched.meter.committed is not None
        rates = drain(watched.meter.committed.messages, mqtt, directory / "drain")
        parts = _bare(plan, watched, rates, directory)
        document = _figures(plan, plain) | _comparison(plan, _stages(plan, plain, watched), parts)
        document["uplink"] = _uplink(rates)
        document["pty"] = _terminals(plan, directory, seconds, document["us_per_reading"])
        document["cold_start_s"] = round(cold_start_s(directory / "start"), 3)
        document["settings"] = _settings(plan, plain, seconds, broker.name, directory)
    return document | {"interpreter": plan.detector.runtime, "machine": machine.describe()}


def _bare(plan: Plan, watched: Run, rates: Rates | None, directory: Path) -> dict[str, float]:
    """Return the cost of the bare parts, µs per reading."""
    channels = len(plan.bundle.manifest.channels)
    committed = watched.meter.committed
    assert committed is not None
    readings = watched.status["counters"]["samples"] * channels  # all committed ones
    commit_s = bare.commit_s(watched.directory, committed, directory / "bare")
    message_s = rates.bare_cpu_s if rates else 0.0
    return {
        "parse": bare.parse_us(plan.lines, plan.streams) / channels,
        "score": bare.network_us(plan.bundle, plan.streams) / channels,
        "commit": 1e6 * commit_s / readings,
        "uplink": 1e6 * message_s * len(committed.messages) / readings,
    }


def _figures(plan: Plan, run: Run) -> dict[str, Any]:
    readings = run.lines * len(plan.bundle.manifest.channels)
    us = 1e6 * run.agent_s / readings
    return {
        "readings_per_s": round(1e6 / us),
        "us_per_reading": _rounded(us),
        "cpu_s_per_million_readings": _rounded(us),
        **_delays(run),
        "rss_mb": run.meter.rss_mb,
        "bytes_written_per_1000": round(1000 * bytes_written(run)[0] / readings),
    }


def _stages(plan: Plan, plain: Run, watched: Run) -> dict[str, float]:
    """Return the CPU time of the stages, µs per reading; their sum is the plain run's."""
    readings = plain.lines * len(plan.bundle.manifest.channels)
    spent = {
        stage: watched.last.stages_s[stage] - watched.first.stages_s[stage]
        for stage in watched.last.stages_s
    }
    loop_us = 1e6 * plain.loop_s / readings
    stages = {stage: loop_us * time / sum(spent.values()) for stage, time in spent.items()}
    return stages | {"uplink": 1e6 * (plain.agent_s - plain.loop_s) / readings}


def _comparison(plan: Plan, stages: dict[str, float], parts: dict[str, float]) -> dict[str, Any]:
    """Return the stages, and the figures for comparison."""
    channels = len(plan.bundle.manifest.channels)
    bare_sum = sum(parts.values())
    windowed, stepped = bare.windowed_us(plan.bundle), bare.stepped_us(plan.bundle, 1)
    score_us = stages["score"] * channels  # per sample
    return {
        "stages": {stage: _rounded(us) for stage, us in stages.items()},
        "bare": {part: _rounded(us) for part, us in parts.items()} | {"sum": _rounded(bare_sum)},
        "ratio_to_bare": _rounded(sum(stages.values()) / bare_sum),
        "ratio_to_windowed": _rounded(windowed / score_us),
        "ratio_to_stepped_window": _rounded(stepped / score_us),
        "windowed": {
            "window_samples": bare.WINDOW_SAMPLES,
            "us_per_sample": _rounded(windowed),
            "us_per_sample_stepped": _rounded(stepped),
            "us_per_sample_stepped_together": _rounded(bare.stepped_us(plan.bundle, plan.streams)),
        },
    }


def _uplink(rates: Rates | None) -> dict[str, float] | None:
    """Return how fast a full outbox is sent; None if the run had no message to send."""
    if rates is None:
        return None
    return {
        "messages_per_s": round(rates.agent),
        "bare_messages_per_s": round(rates.bare),
        "ratio_to_bare": _rounded(rates.agent / rates.bare),
    }


def _terminals(
    plan: Plan, directory: Path, seconds: float, from_memory_us: float
) -> dict[str, Any]:
    """Return the cost of a run through pseudo-terminals, and the part that these add."""
    streams = min(plan.streams, TERMINALS_MAX)
    plan = replace(plan, streams=streams, lines=Lines(plan.bundle.manifest, streams))
    run = run_from_terminals(plan, directory / "terminals", seconds)
    figures = _figures(plan, run)
    return {
        "streams": streams,
        "readings_per_s": figures["readings_per_s"],
        "us_per_reading": figures["us_per_reading"],
        "more_than_memory_us": _rounded(figures["us_per_reading"] - from_memory_us),
        **_delays(run),
    }


def _delays(run: Run) -> dict[str, float]:
    """Return how long lines waited for their commit, ms."""
    delays = np.repeat(run.meter.delays_s, run.meter.weights) * 1000
    p50, p99 = np.percentile(delays, [50, 99], method="inverted_cdf").tolist()
    return {"commit_ms_p50": round(p50, 1), "commit_ms_p99": round(p99, 1)}


def bytes_written(run: Run) -> tuple[int, str]:
    """Return the bytes of a run, and how they were counted."""
    if run.first.disk_bytes is not None and run.last.disk_bytes is not None:
        written = run.last.disk_bytes - run.first.disk_bytes
        if written:  # none are counted in a file system in memory
            return written, "write_bytes of /proc/self/io"
    return run.last.store_bytes - run.first.store_bytes, "growth of the store's files"


def _settings(plan: Plan, run: Run, seconds: float, broker: str, directory: Path) -> dict[str, Any]:
    manifest = plan.bundle.telemanom
    return {
        "streams": plan.streams,
        "channels": len(manifest.channels),
        "rate": plan.rate,
        "seconds": seconds,
        "layers": manifest.network.layers,
        "readings": run.lines * len(manifest.channels),
        "wall_s": round(run.last.wall_s - run.first.wall_s, 3),
        "commits": run.meter.commits,
        "lines_dropped": run.status["counters"]["lines_dropped"],
        "messages": run.status["uplink"]["acknowledged"],
        "broker": broker,
        "file_system": machine.file_system(directory),
        "bytes_written_from": bytes_written(run)[1],
    }


def _rounded(value: float) -> float:
    """Return three digits; further ones would differ in the next run."""
    return float(f"{value:.3g}")
