"""What the agent measures of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.health.measured import (
    LoopTimes,
    Pace,
    cpu_temperature_c,
    disk_free_mb,
    inference,
    totals,
)
from agent.health.status import describe
from tests.conftest import ROOT


def test_the_loop_remembers_the_last_and_the_worst() -> None:
    loop = LoopTimes()
    for late_s in (0.02, 0.05, -0.9):  # the last came early, for an alarm
        loop.ticked(late_s)
    for took_s in (0.1, 0.3, 0.2):
        loop.turned(took_s)
    assert loop.document() == {"lag_ms_last": 0.0, "lag_ms_max": 50.0, "turn_ms_max": 300.0}


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
    source: dict[str, Any] = {
        "lines": 10,
        "reconnects": 2,
        "rejected": {"too_long": 1},
        "messages_too_large": 3,
        "messages_without_topic": 1,
    }
    stream = {"counters": {"samples": 4, "late": 1}}
    store = {"evicted": {"health": 1, "alarm": 2}}
    link = {"published": 7, "acknowledged": 6, "connections": 3}
    assert totals({"a": source, "b": source}, {"a": stream, "b": stream}, store, link) == {
        "samples": 8,
        "late": 2,
        "lines": 20,
        "rejected": 2,
        "messages_too_large": 6,
        "messages_without_topic": 2,
        "reconnects": 6,
        "evicted": 3,
        "published": 7,
        "acknowledged": 6,
    }
    assert totals({}, {}, store, None)["reconnects"] == 0


# ---- as a person reads it


@pytest.fixture
def document() -> dict[str, Any]:
    """The health message of the pages."""
    pages = (ROOT / "docs" / "messages.md").read_text()
    examples = map(json.loads, re.findall(r"```json\n(.*?)```", pages, re.DOTALL))
    return next(one["data"] for one in examples if one["type"] == "fieldwatch.health.v1")


def test_messages_without_an_uplink_do_not_seem_to_be_on_their_way(
    document: dict[str, Any],
) -> None:
    document["store"]["outbox_rows"] = 42
    told = "\n".join(describe(document | {"uplink": None}))
    assert " samples kept, 42 messages kept for an uplink\n" in told
    assert "uplink    none configured; messages wait, within limits, until [mqtt] names a" in told
    line = next(line for line in describe(document) if line.startswith("store"))
    assert line.endswith(" samples kept, 42 messages waiting")


def test_a_person_reads_how_the_agent_is_doing(document: dict[str, Any]) -> None:
    lines = list(describe(document | {"uplink": None}))
    assert "machine   disk 22816 MB free, CPU 51 °C" in lines
    assert (
        "loop      tick 0.4 ms late (at most 3.1 ms), longest turn 12.6 ms, 0 reads waiting,"
        " scoring 20.9 µs a sample" in lines
    )
    (counted,) = [line for line in lines if line.startswith("counted ")]
    assert "samples_committed 95" in counted
    assert not [line for line in lines if line.startswith("config ")]


def test_a_person_reads_what_the_machine_does_not_tell(document: dict[str, Any]) -> None:
    quiet = {"machine": dict.fromkeys(document["machine"]), "uplink": None}
    assert "machine   disk unknown" in list(describe(document | quiet))


def test_a_person_reads_which_registers_a_device_refuses(document: dict[str, Any]) -> None:
    (source,) = document["inputs"].values()
    refused = [f"holding register {at} (c{at}): exception 2" for at in range(12)]
    plc = source | {"registers_refused": refused}
    lines = list(describe(document | {"uplink": None, "inputs": {"plc": plc}}))
    told = [line for line in lines if "REFUSED" in line]
    assert told[0] == "          REFUSED by the device: holding register 0 (c0): exception 2"
    assert (len(told), told[-1]) == (11, "          REFUSED by the device: 2 more")


def test_a_person_reads_what_became_of_a_reload(document: dict[str, Any]) -> None:
    told = {"refused": "a.toml: x\nb.toml: y", "needs_restart": ["gateway.site", "streams.b"]}
    configuration = document["configuration"] | told
    lines = list(describe(document | {"uplink": None, "configuration": configuration}))
    assert lines[-3:] == [
        "config    NOT APPLIED: a.toml: x",
        "config    NOT APPLIED: b.toml: y",
        "config    needs a restart: gateway.site; streams.b",
    ]


def test_the_status_of_an_older_agent_can_be_read(document: dict[str, Any]) -> None:
    for key in ("machine", "loop", "inference", "queues", "configuration"):
        del document[key]
    assert not [line for line in describe(document | {"uplink": None}) if "machine" in line]


def test_a_person_reads_what_became_of_commands(document: dict[str, Any]) -> None:
    def lines(**changes: Any) -> list[str]:
        control = document["control"] | changes
        told = describe(document | {"uplink": None, "control": control})
        return [line for line in told if re.match("control |  +(commands|clients) ", line)]

    socket = "/run/fieldwatch/control.sock"
    assert lines(clients_dropped={"slow": 2, "gone": 0}) == [
        f"control   {socket}; commands: state 2",
        "          commands refused: busy 1",
        "          clients dropped: slow 2",
    ]
    assert lines(commands={}, refused={}) == [f"control   {socket}; commands: none yet"]
    assert lines(error=f"{socket}: another agent listens there") == [
        f"control   NO COMMANDS can be sent: {socket}: another agent listens there"
    ]
    assert lines(socket=None) == []
    assert list(describe(document | {"uplink": None, "control": None}))  # of an older agent
