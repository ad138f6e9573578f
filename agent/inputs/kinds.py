"""Maps each table of the configuration to its class; only the kinds in use are loaded."""

from __future__ import annotations

from agent.config.inputs import (
    ENTRY_POINTS,
    FileTable,
    ForeignTable,
    ModbusRtuTable,
    ModbusTcpTable,
    MqttInputTable,
    ReplayTable,
    SerialTable,
    SimulatorTable,
    SourceTable,
)
from agent.guard import Guard
from agent.inputs.source import Input


def open_input(settings: SourceTable, guard: Guard | None = None) -> Input:
    """Return the input of this kind; its device is not opened before ``start``.

    Raises:
        ConfigError: a package is missing, or a setting of another package's input is wrong.

    """
    # other kinds are not loaded
    match settings:
        case SerialTable():
            from agent.inputs.serial import SerialInput

            return SerialInput(settings)
        case MqttInputTable():
            from agent.inputs.mqtt import MqttInput

            return MqttInput(settings, guard)
        case FileTable():
            from agent.inputs.file import FileInput

            return FileInput(settings)
        case ReplayTable():
            from agent.inputs.replay import ReplayInput

            return ReplayInput(settings)
        case SimulatorTable():
            from agent.inputs.simulator import SimulatorInput

            return SimulatorInput(settings)
        case ModbusTcpTable() | ModbusRtuTable():
            from agent.inputs.modbus import ModbusInput

            return ModbusInput(settings)
        case ForeignTable():
            from importlib.metadata import entry_points

            (point,) = entry_points(group=ENTRY_POINTS, name=settings.type)
            made: Input = point.load()(settings)
            return made
    raise AssertionError(settings)
