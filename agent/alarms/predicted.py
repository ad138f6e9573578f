"""Predictive alarms: a channel will pass an engineering limit within the forecaster's horizon.

Limits come from the stream's configuration. ``models.limits`` computes the probability that a
forecast passes a limit. A prediction of the remaining life is a forecast of one step. An alarm
opens after several consecutive forecasts above a probability. It closes after several below a lower
probability. These delays and this deadband prevent chattering (ISA-18.2).
Without a forecast, nothing changes.

Measured values have precedence: while a channel is beyond a limit (``agent.alarms.measured``), the
limit has no predictive alarm, so that staff is not called twice for one problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from agent.alarms.document import limit_document
from agent.alarms.limit import Limit, limits_of
from agent.config.streams import LimitTable, PredictionTable
from models.forecaster import Forecaster
from models.limits import time_to_limit
from models.manifest import Channel
from models.messages import Contribution, Event, Float64, Forecast, LimitForecast

DETECTOR: Final = "transformer"

_ESTIMATES = ("made", "probability", "median_s", "earliest_s", "latest_s", "horizon_s")


@dataclass(slots=True)
class _Watch:
    """The state of one limit."""

    now: LimitForecast | None = None  # from the last forecast
    over_run: int = 0  # consecutive forecasts above the probability, while no event is open
    calm_run: int = 0  # consecutive forecasts below the lower one, while an event is open
    onset: float = 0.0  # time of the first forecast of ``over_run``
    event: Event | None = None  # open


class LimitWatch:
    """Watches the limits of one stream; does no I/O.

    It watches only channels that are forecast; without a forecaster there are none.

    Args:
        tables: limits of the stream.
        settings: when an alarm opens and closes.
        channels: channels of the forecasts, in order.
        levels: levels (Q,) of the forecasts' quantiles; None if there are no forecasts.
        detector: name of what makes the forecasts.

    """

    def __init__(
        self,
        tables: Sequence[LimitTable],
        settings: PredictionTable,
        channels: Sequence[Channel],
        levels: Float64 | None,
        detector: str = DETECTOR,
    ) -> None:
        self._settings, self._levels, self._detector = settings, levels, detector
        self._limits = list(limits_of(tables, channels))
        self._watches = {limit.key: _Watch() for limit in self._limits}

    @classmethod
    def of(
        cls,
        tables: Sequence[LimitTable],
        settings: PredictionTable,
        forecaster: Forecaster | None,
    ) -> Self:
        """Return the watch over the forecasts of a forecaster; without one it watches nothing."""
        if forecaster is None:
            return cls(tables, settings, (), None)
        return cls(tables, settings, forecaster.channels, forecaster.intervals.levels)

    def take(
        self,
        forecast: Forecast,
        take_number: Callable[[], int],
        passed: Collection[str] = (),
    ) -> list[Event]:
        """Return the events that a forecast opens and closes.

        ``passed``: keys of the limits that measured values have passed; these open no event.
        """
        events = []
        for limit in self._limits:
            watch = self._watches[limit.key]
            found = _find(limit, forecast, self._levels)
            if limit.key in passed:
                watch.now, watch.over_run = found, 0
                continue
            event = self._step(limit, watch, found, forecast, take_number)
            events += [] if event is None else [event]
        return events

    def withdraw(self, passed: Collection[str]) -> list[int]:
        """Stop following the open events of these limits, by key; return their numbers."""
        numbers = []
        for key in passed:
            watch = self._watches.get(key)
            if watch is not None and watch.event is not None:
                numbers.append(watch.event.number)
                watch.event, watch.calm_run = None, 0
        return numbers

    def look(self, forecast: Forecast) -> None:
        """Record a forecast without opening or closing alarms."""
        for limit in self._limits:
            self._watches[limit.key].now = _find(limit, forecast, self._levels)

    def _step(
        self,
        limit: Limit,
        watch: _Watch,
        found: LimitForecast,
        forecast: Forecast,
        take_number: Callable[[], int],
    ) -> Event | None:
        settings, watch.now = self._settings, found
        if watch.event is not None:
            watch.event = _seen(watch.event, limit, found, forecast, settings)
            calm = found.probability < settings.clear_probability
            watch.calm_run = watch.calm_run + 1 if calm else 0
            if watch.calm_run < settings.off_forecasts:
                return None
            closed, watch.event, watch.calm_run = watch.event, None, 0
            return replace(closed, closed=found.made)
        if found.probability < settings.probability:
            watch.over_run = 0
            return None
        watch.onset = watch.onset if watch.over_run else found.made
        watch.over_run += 1
        if watch.over_run < settings.on_forecasts:
            return None
        watch.over_run = 0
        opened = Event(
            number=take_number(),
            kind="limit",
            detector=self._detector,
            onset=watch.onset,
            opened=found.made,
            score=0.0,
            probability=None,
            severity=limit.severity,
        )
        watch.event = _seen(opened, limit, found, forecast, settings)
        return watch.event

    def open_events(self) -> list[Event]:
        """Return the open events, as in the last forecast."""
        return [watch.event for watch in self._watches.values() if watch.event is not None]

    def document(self, correction_s: float) -> list[dict[str, Any]]:
        """Return the predicted time at which each limit is passed, for ``status``.

        ``correction_s``: correction of the gateway's clock, seconds.
        """
        found = [(limit, self._watches[limit.key].now) for limit in self._limits]
        return [_document(limit, now and now.moved(correction_s)) for limit, now in found]

    def to_bytes(self) -> bytes:
        """Return the runs and the open events, for the store."""
        return json.dumps({key: asdict(watch) for key, watch in self._watches.items()}).encode()

    def restore(self, data: bytes) -> list[int]:
        """Continue where ``to_bytes`` stopped.

        Returns the numbers of open events whose limits are no longer configured, so nothing watches
        them.
        """
        left = []
        for key, saved in json.loads(data).items():
            event = saved["event"] and _event(saved["event"])
            now = saved["now"] and LimitForecast(**saved["now"])
            if key in self._watches:
                self._watches[key] = _Watch(**(saved | {"event": event, "now": now}))
            elif event is not None:
                left.append(event.number)
        return left


def _find(limit: Limit, forecast: Forecast, levels: Any) -> LimitForecast:
    found = time_to_limit(forecast, levels, limit.position, limit.side, limit.value)
    return LimitForecast(
        side=limit.side,
        level=limit.level,
        value=limit.value,
        unit=limit.unit,
        made=forecast.time,
        **found._asdict(),
    )


def _document(limit: Limit, now: LimitForecast | None) -> dict[str, Any]:
    if now is not None:
        return {"channel": limit.channel} | limit_document(now)
    return without_forecast(limit)


def without_forecast(limit: Limit) -> dict[str, Any]:
    """Return a limit as in ``LimitWatch.document``, with no forecast of it."""
    known = limit._asdict()
    del known["position"]
    return known | dict.fromkeys(_ESTIMATES)


def _seen(
    event: Event, limit: Limit, found: LimitForecast, forecast: Forecast, settings: PredictionTable
) -> Event:
    """Return the event, updated by a forecast; a score of 1 is the probability that opens it."""
    path = forecast.quantiles[limit.position, :, forecast.quantiles.shape[2] // 2]
    worst = float(path.max() if limit.side == "high" else path.min())
    score = found.probability / settings.probability
    contribution = Contribution(
        limit.channel, score, observed=float(forecast.last[limit.position]), expected=worst
    )
    return replace(event, score=score, channels=(contribution,), limit=found)


def _event(saved: Mapping[str, Any]) -> Event:
    channels = tuple(Contribution(**channel) for channel in saved["channels"])
    limit = saved["limit"] and LimitForecast(**saved["limit"])
    return Event(**(dict(saved) | {"channels": channels, "limit": limit}))
