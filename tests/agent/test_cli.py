"""The command line: what it prints, and the code it ends with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from agent.alarms.document import describe, gravest_first
from agent.cli import FAULTS, commands
from agent.commands.follow import Followed
from agent.commands.life import life
from agent.inputs import plant
from agent.store.batch import Batch
from agent.store.migrations import READINGS
from agent.store.reader import Reader
from agent.store.record import Outgoing
from agent.store.writer import Store
from models.errors import BundleError, DataError
from models.times import iso_time
from tests.conftest import ROOT, ZOO_BUNDLE, RealBroker


def call(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "pump.csv"
    faults = [plant.Fault("cavitation", 120.0, 30.0)]
    plant.simulate(path, 0.08, 21, faults)
    return path


def configure(directory: Path, port: int = 1) -> Path:
    (directory / "data").mkdir()
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[mqtt]
host = "127.0.0.1"
port = {port}
[[streams]]
name = "pump"
bundle = "{ZOO_BUNDLE}"
[[inputs]]
name = "line"
port = "/dev/does-not-exist"
stream = "pump"
columns = ["time", "flow", "motor_current"]
""")
    return config


def test_replay_prints_the_events_of_a_recording(recording: Path) -> None:
    outcome = json.loads(call("replay", recording, "--bundle", ZOO_BUNDLE, "--json").output)
    assert outcome["samples"] == 1440
    assert outcome["scored"] > 1000
    states = [event["state"] for event in outcome["events"] if event["kind"] == "anomaly"]
    assert states[:2] == ["opened", "closed"]
    text = call("replay", recording, "--bundle", ZOO_BUNDLE).output
    assert "pump #1 anomaly, severity " in text
    assert "1440 samples" in text
    assert outcome["absent"] == []
    assert "no column" not in text


def test_replay_reads_what_a_spreadsheet_wrote(recording: Path, tmp_path: Path) -> None:
    header, *rows = recording.read_text().splitlines()
    rows[5] = ",".join([rows[5].split(",")[0], "kaputt", *rows[5].split(",")[2:]])
    odd = tmp_path / "odd.csv"
    swapped = str.maketrans(",.", ";,")
    odd.write_text("".join(f"{line.translate(swapped)}\n" for line in [header, *rows]))
    command = ("replay", odd, "--bundle", ZOO_BUNDLE, "--json")
    usual = json.loads(call(*command).output)
    assert usual["rejected"] == {"not_a_number": 1}
    how = ("--separator", ";", "--decimal", ",", "--missing-words", "KAPUTT")
    told = json.loads(call(*command, *how).output)
    assert (told["samples"], told["rejected"]) == (1440, {"no_value": 1})
    assert isinstance(call(*command, "--decimal", ".").exception, DataError)  # no number has one
    refused = call(*command, "--separator", "ab")
    assert refused.exit_code == 2
    assert "must be one character, no letter or digit; or tab" in refused.output


def test_replay_reads_a_date_and_a_time_of_day(recording: Path, tmp_path: Path) -> None:
    header, *rows = recording.read_text().splitlines()
    apart = tmp_path / "apart.csv"
    with apart.open("w") as file:
        file.write(header.replace("time", "Datum,Uhrzeit") + "\n")
        for row in rows:
            time, _, values = row.partition(",")
            date, _, clock = iso_time(float(time)).partition("T")
            file.write(f"{date},{clock},{values}\n")
    columns = ("--time-column", "Datum", "--clock-column", "Uhrzeit")
    usual, told = (
        json.loads(call("replay", path, "--bundle", ZOO_BUNDLE, "--json", *how).output)
        for path, how in ((recording, ()), (apart, columns))
    )
    of_the_stream = ("stream", "title", "text")
    for event in (*told["events"], *usual["events"]):
        assert event["stream"] in str(event["text"])
        for key in of_the_stream:
            del event[key]
    assert told["events"] == usual["events"] != []
    refused = call("replay", apart, "--bundle", ZOO_BUNDLE, "--time-column", "Zeit")
    assert "no column 'Zeit'" in str(refused.exception)
    assert "it needs Zeit and channels" in str(refused.exception)


def test_replay_reads_the_hour_that_a_clock_shows_twice(recording: Path, tmp_path: Path) -> None:
    header, *rows = recording.read_text().splitlines()
    berlin, autumn_s = ZoneInfo("Europe/Berlin"), 1_761_440_400.0  # 2025-10-26, 03:00 becomes 02:00
    local = tmp_path / "local.csv"
    shift_s = autumn_s - float(rows[len(rows) // 2].split(",")[0])

    def write(some: list[str]) -> None:
        with local.open("w") as file:
            file.write(f"{header}\n")
            for row in some:
                time, _, values = row.partition(",")
                moment = datetime.fromtimestamp(float(time) + shift_s, berlin)
                file.write(f"{moment:%Y-%m-%d %H:%M:%S.%f},{values}\n")

    write(rows)
    command = ("replay", local, "--bundle", ZOO_BUNDLE, "--json", "--time-zone", "Europe/Berlin")
    usual = json.loads(call("replay", recording, "--bundle", ZOO_BUNDLE, "--json").output)
    told = json.loads(call(*command).output)
    for key in ("samples", "scored", "rejected"):
        assert told[key] == usual[key]
    assert [event["number"] for event in told["events"]] == [e["number"] for e in usual["events"]]
    half = len(rows) // 2
    write([*rows[:half], *rows[half - 40 : half - 20], *rows[half:]])
    assert "shows this hour twice" in str(call(*command).exception)


def test_replay_says_which_channels_the_recording_does_not_have(
    recording: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(recording.read_text().replace("flow", "Flow [m3/h]", 1))
    words = ("replay", other, "--bundle", ZOO_BUNDLE)
    assert "warning: the recording has no column for flow\n" in call(*words).output
    assert json.loads(call(*words, "--json").output)["absent"] == ["flow"]


LIMIT = """
[[streams.limits]]
channel = "flow"
low_warning = 95
action = "open the valve"
"""


def guarded(directory: Path, limit: str = LIMIT) -> Path:
    config = configure(directory)
    config.write_text(config.read_text().replace("[[inputs]]", limit + "[[inputs]]"))
    return config


def test_replay_guards_the_limits_of_a_configuration(recording: Path, tmp_path: Path) -> None:
    given = ("replay", recording, "--bundle", ZOO_BUNDLE)
    without = json.loads(call(*given, "--json").output)["events"]
    config = guarded(tmp_path)
    for more in ((), ("--stream", "pump")):
        found = json.loads(call(*given, "--limits", config, *more, "--json").output)["events"]
        passed = [event for event in found if event["limit"]]
        assert passed[0]["kind"] == "limit_passed"
        assert passed[0]["action"] == "open the valve"
        assert passed[0]["opened"] == recording_starts(recording)
        assert [(e["kind"], e["onset"], e["state"]) for e in found if not e["limit"]] == [
            (e["kind"], e["onset"], e["state"]) for e in without
        ]
        assert found == sorted(found, key=lambda event: event["closed"] or event["opened"])
    assert (
        ": flow below 95 m3/h (warning limit): lowest " in call(*given, "--limits", config).output
    )


def recording_starts(recording: Path) -> str:
    first_s = float(recording.read_text().splitlines()[1].partition(",")[0])
    return iso_time(first_s)


def test_replay_does_not_guess_which_limits_are_meant(recording: Path, tmp_path: Path) -> None:
    given = ("replay", recording, "--bundle", ZOO_BUNDLE)
    config = guarded(tmp_path)
    assert call(*given, "--stream", "pump").exit_code == 2
    assert "did you mean 'pump'" in str(
        call(*given, "--limits", config, "--stream", "pmp").exception
    )
    config.write_text(config.read_text().replace('"flow"\nlow', '"flwo"\nlow'))
    assert "did you mean 'flow'" in str(call(*given, "--limits", config).exception)
    other = f'[[streams]]\nname = "fan"\nbundle = "{ZOO_BUNDLE}"\n'
    other += '[[inputs]]\nname = "b"\nport = "/dev/b"\nstream = "fan"\ncolumns = ["flow"]\n'
    config.write_text(config.read_text() + other)
    assert "several streams, name one: pump, fan" in str(call(*given, "--limits", config).exception)


def test_replay_ignores_columns_it_does_not_know_and_counts_bad_lines(
    recording: Path, tmp_path: Path
) -> None:
    header, *rows = recording.read_text().splitlines()
    odd = tmp_path / "odd.csv"
    odd.write_text(
        "\n".join([f"note,{header}", *(f"fine,{row}" for row in rows[:100]), "fine,x,1", ""])
    )
    outcome = json.loads(call("replay", odd, "--bundle", ZOO_BUNDLE, "--json").output)
    assert outcome["samples"] == 100
    assert sum(outcome["rejected"].values()) == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (0, "no rows below the header"),
        (20, "it has 20 samples, and the first 50 after a start or a gap get no score"),
        (-20, "none of its 20 rows is scored; 20 bad_time; the last, bad_time: soon,"),
    ],
)
def test_replay_of_what_gives_no_score_fails_with_the_reason(
    recording: Path, tmp_path: Path, rows: int, said: str
) -> None:
    header, *there = recording.read_text().splitlines()
    used = there[: abs(rows)]
    if rows < 0:
        used = ["soon," + row.partition(",")[2] for row in used]
    (tmp_path / "short.csv").write_text("\n".join([header, *used, ""]))
    outcome = call("replay", tmp_path / "short.csv", "--bundle", ZOO_BUNDLE)
    assert isinstance(outcome.exception, DataError)
    assert said in str(outcome.exception)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "time,colour\n1,2\n"])
def test_replay_refuses_a_recording_without_the_channels(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.csv").write_text(text)
    error = call("replay", tmp_path / "odd.csv", "--bundle", ZOO_BUNDLE).exception
    assert "it needs time and" in str(error)


def test_check_finds_each_trouble_and_ends_with_the_first_ones_code(
    tmp_path: Path, broker: RealBroker
) -> None:
    config = configure(tmp_path, broker.port)
    outcome = CliRunner().invoke(commands, ["check", "--config", str(config), "--json"])
    findings = {finding["what"]: finding for finding in json.loads(outcome.output)}
    assert findings["stream pump"]["ok"]
    assert not findings["input line"]["ok"]
    assert "/dev/does-not-exist does not exist" in findings["input line"]["detail"]
    assert findings[f"store {tmp_path / 'data'}"]["ok"]
    assert findings[f"broker 127.0.0.1:{broker.port}"]["ok"]
    assert main("check", "--config", config).returncode == 69


def test_check_says_which_files_every_user_can_read(tmp_path: Path) -> None:
    config, database = configure(tmp_path), tmp_path / "data" / READINGS
    database.touch()
    for mode, said in (0o640, False), (0o644, True):
        database.chmod(mode)
        assert (
            f"every user can read {database}" in main("check", "--config", config).stdout
        ) == said


def test_check_reports_a_wrong_configuration_and_a_missing_bundle(tmp_path: Path) -> None:
    config = configure(tmp_path)
    config.write_text(config.read_text().replace(str(ZOO_BUNDLE), "gone.fieldwatch"))
    ended = main("check", "--config", config)
    assert ended.returncode == BundleError.exit_code
    assert "gone.fieldwatch: no such bundle" in ended.stdout
    assert "broker 127.0.0.1:1" in ended.stdout
    config.write_text(config.read_text().replace("site =", "sight ="))
    ended = main("check", "--config", config)
    assert ended.returncode == 78
    assert "did you mean 'site'" in ended.stdout


def main(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["status", "--config", "/nowhere.toml"], 78, "/nowhere.toml: cannot be read"),
        (["bundle", "verify", "/nowhere"], 65, "/nowhere: no such bundle"),
        (["alarms", "--limit", "0"], 2, "Usage"),
        (["replay", "/nowhere.csv", "--bundle", str(ZOO_BUNDLE)], 65, "/nowhere.csv"),
    ],
)
def test_trouble_is_one_line_and_a_code(arguments: list[str], code: int, says: str) -> None:
    ended = main(*arguments)
    assert ended.returncode == code
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_bundle_inspect_and_verify_show_what_it_is() -> None:
    verified = call("bundle", "verify", ZOO_BUNDLE).output
    document = json.loads(call("bundle", "inspect", ZOO_BUNDLE, "--json").output)
    assert document["digest"] in verified
    assert document["name"] == "pump"
    inspected = call("bundle", "inspect", ZOO_BUNDLE).output
    assert "vibration_x" in inspected
    assert document["digest"] in inspected
    assert (
        f"evaluated      {document['evaluated_digest']}: the file that was evaluated" in inspected
    )
    assert document["evaluated"] is True


ALARM: dict[str, Any] = {
    "stream": "pump",
    "number": 1,
    "kind": "anomaly",
    "state": "opened",
    "onset": "2026-01-01T00:00:00.000Z",
    "opened": "2026-01-01T00:00:01.000Z",
    "closed": None,
    "score": 2.5,
    "probability": 1e-05,
    "severity": "medium",
    "action": "look",
    "channels": [
        {"channel": "flow", "unit": "m3/h", "score": 2.5, "observed": 43.21, "expected": 50.06}
    ],
}


def test_open_alarms_are_listed_gravest_first() -> None:
    old = {key: value for key, value in ALARM.items() if key not in ("severity", "probability")}
    rare = {"severity": "high", "probability": 1e-7}
    alarms = [
        old,
        ALARM | {"number": 2, "probability": None},
        ALARM | {"number": 3},
        ALARM | rare | {"number": 4},
        ALARM | rare | {"number": 5, "score": 9.0},
    ]
    assert [alarm["number"] for alarm in gravest_first(alarms)] == [5, 4, 3, 2, 1]
    assert "#4 anomaly (score 2.5), severity high, since " in describe(alarms[3])
    assert "#1 anomaly (score 2.5)" in describe(old)
    assert "pump (not stored yet) anomaly" in describe(old | {"number": None})


def test_alarms_lists_what_the_store_has(tmp_path: Path) -> None:
    config = configure(tmp_path)
    store = Store(tmp_path / "data", "plant", "gw-1", 100, 100)
    store.open()
    closed = ALARM | {"number": 2, "state": "closed", "closed": "2026-01-01T00:01:00.000Z"}
    store.commit(Batch(alarms=[ALARM, closed], messages=[Outgoing("health", None, 0, {})]), "x")
    store.close()
    said = call("alarms", "--config", config).output
    assert said.index("NOT ACKNOWLEDGED: 1\n") < said.index("pump#1 ") < said.index("OVER: 1\n")
    assert said.index("OVER: 1\n") < said.index("pump#2 ")
    only = json.loads(call("alarms", "--config", config, "--open", "--json").output)
    assert [alarm["number"] for alarm in only["alarms"]] == [1]


def test_alarms_shows_the_newest_values_that_the_status_has(tmp_path: Path) -> None:
    config = configure(tmp_path)
    (flow,) = ALARM["channels"]
    first = {"worst_at": ALARM["opened"], "newest_at": ALARM["opened"]}
    alarm = ALARM | first | {"channels": [flow | {"newest": 43.21}]}
    later = {"newest_at": "2026-01-01T00:00:40.000Z", "channels": [flow | {"newest": 47.5}]}
    life = {"running": False, "updated": "2026-01-01T00:00:40.000Z"}
    shown = json.dumps(life | {"streams": {"pump": {"open_alarms": [alarm | later]}}})
    store = Store(tmp_path / "data", "plant", "gw-1", 100, 100)
    store.open()
    store.commit(Batch(alarms=[alarm], status=lambda: shown), "x")
    store.close()
    said = call("alarms", "show", "1", "--utc", "--config", config).output
    assert "newest     01 Jan 2026 00:00:40 UTC\n" in said
    assert re.search(r"flow m3/h +43.21 +50.06 +47.5  100 %\n", said)


def test_an_alarm_reads_as_a_person_would_say_it() -> None:
    assert describe(ALARM) == (
        "pump #1 anomaly (score 2.5), severity medium, since 2026-01-01T00:00:00.000Z, still open:"
        " flow 43.21 m3/h, expected 50.06. To do: look"
    )
    (flow,) = ALARM["channels"]
    later = {"worst_at": "2026-01-01T00:00:09.000Z", "newest_at": "2026-01-01T00:00:40.000Z"}
    later |= {"channels": [flow | {"newest": 47.5}, flow | {"channel": "level", "newest": None}]}
    assert describe(ALARM | later) == (
        "pump #1 anomaly, severity medium, since 2026-01-01T00:00:00.000Z, still open; at its"
        " worst, 2026-01-01T00:00:09.000Z (score 2.5): flow 43.21 m3/h, expected 50.06;"
        " level 43.21 m3/h, expected 50.06; newest, 2026-01-01T00:00:40.000Z: flow 47.5 m3/h,"
        " level no value. To do: look"
    )
    assert "; newest" not in describe(ALARM | later | {"newest_at": later["worst_at"]})
    over = {"state": "closed", "closed": "2026-01-01T00:00:40.000Z"}
    assert "; when it closed: flow 47.5 m3/h" in describe(ALARM | later | over)
    missing = {"channel": "flow", "unit": "m3/h", "score": 1, "observed": None, "expected": 50.1}
    bare = {"channels": [flow | {"unit": ""}]}
    assert "flow 43.21, expected 50.06." in describe(ALARM | bare)
    assert "flow no value" in describe(ALARM | {"kind": "missing", "channels": [missing]})


def test_the_faults_of_the_demo_are_the_plants() -> None:
    assert (*plant.FAULT_KINDS, *plant.SLOW_KINDS) == FAULTS


def test_every_command_says_what_it_does() -> None:
    listing = call("--help").output
    for name, command in commands.commands.items():
        assert name in listing
        assert command.help
        assert call(name, "--help").exit_code == 0


def test_simulate_writes_a_recording_with_labels(tmp_path: Path) -> None:
    assert call("simulate", tmp_path / "p.csv", "--hours", "0.05", "--faults").exit_code == 0
    assert (tmp_path / "p.labels.csv").read_text().startswith("start,end,kind\n")


def test_following_shows_each_alarm_as_it_opens_and_as_it_closes(tmp_path: Path) -> None:
    store = Store(tmp_path, "plant", "gw-1", 100, 100)
    store.open()
    store.commit(Batch(alarms=[ALARM]), "synced")
    with Reader(tmp_path) as reader:
        followed = Followed(reader, reader.alarms(10)).changes(life(reader), poll_s=0.001)
        store.commit(Batch(alarms=[ALARM | {"number": 2}]), "synced")
        opened = next(followed)
        assert isinstance(opened, dict)
        assert opened["number"] == 2
        store.commit(Batch(alarms=[ALARM | {"state": "closed"}]), "synced")
        closed = next(followed)
        assert isinstance(closed, dict)
        assert (closed["number"], closed["state"]) == (1, "closed")
    store.close()


@pytest.mark.parametrize("words", [["--limit", "1"], ["--open"]])
def test_following_calls_no_old_alarm_news(tmp_path: Path, words: list[str]) -> None:
    config = configure(tmp_path)
    store = Store(tmp_path / "data", "plant", "gw-1", 100, 100)
    store.open()
    old = [ALARM | {"number": n, "state": "closed"} for n in (1, 2)]
    store.commit(Batch(alarms=[*old, ALARM | {"number": 3}]), "synced")
    command = [sys.executable, "-m", "agent", "alarms", "--follow", "--json", *words]
    with subprocess.Popen(
        [*command, "--config", config], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as following:
        try:
            assert following.stdout is not None
            assert json.loads(following.stdout.readline())["number"] == 3
            assert "agent" in json.loads(following.stdout.readline())
            store.commit(Batch(alarms=[ALARM | {"number": 4}]), "synced")
            assert json.loads(following.stdout.readline())["number"] == 4
        finally:
            following.kill()
    store.close()


@pytest.mark.parametrize("site", ["+", "#", "", "a/b", "$SYS", "a b", "x" * 65, "a\x1b[2J"])
def test_a_collector_of_a_site_that_no_gateway_can_have_is_refused(
    tmp_path: Path, site: str
) -> None:
    """The wildcard would collect, and acknowledge, what is other sites'."""
    words = ["-m", "agent", "collect", str(tmp_path), "--host", "127.0.0.1", "--site", site]
    ended = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert ended.returncode == 78
    assert "allowed are 1 to 64 letters" in ended.stderr
    assert "\x1b" not in ended.stderr
    assert not list(tmp_path.iterdir())
