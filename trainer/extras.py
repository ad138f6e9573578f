"""Packages of the extras: a command that needs one says so at once, with how to install it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Final

from models.errors import FieldwatchError

EXTRA: Final = "trainer"
EXIT_CODE: Final = 69


class ExtraMissing(FieldwatchError):
    """A package that the command needs is not installed."""

    exit_code = EXIT_CODE


def require(who: str, packages: Sequence[str], extra: str = EXTRA) -> None:
    """Refuse work that needs packages which are not installed; it imports none of them.

    Args:
        who: the command, or what else needs them.
        packages: names as in ``import``.
        extra: of this package, which installs them.

    Raises:
        ExtraMissing: the text names the packages and the extra.

    """
    missing = [each for each in packages if importlib.util.find_spec(each) is None]
    if missing:
        raise ExtraMissing(
            f"{who} needs what is not installed: {', '.join(missing)}. Install the trainer's"
            f" extra on a server, not on a gateway: pip install 'fieldwatch[{extra}]'"
        )
