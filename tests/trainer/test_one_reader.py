"""What the trainer reads of a recording is what the agent reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.commands.replay import opened
from models import bundle as bundles
from models.columns import Sought, of_bundle
from models.formats.recording import Layout
from tests.conftest import ZOO_BUNDLE
from trainer.config import ColumnTable
from trainer.datasets.recordings import read_recording

_SHIPPED = bundles.read(ZOO_BUNDLE).manifest
_ANY = {"low": None, "high": None}  # the values are made up
MANIFEST = _SHIPPED.model_copy(
    update={"channels": [channel.model_copy(update=_ANY) for channel in _SHIPPED.channels]}
)
NAMES = [channel.name for channel in MANIFEST.source_channels]
HEADER = ",".join(["time", *NAMES])
ROWS = [f"{1_700_000_000 + number}," + ",".join(["5.5"] * len(NAMES)) for number in range(40)]
GOOD = "\n".join([HEADER, *ROWS]) + "\n"

TEXTS = {
    "plain": GOOD,
    "byte order mark": "\ufeff" + GOOD,
    "carriage returns": GOOD.replace("\n", "\r"),
    "both": GOOD.replace("\n", "\r\n"),
    "quotes": GOOD.replace(",", '","').replace("\n", '"\n"').removesuffix('"').join(['"', ""]),
    "semicolons": GOOD.replace(",", ";"),
    "decimal commas": "sep=;\r\n" + GOOD.replace(",", ";").replace(".", ","),
    "thousands": GOOD.replace(",", ";").replace("5.5", "1.404,95"),
    "thousands and points": GOOD.replace(",", ";").replace("5.5", "1,404.95"),
    "some thousands": GOOD.replace(",", ";").replace("5.5", "1.404,95", 7).replace("5.5", "5,5"),
    "milliseconds": GOOD.replace(",5.5", "000,5.5", 40),
    "seconds since a start": GOOD.replace("\n17000000", "\n"),
    "offsets": GOOD.replace("\n1700000000,", "\n2023-11-14T23:13:20+0100,"),
    "words": GOOD.replace("5.5", "NA", 3).replace("5.5", "null", 1).replace("5.5", "ERR", 1),
    "a spoilt cell": GOOD.replace("5.5", "5.x5", 1),
    "a spoilt time": GOOD.replace("\n1700000003,", "\nsoon,"),
    "a cut row": GOOD.replace(ROWS[7], ROWS[7][:25]),
    "a cut end": GOOD[:-2],
    "a column too many": GOOD.replace(ROWS[7], ROWS[7] + ",1"),
    "title and units": "Plant 7\n\n" + GOOD.replace("\n", "\n" + ",".join(["s"] * 9) + "\n", 1),
    "bytes that are no text": GOOD.replace("5.5", "5\udcff5", 1),
    "blank lines": GOOD.replace("\n", "\n\n"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_trainer_and_agent_read_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_bytes(TEXTS[name].encode(errors="surrogateescape"))
    wide = [ColumnTable(name=name) for name in NAMES]
    learnt = read_recording(path, Sought(("time",), [(name,) for name in NAMES]), wide)
    read, parser = opened(path, MANIFEST, of_bundle(MANIFEST), Layout())
    scored = parser.parse(read.rows, 0.0)
    assert len(learnt.readings.times) >= 39
    np.testing.assert_array_equal(learnt.readings.times, scored.times)
    np.testing.assert_array_equal(learnt.readings.values, scored.values)
    assert dict(learnt.rejected) == dict(parser.counters)


def test_a_recording_that_goes_backwards_is_sorted(tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_text("time,flow\n3,30\n1,10\n2,20\n")
    read = read_recording(path, Sought(("time",), [("flow",)]), [ColumnTable(name="flow")])
    assert read.readings.times.tolist() == [1.0, 2.0, 3.0]
    assert read.readings.values[:, 0].tolist() == [10.0, 20.0, 30.0]
    assert read.rejected == {"backwards": 1}
