"""The configuration of a benchmark, which all its channels share.

It has the sections of a training without ``bundle`` and ``data``, because the data set defines
those.
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
from models.toml import merged, read_toml
from trainer.config import Config

_FOLLOWS: Final[dict[str, Any]] = {  # defined by the data set, or unused
    "bundle": {"name": "benchmark"},
    "data": {"files": ["benchmark"], "channels": [{"name": "benchmark"}]},
    "evaluate": {},
    "gates": {},
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked configuration; the settings in ``_FOLLOWS`` are not used."""

    config: Config

    def with_seed(self, seed: int) -> Settings:
        """Return the same settings with another seed of the networks."""
        fit = self.config.fit.model_copy(update={"seed": seed})
        return Settings(self.config.model_copy(update={"fit": fit}))

    @property
    def digest(self) -> str:
        """The sha256 of the settings; comments and order in the file do not matter."""
        sections = self.config.model_dump(mode="json", exclude=set(_FOLLOWS))
        return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()


def read(path: Path, shared: Path | None = None) -> Settings:
    """Read and check a configuration.

    Args:
        path: the file.
        shared: a file with defaults for settings that ``path`` lacks, table by table.

    Raises:
        ConfigError: the file is not readable or not TOML, or a setting is invalid. The message
            names file, key and value.

    """
    document, _ = read_toml(path)
    if shared is not None:
        document = merged(read_toml(shared)[0], document)
    for name in _FOLLOWS:
        if name in document:
            raise ConfigError(f"{path}: [{name}]: not allowed; each channel of a benchmark sets it")
    try:
        return Settings(Config.model_validate(document | _FOLLOWS))
    except ValidationError as error:
        raise refusal(path, explain(Config, error)) from error
