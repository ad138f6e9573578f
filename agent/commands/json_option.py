"""The option ``--json``: whoever gives it gets a JSON document, also where the command fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

_KEY: Final = "as_json"


def _note(context: click.Context, _: click.Parameter, as_json: bool) -> bool:
    context.ensure_object(dict)[_KEY] = as_json
    return as_json


# eager: it is known before another option is found to be wrong
json_option = click.option(
    "--json",
    _KEY,
    is_flag=True,
    is_eager=True,
    callback=_note,
    help="Print JSON for programs, also if the command fails.",
)


def as_json_wanted(noted: Mapping[str, bool]) -> bool:
    """Whether the command line had the option; ``noted`` is the ``obj`` of its context."""
    return noted.get(_KEY, False)
