"""The page's process; ``fieldwatch-agent page`` starts it with its settings as an argument."""

from __future__ import annotations

import sys

from agent.journal import start_logging
from agent.page.run import run
from agent.page.settings import Settings
from models import console
from models.errors import FieldwatchError


def main(settings: str) -> int:
    """Serve the page; return the exit code."""
    console.begin()
    start_logging()
    try:
        run(Settings.from_json(settings))
    except FieldwatchError as error:
        console.say_error("fieldwatch-agent", str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
