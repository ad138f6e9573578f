"""A stream that is forecast, for the tests of limits and of the command ``forecast``.

The bearing's temperature rises and then stays just below ``LIMIT``; the small forecaster takes it
for a random walk whose steps are as large as the rise was, so the chance to pass the limit grows
with the rise and fades when the rise has left the context.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agent.bundles.load import baseline, load
from agent.clock import Clock
from agent.config import load as configuration
from agent.inputs.plant import CHANNELS, PERIOD_S, Pump
from agent.scoring.fleet import Fleet
from agent.store.batch import Batch
from agent.store.writer import Store
from models import bundle as bundles
from models.bundle import Bundle
from models.messages import Float32, Readings
from tests.database import make_files

START_S = 1_700_000_000.0
STEP_SAMPLES = 5  # of the forecasting bundle; its stride is two steps
LIMIT = 60.0
NAMES = [channel.name for channel in CHANNELS]
BEARING = NAMES.index("bearing_temperature")
LIMITS = f"""
[[streams.limits]]
channel = "bearing_temperature"
unit = "degC"
high_critical = {LIMIT}
[streams.prediction]
probability = 0.2
clear_probability = 0.1
on_forecasts = 2
off_forecasts = 2
"""


def _coupled() -> dict[str, Any]:
    effects = np.zeros((4, len(NAMES), 2))
    effects[:, BEARING, 0] = 2.0
    return {
        "spans_steps": [1],
        "weights": np.zeros((4, len(NAMES), len(NAMES) + 1)).tolist(),
        "plannable": [NAMES.index("flow")],
        "effects": effects.tolist(),
    }


# of a bundle whose temperature follows the flow, which people set
COUPLED = _coupled()


def rising(steps: int, seed: int = 1) -> Float32:
    """Return rows up to the end of so many steps, which is the time of the last."""
    rows = Pump(seed).run(steps * STEP_SAMPLES + 1)
    seconds = np.arange(len(rows)) * PERIOD_S
    rows[:, BEARING] = np.minimum(40.0 + 0.5 * seconds, LIMIT - 0.5)
    return rows


RISE_STEPS = 40  # until the plateau is reached


def write(directory: Path, bundle: Bundle) -> Path:
    path = directory / "forecasting.fieldwatch"
    bundles.write(path, bundle.manifest, bundle.parts, None)
    return path


def configure(directory: Path, bundle: Bundle, stream: str = LIMITS) -> Path:
    make_files(directory / "data")
    config = directory / "agent.toml"
    config.write_text(f"""
[gateway]
site = "plant"
name = "gw-1"
[store]
directory = "data"
[[streams]]
name = "pump"
bundle = "{write(directory, bundle)}"
{stream}
[[inputs]]
name = "line"
port = "/dev/does-not-exist"
stream = "pump"
columns = {["time", *NAMES]}
""")
    return config


class Gateway:
    """What the agent's loop does with one stream and the store, without its line and its link."""

    def __init__(self, config_file: Path, clock: Clock | None = None) -> None:
        config = configuration.load(config_file)
        table = config.streams[0]
        if table.bundle is None:
            assert table.baseline is not None
            detector = baseline(table.baseline)
        else:
            detector = load(table.bundle)[1]
        self._store = Store(config.store.directory, "plant", "gw-1", 1000, 100_000)
        self._store.open()
        self._fleet = Fleet(detector, config.streams, 60.0, clock or Clock())
        (self.stream,) = self._fleet.streams
        self._batch = Batch()
        records = self._store.records
        saved, number = records.state("pump"), records.last_alarm_number("pump")
        self.stream.restore(saved, records.open_alarms("pump"), number, self._batch)
        self.told: list[dict[str, Any]] = []  # alarms, as sent
        self.sent: list[dict[str, Any]] = []  # of these, those of limits
        self.commit()

    def feed(self, rows: Float32, first: int = 0) -> None:
        """Take in rows, the first of which has this number since the start, and commit."""
        times = START_S + (first + np.arange(len(rows))) * PERIOD_S
        self._fleet.take(np.zeros(len(rows), np.int64), Readings(times, rows), self._batch)
        self.commit()

    def commit(self) -> None:
        self._fleet.flush(self._batch)
        self.stream.save(self._batch, self._store.readings.next_sample + self._batch.rows())
        told = [dict(message.data) for message in self._batch.messages if message.kind == "alarm"]
        self.told += told
        self.sent += [alarm for alarm in told if alarm["limit"]]
        self._store.commit(self._batch, "synced")

    def close(self) -> None:
        self._store.close()
