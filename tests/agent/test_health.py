"""What the agent measures of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.health import LoopTimes, Pace, cpu_temperature_c, disk_free_mb, inference, totals


def test_the_loop_remembers_the_last_and_the_worst() -> None:
    loop = LoopTimes()
    for late_s in (0.05, -0.9, 0.02):  # the second came early, for an alarm
        loop.ticked(late_s)
    for took_s in (0.1, 0.3, 0.2):
        loop.turned(took_s)
    assert loop.document() == {"lag_ms_last": 20.0, "lag_ms_max": 50.0, "turn_ms_max": 300.0}


def test_the_inference_time_is_per_sample_and_follows_what_changes() -> None:
    pace = Pace()
    assert inference([pace]) == {"seconds": 0, "samples": 0, "us_per_sample": None}
    pace.add(0.002, 100)
    assert inference([pace]) == {"seconds": 0.002, "samples": 100, "us_per_sample": 20.0}
    for _ in range(500):
        pace.add(0.004, 100)
    assert pace.us_moving == pytest.approx(40.0, rel=0.001)


def test_the_slowest_detector_counts() -> None:
    fast, slow = Pace(), Pace()
    fast.add(0.001, 100)
    slow.add(0.01, 100)
    assert inference([fast, slow, Pace()])["us_per_sample"] == 100.0


def zone(thermal: Path, number: int, kind: str, temperature: str) -> None:
    directory = thermal / f"thermal_zone{number}"
    directory.mkdir()
    (directory / "type").write_text(kind + "\n")
    (directory / "temp").write_text(temperature + "\n")


def test_the_hottest_zone_of_the_cpu_counts(tmp_path: Path) -> None:
    assert cpu_temperature_c(tmp_path / "none") is None
    zone(tmp_path, 0, "acpitz", "90000")
    assert cpu_temperature_c(tmp_path) is None
    zone(tmp_path, 1, "cpu-thermal", "51500")
    zone(tmp_path, 2, "soc-thermal", "48000")
    zone(tmp_path, 3, "x86_pkg_temp", "")  # a sensor that is off
    assert cpu_temperature_c(tmp_path) == 51.5


def test_a_disk_that_is_gone_is_unknown(tmp_path: Path) -> None:
    assert disk_free_mb(tmp_path) > 0  # type: ignore[operator]
    assert disk_free_mb(tmp_path / "none") is None


def test_every_stage_has_its_total() -> None:
    source: dict[str, Any] = {"lines": 10, "reconnects": 2, "rejected": {"too_long": 1}}
    stream = {"counters": {"samples": 4, "late": 1}}
    store = {"evicted": {"health": 1, "alarm": 2}}
    link = {"published": 7, "acknowledged": 6, "connections": 3}
    assert totals({"a": source, "b": source}, {"a": stream, "b": stream}, store, link) == {
        "samples": 8,
        "late": 2,
        "lines": 20,
        "rejected": 2,
        "reconnects": 6,
        "evicted": 3,
        "published": 7,
        "acknowledged": 6,
    }
    assert totals({}, {}, store, None)["reconnects"] == 0
