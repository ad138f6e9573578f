"""A refused bundle stops its own stream only; what runs instead, and why, is said everywhere."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import commands
from models.keys import new_key, read_keyring
from tests.bundle_rig import BASELINE, FAR, Gateway, flow_bundle, noisy, truncate
from tests.conftest import RealAgent, wait_until

CALM = noisy(30)
USER = pwd.getpwuid(os.getuid()).pw_name
StartAgent = Callable[[Path], RealAgent]


@pytest.fixture
def gateway(tmp_path: Path, start_agent: StartAgent) -> Gateway:
    made = Gateway(tmp_path, start_agent)
    flow_bundle(made.bundle)
    return made


def printed(gateway: Gateway, *words: str) -> str:
    return CliRunner().invoke(commands, [*words, "--config", str(gateway.config)]).output


def test_the_stream_runs_its_previous_bundle_and_its_alarm_goes_on(gateway: Gateway) -> None:
    gateway.start()
    gateway.pump.add([*CALM, FAR, FAR, FAR])
    wait_until(lambda: bool(gateway.stream()["open_alarms"]), "the alarm")
    before = gateway.stream()
    assert (before["refused"], before["stands_in"], before["watched"]) == (None, None, True)
    gateway.stop()

    truncate(gateway.bundle)
    agent = gateway.start()
    gateway.fan.add(CALM)
    gateway.wait_for_samples("fan", len(CALM))
    gateway.pump.add(noisy(12))
    wait_until(lambda: gateway.stream()["counters"].get("alarms_closed") == 1, "the alarm's end")
    now = gateway.stream()
    assert now["bundle_digest"] == before["bundle_digest"]
    assert now["stands_in"] == "previous_bundle"
    assert now["refused"]["bundle"] == str(gateway.bundle)
    assert "truncated or altered" in now["refused"]["why"]
    assert [alarm["state"] for alarm in gateway.alarms()] == ["closed"]  # by its own detector
    assert "alarms_unwatched" not in now["counters"]
    assert "Until you correct this, the stream runs flow version 1" in agent.log()
    shown = printed(gateway, "status")
    assert "BUNDLE REFUSED: " in shown
    assert "until corrected, the bundle that ran before runs in its place" in shown
    checked = printed(gateway, "check")
    assert "FAIL  stream pump: " in checked
    assert "Until you correct this, the stream runs flow version 1" in checked
    metrics = printed(gateway, "status", "--prometheus")
    assert 'fieldwatch_stream_bundle_refused{stream="pump"} 1' in metrics
    assert 'fieldwatch_stream_bundle_refused{stream="fan"} 0' in metrics
    gateway.stop()

    flow_bundle(gateway.bundle)  # mended
    gateway.start()
    assert gateway.stream()["refused"] is None
    assert gateway.stream()["stands_in"] is None


def test_a_bundle_that_is_mended_goes_on_with_its_memory_and_its_alarm(gateway: Gateway) -> None:
    gateway.start()
    gateway.pump.add([*CALM, FAR, FAR, FAR])
    wait_until(lambda: bool(gateway.stream()["open_alarms"]), "the alarm")
    gateway.stop()
    truncate(gateway.bundle)
    agent = gateway.start()
    gateway.pump.add([FAR])
    gateway.wait_for_samples("pump", 1)

    flow_bundle(gateway.bundle)  # mended
    assert "stream pump: its bundle is valid; the stream continues" in printed(gateway, "reload")
    assert "stream pump: its bundle is valid; the stream runs flow version 1" in agent.log()
    now = gateway.stream()
    assert (now["refused"], now["stands_in"], now["watched"]) == (None, None, True)
    assert [alarm["number"] for alarm in now["open_alarms"]] == [1]
    gateway.pump.add(noisy(12))
    wait_until(lambda: not gateway.stream()["open_alarms"], "the alarm's end")
    assert [(one["number"], one["state"]) for one in gateway.alarms()] == [(1, "closed")]
    assert printed(gateway, "reload") == "changed: nothing\n"
    flow_bundle(gateway.bundle, 2)
    assert "bundle of stream pump: now flow version 2" in printed(gateway, "reload")


def test_a_bundle_that_is_missing_is_refused_as_any_other(gateway: Gateway) -> None:
    gateway.start()
    gateway.stop()
    gateway.bundle.unlink()
    gateway.start()
    assert gateway.stream()["stands_in"] == "previous_bundle"
    assert "no such bundle" in gateway.stream()["refused"]["why"]


def test_without_a_previous_bundle_its_baseline_watches_it(gateway: Gateway) -> None:
    gateway.configure(BASELINE)
    truncate(gateway.bundle)
    gateway.start()
    gateway.pump.add([*CALM, FAR, FAR, FAR, FAR])
    wait_until(lambda: bool(gateway.stream()["open_alarms"]), "the baseline's alarm")
    now = gateway.stream()
    assert (now["stands_in"], now["detector"]) == ("baseline", "hampel")
    assert "truncated" in now["refused"]["why"]
    assert gateway.stored_samples("pump") > len(CALM)
    assert "the baseline runs in its place" in printed(gateway, "status")


def test_an_alarm_of_the_bundle_stays_open_while_the_baseline_stands_in(gateway: Gateway) -> None:
    gateway.configure(BASELINE)
    flow_bundle(gateway.bundle)
    gateway.start()
    gateway.pump.add([*CALM, FAR, FAR, FAR])
    wait_until(lambda: bool(gateway.stream()["open_alarms"]), "the alarm")
    gateway.stop()
    [alarm] = gateway.alarms()
    truncate(gateway.bundle)
    for copy in gateway.kept("").glob("*.fieldwatch"):
        truncate(copy)
    gateway.pump.empty()  # which the baseline would take as new

    for _ in range(2):  # its memory is none of the baseline's, and then it is
        gateway.start()
        assert gateway.stream()["stands_in"] == "baseline"
        gateway.pump.add(noisy(40))
        gateway.wait_for_samples("pump", 40)
        assert gateway.stream()["open_alarms"] == [alarm]
        gateway.stop()
        assert gateway.alarms() == [alarm]

    flow_bundle(gateway.bundle)  # which did not see what happened meanwhile
    gateway.start()
    wait_until(lambda: gateway.alarms()[0]["state"] == "closed", "the alarm's end, which is told")
    assert gateway.stream()["counters"]["alarms_unwatched"] == 1


def test_a_stream_with_nothing_to_run_is_not_watched_and_loses_no_row(gateway: Gateway) -> None:
    gateway.start()
    gateway.pump.add([*CALM, FAR, FAR, FAR])
    wait_until(lambda: bool(gateway.stream()["open_alarms"]), "the alarm")
    gateway.stop()
    stored, alarms = gateway.stored_samples("pump"), gateway.alarms()
    truncate(gateway.bundle)
    for copy in gateway.kept("").glob("*.fieldwatch"):
        copy.unlink()

    agent = gateway.start()
    gateway.pump.add(noisy(10))
    gateway.fan.add(CALM)
    gateway.wait_for_samples("fan", len(CALM))
    wait_until(
        lambda: gateway.stream()["counters"].get("lines_unwatched", 0) >= 10, "the lines counted"
    )
    now = gateway.stream()
    assert (now["watched"], now["bundle"], now["stands_in"]) == (False, None, None)
    assert [one["number"] for one in now["open_alarms"]] == [1]
    state = gateway.state()
    assert state["counters"]["lines_unwatched"] == now["counters"]["lines_unwatched"]
    assert state["inputs"]["pump-file"]["connected"]
    assert "nothing watches the stream" in agent.log()
    ask_again = printed(gateway, "reload")
    assert "changed: nothing" in ask_again
    assert "stream pump: bundle still refused: " in ask_again
    shown = printed(gateway, "status")
    assert "pump: NOT WATCHED, its readings are not stored" in shown
    assert "open when the stream was last watched" in shown
    metrics = printed(gateway, "status", "--prometheus")
    assert 'fieldwatch_stream_watched{stream="pump"} 0' in metrics
    assert "fieldwatch_stream_lines_unwatched_total" in metrics
    gateway.stop()
    assert gateway.stored_samples("pump") == stored
    assert gateway.alarms() == alarms

    flow_bundle(gateway.bundle)
    gateway.start()
    gateway.wait_for_samples("pump", 10)  # they came again
    wait_until(lambda: gateway.alarms()[0]["state"] == "closed", "the alarm's end")
    assert gateway.stream()["counters"]["alarms_closed"] == 1
    assert "alarms_unwatched" not in gateway.stream()["counters"]  # the same detector went on


def test_what_does_not_fit_the_inputs_cannot_stand_in(gateway: Gateway) -> None:
    gateway.start()
    gateway.stop()
    gateway.configure(BASELINE, column="pressure")
    flow_bundle(gateway.bundle, 2, channel="pressure")
    truncate(gateway.bundle)
    gateway.start()
    assert not gateway.stream()["watched"]
    why = gateway.stream()["refused"]["why"]
    assert "; its previous bundle cannot run either: input" in why
    assert "; its baseline cannot run either: input" in why


def test_check_says_early_that_a_baseline_could_not_stand_in(gateway: Gateway) -> None:
    gateway.configure(BASELINE.replace('"flow"', '"pressure"'))
    checked = printed(gateway, "check")
    assert "FAIL  stream pump: its baseline cannot replace the bundle: input" in checked
    gateway.configure(BASELINE)
    assert "ok    stream pump: flow version 1, not signed" in printed(gateway, "check")


def test_the_agent_ends_with_65_only_if_no_stream_can_run(
    gateway: Gateway, start_agent: StartAgent
) -> None:
    gateway.configure(fan=False)
    truncate(gateway.bundle)
    agent = start_agent(gateway.config)
    assert agent.process is not None
    assert agent.process.wait(60) == 65
    assert "no stream can run" in agent.log()
    assert "truncated or altered" in agent.log()


@pytest.fixture
def key(gateway: Gateway) -> Path:
    """A secret key; the gateway trusts the public one."""
    (directory := gateway.directory / "trusted").mkdir()
    secret = gateway.directory / "ops.key"
    new_key(secret).rename(directory / "ops.pub")
    gateway.configure(top='[keys]\ndirectory = "trusted"\n')
    return secret


def test_the_status_says_who_signed_what_runs(gateway: Gateway, key: Path) -> None:
    flow_bundle(gateway.bundle, 1, key)
    gateway.start()
    key_id = read_keyring(gateway.directory / "trusted").keys[0].key_id.hex()
    signer = {"key_id": key_id, "comment": "flow version 1"}
    assert gateway.stream()["signer"] == signer
    assert gateway.stream("fan")["signer"] is None
    assert f"signed by key {key_id} (flow version 1)" in printed(gateway, "status")

    gateway.stop()
    gateway.bundle.unlink()
    gateway.start()
    assert gateway.stream()["signer"] == signer  # of the copy


def test_a_copy_that_is_revoked_does_not_run_either(gateway: Gateway, key: Path) -> None:
    bundle = flow_bundle(gateway.bundle, 1, key)
    gateway.start()
    gateway.stop()
    (gateway.directory / "trusted" / "revoked").write_text(f"bundle {bundle.digest} wrong unit\n")
    gateway.start()
    assert not gateway.stream()["watched"]
    assert gateway.stream()["refused"]["why"].count("(wrong unit)") == 2


def test_an_older_bundle_runs_once_a_person_allows_it(gateway: Gateway, key: Path) -> None:
    flow_bundle(gateway.bundle, 2, key)
    gateway.start()
    gateway.stop()
    flow_bundle(gateway.bundle, 1, key)
    gateway.start()
    assert gateway.stream()["bundle"] == "flow version 2"
    assert "older than version 2" in gateway.stream()["refused"]["why"]
    assert "versions from 1 on" in printed(gateway, "allow-downgrade", "flow", "--to", "1")
    gateway.stop()
    agent = gateway.start()
    assert gateway.stream()["bundle"] == "flow version 1"
    assert gateway.stream()["refused"] is None
    assert f"runs again instead of version 2, as allowed by {USER}" in agent.log()


def test_copies_that_no_stream_needs_are_removed(gateway: Gateway) -> None:
    gateway.start()
    gateway.stop()
    [first] = gateway.kept("").glob("*.fieldwatch")
    written = first.stat()
    gateway.start()
    gateway.stop()
    assert first.stat().st_mtime_ns == written.st_mtime_ns
    gateway.kept("rest.fieldwatch.partial").touch()  # of a power cut
    second = flow_bundle(gateway.bundle, 2)
    gateway.start()
    gateway.stop()
    kept = {path.name for path in gateway.kept("").iterdir()}
    assert kept == {first.name, f"{second.digest}.fieldwatch", "ran.json"}  # a rival of the second
    third = flow_bundle(gateway.bundle, 3)
    gateway.start()
    gateway.stop()
    kept = {path.name for path in gateway.kept("").iterdir()}
    assert kept == {*(f"{one.digest}.fieldwatch" for one in (second, third)), "ran.json"}
    assert gateway.kept(f"{third.digest}.fieldwatch").read_bytes() == gateway.bundle.read_bytes()


def test_notes_that_cannot_be_read_cost_what_they_said_and_nothing_else(gateway: Gateway) -> None:
    gateway.start()
    gateway.stop()
    gateway.kept("ran.json").write_text('{"tried": [1], "floors": {}, "streams": {}}')
    agent = gateway.start()
    assert "the record of which bundles ran is lost" in agent.log()
    assert list(gateway.ran()["streams"]) == ["pump"]
