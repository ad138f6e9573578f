"""Settings from the environment: ``FIELDWATCH_MQTT__PORT=8883`` is ``port`` in the table ``mqtt``.

It is for what differs between containers or units. It cannot set a list of tables, such as
streams; a file in ``conf.d`` can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from agent.config.layers import Layers
from models.environment import Names, overrides

if TYPE_CHECKING:
    from pydantic import BaseModel

PREFIX: Final = "FIELDWATCH_"
# not settings: the path of the configuration, programs to use, and variables of the tests and of
# the trainer
RESERVED: Final = ("CONFIG", "MOSQUITTO", "TFLITE_PYTHON")
RESERVED_PREFIXES: Final = ("TEST_", "SOAK_", "TRAINER_")
_NAMES: Final = Names(PREFIX, RESERVED, RESERVED_PREFIXES, "a file, such as one in conf.d")


def lay(layers: Layers, environment: Mapping[str, str], root: type[BaseModel]) -> list[str]:
    """Lay the settings of the environment over the files'; return what is wrong with them."""
    found, problems = overrides(environment, root, _NAMES)
    for keys, value, variable in found:
        layers.set(keys, value, variable)
    return problems
