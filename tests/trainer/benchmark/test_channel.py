"""From a channel's arrays to its detectors: what is cut, what is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models.detector import Result
from models.manifest import Channel, Lineage, TelemanomManifest
from models.messages import Float32, Samples, Scores
from trainer import seal
from trainer.benchmark import settings
from trainer.benchmark.curves import telling

CONFIG = """
[sampling]
period_s = 0.5

[split]
train = 0.6
calibrate = 0.3
test = 0.1

[smoothing]
spans_samples = [5, 50]

[calibrate]
floor_changes = [1, 1]
"""


def manifest(directory: Path) -> TelemanomManifest:
    """Two spans, two heads, and three channels of which the second is a command."""
    path = directory / "x.toml"
    path.write_text(CONFIG)
    channels = [
        Channel(name=name, unit="", center=0.0, scale=1.0, scored=name != "command")
        for name in ("flow", "command", "heat")
    ]
    lineage = Lineage(
        data_digest="", data_files=[], parts={}, config_digest="", seed=1, software={}
    )
    config = settings.read(path).config
    return seal.draft(config, channels, lineage, datetime.now(UTC), "none")


def test_the_rows_that_come_highest_above_their_threshold_are_shown(tmp_path: Path) -> None:
    """Rows are span by span, head by head, and of scored channels only."""
    values: Float32 = np.arange(12, dtype=np.float32).reshape(4, 3)
    smoothed = np.ones((4, 8), np.float32)
    smoothed[0] = np.nan  # the warm-up
    smoothed[2, 5] = 30.0  # span 50, value, heat
    smoothed[3, 2] = 20.0  # span 5, change, flow
    threshold = np.full((4, 8), 10, np.float32)
    threshold[:, 7] = 0.6  # 1 / 0.6 is less than 2 and more than 1
    samples = Samples(np.arange(4.0), values)
    result = Result(
        Scores(samples.times, np.ones(4, np.float32), np.ones(4), -values),
        [],
        smoothed,
        threshold,
    )
    first, second = telling(manifest(tmp_path), samples, result)
    assert (first.channel, first.row) == ("heat", "value, span 50")
    assert (second.channel, second.row) == ("flow", "change, span 5")
    assert first.signal.tolist() == values[:, 2].tolist()
    assert second.predicted.tolist() == (-values[:, 0]).tolist()
    assert np.nanmax(first.smoothed) == 30.0
    assert first.threshold.tolist() == [10.0] * 4
