"""The figures as they are shown: totals, the printed table, plots and the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.benchmark.conftest import ELSEWHERE, LABEL, STEPS, MakeOutcome, alarm, judged
from trainer.benchmark import figures, report, tables
from trainer.benchmark.cases import NASA
from trainer.benchmark.document import NAMES, document, over_seeds
from trainer.benchmark.outcome import Curve, Outcome, WorkDirectory
from trainer.benchmark.runs import Run, all_documents

ABOUT = {
    "benchmark": "nasa",
    "protocol": "as <ever>",
    "config_digest": "c0ffee",
    "seed": 1,
    "software": {"numpy": "2"},
}


def test_ratios_in_total_are_of_the_sums(make_outcome: MakeOutcome) -> None:
    labels = [(100 * number, 100 * number + 49) for number in range(1, 4)]
    found_all = judged(*(alarm(*label) for label in labels), vus_pr=0.9, model_bytes=10)
    missed = judged(alarm(*ELSEWHERE), vus_pr=0.1, model_bytes=20)
    outcomes = [
        make_outcome("A-1", quantized=found_all, rows=[labels]),
        make_outcome("A-2", quantized=missed, rows=[labels[:2]]),
        make_outcome("A-3", quantized=judged(alarm(*ELSEWHERE), model_bytes=60), rows=[[]]),
    ]
    found = document(ABOUT, outcomes, {"A-4": "no such file"})
    total = found["quantized"]["total"]
    assert {name: total[name] for name in ("tp", "fp", "fn")} == {"tp": 3, "fp": 2, "fn": 2}
    assert (total["precision"], total["recall"]) == (3 / 5, 3 / 5)
    assert total["causal"]["delay_steps_median"] == 0
    assert total["false_per_10k"] == pytest.approx(2 / (3 * STEPS) * 10_000)
    assert total["vus_pr"] == pytest.approx(0.5)  # of those with labels
    assert total["model_bytes"] == 20
    assert total["mar"] == pytest.approx(40.0)
    assert total["alarm_share"] == pytest.approx(100 * (3 * 50 + 2 * 101) / (3 * STEPS))
    assert found["quantized"]["channels"]["A-3"]["recall"] is None
    assert found["failed"] == {"A-4": "no such file"}
    assert "f1_point" not in total
    of_skab = document(ABOUT | {"benchmark": "skab"}, outcomes, {})
    assert of_skab["float"]["total"]["f1_point"] == of_skab["float"]["total"]["point_f1"]


def test_alarms_of_a_sensor_are_counted_apart(make_outcome: MakeOutcome) -> None:
    stuck = judged(alarm(*LABEL, kind="stuck"), alarm(*ELSEWHERE), alarm(7000, 7100, kind="stuck"))
    total = document(ABOUT, [make_outcome("A-1", quantized=stuck)], {})["quantized"]["total"]
    assert (total["tp"], total["fp"], total["fn"], total["stuck"]) == (0, 1, 1, 2)
    assert {name: total["with_stuck"][name] for name in ("tp", "fp", "fn")} == {
        "tp": 1,
        "fp": 2,
        "fn": 0,
    }
    assert total["alarm_share"] == pytest.approx(100 * 101 / STEPS)


def test_the_references_need_no_detector(make_outcome: MakeOutcome) -> None:
    found = document(ABOUT, [make_outcome("A-1"), make_outcome("A-2")], {})
    everywhere = found["always_on"]["total"]
    assert (everywhere["tp"], everywhere["fp"], everywhere["alarm_share"]) == (2, 0, 100)
    assert everywhere["f1_shifted"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    random = found["random"]["total"]
    assert random["tp"] + random["fn"] == 2
    assert random["alarm_share"] <= found["quantized"]["total"]["alarm_share"]
    assert random["vus_pr"] is None


def test_no_alarms_and_no_labels_are_no_error(make_outcome: MakeOutcome) -> None:
    silent = document(ABOUT, [make_outcome("A-1", quantized=judged(), rows=[[]])], {})
    total = silent["quantized"]["total"]
    assert (total["tp"], total["fp"], total["fn"], total["f1"]) == (0, 0, 0, None)
    assert total["f1_shifted"] is total["f1_interval"] is None
    assert list(tables.lines(silent))


def test_seeds_have_a_mean_and_a_spread(make_outcome: MakeOutcome) -> None:
    found_it, missed_it = judged(alarm(*LABEL)), judged(alarm(*ELSEWHERE))
    documents = [
        document(ABOUT, [make_outcome("A-1", quantized=one)], {}) for one in (found_it, missed_it)
    ]
    found = over_seeds(documents)
    assert found["quantized"]["f1"] == {
        "mean": 0.5,
        "sd": pytest.approx(0.5**0.5),
        "low": 0.0,
        "high": 1.0,
    }
    assert found["quantized"]["causal.tp"]["mean"] == 0.5
    assert "vus_pr" not in found["quantized"]  # one of them has none
    assert over_seeds(documents[:1])["baseline"]["f1"]["sd"] == 0


def test_the_table_fits_a_terminal(make_outcome: MakeOutcome) -> None:
    labels = [(80 * number, 80 * number + 4) for number in range(STEPS // 80)]
    many = judged(*(alarm(*label) for label in labels), vus_pr=0.25, model_bytes=123_456)
    names = ["A-1", "valve1/10", "other/12"]
    outcomes = [make_outcome(name, quantized=many, rows=[labels]) for name in names]
    lines = list(tables.lines(document(ABOUT, outcomes, {})))
    assert max(map(len, lines)) <= 120
    titles = [line[:12].strip() for line in lines if line]
    assert titles == [
        *("published", *NAMES),
        *("causal", *NAMES),
        *("samples, cos", *NAMES),
        *("tail, %", *NAMES),
        *("quantized", *names),
    ]
    totals = lines[: lines.index("")]
    assert len({len(line) for line in totals}) == 1  # aligned at the right
    assert totals[0].split()[1:4] == ["TP", "FP", "FN"]
    assert totals[1].split()[1:4] == [str(3 * len(labels)), "0", "0"]


def test_a_table_without_any_channel_is_empty() -> None:
    assert list(tables.lines(document(ABOUT, [], {"A-1": "gone"}))) == []


def test_an_envelope_loses_no_peak() -> None:
    values = np.zeros(STEPS, np.float32)
    values[:100] = np.nan
    values[4321], values[4322] = 7, -9
    positions, drawn = figures.envelope(values)
    assert len(positions) == len(drawn) == 2 * figures.BUCKETS_MAX
    assert (np.nanmax(drawn), np.nanmin(drawn)) == (7, -9)
    assert abs(positions[int(np.nanargmax(drawn))] - 4321) <= STEPS / figures.BUCKETS_MAX
    short = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(figures.envelope(short), [short, short])


def test_a_plot_is_small_and_the_same_each_time(
    make_outcome: MakeOutcome, curves: list[Curve]
) -> None:
    drawn = figures.channel(make_outcome("A-1"), curves)
    assert drawn == figures.channel(make_outcome("A-1"), curves)
    assert len(drawn) * 4 / 3 < 15e6 / 55  # in base64, all channels of SMAP in one report
    for word in (b"labelled", b"detected", b"observed", b"expected", b"its threshold"):
        assert word in drawn


def test_errors_near_zero_do_not_stretch_the_log_axis(
    make_outcome: MakeOutcome, curves: list[Curve]
) -> None:
    drawn = [
        figures.channel(
            make_outcome("A-1"), [curves[0]._replace(smoothed=np.full(STEPS, error, np.float32))]
        )
        for error in (0.0, 1e-30)
    ]
    assert drawn[0] == drawn[1]


def test_the_report_says_all_of_it(
    tmp_path: Path, make_outcome: MakeOutcome, curves: list[Curve]
) -> None:
    outcomes = {name: make_outcome(name) for name in ("A-1", "A-2")}
    work = WorkDirectory(tmp_path)
    work.keep(outcomes["A-1"], curves)
    path = tmp_path / "made" / "report.html"
    runs = {seed: finished(work, outcomes) for seed in (3, 4)}
    report.write(all_documents(runs), runs[3], path)
    page = path.read_text()
    assert page.count("data:image/svg+xml") == 1
    assert "curves are missing in" in page  # of A-2
    for word in ("point adjustment", "a &lt;bad&gt; file", "last_value", "Seed 4", "VUS-PR"):
        assert word in page


def finished(work: WorkDirectory, outcomes: dict[str, Outcome]) -> Run:
    units = {name: [name] for name in outcomes}
    settings = NASA.settings(None)
    return Run(NASA, settings, work, {"numpy": "2"}, units, {}, outcomes, {"B-1": "a <bad> file"})


def test_the_printed_seeds_end_with_their_spread(tmp_path: Path, make_outcome: MakeOutcome) -> None:
    run = finished(WorkDirectory(tmp_path), {"A-1": make_outcome("A-1")})
    several = list(tables.seeds(all_documents({1: run, 2: run})))
    assert [line for line in several if line.startswith("seed ")] == ["seed 1", "seed 2"]
    assert "2 seeds" in several[-len(NAMES) - 1]
    assert "0.667 ± 0.000" in several[-len(NAMES)]
    one = list(tables.seeds(all_documents({1: run})))
    assert one == list(tables.lines(run.document()))
