"""The families of models that can be trained, found by entry point.

``family.name`` of the configuration selects the family. ``telemanom`` and ``hampel`` are built in.
Another package adds one by an entry point of the group ``fieldwatch.training``: its name is that of
the family, and its object is a class or function that returns a ``trainer.family.Family`` without
arguments. What scores with the bundles is the entry point of the same name in
``fieldwatch.families``; both may be in one file. docs/new-family.md shows one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from models.errors import ConfigError, FamilyUnknown
from models.families import provided
from models.manifest import TELEMANOM
from models.names import HAMPEL
from trainer.config import Config
from trainer.family import AnyFamily

TRAINING: Final = "fieldwatch.training"  # group of the entry points
# tables of the configuration that only some families use
TABLES: Final = (
    "network",
    "smoothing",
    "threshold",
    "calibrate",
    "hampel",
    "forecast",
    "remaining",
)


def _telemanom() -> AnyFamily:
    from trainer.detector.family import Telemanom

    return Telemanom()


def _hampel() -> AnyFamily:
    from trainer.hampel import Hampel

    return Hampel()


BUILT_IN: Final[Mapping[str, Callable[[], AnyFamily]]] = {
    TELEMANOM: _telemanom,
    HAMPEL: _hampel,
}


def family_of(config: Config) -> AnyFamily:
    """Return the family that a configuration names, after checking its settings.

    Raises:
        ConfigError: no installed package trains it, or it refuses the settings.

    """
    name = config.family.name
    try:
        family = (BUILT_IN.get(name) or provided(TRAINING, name))()
    except FamilyUnknown as error:
        known = ", ".join(sorted(BUILT_IN))
        raise ConfigError(f"family.name: {error}. Built in are {known}") from error
    unused = [f"[{table}]" for table in _changed(config) if table not in family.tables]
    if unused:
        raise ConfigError(f"the family {name} does not use {', '.join(unused)}: leave it out")
    if name in BUILT_IN and config.family.settings:
        raise ConfigError(f"family.settings: the family {name} has its own tables instead")
    family.check(config)
    return family


def _changed(config: Config) -> Iterator[str]:
    """Yield the tables that only some families use, and that are not as their defaults."""
    for table in TABLES:
        if getattr(config, table) != Config.model_fields[table].default:
            yield table
