"""The benchmarks as cases: the training data, the test data and the labels of each network.

Data sets without a usable clock are put on the grid row by row: sample ``i`` is at ``i`` periods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import DataError
from models.messages import Float32, Samples
from models.settings import nearest
from trainer.benchmark import settings
from trainer.benchmark.counts import Span
from trainer.benchmark.document import Style
from trainer.benchmark.lives import EARLY_CYCLES
from trainer.benchmark.settings import Settings
from trainer.config import ChannelTable
from trainer.datasets import cmapss, ims, nasa, skab

SHARED_CONFIG: Final = Path(__file__).with_name("detection.toml")
IMS_TRAIN_SHARE: Final = 0.2  # share of a test; training uses no later samples
CMAPSS_TRAIN_CYCLES: Final = 40  # from the start of each engine's life; the shortest life has 128
SKAB_TRAIN_ROWS: Final = 400  # of each file, by the data set's own protocol


class Unit(NamedTuple):
    """A test array with its labels; it is judged as one stream."""

    name: str
    values: Float32  # (n, C)
    rows: list[list[Span]]  # first and last sample of the labelled sequences, row by row
    fails: bool = False  # whether the machine fails at the end of the array
    seconds: Sequence[float] = ()  # time of each sample, if the samples are not one period apart


@dataclass(eq=False, frozen=True, slots=True)
class Case:
    """The data for one network, such as a NASA channel or a bearing."""

    name: str
    channels: list[ChannelTable]
    train: list[Float32]  # (n, C) each; the recording is interrupted between two arrays
    units: list[Unit]
    sha256: str  # digest of the data, without the labels
    prescaled: bool = False  # whether the values are already scaled to -1 to 1
    goes_on: bool = False  # whether a unit follows the training array without a break


@dataclass(eq=False, frozen=True, slots=True)
class Benchmark:
    """A data set with its protocol."""

    name: str
    protocol: str  # for people
    names: Callable[[Path], list[str]]  # returns the names of the cases in a directory
    read: Callable[[Path, str], Case]
    style: Style = "events"  # what is counted

    def settings(self, path: Path | None) -> Settings:
        """Return the settings from ``path``, or the default settings of this data set.

        The default is the configuration of all data sets, plus the settings that this one requires.
        """
        if path is not None:
            return settings.read(path)
        return settings.read(Path(__file__).with_name(f"{self.name}.toml"), SHARED_CONFIG)

    def chosen(self, directory: Path, wanted: list[str]) -> list[str]:
        """Return the names of the ``wanted`` cases (all if empty), in the directory's order.

        Raises:
            DataError: a case does not exist, or the directory does not hold this data set.

        """
        there = self.names(directory)
        for name in wanted:
            if name not in there:
                raise DataError(f"{directory}: no channel {name!r}{nearest(name, there)}")
        return [name for name in there if name in wanted] if wanted else there


def on_grid(pieces: Sequence[Float32], period_s: float, first: int, apart: int) -> Samples:
    """Return the rows of several arrays as samples.

    Args:
        pieces: (n, C) each.
        period_s: seconds from one row to the next.
        first: time of the first row, in periods.
        apart: periods that are missing between two arrays.

    """
    numbers, begin = [], first
    for piece in pieces:
        numbers.append(np.arange(begin, begin + len(piece), dtype=np.float64))
        begin += len(piece) + apart
    return Samples(np.concatenate(numbers) * period_s, np.concatenate(pieces))


def sequences(flagged: npt.NDArray[np.bool_]) -> list[Span]:
    """Return the first and last position of each run of true values."""
    edges = np.diff(np.concatenate([[False], flagged, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _read_nasa(directory: Path, name: str) -> Case:
    channel = nasa.read(directory, name)
    commands = range(1, channel.train.shape[1])
    return Case(
        name=name,
        channels=[
            ChannelTable(name="telemetry"),
            *(ChannelTable(name=f"command_{number}", scored=False) for number in commands),
        ],
        train=[channel.train],
        units=[Unit(name, channel.test, channel.label_rows or [[]])],
        sha256=channel.sha256,
        prescaled=True,
    )


def _skab_names(directory: Path) -> list[str]:
    return [_skab_name(path) for path in skab.files(directory)]


def _skab_name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _read_skab(directory: Path, name: str) -> Case:
    path = next(path for path in skab.files(directory) if _skab_name(path) == name)
    file = skab.read(path)
    if len(file.values) <= SKAB_TRAIN_ROWS:
        raise DataError(f"{path}: {len(file.values)} rows; the first {SKAB_TRAIN_ROWS} are trained")
    if file.anomaly is None:
        raise DataError(f"{path}: no column 'anomaly': nothing to compare detections with")
    return Case(
        name=name,
        channels=[ChannelTable(name=column.replace(" ", "_")) for column in file.channels],
        train=[file.values[:SKAB_TRAIN_ROWS]],
        units=[
            Unit(name, file.values[SKAB_TRAIN_ROWS:], [sequences(file.anomaly[SKAB_TRAIN_ROWS:])])
        ],
        sha256=file.sha256,
        goes_on=True,
    )


def _ims_names(directory: Path) -> list[str]:
    return [
        f"{path.stem}/{bearing}"
        for path in ims.files(directory)
        for bearing in ims.read(path).bearings
    ]


def _read_ims(directory: Path, name: str) -> Case:
    test_name, _, bearing = name.partition("/")
    test = ims.read(directory / f"{test_name}.csv")
    values = test.bearings[bearing]
    cut = round(IMS_TRAIN_SHARE * len(values))
    return Case(
        name=name,
        channels=[ChannelTable(name=f"vibration_{axis + 1}") for axis in range(values.shape[1])],
        train=[values[:cut]],
        units=[
            Unit(
                name,
                values[cut:],
                [[]],
                fails=bearing in ims.FAILED[test_name],
                seconds=test.times[cut:].tolist(),
            )
        ],
        sha256=test.sha256,
        goes_on=True,
    )


def _read_cmapss(directory: Path, name: str) -> Case:
    fleet = cmapss.read(directory, "train")
    return Case(
        name=name,
        channels=[
            *(ChannelTable(name=setting, scored=False) for setting in cmapss.SETTINGS),
            *(ChannelTable(name=sensor) for sensor in cmapss.SENSORS),
        ],
        train=[engine[:CMAPSS_TRAIN_CYCLES] for engine in fleet.engines],
        units=[
            Unit(f"{name}/{number}", engine, [[]], fails=True)
            for number, engine in enumerate(fleet.engines, 1)
        ],
        sha256=fleet.sha256,
    )


NASA = Benchmark(
    name="nasa",
    protocol=(
        "Telemanom's: each channel is trained on its training array and judged on its test array,"
        " from a fresh state, with one configuration for all channels. A labelled sequence that a"
        " detected one overlaps is a true positive, one that none overlaps a false negative; a"
        " detected sequence that overlaps no label is a false positive. No point adjustment;"
        " labels choose nothing."
    ),
    names=nasa.names,
    read=_read_nasa,
)
SKAB = Benchmark(
    name="skab",
    protocol=(
        f"Each file is trained on its first {SKAB_TRAIN_ROWS} rows and judged on all rows after"
        " them, from a fresh state, with one configuration for all files. F1, false-alarm and"
        " missed-alarm rate are point-wise over the judged rows of all files together, without"
        " point adjustment; events are counted as for NASA's data. Labels choose nothing."
    ),
    names=_skab_names,
    read=_read_skab,
)
IMS = Benchmark(
    name="ims",
    protocol=(
        f"Each bearing is a stream of its own, trained on the first {IMS_TRAIN_SHARE:.0%} of its"
        " test and judged on the rest, going on from there. There are no labels of a fault's"
        " beginning. Told are the bearing that is reported first, the days from its first alarm to"
        " the end of the test, and the alarms of bearings that did not fail."
    ),
    names=_ims_names,
    read=_read_ims,
    style="bearings",
)
CMAPSS = Benchmark(
    name="cmapss",
    protocol=(
        f"One network for all engines of FD001's training file, trained on the first"
        f" {CMAPSS_TRAIN_CYCLES} cycles of each. Each engine is judged as its own stream, from its"
        f" first cycle to its failure. An engine is warned if an alarm opens in its last"
        f" {EARLY_CYCLES} cycles; an alarm that opens earlier is false."
    ),
    names=cmapss.names,
    read=_read_cmapss,
    style="engines",
)
BENCHMARKS: Final = {benchmark.name: benchmark for benchmark in (NASA, SKAB, IMS, CMAPSS)}
