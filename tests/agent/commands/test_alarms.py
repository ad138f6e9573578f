"""The commands ``alarms`` and ``alarms show`` for people: what stands where, width, times."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from agent.alarms.names import reported
from agent.alarms.points import Labelled
from agent.cli import commands
from agent.commands.alarms import listed
from agent.commands.alarms.listed import Reference, parse_reference
from agent.commands.alarms.moments import Moments, lasting
from agent.handling.transition import REASON_CHARS_MAX
from agent.store.batch import Batch
from agent.store.reader import Reader
from models.cells import columns
from models.columns import Sought
from models.messages import HELD, Samples
from tests.conftest import ROOT
from tests.kept_rig import LONG, ONSET, ONSET_S, Kept, alarm
from trainer.config import ColumnTable
from trainer.datasets import Label
from trainer.datasets.labels import read_labels
from trainer.datasets.recordings import read_recording

WIDTH = 80


def assert_in_order(said: str, words: list[str]) -> None:
    at = 0
    for one in words:
        at = said.find(one, at)
        assert at >= 0, one


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    made = Kept(tmp_path)
    yield made
    made.store.close()
    monkeypatch.undo()
    time.tzset()


def test_what_needs_somebody_comes_first_in_sections_of_80_columns(kept: Kept) -> None:
    gap = alarm(9, kind="gap", state="closed", channels=[], action="the device sent nothing")
    low, high = alarm(1, severity="low"), alarm(2, LONG)
    seen, put_aside = alarm(3, "fan"), alarm(4, "mill")
    kept.take(low, high, seen, put_aside, gap, alarm(5, "saw"), alarm(5, "saw", "closed"))
    kept.take(alarm(6, "lathe"), alarm(6, "lathe", "closed"))
    kept.ask("acknowledged", seen)
    kept.ask("acknowledged", alarm(6, "lathe", "closed"))
    kept.ask("shelved", put_aside, why="noon", seconds=3600.0, until_clear=True)
    said = kept.call().output
    assert max(map(len, said.splitlines()[:-1])) <= WIDTH  # the last says that nothing watches
    order = [
        *("Times are CET (UTC+01:00)", "NOT ACKNOWLEDGED: 3\n", f"{LONG}#2.1\n", "high", "saw#5.2"),
        *(
            "pump#1.1",
            "low",
            "\nACKNOWLEDGED: 1\n",
            "fan#3.2",
            "SHELVED, SUPPRESSED, OUT OF",
            "mill#4.2",
        ),
        *(
            "OVER: 1\n",
            "lathe#6.3",
            "INTERRUPTIONS",
            "no samples from 14 Nov 2023 to 14 Nov 2023 (10 min)\n",
            "To do: the device",
        ),
    ]
    assert_in_order(said, order)
    assert said.index("To do: look at the machine") < said.index("flow 9.5 m3/h, expected 12.25")
    assert "1 other channel" in " ".join(said.split())
    assert kept.call("--utc").output.startswith("Times are UTC.")
    only = json.loads(kept.call("--open", "--json").output)["alarms"]
    assert [(one["number"], one["handling"]["state"]) for one in only] == [
        (2, "UNACK"),
        (5, "RTNUN"),
        (1, "UNACK"),
        (3, "ACKED"),
        (4, "SHLVD"),
    ]


def test_an_old_alarm_that_waits_for_somebody_is_listed_whatever_the_limit(kept: Kept) -> None:
    kept.take(alarm(1, "old"), *(alarm(n, state="closed") for n in range(1, 5)))
    listed = json.loads(kept.call("--limit", "2", "--json").output)["alarms"]
    assert [(one["stream"], one["number"]) for one in listed] == [
        ("old", 1),
        ("pump", 4),
        ("pump", 3),
    ]


class Counting(Reader):
    """A reader that counts how often it reads the status, which has all streams."""

    times = 0

    def status(self) -> dict[str, Any]:
        self.times += 1
        return super().status()


def test_many_old_alarms_cost_one_look_at_the_status(kept: Kept) -> None:
    kept.take(*(alarm(1, f"mill-{n}") for n in range(40)))
    newest = {"streams": {f"mill-{n}": {"open_alarms": [alarm(1, f"mill-{n}")]} for n in range(40)}}
    kept.store.commit(Batch(status=lambda: json.dumps(newest)), "synced")
    with Counting(kept.config.parent / "data") as reader:
        assert len(listed.alarms(reader, 1, open_only=False)) == 40
        assert reader.times <= 2  # for the newest, and for all others


def test_wide_characters_stand_in_their_columns(kept: Kept) -> None:
    wide = [
        {"channel": name, "unit": "立方米", "score": 2.0, "observed": 9.5, "expected": 1.0}
        for name in ("流量" * 4, "压力", "flow")
    ]
    kept.take(alarm(1, channels=wide, action="检查泵 " * 30))
    for words in ([], ["show", "1"]):
        said = kept.call(*words).output.splitlines()[:-1]
        assert max(map(columns, said)) <= WIDTH
    rows = [row for row in said if "9.5" in row and "立方米" in row and "expected" not in row]
    assert len(rows) == 3
    assert {row.index("9.5") + sum(c in "流量压力立方米" for c in row) for row in rows} == {36}


def test_without_alarms_it_says_so(kept: Kept) -> None:
    assert kept.call().output.startswith("no alarms\n")
    kept.take(alarm(1), alarm(1, state="closed"))
    kept.ask("acknowledged", alarm(1, state="closed"))
    assert kept.call("--open").output.startswith("no alarm is open\n")
    assert json.loads(kept.call("--open", "--json").output)["alarms"] == []


def test_a_shelved_alarm_shows_whether_it_is_active_and_until_when(kept: Kept) -> None:
    kept.take(alarm(1, "fan"), alarm(1, "mill"))
    kept.ask("shelved", alarm(1, "fan"), why="noon", seconds=3600.0, until_clear=True)
    kept.ask("shelved", alarm(1, "mill"), why="noon", seconds=7200.0)
    kept.take(alarm(1, "mill", state="closed"))
    rows = kept.call().output.splitlines()
    for name, condition, until in (
        ("fan#1.2", "active", "Shelved until 15 Nov 2023 00:14:20 CET, or until it clears"),
        ("mill#1.3", "returned", "Shelved until 15 Nov 2023 01:14:20 CET"),
    ):
        (at,) = [at for at, row in enumerate(rows) if row.startswith(name)]
        assert rows[at].endswith(f" {condition}")
        assert rows[at + 1].strip() == until


@pytest.mark.parametrize(
    ("words", "onset"),
    [([], "14 Nov 2023 23:13:20 CET"), (["--utc"], "14 Nov 2023 22:13:20 UTC")],
)
def test_what_is_followed_has_the_times_of_the_list(
    kept: Kept, words: list[str], onset: str
) -> None:
    command = [sys.executable, "-m", "agent", "alarms", "--follow", *words]
    with subprocess.Popen(
        [*command, "--config", kept.config], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as following:
        try:
            assert following.stdout is not None
            assert "NOT WATCHING" in following.stdout.readline()
            kept.take(alarm(1, worst_at=ONSET, newest_at=ONSET))
            assert f"since {onset}, still open; at its worst, {onset}" in (
                following.stdout.readline()
            )
        finally:
            following.kill()


def test_the_second_shelving_in_a_row_is_counted(kept: Kept) -> None:
    one = alarm(1)
    kept.take(one)
    for times, said in ((1, "until it clears\n"), (2, "until it clears; 2 times in a row\n")):
        kept.ask("shelved", one, why="noon", seconds=3600.0, until_clear=True)
        assert said in kept.call("show", "1").output, times
        kept.ask("unshelved", one)


def test_while_a_value_is_back_everybody_is_told_to_wait(kept: Kept) -> None:
    limit = {"side": "high", "level": "critical", "value": 9.0, "unit": "m3/h", "worst": 9.5}
    limit |= {"worst_at": ONSET, "newest": 8.0, "newest_at": ONSET}
    limit |= {"back_since": ONSET, "off_delay_s": 90.0}
    kept.take(alarm(1, kind="limit_passed", limit=limit))
    for words in ([], ["show", "1"]):
        said = " ".join(kept.call(*words).output.split())
        assert "To do: wait: flow is back since 14 Nov 2023 23:13:20 CET, and" in said
        assert "has been back for 90 s. If it does not stay back: look at the machine" in said
    assert "measured values were beyond the limit" in " ".join(
        kept.call("show", "1").output.split()
    )


def test_an_alarm_is_shown_with_what_is_known_of_it(kept: Kept) -> None:
    pump = alarm(1, newest_at=ONSET, worst_at=ONSET)
    kept.take(pump)
    kept.ask("noted", pump, why="gauge shows 7.9 bar")
    kept.ask("acknowledged", pump, why="Tom cleans the strainer")
    kept.store.readings.history.describe({"pump": ("flow", "head", "torque")})
    samples = Samples(ONSET_S - 30 + np.arange(60.0), np.ones((60, 3), np.float32))
    kept.store.commit(Batch(samples=[("pump", samples, np.ones(60, np.float32))]), "synced")
    said = kept.call("show", "pump#1").output
    assert max(map(len, said.splitlines()[:-1])) <= WIDTH
    said = " ".join(said.split())
    order = [
        "pump#1.3: pump: flow lower than expected, for",
        "To do: look at the machine",
        "state acknowledged (ACKED)",
        "priority medium: severity medium, consequence major",
        "(1 is the threshold); normal operation reaches it in 1 of 1,000,000 samples",
        "onset 14 Nov 2023 23:13:20 CET",
        "torque m3/h",
        "33 %",
        "around the onset",
        "score (1 is the threshold)",
        "logbook",
        "#1 raised: now unacknowledged",
        "#1 note by maria (gauge shows 7.9 bar)",
        "#1 acknowledged by maria: now acknowledged (Tom cleans",
    ]
    assert_in_order(said, order)
    document = json.loads(kept.call("show", "1", "--json").output)["alarm"]
    assert [row["what"] for row in document["logbook"]] == ["raised", "noted", "acknowledged"]


def test_the_newest_label_of_each_alarm_is_listed_and_the_trainer_reads_the_faults(
    kept: Kept, tmp_path: Path
) -> None:
    closed = [alarm(number, state="closed") for number in range(1, 5)]
    still = alarm(5)
    kept.take(*(alarm(number) for number in range(1, 5)), *closed, still, alarm(1, "fan"))
    assert "no alarm has such a label yet" in kept.call("labels").output
    for one, label, why in (
        (closed[0], "false", None),
        (closed[0], "confirmed", 'cavitation, "heavy"'),
        (closed[1], "maintenance", None),
        (closed[2], "nothing-found", None),
        (closed[3], "false", None),
        (still, "confirmed", None),
        (alarm(1, "fan"), "confirmed", None),
    ):
        kept.ask("labelled", one, labelled=Labelled(label), why=why)
    listed = json.loads(kept.call("labels", "--json").output)["labels"]
    assert [(one["stream"], one["number"], one["label"]) for one in listed] == [
        ("pump", 1, "confirmed"),
        ("pump", 2, "maintenance"),
        ("pump", 3, "nothing-found"),
        ("pump", 4, "false"),
        ("pump", 5, "confirmed"),
        ("fan", 1, "confirmed"),
    ]
    assert "pump#1                 confirmed            14 Nov 2023" in kept.call("labels").output
    file = tmp_path / "pump.labels.csv"
    file.write_text(kept.call("labels", "--stream", "pump", "--csv").output)
    still_active = read_labels(file)[-1]
    assert read_labels(file) == [
        Label(ONSET_S, ONSET_S + 600, 'cavitation, "heavy"'),
        Label(ONSET_S, ONSET_S + 600, "maintenance", "maintenance"),
        Label(ONSET_S, ONSET_S + 600, "nothing-found", "nothing-found"),
        Label(ONSET_S, ONSET_S + 600, "false", "false"),
        still_active,
    ]
    assert still_active.end > ONSET_S + 600  # until the export
    only = json.loads(kept.call("labels", "--label", "false", "--json").output)["labels"]
    assert [(one["stream"], one["number"]) for one in only] == [("pump", 4)]
    assert kept.call("labels", "--csv").exit_code == 2


def test_a_fault_without_an_alarm_is_listed_with_its_own_time(kept: Kept) -> None:
    leak = Labelled("confirmed", ONSET_S - 500, ONSET_S - 400)
    kept.ask("labelled", reported("pump"), labelled=leak, why="leak")
    kept.ask("labelled", reported("pump"), labelled=leak._replace(label="false"), why="no leak")
    kept.ask("labelled", reported("pump"), labelled=leak._replace(end=ONSET_S - 300), why="bearing")
    (first, second) = json.loads(kept.call("labels", "--json").output)["labels"]
    assert (first["label"], first["why"]) == ("false", "no leak")  # it replaced the first
    assert (second["number"], second["why"]) == (0, "bearing")
    assert "pump (no alarm)        confirmed            14 Nov 2023" in kept.call("labels").output
    assert json.loads(kept.call("--json").output)["alarms"] == []
    words = ["labels", "export", "--stream", "pump", "--config", str(kept.config)]
    exported = CliRunner().invoke(commands, words).output
    assert exported.splitlines()[0] == "start,end,kind,label,by,at,stream,number"
    assert ",bearing,confirmed,maria," in exported


def test_the_readings_around_labels_are_a_recording_that_the_trainer_reads(
    kept: Kept, tmp_path: Path
) -> None:
    one, gone = alarm(1), reported("pump")
    kept.take(one, alarm(1, state="closed"))
    kept.ask("labelled", one, labelled=Labelled("false"))
    kept.ask("labelled", gone, labelled=Labelled("false", ONSET_S - 9e6, ONSET_S - 9e6))
    kept.store.readings.history.describe({"pump": ("flow", "head")})
    values = np.arange(1800, dtype=np.float32).reshape(900, 2)
    quality = np.zeros((900, 2), np.uint8)
    quality[100, 1] = HELD
    samples = Samples(np.arange(900, dtype=np.float64) + ONSET_S - 100, values, quality)
    scores = np.ones(900, np.float32)
    for begin, end in ((0, 400), (400, 900)):
        part = samples.part(begin, end)
        kept.store.commit(Batch(samples=[("pump", part, scores[begin:end])]), "synced")
    words = ["labels", "export", "--stream", "pump", "--config", str(kept.config)]
    words += ["--windows", str(tmp_path / "w.csv"), "--around-s", "60"]
    ended = CliRunner().invoke(commands, words)
    assert "w.csv: 721 samples around 2 labels; no reading is stored any more of pump#0" in (
        ended.output
    )
    sought = Sought(("time",), [("flow",), ("head",)])
    ranges = [ColumnTable(name="flow"), ColumnTable(name="head")]
    read = read_recording(tmp_path / "w.csv", sought, ranges).readings
    assert read.times.tolist() == [ONSET_S - 60 + at for at in range(721)]  # 600 s and 2 * 60 s
    expected = values[40:761].copy()
    expected[60, 1] = np.nan
    np.testing.assert_array_equal(read.values, expected)


def test_what_is_not_explained_is_asked_again_until_it_has_another_label(kept: Kept) -> None:
    one = alarm(1)
    kept.take(one, alarm(1, state="closed"))
    kept.ask("labelled", one, labelled=Labelled("nothing-found", ask_again=time.time() + 9000))
    assert "look again" not in kept.call().output
    kept.ask("labelled", one, labelled=Labelled("nothing-found", ask_again=ONSET_S))
    assert "Nothing was found yet, so look again, and label it: pump#1" in kept.call().output
    assert "look at it again from 14 Nov 2023 23:13:20 CET on" in kept.call("labels").output
    kept.ask("labelled", one, labelled=Labelled("false"))
    assert "look again" not in kept.call().output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["label", "1", "perhaps"], "the last word must be one of confirmed"),
        (["label", "confirmed"], "name one ALARM, or a time with --stream and --from"),
        (["label", "--stream", "pump", "confirmed"], "name one ALARM, or a time"),
        (["label", "1", "--stream", "pump", "--from", "-3h", "confirmed"], "name one ALARM"),
        (["label", "1", "--to", "-3h", "confirmed"], "--to needs --from"),
        (["label", "1", "--from", "-3h", "--to", "-4h", "confirmed"], "must be after the begin"),
    ],
)
def test_a_label_that_cannot_be_understood(kept: Kept, words: list[str], says: str) -> None:
    ended = kept.call(*words)
    assert ended.exit_code == 2
    assert says in ended.output


def test_a_number_that_several_streams_have_is_asked_back(kept: Kept) -> None:
    kept.take(alarm(1, "a"), alarm(1, "b"))
    for words, says in (
        (("show", "1"), "several streams have an alarm 1; name one: a#1, b#1"),
        (("show", "2"), "there is no alarm 2"),
        (("show", "a#2"), "a has no alarm 2"),
    ):
        ended = kept.call(*words)
        assert says in str(ended.exception)
    assert kept.call("show", "b#1").output.startswith("b#1.1: b: flow lower")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("3", Reference(None, 3, None)),
        ("3.7", Reference(None, 3, 7)),
        ("pump-1.a#3", Reference("pump-1.a", 3, None)),
        ("pump-1.a#3.7", Reference("pump-1.a", 3, 7)),
    ],
)
def test_an_alarm_is_named_as_in_the_list(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize("text", ["", "x", "#3", "3.", "pump", "pump#", "a b#3", "3" * 20, "-1"])
def test_other_words_name_no_alarm(text: str) -> None:
    with pytest.raises(ValueError, match="first column"):
        parse_reference(text)


@pytest.mark.parametrize("hours", ["nan", "0", "169"])
def test_hours_are_a_number_within_their_bounds(kept: Kept, hours: str) -> None:
    refused = kept.call("shelve", "1", "--reason", "noon", "--hours", hours)
    assert refused.exit_code == 2
    assert "Invalid value for '--hours'" in refused.output


def test_ages_are_in_words_and_a_broken_time_is_none() -> None:
    assert [lasting(s) for s in (-5, 59, 60, 3600, 90_000, 200_000)] == [
        "under 1 min",
        "under 1 min",
        "1 min",
        "1 h",
        "1 day",
        "2 days",
    ]
    moments = Moments(datetime(2026, 1, 1, tzinfo=UTC), True)
    assert (moments.brief("x"), moments.full(None), moments.age("x")) == ("-", "-", "-")
    assert moments.brief("2025-12-31T08:00:00.000Z") == "31 Dec 2025"


@pytest.mark.parametrize(
    "words",
    [
        *(("ack", "1", "--reason"), ("unack", "1", "--reason"), ("reset", "1", "--reason")),
        *(("shelve", "1", "--reason"), ("unshelve", "1", "--reason"), ("note", "1")),
        *(("out-of-service", "1", "--reason"), ("in-service", "1", "--reason")),
        ("label", "1", "confirmed", "--reason"),
    ],
)
def test_a_reason_that_is_too_long_is_refused_before_anything_is_asked(
    kept: Kept, words: tuple[str, ...]
) -> None:
    refused = kept.call(*words, "x" * (REASON_CHARS_MAX + 1))
    assert refused.exit_code == 2
    assert "it has 501 characters; shorten it to at most 500" in refused.output
    kept.take(alarm(1))
    assert "no agent answers" in str(kept.call(*words, "x" * REASON_CHARS_MAX).exception)
