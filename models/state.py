"""The state of streams in memory, and its form on disk: named parts, saved only if they changed.

A stream's state is committed with its scores, many times a minute, often to an SD card. So the part
that always changes (``head``) has only a few kilobytes. The threshold's history has small parts, of
which a commit rewrites one or two. A part is a line of JSON, then raw little-endian arrays; there
is no pickle.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from models.aggregated import Learnt
from models.anomalies import OpenAnomaly, Rise
from models.events import EventState, Recent
from models.forecaster import ForecastState
from models.history import PART_COLUMNS, History
from models.messages import Contribution, Event, Float32, Int64, NoForecast
from models.score_tail import Rating
from models.sensors import SENSOR_KINDS, SensorState
from models.telemanom import TelemanomState
from models.threshold import ThresholdState

HEAD = "head"
HISTORY = "history."
_LATER = ("learning", "fixed")
_FORECAST, _PENDING, _STEPS = "forecast", "forecast.pending", "forecast.history."


@dataclass(eq=False, slots=True)
class State:
    """The state of scoring of ``N`` streams of one bundle between two calls.

    Its arrays have a stream axis, so that all streams step together without copies.
    """

    numbers: Int64  # (N,) 0, 1, 2 …
    telemanom: TelemanomState
    threshold: ThresholdState
    sensors: SensorState
    recent: Recent
    events: list[EventState]  # (N)
    watched: set[int]  # the streams whose ``EventState.watched`` is true
    forecast: list[ForecastState]  # (N); empty where the bundle has no forecaster
    # by stream, until its next update; not saved, since it follows from the history
    ratings: dict[int, Rating] = field(default_factory=dict)

    def watch(self, stream: int) -> None:
        """Update ``watched`` for a stream, after its events changed."""
        if self.events[stream].watched:
            self.watched.add(stream)
        else:
            self.watched.discard(stream)


class StateMismatch(ValueError):
    """Saved parts do not belong to this bundle, or are damaged."""


def changed_parts(state: State, stream: int, digest: str) -> dict[str, bytes]:
    """Return the parts of a stream that changed since the last call, and mark them as saved."""
    scalars = _scalars(state, stream) | event_scalars(state.events[stream])
    history = state.threshold.history[stream]
    parts = packed(scalars, _arrays(state, stream), history, digest)
    if state.forecast:
        parts |= forecast_parts(state.forecast[stream])
    return parts


def restore(state: State, parts: Mapping[str, bytes], digest: str) -> None:
    """Set ``state`` to the contents of ``parts``. It must be new and have one stream.

    Raises:
        StateMismatch: the parts belong to another bundle (``digest``), or are damaged.

    """

    def take(scalars: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        state.threshold.pending[0] = len(arrays["times"])
        targets = _arrays(state, 0)
        older = {name: targets[name] for name in _LATER}  # of versions that had none
        set_arrays(targets, {**older, **arrays})
        _set_scalars(state, scalars)
        set_events(state.events[0], scalars)
        state.watch(0)

    unpacked(parts, digest, take, state.threshold.history[0])
    if state.forecast:
        set_forecast(state.forecast[0], parts)


def adopt(state: State, stream: int, one: State) -> None:
    """Set the state of one of ``N`` streams to that of the only stream in ``one``."""
    for name in ("telemanom", "threshold", "sensors"):
        target, source = getattr(state, name), getattr(one, name)
        for item in fields(target):
            own = getattr(source, item.name)
            if isinstance(own, int):  # it summarizes all streams, so it is computed again
                setattr(target, item.name, type(own)())
            else:
                getattr(target, item.name)[stream] = own[0]
    for name in Recent._fields:
        getattr(state.recent, name)[stream] = getattr(one.recent, name)[0]
    state.events[stream] = one.events[0]
    state.ratings.pop(stream, None)
    state.watch(stream)
    if state.forecast:
        state.forecast[stream] = one.forecast[0]


def packed(
    scalars: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    history: History,
    digest: str,
) -> dict[str, bytes]:
    """Return the head and the changed parts of ``history``; mark these as saved."""
    head = {HEAD: _pack(dict(scalars) | {"digest": digest}, arrays)}
    return head | _history_parts(history, HISTORY)


def _history_parts(history: History, prefix: str) -> dict[str, bytes]:
    parts = {}
    for number in sorted(history.changed):
        columns = slice(number * PART_COLUMNS, (number + 1) * PART_COLUMNS)
        parts[f"{prefix}{number}"] = _sealed(history.values[:, columns].tobytes())
    history.changed.clear()
    return parts


def unpacked(
    parts: Mapping[str, bytes],
    digest: str,
    take: Callable[[Mapping[str, Any], Mapping[str, np.ndarray[Any, Any]]], None],
    history: History,
) -> None:
    """Pass the head's scalars and arrays to ``take``, and set ``history``.

    Raises:
        StateMismatch: the parts belong to another bundle, or are damaged.

    """
    with _as_mismatch():
        scalars, arrays = _unpack(parts[HEAD])
        if scalars["digest"] != digest:
            raise StateMismatch(
                "the saved state is of another bundle, or of other settings: its digest is"
                f" {scalars['digest']}, not {digest}"
            )
        take(scalars, arrays)
        _set_history(history, parts, HISTORY)


@contextlib.contextmanager
def _as_mismatch() -> Iterator[None]:
    """Turn the errors of unpacking damaged or foreign parts into ``StateMismatch``."""
    try:
        yield
    except StateMismatch:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise StateMismatch(f"the saved state cannot be read: {error}") from error


def set_arrays(
    targets: Mapping[str, np.ndarray[Any, Any]], arrays: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Set each array to what was saved under its name.

    Raises:
        StateMismatch: a saved array has another type or shape.

    """
    for name, target in targets.items():
        saved = arrays[name]
        if saved.shape != target.shape or saved.dtype != target.dtype:
            raise StateMismatch(f"{name} is {saved.dtype}{saved.shape}, not {target.shape}")
        target[...] = saved


def _arrays(state: State, stream: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return every array of a stream's head by its fixed name; the history has its own parts."""
    t, d, s, r = state.telemanom, state.threshold, state.sensors, state.recent
    used = int(d.pending[stream])
    in_progress: dict[str, np.ndarray[Any, Any]] = {}  # of what not every bundle has
    if state.forecast:
        forecast = state.forecast[stream]
        in_progress = {"step_total": forecast.total, "step_count": forecast.count}
    if t.level_sum.size:
        in_progress |= {"level_sum": t.level_sum[stream], "level_weight": t.level_weight[stream]}
    return in_progress | {
        "network": t.network[stream],
        "prediction": t.prediction[stream],
        "last": t.last[stream],
        "smoothed_sum": t.smoothed_sum[stream],
        "smoothed_weight": t.smoothed_weight[stream],
        "written": d.history[stream].written,
        "threshold": d.threshold[stream],
        "calm": d.calm[stream],
        "learning": d.learning[stream],
        "fixed": d.fixed[stream],
        "block": d.block[stream, :used],
        "block_outside": d.block_outside[stream, :used],
        "times": r.times[stream, :used],
        "observed": r.observed[stream, :used],
        "expected": r.expected[stream, :used],
        "sensor_last": s.last[stream],
        "stuck": s.stuck[stream],
        "missing": s.missing[stream],
    }


def _scalars(state: State, stream: int) -> dict[str, Any]:
    last_time = float(state.telemanom.last_time[stream])
    return {
        "since_start": int(state.telemanom.since_start[stream]),
        "last_time": None if np.isnan(last_time) else last_time,
        "settled": int(state.threshold.settled[stream]),
        "step": state.forecast[stream].step if state.forecast else None,
    }


def _set_scalars(state: State, scalars: Mapping[str, Any]) -> None:
    telemanom, last_time = state.telemanom, scalars["last_time"]
    telemanom.since_start[0] = int(scalars["since_start"])
    telemanom.last_time[0] = np.nan if last_time is None else float(last_time)
    state.threshold.settled[0] = int(scalars["settled"])
    if state.forecast:
        state.forecast[0].step = int(scalars["step"])


def forecast_parts(state: ForecastState) -> dict[str, bytes]:
    """Return the changed parts: the small one after a step, the pending one after a forecast."""
    parts = _history_parts(state.history, _STEPS)
    if state.changed:
        scalars = {
            "newest": state.newest,
            "counters": dict(state.counters),
            "refused": state.refused and state.refused._asdict(),
        }
        parts[_FORECAST] = _pack(scalars, _forecast_arrays(state))
    if state.pending_changed:
        parts[_PENDING] = _pack({}, _pending_arrays(state))
    state.changed = state.pending_changed = False
    return parts


def set_forecast(state: ForecastState, parts: Mapping[str, bytes]) -> None:
    """Set ``state`` to what ``forecast_parts`` returned.

    Raises:
        StateMismatch: a part is not there, or damaged.

    """
    with _as_mismatch():
        _take_forecast(state, parts)


def _take_forecast(state: ForecastState, parts: Mapping[str, bytes]) -> None:
    scalars, arrays = _unpack(parts[_FORECAST])
    set_arrays(_forecast_arrays(state), arrays)
    set_arrays(_pending_arrays(state), _unpack(parts[_PENDING])[1])
    state.newest = int(scalars["newest"])
    state.counters.update(scalars["counters"])
    state.refused = scalars["refused"] and NoForecast(**scalars["refused"])
    _set_history(state.history, parts, _STEPS)
    state.changed = state.pending_changed = False


def forecast_offsets(parts: Mapping[str, bytes]) -> Float32:
    """Return the intervals' offsets (Q, C, G) in saved parts, in units of the context's scale.

    Raises:
        StateMismatch: the parts have no forecaster, or are damaged.

    """
    with _as_mismatch():
        return np.array(_unpack(parts[_FORECAST])[1]["offsets"])
    raise AssertionError


def _forecast_arrays(state: ForecastState) -> dict[str, np.ndarray[Any, Any]]:
    judged, learnt = state.judged, {}
    if state.learnt is not None:
        learnt = {
            f"learnt_{item.name}": getattr(state.learnt, item.name) for item in fields(Learnt)
        }
    return learnt | {
        "steps_written": state.history.written,
        "offsets": state.offsets,
        "judged_weight": judged.weight,
        "judged_error": judged.error,
        "judged_absolute": judged.absolute,
        "judged_inside": judged.inside,
    }


def _pending_arrays(state: ForecastState) -> dict[str, np.ndarray[Any, Any]]:
    pending = state.pending
    return {"made": pending.made, "shown": pending.shown, "scale": pending.scale}


def event_scalars(events: EventState) -> dict[str, Any]:
    """Return the open events and the counters of a stream as JSON data."""
    return {
        "next_number": events.next_number,
        "above_run": events.above_run,
        "slow_run": events.slow_run,
        "open_run": events.open_run,
        "candidate": events.candidate and asdict(events.candidate),
        "anomalies": [_anomaly_scalars(one) for one in events.anomalies],
        "rise": events.rise and _rise_scalars(events.rise),
        "silence": events.silence and asdict(events.silence),
        "sensors": [asdict(event) for event in events.sensors.values()],
        "sensor_channels": [channel for _, channel in events.sensors],
    }


def set_events(events: EventState, scalars: Mapping[str, Any]) -> None:
    """Set ``events`` to what ``event_scalars`` returned."""
    events.next_number = int(scalars["next_number"])
    events.above_run = int(scalars["above_run"])
    events.slow_run = int(scalars.get("slow_run", 0))
    events.open_run = int(scalars["open_run"])
    events.candidate = scalars["candidate"] and _event(scalars["candidate"])
    events.anomalies = _anomalies(scalars)
    events.rise = _rise(scalars.get("rise"))
    events.silence = scalars["silence"] and _event(scalars["silence"])
    opened = [_event(saved) for saved in scalars["sensors"]]
    # an older version saved no channels, but had one event per channel
    channels = scalars.get("sensor_channels", [event.channels[0].channel for event in opened])
    events.sensors = {
        (kind, channel): event
        for kind in SENSOR_KINDS
        for channel, event in zip(channels, opened, strict=True)
        if event.kind == kind
    }


def _anomaly_scalars(one: OpenAnomaly) -> dict[str, Any]:
    return {
        "event": asdict(one.event),
        "calm_run": one.calm_run,
        "slow_run": one.slow_run,
        "base": _listed(one.base),
    }


def _anomalies(scalars: Mapping[str, Any]) -> list[OpenAnomaly]:
    if "anomalies" not in scalars:  # an older version had one at most
        one, calm_run = scalars["anomaly"], int(scalars["calm_run"])
        return [OpenAnomaly(_event(one), calm_run)] if one else []
    return [
        OpenAnomaly(
            _event(one["event"]), int(one["calm_run"]), int(one["slow_run"]), _row(one["base"])
        )
        for one in scalars["anomalies"]
    ]


def _rise_scalars(rise: Rise) -> dict[str, Any]:
    return {
        "highest": _listed(rise.highest),
        "rest_run": rise.rest_run,
        "base": _listed(rise.base),
        "above_run": rise.above_run,
        "candidate": rise.candidate and asdict(rise.candidate),
    }


def _rise(saved: dict[str, Any] | None) -> Rise | None:
    if saved is None:
        return None
    return Rise(
        np.array(saved["highest"], np.float32),
        int(saved["rest_run"]),
        _row(saved["base"]),
        int(saved["above_run"]),
        saved["candidate"] and _event(saved["candidate"]),
    )


def _listed(row: Float32 | None) -> list[float] | None:
    return None if row is None else row.tolist()


def _row(listed: list[float] | None) -> Float32 | None:
    return None if listed is None else np.array(listed, np.float32)


def _event(saved: dict[str, Any]) -> Event:
    channels = tuple(Contribution(**channel) for channel in saved["channels"])
    return Event(**(saved | {"channels": channels}))


def _set_history(history: History, parts: Mapping[str, bytes], prefix: str) -> None:
    rows, size = history.values.shape
    for begin in range(0, min(int(history.written.max(initial=0)), size), PART_COLUMNS):
        target = history.values[:, begin : begin + PART_COLUMNS]
        saved = np.frombuffer(_opened(parts[f"{prefix}{begin // PART_COLUMNS}"]), np.float32)
        target[...] = saved.reshape(rows, -1)


def _pack(scalars: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    shapes = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    line = json.dumps({"scalars": scalars, "arrays": shapes}, separators=(",", ":"))
    raw = b"".join(array.tobytes() for array in arrays.values())
    return _sealed(line.encode() + b"\n" + raw)


def _unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    line, _, raw = _opened(data).partition(b"\n")
    header = json.loads(line)
    arrays, offset = {}, 0
    for name, (dtype, shape) in header["arrays"].items():
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(raw, np.dtype(dtype), count, offset)
        arrays[name] = array.reshape(shape)
        offset += array.nbytes
    return header["scalars"], arrays


_CHECKSUM = struct.Struct("<I")


def _sealed(data: bytes) -> bytes:
    """Add a checksum: a damaged part would otherwise change scores silently."""
    return data + _CHECKSUM.pack(zlib.crc32(data))


def _opened(part: bytes) -> bytes:
    data, checksum = part[: -_CHECKSUM.size], part[-_CHECKSUM.size :]
    if checksum != _CHECKSUM.pack(zlib.crc32(data)):
        raise StateMismatch("the saved state is damaged: its checksum differs")
    return data
