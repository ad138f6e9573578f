"""A simulated centrifugal pump: eight channels, operating modes, faults; seeded.

Only the demo, the tests and the reference bundle use it. It is a small physical model rather than
eight curves. Demand sets the speed. The affinity laws (flow ~ speed, head ~ speed², power ~ speed³)
determine flow, pressure and current. Losses heat the bearing through a first-order lag. Vibration
follows speed and the distance from the best efficiency point.

    schedule (mode, demand) ─> speed ─> flow, head ─> power ─> current <─ mains voltage
                                 └─> vibration ─> bearing temperature <─ fluid temperature
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agent.config.fault_kinds import FAULT_KINDS, SLOW_KINDS, FaultKind
from models.messages import Float32, Float64

PERIOD_S = 0.2
BLOCK_SAMPLES = 1500  # noise and schedule are drawn in blocks, so that chunking has no effect


class PlantChannel(NamedTuple):
    """One sensor of the pump; readings beyond ``low``/``high`` are invalid."""

    name: str
    unit: str
    low: float
    high: float
    noise: float  # standard deviation, in unit
    resolution: float  # one step of its converter, in unit
    decimals: int
    spike: float  # height of a spike of severity 1, in unit


CHANNELS = (
    PlantChannel("vibration_x", "mm/s", 0.0, 50.0, 0.0, 0.001, 3, 4.0),
    PlantChannel("vibration_y", "mm/s", 0.0, 50.0, 0.0, 0.001, 3, 4.0),
    PlantChannel("motor_current", "A", 0.0, 100.0, 0.08, 0.01, 2, 15.0),
    PlantChannel("discharge_pressure", "bar", 0.0, 16.0, 0.015, 0.002, 3, 1.5),
    PlantChannel("flow", "m3/h", 0.0, 150.0, 0.25, 0.02, 2, 25.0),
    PlantChannel("bearing_temperature", "degC", -40.0, 200.0, 0.03, 0.01, 2, 10.0),
    PlantChannel("fluid_temperature", "degC", -40.0, 150.0, 0.03, 0.01, 2, 8.0),
    PlantChannel("voltage", "V", 0.0, 500.0, 0.4, 0.05, 2, 30.0),
)
_INDEX = {channel.name: index for index, channel in enumerate(CHANNELS)}
_NOISE = np.array([channel.noise for channel in CHANNELS])
_RESOLUTION = np.array([channel.resolution for channel in CHANNELS])
_LOW = np.array([channel.low for channel in CHANNELS])
_HIGH = np.array([channel.high for channel in CHANNELS])

# operating modes: relative speed, and probability in the schedule
_MODE_SPEED = np.array([0.55, 0.75, 0.9, 1.0])
_MODE_SHARE = np.array([0.1, 0.3, 0.4, 0.2])
_START_MODE = 2
_DWELL_S = (60.0, 600.0)  # duration of a mode
_DEMAND_S = (20.0, 90.0)  # between changes of load within a mode
_RAMP_S = 4.0  # time constant of the drive
_DRIFT_S = 300.0  # time constant of slow wandering: mains, demand
_BEARING_S = 240.0  # thermal time constant
_DAY_S = 86_400.0
_RELEASE_S = 4.0  # time over which a fault's effect decays at the end of its duration
_ROUNDING_S = 1e-6  # sample times are products of floats: equal within this


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that begins ``at_s`` seconds after the pump's start.

    An engineer would notice ``severity`` 1 within about a minute.
    """

    kind: FaultKind
    at_s: float
    duration_s: float = math.inf
    severity: float = 1.0
    channel: str = "discharge_pressure"  # of a sensor fault

    def __post_init__(self) -> None:
        kinds = (*FAULT_KINDS, *SLOW_KINDS)
        if self.kind not in kinds:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(kinds)}")
        if self.channel not in _INDEX:
            raise ValueError(f"no channel {self.channel!r}; there are {', '.join(_INDEX)}")

    def active(self, time_s: Float64) -> npt.NDArray[np.bool_]:
        """Whether each time is within ``duration_s`` from ``at_s``."""
        since = time_s - self.at_s
        return (since >= -_ROUNDING_S) & (since < self.duration_s - _ROUNDING_S)

    def strength(self, time_s: Float64, grows_over_s: float) -> Float64:
        """Return the strength at each time: 0 before and after, ``severity`` once fully grown.

        It is back at 0 by the end of ``duration_s``, so that a label encloses the cause.
        """
        since = time_s - self.at_s
        left = self.duration_s - since
        grown = np.clip(np.minimum(since / grows_over_s, left / _RELEASE_S), 0, 1)
        return np.where(self.active(time_s), grown * self.severity, 0.0)


class Pump:
    """One pump; ``run`` continues where the last call ended; the same for any chunking.

    ``plan`` gives the relative speed that the drive is asked for at times in seconds since the
    start, (n,) each; None: a random schedule.
    """

    def __init__(
        self,
        seed: int,
        faults: Sequence[Fault] = (),
        plan: Callable[[Float64], Float64] | None = None,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._phase = self._random.uniform(0, 2 * np.pi)  # time of day at the start
        self._faults, self._plan = tuple(faults), plan
        self._samples = 0  # of the blocks drawn so far
        self._ready = np.empty((0, len(CHANNELS)), np.float32)
        self._mode, self._mode_left_s = _START_MODE, 300.0
        self._demand, self._demand_left_s = 0.0, 30.0
        self._lagged = {
            "speed": _MODE_SPEED[_START_MODE],
            "mains": 0.0,
            "wander": 0.0,
            "bearing": 0.0,
            "chatter": 0.0,
        }
        self._warm = False
        self._stuck: dict[int, np.float32] = {}

    def run(self, samples: int) -> Float32:
        """Return the next ``samples`` rows, (samples, 8); NaN where the signal is lost."""
        blocks = math.ceil((samples - len(self._ready)) / BLOCK_SAMPLES)
        if blocks > 0:
            self._ready = np.concatenate([self._ready, *(self._block() for _ in range(blocks))])
        rows, self._ready = self._ready[:samples], self._ready[samples:]
        return rows

    def _block(self) -> Float32:
        time_s = (self._samples + np.arange(BLOCK_SAMPLES, dtype=np.float64)) * np.float64(PERIOD_S)
        self._samples += BLOCK_SAMPLES
        values = self._physics(time_s)
        values += self._random.normal(0, 1, values.shape) * _NOISE
        values = np.clip(np.round(values / _RESOLUTION) * _RESOLUTION, _LOW, _HIGH)
        return self._sensors(time_s, values.astype(np.float32))

    def _physics(self, time_s: Float64) -> Float64:
        """Return the sensors' values without noise, (n, 8)."""
        asked = self._schedule() if self._plan is None else self._plan(time_s)
        speed = self._lag("speed", asked, _RAMP_S)
        load = 1.0 + self._wander("wander", 0.02)
        wear = self._strength("bearing_wear", time_s, 120.0)
        cavitation = self._strength("cavitation", time_s, 3.0)
        leak = self._strength("seal_leak", time_s, 90.0)
        blocked = self._strength("blocked_valve", time_s, 4.0)
        chatter = self._lag("chatter", self._random.normal(0, 1, len(time_s)), 0.3) * 2.5
        surge = cavitation * chatter

        flow = 100.0 * speed * load * (1 - 0.5 * blocked) * (1 - 0.07 * cavitation)
        flow = np.maximum(flow * (1 + 0.06 * leak) + 2.5 * surge, 0)  # through the impeller
        delivered = flow * (1 - 0.13 * leak)  # without the leakage at the seal
        ideal = flow / np.maximum(100.0 * speed, 1e-9)  # 1 at the best efficiency point
        head = speed**2 * (9.2 - 2.6 * ideal**2) * (1 - 0.1 * cavitation)
        # vapour reduces flow and head together, by more than the curve adds when flow falls
        pressure = 0.4 + head + 0.25 * surge
        mains = 400.0 + self._wander("mains", 2.0) - 3.0 * speed**3
        power_kw = 4.0 + 22.0 * speed**3 * (0.45 + 0.55 * ideal) * (1 + 0.05 * wear)
        current = power_kw * 1000 / (math.sqrt(3) * mains * 0.85)
        off_best = np.abs(ideal - 1.0)
        rough = 0.6 + 1.6 * speed**2 + 1.8 * off_best + 1.4 * wear + 1.3 * cavitation
        breadth = 0.05 * (1 + 2.5 * cavitation + 0.6 * wear)
        jitter = np.exp(self._random.normal(0, 1, (len(time_s), 2)) * breadth[:, None])
        fouled = self._strength("cooling_loss", time_s, 3600.0)
        fluid = (
            28.0
            + 25.0 * fouled
            + 4.0 * np.sin(2 * np.pi * time_s / _DAY_S + self._phase)
            + 1.2 * speed**3
        )
        rise = 12.0 * speed**2 + 3.0 * rough + 9.0 * wear
        if not self._warm:  # the pump has been running before the recording began
            self._lagged["bearing"], self._warm = float(rise[0]), True
        bearing = fluid + self._lag("bearing", rise, _BEARING_S)
        return np.stack(
            [
                rough * jitter[:, 0],
                0.8 * rough * jitter[:, 1] + 0.1,
                current,
                pressure,
                delivered,
                bearing,
                fluid,
                mains,
            ],
            axis=1,
        )

    def _schedule(self) -> Float64:
        """Return the relative speed demanded from the drive at each sample of the block."""
        asked = np.empty(BLOCK_SAMPLES)
        for sample in range(BLOCK_SAMPLES):
            self._mode_left_s -= PERIOD_S
            self._demand_left_s -= PERIOD_S
            if self._mode_left_s <= 0:
                self._mode = int(self._random.choice(len(_MODE_SPEED), p=_MODE_SHARE))
                self._mode_left_s = self._random.uniform(*_DWELL_S)
            if self._demand_left_s <= 0:
                self._demand = self._random.uniform(-0.04, 0.04)
                self._demand_left_s = self._random.uniform(*_DEMAND_S)
            asked[sample] = _MODE_SPEED[self._mode] + self._demand
        return asked

    def _wander(self, name: str, deviation: float) -> Float64:
        """Return slow drift about zero whose deviation stays at ``deviation`` for any duration."""
        drive = self._random.normal(0, 1, BLOCK_SAMPLES)
        keep = math.exp(-PERIOD_S / _DRIFT_S)
        return self._lag(name, drive * deviation * math.sqrt((1 + keep) / (1 - keep)), _DRIFT_S)

    def _lag(self, name: str, target: Float64, constant_s: float) -> Float64:
        """Apply a first-order lag, continued from the previous block."""
        keep = math.exp(-PERIOD_S / constant_s)
        value, followed = self._lagged[name], np.empty(len(target))
        for sample, goal in enumerate(target.tolist()):
            value = goal + (value - goal) * keep
            followed[sample] = value
        self._lagged[name] = value
        return followed

    def _strength(self, kind: FaultKind, time_s: Float64, grows_over_s: float) -> Float64:
        total = np.zeros_like(time_s)
        for fault in self._faults:
            if fault.kind == kind:
                total += fault.strength(time_s, grows_over_s)
        return total

    def _sensors(self, time_s: Float64, values: Float32) -> Float32:
        """Apply the faults of single sensors to their readings."""
        for number, fault in enumerate(self._faults):
            channel = _INDEX[fault.channel]
            active = fault.active(time_s)
            if not active.any():
                continue
            if fault.kind == "stuck_sensor":
                first = values[int(np.argmax(active)), channel]
                values[active, channel] = self._stuck.setdefault(number, first)
            elif fault.kind == "loss_of_signal":
                values[active, channel] = np.nan
            elif fault.kind == "spike":
                values[active, channel] += np.float32(CHANNELS[channel].spike * fault.severity)
        return np.clip(values, _LOW, _HIGH).astype(np.float32)


def measured(row: Float32) -> dict[str, float]:
    """Return the controller's rounded measurements, without channels that have no signal."""
    return {
        channel.name: round(value, channel.decimals)
        for channel, value in zip(CHANNELS, row.tolist(), strict=True)
        if not math.isnan(value)
    }


def csv_line(time_s: float, row: Float32) -> str:
    """Return the line that the pump's controller sends: time, then a field per channel.

    The field of a channel without a signal is empty.
    """
    fields = (
        "" if math.isnan(value) else f"{value:z.{channel.decimals}f}"
        for channel, value in zip(CHANNELS, row.tolist(), strict=True)
    )
    return ",".join([f"{time_s:.3f}", *fields])


def one_of_each(hours: float, seed: int) -> list[Fault]:
    """Return one fault of each kind; the seed determines their order and the pauses."""
    random = np.random.default_rng(seed)
    every_s = hours * 3600 / len(FAULT_KINDS)
    faults = []
    for slot, kind in enumerate(random.permutation(len(FAULT_KINDS))):
        at_s = (slot + random.uniform(0.3, 0.5)) * every_s
        faults.append(sudden(FAULT_KINDS[kind], at_s, every_s * 0.25))
    return faults


def sudden(kind: FaultKind, at_s: float, duration_s: float) -> Fault:
    """Return a fault of typical severity; a spike lasts three samples."""
    return Fault(kind, at_s, 3 * PERIOD_S if kind == "spike" else duration_s)


def simulate(output: Path, hours: float, seed: int, faults: Sequence[Fault]) -> int:
    """Write a recording as CSV; return the number of rows.

    It begins at 2024-01-01 plus ``seed`` days. If there are faults, their times are written
    beside it as ``X.labels.csv``: ``start,end,kind`` in Unix seconds.
    """
    start_s = 1_704_067_200.0 + seed * _DAY_S
    samples = round(hours * 3600 / PERIOD_S)
    pump = Pump(seed, faults)
    with output.open("w") as file:
        file.write(",".join(["time", *(channel.name for channel in CHANNELS)]) + "\n")
        for begin, rows in _chunks(pump, samples):
            for index, row in enumerate(rows):
                file.write(csv_line(start_s + (begin + index) * PERIOD_S, row) + "\n")
    if faults:
        with output.with_suffix(".labels.csv").open("w") as file:
            file.write("start,end,kind\n")
            for fault in faults:
                end_s = min(fault.at_s + fault.duration_s, hours * 3600)
                file.write(f"{start_s + fault.at_s:.3f},{start_s + end_s:.3f},{fault.kind}\n")
    return samples


def _chunks(pump: Pump, samples: int) -> Iterator[tuple[int, Float32]]:
    for begin in range(0, samples, BLOCK_SAMPLES):
        yield begin, pump.run(min(BLOCK_SAMPLES, samples - begin))
