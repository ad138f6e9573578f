"""Where a bundle comes from: digests of values, versions of code, data that DVC tracks."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.columns import Sought
from models.errors import DataError
from models.manifest import TRAINING
from models.messages import Float32, Float64, Readings, Samples
from tests.trainer.conftest import Trained
from trainer import dvc, lineage
from trainer.code_version import ROOT, code_version
from trainer.config import ColumnTable, Config
from trainer.datasets import Label, Recording
from trainer.datasets.recordings import read_recording
from trainer.prepare import parts_of

NAMES = ("a", "b")
TIMES = 1_700_000_000.0 + np.arange(500) / 10


def recording(times: Float64, values: Float32, name: str = "x") -> Recording:
    return Recording(name, Readings(times, values), 0, "")


def values(seed: int = 1) -> Float32:
    made = np.random.default_rng(seed).normal(size=(len(TIMES), 2)).astype(np.float32)
    made[3:9, 1] = np.nan
    return made


def test_the_digest_of_a_channel_is_of_its_times_and_values() -> None:
    known = values()
    [digest] = [lineage.values_of([recording(TIMES, known[:, 1:])], ["b"]).channels()["b"].digest]
    rows = ~np.isnan(known[:, 1])
    ns = np.array([1_700_000_000_000_000_000 + 100_000_000 * i for i in range(500)], "<i8")
    exact = known[rows, 1].astype("<f8")
    assert digest == hashlib.sha256(ns[rows].tobytes() + exact.tobytes()).hexdigest()


def test_any_partitioning_and_order_of_rows_has_the_same_digest() -> None:
    known = values()
    whole = lineage.values_of([recording(TIMES, known)], NAMES)
    order = np.random.default_rng(2).permutation(len(TIMES))
    divided = [recording(TIMES[rows], known[rows]) for rows in np.array_split(order, 7)]
    again = lineage.values_of(divided, NAMES)
    assert again.part() == whole.part()
    assert again.channels() == whole.channels()


def test_rows_and_columns_of_the_long_form_have_the_same_digest() -> None:
    """One row per value, as a historian exports it, and the columns the other way round."""
    known = values()
    apart = [known.copy(), known.copy()]
    apart[0][:, 1] = apart[1][:, 0] = np.nan
    long = [recording(TIMES, one[:, ::-1]) for one in apart]
    assert (
        lineage.values_of(long, NAMES[::-1]).part()
        == lineage.values_of([recording(TIMES, known)], NAMES).part()
    )


def test_csv_and_parquet_of_the_same_values_have_the_same_digest(tmp_path: Path) -> None:
    times, known = TIMES + 0.123456, np.round(values(), 5)
    rows = [
        f"{datetime.fromtimestamp(time, UTC).isoformat()},{one},{'' if np.isnan(other) else other}"
        for time, (one, other) in zip(times, known.tolist(), strict=True)
    ]
    (tmp_path / "x.csv").write_text("\n".join(["time,a,b", *rows]) + "\n")
    ns = np.rint(times * 1e6).astype("datetime64[us]").astype("datetime64[ns]")
    columns = {"b": known[:, 1].astype(np.float64), "time": ns, "a": known[:, 0]}
    frame = pl.DataFrame(columns).with_columns(pl.col("time").dt.replace_time_zone("UTC"))
    frame.write_parquet(tmp_path / "x.parquet")
    sought = Sought(("time",), [("a",), ("b",)])
    read = [
        read_recording(tmp_path / name, sought, [ColumnTable(name=each) for each in NAMES])
        for name in ("x.csv", "x.parquet")
    ]
    found = [lineage.values_of([one], NAMES).part() for one in read]
    assert found[0].rows == 500
    assert found[0] == found[1]


@pytest.mark.parametrize("changed", ["a value", "a time", "a value less"])
def test_other_values_have_another_digest(changed: str) -> None:
    times, known = TIMES.copy(), values()
    before = lineage.values_of([recording(TIMES, values())], NAMES)
    match changed:
        case "a value":
            known[100, 0] = np.nextafter(known[100, 0], np.float32(9))
        case "a time":
            times[100] += 1e-6
        case _:
            known[100, 0] = np.nan
    after = lineage.values_of([recording(times, known)], NAMES)
    assert after.part().digest != before.part().digest
    differing = lineage.differences(after.channels(), before.channels(), "channel")
    assert differing[0].startswith("channel a: ")
    assert len(differing) == (2 if changed == "a time" else 1)


def test_a_difference_says_where() -> None:
    known = values()
    before = lineage.values_of([recording(TIMES, known)], NAMES).channels()
    after = lineage.values_of([recording(TIMES[:-1], known[:-1])], NAMES).channels()
    assert lineage.differences({"a": after["a"]}, before, "channel") == [
        "channel a: 499 rows from 2023-11-14T22:13:20.000Z to 2023-11-14T22:14:09.800Z, but the"
        " training had 500 rows from 2023-11-14T22:13:20.000Z to 2023-11-14T22:14:09.900Z",
        "channel b: it is missing",
    ]


def test_the_order_of_machines_until_they_failed_does_not_matter() -> None:
    lives = [recording(TIMES, values(seed)) for seed in (1, 2, 3)]
    assert lineage.part_of_each(lives, NAMES) == lineage.part_of_each(lives[::-1], NAMES)
    assert lineage.part_of_each(lives[:2], NAMES) != lineage.part_of_each(lives, NAMES)


def test_labels_count() -> None:
    labels = [[Label(1.0, 2.0, "leak")], [Label(1.0, 2.0, "leak", "false")]]
    one = [recording(TIMES, values())]
    found = [lineage.part_of_each(one, NAMES, [each]).digest for each in labels]
    assert found[0] != found[1]


def test_a_bundle_has_the_lineage_of_its_data(trained: Trained) -> None:
    origin = trained.bundle.manifest.lineage
    assert origin.data is not None
    parts = origin.data.parts
    # a row of the recording is cut short, and another has a word: both have other values
    assert {name: part.rows for name, part in parts.items()} == {
        "train": 1600,
        "calibrate": 1120,
        "test": 1120,
        "lives": 1500,
        "evaluate": 600,
    }
    assert parts["train"].first == origin.parts["train"][0]
    assert origin.data.channels["load"].rows == 3999
    assert [source.name for source in origin.data.sources][:2] == ["normal.csv", "faulty.csv"]
    assert origin.seeds == {"fit": 1, "forecast.fit": 1}
    data = trained.bundle.manifest.metrics["data"]
    assert data["digest"] == origin.data.digest
    assert data["parts"]["train"]["digest"] == parts["train"].digest
    assert origin.data.digest in trained.path.with_suffix(".report.html").read_text()


def test_a_bundle_has_the_configuration_of_its_training(trained: Trained) -> None:
    again = Config.model_validate(json.loads(trained.bundle.parts[TRAINING]))
    assert again == trained.file.config


def test_the_recordings_of_a_training_are_known_in_other_files(
    trained: Trained, tmp_path: Path
) -> None:
    text = (trained.file.path.parent / "normal.csv").read_text()
    header, *rows = text.splitlines()
    for name, part in (("late.csv", rows[1500:]), ("early.csv", rows[:1500])):
        (tmp_path / name).write_text("\n".join([header, *part]) + "\n")
    data = trained.file.config.data
    read = [
        read_recording(tmp_path / name, data.sought, data.columns)
        for name in ("late.csv", "early.csv")
    ]
    assert len(parts_of(read, trained.bundle.manifest).test.times) == 1120
    with pytest.raises(
        DataError, match=r"channel load: .* rows from .*, but the training had 3999"
    ):
        parts_of(read[:1], trained.bundle.manifest)


def dvc_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_tracked_file_and_a_tracked_folder_are_recognised(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert dvc.tracked_by(data / "a.csv") is None
    dvc_file(
        tmp_path / "data.dvc",
        "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  size: 7\n  nfiles: 1\n"
        "  hash: md5\n  path: data\n",
    )
    assert dvc.tracked_by(data / "a.csv") == "md5:0123456789abcdef0123456789abcdef.dir"
    dvc_file(data / "a.csv.dvc", "outs:\n- etag: '77'\n  path: 'a.csv'\n")
    assert dvc.tracked_by(data / "a.csv") == "etag:77"
    dvc_file(
        data / "deep" / "dvc.lock",
        "schema: '2.0'\nstages:\n  clean:\n    cmd: python clean.py --mode x\n    deps:\n"
        "    - path: raw\n      md5: aa\n    outs:\n    - path: made/clean\n      hash: md5\n"
        "      md5: bb.dir\n",
    )
    assert dvc.tracked_by(data / "deep" / "made" / "clean" / "x" / "1.csv") == "md5:bb.dir"
    assert dvc.tracked_by(data / "deep" / "other.csv") == "md5:0123456789abcdef0123456789abcdef.dir"


def git(root: Path, *arguments: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", "-C", str(root), *named, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_version_of_the_code_is_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert code_version(tmp_path / "nowhere").commit is None
    code = tmp_path / "tree"
    (code / "trainer").mkdir(parents=True)
    shutil.copy(ROOT / "trainer" / "code_version.py", code / "trainer")
    git(tmp_path, "init", "-q", str(code))
    git(code, "commit", "-q", "--allow-empty", "-m", "another project")
    # a tree that does not have the code, such as that of a project with a virtual environment
    assert code_version(code).commit is None
    git(code, "add", ".")
    git(code, "commit", "-q", "-m", "x")
    code_version.cache_clear()
    found = code_version(code)
    assert (found.commit, found.dirty) == (git(code, "rev-parse", "HEAD"), False)
    (code / "trainer" / "new.py").write_text("x = 1\n")
    code_version.cache_clear()
    assert code_version(code).dirty is True


def test_what_labels_cut_out_is_in_no_part() -> None:
    read = lineage.values_of([recording(TIMES, values())], NAMES)
    part = {"train": Samples(TIMES[10:50], values()[10:50])}
    cuts = [(float(TIMES[20]), float(TIMES[29]))]
    assert lineage.parts_of_split(read, part, cuts, 0.1)["train"].rows == 30
