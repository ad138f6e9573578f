"""``python -m trainer`` is the same as ``fieldwatch-trainer``."""

from trainer.cli import main

main()
