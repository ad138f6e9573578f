"""What people, programs and central ops get of an alarm's window."""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.alarms.points import Labelled
from agent.cli import commands
from agent.dialects import answered
from agent.remote import samples as remote
from agent.store.batch import Batch
from agent.store.window import Window
from models.cells import columns
from models.columns import Sought
from models.messages import HELD, MISSING, Samples
from models.times import iso_time
from tests.kept_rig import ONSET_S, Kept, alarm
from trainer.config import ColumnTable
from trainer.datasets.recordings import read_recording

BEFORE, AFTER = 100, 80
COUNT = BEFORE + AFTER
NAMES = ("flow", "head")


def windowed(**more: Any) -> Window:
    """Ten times the flow from the onset on, for 40 s; the head is never measured."""
    flow = [10.0] * BEFORE + [100.0] * 40 + [10.0] * (AFTER - 40)
    flow[50] = float("nan")
    score = [0.5] * BEFORE + [20.0] * 40 + [0.5] * (AFTER - 40)
    times = [ONSET_S - BEFORE + at for at in range(COUNT)]
    head = [3.0] * COUNT
    return Window(
        "pump",
        1,
        1,
        0,
        NAMES,
        array("d", times).tobytes(),
        array("f", flow + head).tobytes(),
        array("f", [10.5] * COUNT + [float("nan")] * COUNT).tobytes(),
        array("f", score).tobytes(),
        bytes([0] * COUNT + [2] * COUNT),
    )._replace(**more)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.store.close()


def keep(kept: Kept, one: dict[str, Any], window: Window) -> None:
    kept.take(one)
    kept.store.commit(Batch(windows={("pump", one["number"]): window}), "synced")


def shown(kept: Kept, *words: str) -> list[str]:
    said = kept.call("show", "pump#1", "--utc", *words).output.splitlines()
    begin = next(at for at, text in enumerate(said) if "2023 22:11:40" in text)
    end = next(at for at in range(begin, len(said)) if "^" in said[at] or "< " in said[at])
    drawn = said[begin : end + 1]
    assert max(map(columns, drawn)) <= 80
    assert all(text.isprintable() for text in drawn)
    return drawn


def test_people_see_observed_expected_score_threshold_and_onset(kept: Kept) -> None:
    keep(kept, alarm(1), windowed())
    said = shown(kept)
    assert said[0] == "around the onset: 14 Nov 2023 22:11:40 UTC to 14 Nov 2023 22:14:39 UTC"
    flow, head, score = (said[at : at + 6] for at in (1, 7, 13))
    assert flow[0] == "  flow m3/h: * observed, - expected, + both"
    onset = said[-1].index("^")
    assert said[-1] == f"{'':{onset}}^ onset"
    assert onset == 13 + BEFORE * 64 // COUNT
    assert flow[1].startswith("         100 ")
    assert flow[5].startswith("          10 +++++++")
    fault = slice(onset + 1, onset + 40 * 64 // COUNT - 1)
    assert set(flow[1][fault]) == {"*"}
    assert set(flow[5][fault]) == {"-"}
    assert set(flow[1][13:onset]) == {" "}
    assert {line[onset] for line in flow[1:5]} == {"*"}  # both values
    assert head[1][onset] == head[5][onset] == "|"
    assert head[0].startswith("  head m3/h:")
    assert [line.count("*") for line in head[1:]] == [0, 0, 64, 0, 0]
    assert score[0] == "  score, logarithmic: * score, = threshold"
    (level,) = (line for line in score[1:] if line.startswith("           1 "))
    assert set(level[13:onset]) == {"="}
    assert set(score[1][fault]) == {"*"}
    assert len(said) == 1 + 3 * 6 + 1


def test_it_is_drawn_in_the_language_of_the_reader(kept: Kept) -> None:
    keep(kept, alarm(1), windowed(to_come=7))
    said = "\n".join(shown(kept, "--language", "de"))
    assert "das Bild wächst noch: 7 Messungen fehlen" in said
    assert "* gemessen, - erwartet" in said
    assert "        10,5" in said or "          10 " in said
    assert said.endswith("^ Beginn")


def test_a_limit_is_drawn_and_a_stream_without_scores_has_no_score(kept: Kept) -> None:
    limit = {"side": "high", "level": "critical", "value": 80.0, "unit": "m3/h", "worst": 100.0}
    limit |= {"worst_at": iso_time(ONSET_S), "newest": 100.0, "newest_at": iso_time(ONSET_S)}
    channels = [{"channel": "flow", "unit": "m3/h", "score": 1, "observed": 100, "expected": None}]
    none = array("f", [float("nan")] * COUNT).tobytes()
    one = alarm(1, kind="limit_passed", limit=limit, channels=channels)
    keep(kept, one, windowed(score=none, expected=none * 2))
    said = shown(kept)
    assert said[1] == "  flow m3/h: * observed, - expected, + both, = limit"
    (level,) = (line for line in said if line.startswith("          80 "))
    assert level.count("=") == 63  # in one column the flow rises
    assert not any("score" in line for line in said)


def test_a_silence_shows_the_first_channels_and_its_break(kept: Kept) -> None:
    times = [ONSET_S - BEFORE + at + (5000 if at >= BEFORE else 0) for at in range(COUNT)]
    silent = alarm(1, kind="silent", channels=[], opened=iso_time(ONSET_S + 30))
    keep(kept, silent, windowed(times=array("d", times).tobytes()))
    said = shown(kept)
    assert said[1].startswith("  flow: ")
    assert said[7].startswith("  head: ")


def test_an_onset_before_the_window_or_a_single_sample_is_drawn_too(kept: Kept) -> None:
    keep(kept, alarm(1, onset=iso_time(ONSET_S - 1000)), windowed())
    assert shown(kept)[-1].endswith("< onset")
    one = windowed(
        number=2,
        last=2,
        times=array("d", [ONSET_S]).tobytes(),
        observed=array("f", [5.0, 1.0]).tobytes(),
        expected=array("f", [5.0, 1.0]).tobytes(),
        score=array("f", [float("nan")]).tobytes(),
        quality=bytes(2),
    )
    keep(kept, alarm(2), one)
    assert "           5 +" in kept.call("show", "pump#2").output


def test_without_a_window_the_history_is_drawn_as_before(kept: Kept) -> None:
    kept.take(alarm(1, channels=alarm(1)["channels"][:2]))
    kept.store.readings.history.describe({"pump": NAMES})
    samples = Samples(
        np.arange(60.0) + ONSET_S - 30, np.arange(120, dtype=np.float32).reshape(60, 2)
    )
    kept.store.commit(Batch(samples=[("pump", samples, np.ones(60, np.float32))]), "synced")
    said = kept.call("show", "pump#1").output
    assert "around the onset" in said
    assert "= threshold" not in said


def test_programs_get_how_much_there_is_and_all_of_it_if_they_ask(kept: Kept) -> None:
    keep(kept, alarm(1), windowed())
    about = json.loads(kept.call("show", "pump#1", "--json").output)["window"]
    assert about["samples"] == COUNT
    assert "channels" not in about
    full = json.loads(kept.call("show", "pump#1", "--json", "--window").output)["window"]
    assert full.items() >= about.items()
    flow, head = full["channels"]
    assert (flow["channel"], flow["observed"][50], flow["observed"][BEFORE]) == (
        "flow",
        None,
        100.0,
    )
    assert head["expected"] == [None] * COUNT
    assert set(head["quality"]) == {"held"}
    assert len(full["times"]) == len(full["score"]) == COUNT
    kept.take(alarm(2, "fan"))
    assert json.loads(kept.call("show", "fan#2", "--json").output)["window"] is None
    assert kept.call("show", "pump#1", "--window").exit_code == 2


def export(kept: Kept, *words: str | Path) -> Result:
    given = ["labels", "export", "--stream", "pump", "--config", str(kept.config)]
    return CliRunner().invoke(commands, [*given, *map(str, words)])


def test_labelled_windows_are_files_with_what_the_agent_saw(kept: Kept, tmp_path: Path) -> None:
    one, other = alarm(1, state="closed"), alarm(2, state="closed")
    keep(kept, one, windowed())
    kept.take(other)
    kept.ask("labelled", one, labelled=Labelled("confirmed"))
    kept.ask("labelled", other, labelled=Labelled("false"))
    ended = export(kept, "--windows-in", tmp_path / "w")
    assert "w: 1 window; no window is kept of pump#2" in ended.output
    (file,) = (tmp_path / "w").iterdir()
    assert file.name == "pump-1-confirmed.csv"
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert len(rows) == COUNT
    assert rows[BEFORE] == {
        "time": iso_time(ONSET_S),
        "flow": "100.0",
        "flow.expected": "10.5",
        "flow.quality": "good",
        "head": "3.0",
        "head.expected": "",
        "head.quality": "held",
        "score": "20.0",
        "threshold": "1.0",
    }
    assert rows[50]["flow"] == ""


def test_the_recording_has_what_the_ring_lost_from_the_window(kept: Kept, tmp_path: Path) -> None:
    one = alarm(1, state="closed", closed=iso_time(ONSET_S + 40))
    keep(kept, one, windowed())
    kept.ask("labelled", one, labelled=Labelled("false"))
    kept.store.readings.history.describe({"pump": ("head", "flow")})
    newest = Samples(np.arange(100.0) + ONSET_S + 30, np.full((100, 2), 7, np.float32))
    kept.store.commit(Batch(samples=[("pump", newest, np.ones(100, np.float32))]), "synced")
    ended = export(kept, "--windows", tmp_path / "w.csv", "--around-s", 50)
    assert "w.csv: 141 samples around 1 labels\n" in ended.output
    read = read_recording(
        tmp_path / "w.csv",
        Sought(("time",), [("flow",), ("head",)]),
        [ColumnTable(name="flow"), ColumnTable(name="head")],
    ).readings
    assert read.times.tolist() == [ONSET_S - 50 + at for at in range(141)]
    flow, head = read.values.T
    assert flow[[1, 49, 50, 79, 80]].tolist() == [10.0, 10.0, 100.0, 100.0, 7.0]
    assert np.isnan(flow[0])
    assert np.isnan(head[:80]).all()  # held, not measured


def test_central_ops_gets_the_samples_that_the_ring_lost(kept: Kept) -> None:
    keep(kept, alarm(1, state="closed"), windowed())
    kept.store.readings.history.describe({"pump": ("head", "flow")})
    directory = kept.config.parent / "data"
    times = ONSET_S - 600 + np.arange(7200.0)
    samples = Samples(times, np.full((7200, 2), 7, np.float32))
    for begin in range(0, 7200, 60):
        part = ("pump", samples.part(begin, begin + 60), np.ones(60, np.float32))
        kept.store.commit(Batch(samples=[part]), "synced")
    asked = {"stream": "pump", "number": 1, "before_s": 300, "after_s": 300, "points": 500}
    parts = [one["result"] for one in remote.parts(directory, asked, 2000, 10**6)]
    assert [one.get("samples") for one in parts] == [None, True, None]  # means before and after
    rows = {row[0]: row for part in parts for row in part["rows"]}
    assert rows[ONSET_S] == [ONSET_S, 20.0, 3.0, 100.0]
    assert rows[ONSET_S - 1] == [ONSET_S - 1, 0.5, 3.0, 10.0]
    assert list(rows) == sorted(rows)
    assert min(rows) < ONSET_S - BEFORE - 60
    assert max(rows) > ONSET_S + AFTER
    window = answered.read(parts[1])
    assert window is not None
    assert window.quality is not None
    assert window.quality.T.tolist() == [
        [HELD] * COUNT,
        [MISSING if n == 50 else 0 for n in range(COUNT)],
    ]
    (few,) = remote.parts(directory, asked | {"points": 50}, 2000, 10**6)
    assert len(few["result"]["rows"]) <= 51
    assert "samples" not in few["result"]


def test_central_ops_gets_samples_where_they_are_not_too_many_and_means_otherwise(
    kept: Kept,
) -> None:
    kept.store.readings.history.describe({"pump": ("flow", "head")})
    directory = kept.config.parent / "data"
    times = ONSET_S + np.arange(600) * 0.5
    values = np.random.default_rng(1).normal(size=(600, 2)).astype(np.float32)
    quality = np.zeros((600, 2), np.uint8)
    quality[400, 1], values[410, 0], scores = HELD, np.nan, np.linspace(0, 1, 600, dtype="f4")
    for begin in range(0, 600, 100):
        part = Samples(times, values, quality).part(begin, begin + 100)
        scored = scores[begin : begin + 100]
        kept.store.commit(Batch(samples=[("pump", part, scored)]), "synced")
    asked = {"stream": "pump", "at": ONSET_S + 150, "before_s": 50, "after_s": 90}
    results = [one["result"] for one in remote.parts(directory, asked | {"points": 281}, 500, 4096)]
    assert len(results) > 2
    for one in results:
        told = [one["rows"], *([one["quality"]] if "quality" in one else [])]
        assert len(json.dumps(told, separators=(",", ":"))) <= 4096 + 10
    assert [one["samples"] for one in results] == [True] * len(results)
    assert sum("quality" in one for one in results) == 1  # the others are all good
    parts = [one for one in map(answered.read, results) if one is not None]
    rows = slice(200, 481)
    assert np.concatenate([one.times for one in parts]).tolist() == times[rows].tolist()
    for name, expected in (("values", values[rows]), ("scores", scores[rows])):
        found = np.concatenate([getattr(one, name) for one in parts])
        assert found.tobytes() == expected.tobytes()
    for part in parts:
        for time_s, *codes in zip(
            part.times, *(() if part.quality is None else part.quality.T), strict=True
        ):
            at = round((time_s - ONSET_S) * 2)
            expected_codes = {400: [0, HELD], 410: [MISSING, 0]}.get(at, [0, 0])
            assert codes in ([], expected_codes)
    for points in ({"points": 280}, {"points": 281, "before_s": 51}):
        (means,) = remote.parts(directory, asked | points, 500, 10**6)
        assert "samples" not in means["result"]
        assert len(means["result"]["rows"]) <= 281
    (none,) = remote.parts(directory, asked | {"at": ONSET_S - 1000}, 500, 10**6)
    assert none["result"]["rows"] == []
