"""The part of a stream that predicts the machine's remaining life, and watches its limits.

The map comes from the bundle (``models.remaining``). It predicts at fixed numbers of samples, so
that the alarms do not depend on how samples are grouped into commits.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from agent.alarms.limit import limitable, reason_of
from agent.alarms.predicted import LimitWatch
from agent.config.load import StreamTable
from agent.scoring.part import Moment, Part, Teller
from agent.store.batch import Batch
from models.manifest import RemainingPart, TelemanomManifest
from models.messages import Event, Float32, Forecast, Samples
from models.names import REMAINING_LIFE
from models.remaining import Life, Remaining
from models.shown import short
from models.state import StateMismatch
from models.times import iso_time, unix_s

_LOG = logging.getLogger(__name__)


class RemainingLife(Part):
    """The remaining life of the machine, and the alarms of its limits.

    It is ``lasting``: a new bundle continues the machine's age and its alarms.
    """

    name = "remaining_life"
    lasting = True

    def __init__(
        self,
        teller: Teller,
        settings: StreamTable,
        manifest: TelemanomManifest,
        part: RemainingPart,
    ) -> None:
        self._teller, self._settings, self._part = teller, settings, part
        self._scored, self._period_s = manifest.scored, manifest.sampling.period_s
        names = tuple(manifest.channel_names[at] for at in manifest.scored)
        self._model = Remaining(part, names)
        self._channel = limitable(manifest)[-1]
        self._state = self._model.start()
        self._life: tuple[float, Life] | None = None  # the last prediction, and its time
        self._watch = self._watch_of(settings)

    def _watch_of(self, settings: StreamTable) -> LimitWatch:
        return LimitWatch(
            settings.limits,
            settings.prediction,
            [self._channel],
            self._model.levels,
            REMAINING_LIFE,
        )

    def reconfigure(self, settings: StreamTable, summary_interval_s: float, batch: Batch) -> None:
        """Continue the runs and alarms of unchanged limits; close the others."""
        before, self._settings = self._settings, settings
        if (settings.limits, settings.prediction) != (before.limits, before.prediction):
            runs, self._watch = self._watch.to_bytes(), self._watch_of(settings)
            self._teller.close_alarms("limit_removed", batch, self._watch.restore(runs))

    def take(self, samples: Samples, score: Float32, batch: Batch) -> None:
        """Add samples; predict after each ``stride_samples``, and open and close alarms."""
        values, stride, begin = samples.values[:, self._scored], self._part.stride_samples, 0
        while begin < len(values):
            end = min(len(values), begin + stride - self._state.age % stride)
            self._model.take(self._state, values[begin:end])
            begin = end
            if self._state.age % stride == 0:
                self._predict(float(samples.times[end - 1]), batch)

    def _predict(self, time: float, batch: Batch) -> None:
        life = self._model.predict(self._state, self._age_samples(time))
        if life is None:
            return
        inside = time - self._teller.correction_s
        self._life = inside, life
        middle = life.quantiles[len(life.quantiles) // 2]
        forecast = Forecast(
            time=inside,
            times=np.array([inside + self._period_s]),
            last=np.array([middle], np.float32),
            scale=np.ones(1, np.float32),
            quantiles=life.quantiles[None, None].astype(np.float32),
            trained_steps=1,
            imputed=0,
        )
        for event in self._watch.take(forecast, self._teller.take_number):
            self._teller.report([event], batch, reason=reason_of(self._settings.limits, event))

    def _age_samples(self, time: float) -> float | None:
        since = self._settings.remaining.in_service_since
        return None if since is None else max(0.0, (time - unix_s(since)) / self._period_s)

    def open_events(self) -> list[Event]:
        """Return the alarms' events, as in the last prediction."""
        return self._watch.open_events()

    def document(self) -> dict[str, Any]:
        """Return the last prediction with its 80 % interval; None before the first one."""
        if self._life is None:
            return {"remaining_life": None}
        time, life = self._life
        low, high = (life.quantiles[self._part.levels.index(level)] for level in (0.1, 0.9))
        return {
            "remaining_life": {
                "made": iso_time(time + self._teller.correction_s),
                "unit": self._part.unit,
                "predicted": short(life.predicted),
                "low_80": short(float(low)),
                "high_80": short(float(high)),
                "cap": self._part.cap,
            }
        }

    def to_bytes(self, moment: Moment) -> bytes | None:
        """Save the age, the smoothed values, the runs and the alarms with the memory."""
        state, runs = self._model.to_bytes(self._state), self._watch.to_bytes()
        return len(state).to_bytes(4, "big") + state + runs

    def restore(self, data: bytes, batch: Batch) -> None:
        """Continue with them; close the alarms of limits that are no longer set."""
        size = int.from_bytes(data[:4], "big")
        try:
            self._state = self._model.restore(data[4 : 4 + size])
            left = self._watch.restore(data[4 + size :])
        except (StateMismatch, ValueError, TypeError, KeyError) as error:
            _LOG.warning("the remaining life starts from nothing: %s", error)
            self._state = self._model.start()
            return
        self._teller.close_alarms("limit_removed", batch, left)
