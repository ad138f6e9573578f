"""Runs the commands that use a database, but ``run``; prints as JSON how they ended.

``python -m tests.every_command CONFIG DIRECTORY``, the latter a collector's.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from agent import cli

Ended = tuple[int, str]  # exit code, and what was printed


def ended(words: list[str]) -> Ended:
    said = io.StringIO()
    sys.argv = ["fieldwatch-agent", *words]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()


def main(config: str, directory: str) -> None:
    asked = ["--config", config]
    found = {
        "status": ended(["status", *asked, "--json"]),
        "alarms": ended(["alarms", *asked]),
        "forecast": ended(["forecast", *asked, "--stream", "pump"]),
        "check": ended(["check", *asked]),
    }
    given = ["--site", "plant", "--host", "127.0.0.1", "--port", "1"]
    found["collect"] = ended(["collect", directory, *given])
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
