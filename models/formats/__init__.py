"""The text of devices and recordings: cells, times, lines. Agent and trainer read with this code.

    bytes ─text─> text ─lines─> lines ─separated─> cells ─┬─cells──> values
                                                          └─times──> Unix seconds

Pure: no files, no clock.
"""
