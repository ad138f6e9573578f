"""``python -m agent`` is the same as ``fieldwatch-agent``."""

from agent.cli import main

main()
