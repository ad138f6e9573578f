"""The configuration of a benchmark: one for all its channels, without names and files.

It has the trainer's own sections; ``bundle`` and ``data`` would say what the data
set says.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from models.errors import ConfigError
from models.settings import explain, refusal
from models.toml import read_toml
from trainer.config import Config

_FOLLOWS: Final[dict[str, Any]] = {  # from the data, or from nothing
    "bundle": {"name": "benchmark"},
    "data": {"files": ["benchmark"], "channels": [{"name": "benchmark"}]},
    "evaluate": {},
    "gates": {},
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked configuration; what is in ``_FOLLOWS`` is not used."""

    config: Config

    @property
    def digest(self) -> str:
        """The sha256 of the settings; comments and order in the file do not matter."""
        sections = self.config.model_dump(mode="json", exclude=set(_FOLLOWS))
        return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Settings:
    """Read and check a configuration.

    Raises:
        ConfigError: not readable, not TOML, or a setting is wrong; names file, key and value.

    """
    document, _ = read_toml(path)
    for name in _FOLLOWS:
        if name in document:
            raise ConfigError(f"{path}: [{name}]: not allowed; each channel of a benchmark sets it")
    try:
        return Settings(Config.model_validate(document | _FOLLOWS))
    except ValidationError as error:
        raise refusal(path, explain(Config, error)) from error
