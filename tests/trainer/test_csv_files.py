"""CSV recordings as they come: good ones are read, odd ones are refused with their line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from models.columns import Sought
from models.errors import DataError
from models.formats.recording import Layout
from trainer.config import ChannelTable, DataTable
from trainer.datasets import Label
from trainer.datasets.labels import read_labels
from trainer.datasets.recordings import labels_path, read_recording

SOUGHT = Sought(("time",), [("flow",), ("T 1",)])
CHANNELS = [ChannelTable(name="flow", low=0.0, high=100.0), ChannelTable(name="heat", column="T 1")]
HEADER = "time,flow,T 1\n"


def recording(directory: Path, text: str | bytes) -> Path:
    path = directory / "recording.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    path = recording(tmp_path, "\ufeffnote, T 1 ,time,flow\nx,20.5,1700000000.25,3\n\n")
    read = read_recording(path, SOUGHT, CHANNELS)
    assert read.readings.times.tolist() == [1_700_000_000.25]
    assert read.readings.values.tolist() == [[3.0, 20.5]]
    assert read.readings.values.dtype == np.float32


@pytest.mark.parametrize(
    "time", ["2023-11-14T22:13:20.250Z", "2023-11-15 00:13:20.25+02:00", "1700000000.25"]
)
def test_times_are_unix_seconds_or_rfc_3339(tmp_path: Path, time: str) -> None:
    path = recording(tmp_path, f"{HEADER}{time},3,4\n")
    assert read_recording(path, SOUGHT, CHANNELS).readings.times.tolist() == [1_700_000_000.25]


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "N/A", "null", "None", "-", "inf"])
def test_what_says_that_nothing_is_there_is_missing(tmp_path: Path, cell: str) -> None:
    read = read_recording(recording(tmp_path, f"{HEADER}1,{cell},4\n"), SOUGHT, CHANNELS)
    assert math.isnan(read.readings.values[0, 0])
    assert read.readings.values[0, 1] == 4.0
    assert read.out_of_range == 0


def test_values_out_of_range_are_missing_and_counted(tmp_path: Path) -> None:
    text = HEADER + "1,-0.5,-999\n2,100.5,1\n3,0,1\n4,100,1\n"
    read = read_recording(recording(tmp_path, text), SOUGHT, CHANNELS)
    assert np.isnan(read.readings.values[:, 0]).tolist() == [True, True, False, False]
    assert read.readings.values[0, 1] == -999.0
    assert read.out_of_range == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,flow\n1,2\n", "no column 'T 1'; the header has: time, flow"),
        ("time,flow,flow,T 1\n1,2,3,4\n", "more than one column 'flow'"),
        (HEADER, "there are no rows"),
        ("", "no column 'time': there is no text"),
        (b"time,T 1,flow \xb0C\n1,2,3\n", "flow \ufffdC; it is not UTF-8: set the encoding"),
        (b"Zeit \xb0,T 1\n1,2\n", "Zeit \ufffd, T 1; it is not UTF-8: set the encoding"),
        (HEADER + "1,2,3\n2,high,3\n", "recording.csv:3: flow: 'high' is not a number"),
        (HEADER + "1,2,3\n2,2\n", "recording.csv:3: the row has 2 cells, but the header has 3"),
        (HEADER + "1,2,3,4\n", "recording.csv:2: the row has 4 cells, but the header has 3"),
        (HEADER + "noon,2,3\n", "recording.csv:2: 'noon' is not a time"),
        (HEADER + "2023-11-14T22:13:20,2,3\n", "has no offset from UTC"),
        (HEADER + "17000000000000,2,3\n", "'17000000000000' is not a time between 2000 and 2100"),
        (HEADER + "nan,2,3\n", "'nan' is not a time between"),
        (HEADER + '1,"2,3\n', "2 cells, but the header has 3"),
        (HEADER.encode() + b"1,\xff,3\n", "is not a number; it is not UTF-8: set the encoding"),
        (HEADER.encode("utf-16"), "is UTF-16, which is not supported: save it as UTF-8"),
        ('{"time": 1,\n "flow": 2}\n', "it seems to be JSON; a recording must be CSV, with a"),
        ("title\nunits\n", "no column 'time'; the header has: title"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    with pytest.raises(DataError) as refused:
        read_recording(recording(tmp_path, text), SOUGHT, CHANNELS)
    assert said in str(refused.value)


def test_a_wrong_separator_is_named(tmp_path: Path) -> None:
    path = recording(tmp_path, HEADER + "1,2,3\n")
    with pytest.raises(DataError, match="its header is not separated by ';'; the header has: time"):
        read_recording(path, SOUGHT, CHANNELS, Layout(separator=";"))


def test_how_much_may_be_bad_is_a_setting(tmp_path: Path) -> None:
    cells = ["1", "2", "high", "4", "5"]
    path = recording(tmp_path, HEADER + "".join(f"{n},{cell},3\n" for n, cell in enumerate(cells)))
    with pytest.raises(DataError, match=r"1 of 5 rows is more than bad_share_max = 0.1 allows"):
        read_recording(path, SOUGHT, CHANNELS)
    data = {"files": ["x"], "channels": [{"name": "flow"}], "bad_share_max": 0.2}
    layout = DataTable.model_validate(data).layout
    read = read_recording(path, SOUGHT, CHANNELS, layout)
    assert read.rejected == {"not_a_number": 1}
    with pytest.raises(DataError, match=r"bad_share_max = 0\.19"):
        read_recording(path, SOUGHT, CHANNELS, layout._replace(bad_share_max=0.19))


def test_some_rows_may_be_bad_up_to_a_share(tmp_path: Path) -> None:
    text = HEADER + "1,2,3\n2,high,3\n3,2\n4,2,3\n"
    layout = Layout()._replace(bad_share_max=0.25)
    read = read_recording(recording(tmp_path, text), SOUGHT, CHANNELS, layout)
    assert np.isnan(read.readings.values).tolist() == [
        [False, False],
        [True, False],
        [True, True],  # the last cell of a row that is cut may be cut, too
        [False, False],
    ]
    assert read.rejected == {"not_a_number": 1, "truncated": 1}


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot be read: No such file"):
        read_recording(tmp_path / "none.csv", SOUGHT, CHANNELS)


def test_labels_lie_beside_the_recording(tmp_path: Path) -> None:
    path = labels_path(tmp_path / "week.01.csv")
    assert path.name == "week.01.labels.csv"
    path.write_text("kind,start,end\nleak,10,20.5\nspike,1970-01-01T00:00:30Z,30\n")
    assert read_labels(path) == [Label(10.0, 20.5, "leak"), Label(30.0, 30.0, "spike")]


def test_a_label_that_ends_before_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "x.labels.csv"
    path.write_text("start,end,kind\n1,2,leak\n20,10,leak\n")
    with pytest.raises(DataError, match=r"x\.labels\.csv:3: the label ends before it starts"):
        read_labels(path)


APART = Sought(("Datum",), [("flow",), ("T 1",)], "Uhrzeit")
GERMAN = Layout(decimal=",", time_format="%d.%m.%Y %H:%M:%S", time_zone="UTC")


@pytest.mark.parametrize("more", ["", '"14.11.2023";22:13:22;5;7\n'])  # all at once, or row by row
def test_a_date_and_a_time_of_day_in_two_columns_are_one_time(tmp_path: Path, more: str) -> None:
    text = f"flow;Uhrzeit;T 1;Datum\n3,5; 22:13:20;4;14.11.2023\n4;22:13:21;5;14.11.2023\n{more}"
    text = text.replace('"14.11.2023";22:13:22;5;7', '5;22:13:22;7;"14.11.2023"')
    read = read_recording(recording(tmp_path, text), APART, CHANNELS, GERMAN)
    begin = 1_700_000_000.0
    assert read.readings.times.tolist() == [begin + row for row in range(3 if more else 2)]
    assert read.readings.values[:2].tolist() == [[3.5, 4.0], [4.0, 5.0]]


def test_a_date_without_its_time_of_day_is_told(tmp_path: Path) -> None:
    text = "Datum;Uhrzeit;flow;T 1\n14.11.2023;soon;3;4\n"
    with pytest.raises(DataError, match=r"'14\.11\.2023 soon' is not a time of the format"):
        read_recording(recording(tmp_path, text), APART, CHANNELS, GERMAN)
    with pytest.raises(DataError, match="no column 'Uhrzeit'; the header has: Datum, flow, T 1"):
        text = "Datum;flow;T 1\n14.11.2023;3;4\n"
        read_recording(recording(tmp_path, text), APART, CHANNELS, GERMAN)
