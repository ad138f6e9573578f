"""``fieldwatch-trainer init``: looks at data, guesses how to read them, and writes that down.

    files, a query ─look─> some cells ─guess─> settings ─measure─> figures ─propose─> TOML

A guess is a proposal: a person reads it, and edits it. ``measure`` reads all data with the guessed
settings, by the code of the training, so that what is proposed can be read.
"""
