"""The figures as they are shown: totals, the printed table, plots and the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.benchmark.conftest import STEPS, MakeOutcome, judged
from trainer.benchmark import figures, report, tables
from trainer.benchmark.document import document
from trainer.benchmark.outcome import Curve, WorkDirectory

ABOUT = {
    "benchmark": "nasa",
    "protocol": "as <ever>",
    "config_digest": "c0ffee",
    "seed": 1,
    "software": {"numpy": "2"},
}


def test_ratios_in_total_are_of_the_sums(make_outcome: MakeOutcome) -> None:
    outcomes = [
        make_outcome("A-1", quantized=judged(3, 0, 0, 0.9, model_bytes=10)),
        make_outcome("A-2", quantized=judged(0, 1, 2, 0.1, model_bytes=20)),
        make_outcome("A-3", quantized=judged(0, 1, 0, None, model_bytes=60)),
    ]
    found = document(ABOUT, outcomes, {"A-4": "no such file"})
    total = found["quantized"]["total"]
    assert {name: total[name] for name in ("tp", "fp", "fn")} == {"tp": 3, "fp": 2, "fn": 2}
    assert (total["precision"], total["recall"]) == (3 / 5, 3 / 5)
    assert total["delay_steps_median"] == 1
    assert total["false_per_10k"] == pytest.approx(2 / (3 * STEPS) * 10_000)
    assert total["vus_pr"] == pytest.approx(0.5)  # of those with labels
    assert total["model_bytes"] == 20
    assert total["mar"] == pytest.approx(40.0)
    assert found["quantized"]["channels"]["A-3"]["recall"] is None
    assert found["failed"] == {"A-4": "no such file"}
    assert "f1_point" not in total
    of_skab = document(ABOUT | {"benchmark": "skab"}, outcomes, {})
    assert of_skab["float"]["total"]["f1_point"] == of_skab["float"]["total"]["point_f1"]


def test_the_table_fits_a_terminal(make_outcome: MakeOutcome) -> None:
    many = judged(1234, 1234, 1234, 0.25, model_bytes=123_456)
    names = ["A-1", "valve1/10", "other/12"]
    lines = list(
        tables.lines(document(ABOUT, [make_outcome(name, quantized=many) for name in names], {}))
    )
    assert max(map(len, lines)) <= 120
    titles = [line.split()[0] for line in lines if line]
    detectors = ["quantized", "float", "baseline", "last_value", "constant"]
    assert titles == ["total", *detectors, "quantized", *names]
    totals = lines[: lines.index("")]
    assert len({len(line) for line in totals}) == 1  # aligned at the right
    assert totals[0].split()[1:4] == ["TP", "FP", "FN"]
    assert totals[1].split()[1:4] == ["3702", "3702", "3702"]


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
    outcomes = [make_outcome("A-1"), make_outcome("A-2")]
    work = WorkDirectory(tmp_path)
    work.keep(outcomes[0], curves)
    path = tmp_path / "made" / "report.html"
    report.write(document(ABOUT, outcomes, {"B-1": "a <bad> file"}), outcomes, work, path)
    page = path.read_text()
    assert page.count("data:image/svg+xml") == 1
    assert "curves are missing in" in page  # of A-2
    for word in ("as &lt;ever&gt;", "a &lt;bad&gt; file", "last_value", "c0ffee", "VUS-PR"):
        assert word in page
