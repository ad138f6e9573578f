"""Prometheus text, read by Prometheus' own parser, and written as node-exporter wants it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from agent.cli import commands
from agent.health import prometheus
from agent.store.reader import Reader
from models.errors import StoreError
from tests.conftest import ROOT, ZOO_BUNDLE, RealAgent, wait_until

Samples = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture
def document() -> dict[str, Any]:
    """The health message of the pages."""
    pages = (ROOT / "docs" / "messages.md").read_text()
    examples = map(json.loads, re.findall(r"```json\n(.*?)```", pages, re.DOTALL))
    return next(one["data"] for one in examples if one["type"] == "fieldwatch.health.v1")


def read(text: str) -> Samples:
    """The values by metric and labels; fails where the text is not as it should be."""
    values: Samples = {}
    assert text.endswith("\n")
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"fieldwatch_[a-z_]+", family.name)
        assert family.type in ("counter", "gauge")
        assert family.documentation
        assert family.samples, f"{family.name} has no value"
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert not re.search(r"_(ms|us|mb|s)(_|$)", sample.name), sample.name
            labels = tuple(sample.labels.values())
            assert labels not in values.setdefault(sample.name, {}), "twice"
            values[sample.name][labels] = sample.value
    helps, types = (re.findall(rf"(?m)^# {word} (\S+) ", text) for word in ("HELP", "TYPE"))
    assert helps == types == list(dict.fromkeys(helps))
    return values


def test_refused_registers_are_counted(document: dict[str, Any]) -> None:
    (source,) = document["inputs"].values()
    plc = source | {"registers_refused": ["holding register 1 (a): exception 2", "..."]}
    inputs = {"inputs": {"old": source, "plc": plc}}
    values = read(prometheus.text(document | inputs))
    assert values["fieldwatch_input_registers_refused"] == {("old",): 0, ("plc",): 2}


def test_alarms_that_are_not_normal_are_counted_by_state(document: dict[str, Any]) -> None:
    counters = {"counters": document["counters"] | {"logbook_not_stored": 3}}
    values = read(prometheus.text(document | counters | {"alarms": {"UNACK": 2, "SHLVD": 1}}))
    assert values["fieldwatch_alarms_not_normal"] == {("UNACK",): 2, ("SHLVD",): 1}
    assert values["fieldwatch_logbook_not_stored_total"] == {(): 3}


def test_a_status_is_given_in_base_units(document: dict[str, Any]) -> None:
    values = read(prometheus.text(document))
    assert values["fieldwatch_info"] == {("0.1.0", "demo/gateway-1"): 1}
    assert values["fieldwatch_up"] == {(): 1}
    assert values["fieldwatch_start_time_seconds"] == {(): 1795438805.37}
    assert values["fieldwatch_resident_memory_bytes"] == {(): pytest.approx(67.9 * 2**20)}
    assert values["fieldwatch_disk_free_bytes"] == {(): pytest.approx(22816.4 * 2**20)}
    assert values["fieldwatch_cpu_temperature_celsius"] == {(): 51.2}
    assert values["fieldwatch_loop_lag_max_seconds"] == {(): pytest.approx(0.0031)}
    assert values["fieldwatch_commit_latency_seconds"][("0.99",)] == pytest.approx(0.9331)
    assert values["fieldwatch_input_lines_total"] == {("controller",): 101}
    assert values["fieldwatch_rejected_total"] == {("controller", "malformed"): 1}
    assert values["fieldwatch_stream_samples_total"] == {("pump-1",): 100}
    assert values["fieldwatch_stream_alarms_opened_total"] == {("pump-1",): 0}
    assert values["fieldwatch_evicted_total"][("alarm",)] == 0
    assert values["fieldwatch_uplink_acknowledged_total"] == {(): 2}
    assert "fieldwatch_stream_score" not in values  # there is none yet
    assert values["fieldwatch_commands_total"] == {("state",): 2}
    assert values["fieldwatch_commands_refused_total"] == {("busy",): 1}
    assert values["fieldwatch_control_clients_dropped_total"][("slow",)] == 0
    assert values["fieldwatch_control_up"] == {(): 1}


def test_whose_acknowledgements_count_is_given(document: dict[str, Any]) -> None:
    trust = {"unsigned": True, "keys": ["3f1c9a20b7d4e655"], "problem": None}
    central = {"rejected": {"unsigned": 0, "replayed": 3}, "trust": trust}
    uplink = document["uplink"] | {"central": central}
    values = read(prometheus.text(document | {"uplink": uplink}))
    assert values["fieldwatch_uplink_acknowledgements_rejected_total"][("replayed",)] == 3
    assert values["fieldwatch_uplink_unsigned"] == {(): 1}
    assert values["fieldwatch_uplink_collector_keys"] == {(): 1}


def test_an_agent_that_does_not_watch_is_not_up(document: dict[str, Any]) -> None:
    assert read(prometheus.text(document, up=False))["fieldwatch_up"] == {(): 0}


def test_what_the_machine_does_not_tell_is_left_out(document: dict[str, Any]) -> None:
    quiet = document | {"uplink": None, "machine": dict.fromkeys(document["machine"])}
    values = read(prometheus.text(quiet))
    assert not [name for name in values if "celsius" in name or "uplink" in name]


def test_a_name_that_is_used_twice_is_a_metric_to_be_alarmed_by(document: dict[str, Any]) -> None:
    twin = {"state": "found", "epoch": "e2", "since": document["updated"], "taken_over": 3}
    values = read(prometheus.text(document | {"uplink": document["uplink"] | {"twin": twin}}))
    assert values["fieldwatch_uplink_name_used_twice"] == {(): 1}
    assert values["fieldwatch_uplink_taken_over_total"] == {(): 3}


def test_labels_are_escaped(document: dict[str, Any]) -> None:
    odd = 'a"b\\c\nd\ud800'
    inputs = {odd: document["inputs"]["controller"]}
    values = read(prometheus.text(document | {"inputs": inputs}))
    assert values["fieldwatch_input_lines_total"] == {('a"b\\c\\nd\\ud800',): 101}


def test_the_status_of_an_older_agent_is_refused(document: dict[str, Any]) -> None:
    del document["loop"]
    with pytest.raises(StoreError, match=r"fieldwatch 0\.1\.0 wrote the status; restart the agent"):
        prometheus.text(document)


def test_a_file_is_replaced_at_once_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "fieldwatch.prom"
    mask = os.umask(0o077)
    try:
        prometheus.write("a 1\n", path)
        with path.open() as reading:
            prometheus.write("a 2\n", path)
            assert reading.read() == "a 1\n"
    finally:
        os.umask(mask)
    assert path.read_text() == "a 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no/a\.prom: cannot be written: No such file"):
        prometheus.write("", tmp_path / "no" / "a.prom")
    (tmp_path / "a.prom").mkdir()
    with pytest.raises(StoreError, match=r"a\.prom: cannot be written: Is a directory"):
        prometheus.write("", tmp_path / "a.prom")
    assert [path.name for path in tmp_path.iterdir()] == ["a.prom"]


def test_of_a_real_agent(tmp_path: Path, start_agent: Callable[[Path], RealAgent]) -> None:
    config = tmp_path / "agent.toml"
    (tmp_path / "data").mkdir()
    config.write_text(f"""
gateway = {{site = "plant", name = "gw-1"}}
store = {{directory = "data", flush_interval_s = 0.1}}
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "line"
port = "/dev/does-not-exist"
stream = "pump"
columns = ["flow"]
""")
    start_agent(config)

    def call(*more: str) -> str:
        words = ["status", "--config", str(config), "--prometheus", *more]
        return CliRunner().invoke(commands, words).output

    wait_until(lambda: call().startswith("# HELP"), "a status")
    values = read(call())
    assert values["fieldwatch_up"] == {(): 1}
    assert values["fieldwatch_input_connected"] == {("line",): 0}
    assert values["fieldwatch_disk_free_bytes"][()] > 0
    output = tmp_path / "fieldwatch.prom"

    def written() -> Samples:
        assert call("--output", str(output)) == ""
        return read(output.read_text())

    # each call has a status of its own, and an agent that has just started tells more each time
    wait_until(lambda: written().keys() == read(call()).keys(), "the file to tell what is printed")
    with Reader(tmp_path / "data") as reader:
        assert set(reader.status()["counters"]) >= {
            "lines", "rejected", "reconnects", "samples_committed", "samples_not_stored",
            "evicted", "published", "acknowledged", "lines_dropped",
        }  # fmt: skip


def test_a_file_is_for_prometheus_only(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(commands, ["status", "--output", str(tmp_path / "x")])
    assert "--output needs --prometheus" in outcome.output
