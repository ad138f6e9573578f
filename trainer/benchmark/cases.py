"""The benchmarks as cases: what is trained on, what is judged, and what is labelled in it.

Data sets without a usable clock are put on the grid row by row: sample ``i`` is at ``i`` periods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from models.errors import DataError
from models.messages import Float32, Samples
from models.settings import nearest
from trainer.benchmark import settings
from trainer.benchmark.settings import Settings
from trainer.config import ChannelTable
from trainer.datasets import nasa, skab

SKAB_TRAIN_ROWS: Final = 400  # of each file, by the data set's own protocol


@dataclass(frozen=True, slots=True)
class Case:
    """One channel of NASA's, or one file of SKAB's."""

    name: str
    channels: list[ChannelTable]
    prescaled: bool  # values lie in -1 to 1, and none is to be scaled again
    goes_on: bool  # the test array follows the training array without a break
    train: Float32  # (n, C)
    test: Float32  # (n, C)
    labels: list[tuple[int, int]]  # first and last sample of the test array, of each sequence
    sha256: str  # of the data, without the labels


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set with its protocol."""

    name: str
    protocol: str  # for people
    names: Callable[[Path], list[str]]  # of the cases in a directory
    read: Callable[[Path, str], Case]

    @property
    def config(self) -> Path:
        """The one configuration for all cases, as it ships."""
        return Path(__file__).with_name(f"{self.name}.toml")

    def settings(self, path: Path | None) -> Settings:
        """Return the configuration of ``path``, or the one that ships."""
        return settings.read(path or self.config)

    def chosen(self, directory: Path, wanted: list[str]) -> list[str]:
        """Return the names of the cases ``wanted``, all if none is, in the directory's order.

        Raises:
            DataError: there is no such case, or the directory is not of this data set.

        """
        there = self.names(directory)
        for name in wanted:
            if name not in there:
                raise DataError(f"{directory}: no channel {name!r}{nearest(name, there)}")
        return [name for name in there if name in wanted] if wanted else there


def on_grid(values: Float32, period_s: float, first: int = 0) -> Samples:
    """Return rows as samples, the first at ``first`` periods."""
    return Samples(np.arange(first, first + len(values), dtype=np.float64) * period_s, values)


def sequences(flagged: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and last position of each run of true ones."""
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
        prescaled=True,
        goes_on=False,
        train=channel.train,
        test=channel.test,
        labels=channel.labels,
        sha256=channel.sha256,
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
        prescaled=False,
        goes_on=True,
        train=file.values[:SKAB_TRAIN_ROWS],
        test=file.values[SKAB_TRAIN_ROWS:],
        labels=sequences(file.anomaly[SKAB_TRAIN_ROWS:]),
        sha256=file.sha256,
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
BENCHMARKS: Final = {benchmark.name: benchmark for benchmark in (NASA, SKAB)}
