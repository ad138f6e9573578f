"""NASA's folder as it is downloaded: good channels are read, odd ones refused with the reason."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import DataError
from trainer.datasets.nasa import LABELS_FILE, names, read

HEADER = "chan_id,spacecraft,anomaly_sequences,class,num_values"


def ramp(steps: int, inputs: int = 25) -> npt.NDArray[np.float64]:
    values = np.zeros((steps, inputs))
    values[:, 0] = np.linspace(-1, 1, steps)
    return values


def channel(root: Path, name: str, inputs: int = 25, **parts: npt.ArrayLike) -> None:
    for part, steps in (("train", 20), ("test", 50)):
        (root / part).mkdir(parents=True, exist_ok=True)
        np.save(root / part / f"{name}.npy", parts.get(part, ramp(steps, inputs)))


def labels(directory: Path, *rows: str) -> None:
    (directory / LABELS_FILE).write_text("\n".join([HEADER, *rows]) + "\n")


def published(directory: Path) -> Path:
    """Two spacecraft in the same folders, and a channel that lacks its partner."""
    for name in ("A-10", "A-2", "A-1"):
        channel(directory, name)
    channel(directory, "M-1", inputs=55)
    (directory / "test" / "A-3.npy").write_bytes(b"")
    labels(
        directory,
        'A-1,SMAP,"[[40, 45], [3, 7]]","[point, point]",50',
        'M-1,MSL,"[[10, 20]]",[contextual],50',
        'A-10,SMAP,"[[30, 60]]",[point],50',
        'A-10,SMAP,"[[25, 32], [1, 2]]",[point],50',
        'X-1,SMAP,"[[0, 9999]]",[point],10000',
    )
    return directory


def test_channels_come_in_natural_order_and_both_parts_are_needed(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "train" / "._A-1.npy").write_bytes(b"from a file manager")
    (tmp_path / "test" / "._A-1.npy").write_bytes(b"from a file manager")
    assert names(tmp_path) == ["A-1", "A-2", "A-10", "M-1"]


def test_a_channel_is_read_with_its_labels(tmp_path: Path) -> None:
    read_back = read(published(tmp_path), "A-1")
    assert (read_back.name, read_back.spacecraft) == ("A-1", "SMAP")
    assert read_back.train.dtype == read_back.test.dtype == np.float32
    np.testing.assert_array_equal(read_back.train, ramp(20).astype(np.float32))
    assert read_back.test.shape == (50, 25)
    assert read_back.label_rows == [[(3, 7), (40, 45)]]
    both = b"".join((tmp_path / part / "A-1.npy").read_bytes() for part in ("train", "test"))
    assert read_back.sha256 == hashlib.sha256(both).hexdigest()


def test_the_two_spacecraft_lie_in_the_same_folders(tmp_path: Path) -> None:
    read_back = read(published(tmp_path), "M-1")
    assert read_back.spacecraft == "MSL"
    assert read_back.train.shape == (20, 55)


def test_rows_of_one_channel_stay_rows_and_end_with_the_array(tmp_path: Path) -> None:
    assert read(published(tmp_path), "A-10").label_rows == [[(30, 49)], [(1, 2), (25, 32)]]


def test_sequences_of_a_row_stay_as_they_are(tmp_path: Path) -> None:
    channel(tmp_path, "A-1")
    labels(tmp_path, 'A-1,SMAP,"[[1, 5], [6, 9], [9, 9], [20, 30], [22, 25]]",x,50')
    assert read(tmp_path, "A-1").label_rows == [[(1, 5), (6, 9), (9, 9), (20, 30), (22, 25)]]


def test_a_channel_that_is_not_labelled_has_no_anomalies(tmp_path: Path) -> None:
    read_back = read(published(tmp_path), "A-2")
    assert read_back.label_rows == []
    assert read_back.spacecraft == ""


@pytest.mark.parametrize("beside", ["", "data", ".."])
def test_the_folder_is_taken_as_it_unpacks(tmp_path: Path, beside: str) -> None:
    download = tmp_path / "download"
    channel(download / "data", "A-1")
    labels(download / beside, 'A-1,SMAP,"[[3, 7]]",[point],50')
    assert names(download) == ["A-1"]
    assert read(download, "A-1").label_rows == [[(3, 7)]]
    if beside != "..":
        assert read(download / "data", "A-1").label_rows == [[(3, 7)]]


def test_a_relative_path_finds_the_labels_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel(tmp_path / "data", "A-1")
    labels(tmp_path, 'A-1,SMAP,"[[3, 7]]",[point],50')
    monkeypatch.chdir(tmp_path / "data")
    assert read(Path(), "A-1").label_rows == [[(3, 7)]]


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "i4"])
def test_any_real_type_is_taken(tmp_path: Path, dtype: str) -> None:
    channel(
        tmp_path,
        "A-1",
        test=np.asfortranarray(np.arange(6).reshape(3, 2), dtype=dtype),
        train=np.ones((4, 2)),
    )
    labels(tmp_path)
    test = read(tmp_path, "A-1").test
    assert test.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert test.dtype == np.float32
    assert test.flags.c_contiguous


def test_what_is_not_finite_is_missing(tmp_path: Path) -> None:
    values = ramp(50)
    values[[1, 2, 3, 4], 0] = [np.inf, -np.inf, np.nan, 1e300]
    channel(tmp_path, "A-1", test=values)
    labels(tmp_path)
    assert np.flatnonzero(np.isnan(read(tmp_path, "A-1").test[:, 0])).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (
            np.zeros(50),
            r"test/A-1\.npy: the array.s shape is \(50,\); it must be \(steps, inputs\)",
        ),
        (np.zeros((2, 3, 4)), r"shape is \(2, 3, 4\)"),
        (np.zeros((0, 25)), r"shape is \(0, 25\)"),
        (np.zeros((50, 0)), r"shape is \(50, 0\)"),
        (np.full((50, 25), "x"), r"the array.s type is <U1; it must be numeric"),
        (np.zeros((50, 25), np.complex64), r"the array.s type is complex64"),
        (np.full((50, 25), np.nan), r"the telemetry value \(column 0\) is never a finite number"),
        (ramp(50, 24), r"test/A-1\.npy: it has 24 inputs, but .*train/A-1\.npy has 25"),
    ],
)
def test_an_odd_array_is_refused(tmp_path: Path, test: npt.ArrayLike, said: str) -> None:
    channel(tmp_path, "A-1", test=test)
    labels(tmp_path)
    with pytest.raises(DataError, match=said):
        read(tmp_path, "A-1")


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


def whole() -> bytes:
    file = io.BytesIO()
    np.save(file, ramp(50))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"0.1,0.2\n", pickled(), whole()[:-9], whole()[:40],
     whole().replace(b"(50, 25)", b"(50,2**5"), whole().replace(b"<f8", b"<08")],
    ids=["empty", "zip", "text", "pickled", "truncated", "half header", "open header", "odd type"],
)  # fmt: skip
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    channel(tmp_path, "A-1")
    labels(tmp_path)
    (tmp_path / "train" / "A-1.npy").write_bytes(content)
    with pytest.raises(
        DataError, match=r"train/A-1\.npy: not an? (\.npy file|complete array of numbers)"
    ):
        read(tmp_path, "A-1")


def test_a_missing_channel_or_partner_is_named(tmp_path: Path) -> None:
    published(tmp_path)
    with pytest.raises(DataError, match=r"no channel 'B-1'; there are: A-1, A-2, A-10, M-1"):
        read(tmp_path, "B-1")
    with pytest.raises(DataError, match=r"train/A-3\.npy: this file is missing, but .*test/A-3"):
        read(tmp_path, "A-3")


def test_an_array_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    channel(tmp_path, "A-1")
    (tmp_path / "test" / "A-1.npy").unlink()
    (tmp_path / "test" / "A-1.npy").mkdir()
    with pytest.raises(DataError, match=r"test/A-1\.npy: "):
        read(tmp_path, "A-1")


def test_a_folder_of_another_kind_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such folder"):
        names(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no folders train and test in .*data"):
        names(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="no channel has both"):
        names(tmp_path)
    channel(tmp_path, "A-1")
    with pytest.raises(DataError, match=rf"no {LABELS_FILE} in .*{tmp_path.parent}"):
        read(tmp_path, "A-1")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('A-1,SMAP,"[[1, 5], [3]]",x,50', r"csv:3: A-1: anomaly_sequences .* must be \[\[start"),
        ('A-1,SMAP,"[[1, 5.5]]",x,50', r":3: A-1: anomaly_sequences"),
        ('A-1,SMAP,"[[-1, 5]]",x,50', r":3: A-1: anomaly_sequences"),
        ('A-1,SMAP,"[[true, 5]]",x,50', r":3: A-1: anomaly_sequences"),
        ('A-1,SMAP,__import__("os"),x,50', r":3: A-1: anomaly_sequences"),
        ("A-1,SMAP", r":3: A-1: anomaly_sequences is ''"),
        ('A-1,SMAP,"[[5, 1]]",x,50', r":3: A-1: the sequence \[5, 1\] ends before it starts"),
        ('A-1,SMAP,"[[50, 60]]",x,50', r":3: A-1: the sequence \[50, 60\] lies outside .* 50 rows"),
        ('A-1,MSL,"[[1, 5]]",x,50', r":3: A-1 has more than one spacecraft: SMAP, MSL"),
        ('A-1,"SMAP', r":3: not CSV"),
    ],
)
def test_odd_labels_are_refused_with_their_line(tmp_path: Path, row: str, said: str) -> None:
    channel(tmp_path, "A-1")
    labels(tmp_path, 'A-1,SMAP,"[]",[],50', row)
    with pytest.raises(DataError, match=said):
        read(tmp_path, "A-1")


def test_odd_labels_of_one_channel_leave_the_others_alone(tmp_path: Path) -> None:
    channel(tmp_path, "A-1")
    labels(tmp_path, "A-2,SMAP,nonsense,x,50", 'A-1,SMAP,"[[1, 5]]",x,50')
    assert read(tmp_path, "A-1").label_rows == [[(1, 5)]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column 'chan_id'; the columns must be chan_id, spacecraft, anomaly_sequences"),
        (b"chan_id,spacecraft,class\n", "no column 'anomaly_sequences'"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_a_label_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    channel(tmp_path, "A-1")
    (tmp_path / LABELS_FILE).write_bytes(content)
    with pytest.raises(DataError, match=f"{LABELS_FILE}: {said}"):
        read(tmp_path, "A-1")
