"""The language in which a person reads alarms: the configuration's, or the one asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.config.location import language_settings
from agent.config.texts import Catalogue, languages, read_catalogue
from agent.wording.language import Language
from models.console import say_error
from models.errors import ConfigError

_PROGRAM: Final = "fieldwatch-agent"
_PROBLEMS_MAX: Final = 3  # that are told


def language_of(config_file: Path, wanted: str | None) -> Language:
    """Return the language to use; a wrong file of texts must not hide the alarms.

    ``wanted``: its name, as a person gives it; None: that of the configuration.

    Raises:
        ConfigError: there is no such language as ``wanted``, or the configuration is wrong.

    """
    default, path = language_settings(config_file)
    catalogue, problems = usable_catalogue(path)
    for problem in problems[:_PROBLEMS_MAX]:
        say_error(_PROGRAM, f"{problem}. The built-in text is used")
    known = languages(catalogue)
    name = default if wanted is None else wanted
    if name not in known:
        problem = f"there is no language {name!r}; there are {', '.join(known)}"
        if wanted is not None:
            raise ConfigError(problem)
        say_error(_PROGRAM, f"{config_file}: language.default: {problem}. English is used")
        name = "en"
    return Language(name, catalogue.get(name))


def usable_catalogue(path: Path | None) -> tuple[Catalogue, list[str]]:
    """Return the usable texts of the plant, and what is wrong with the others, a line each."""
    if path is None:
        return {}, []
    try:
        return read_catalogue(path)
    except ConfigError as error:
        return {}, [str(error)]
