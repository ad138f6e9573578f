"""``python -m trainer``: the same as the command ``fieldwatch-trainer``."""

from trainer.cli import main

main()
