"""Parses text from devices and recordings: cells, times, lines; shared by agent and trainer.

    bytes ─text─> text ─lines─> lines ─separated─> cells ─┬─cells──> values
                                                          └─times──> Unix seconds

Pure: no files, no clock.
"""
