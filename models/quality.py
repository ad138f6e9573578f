"""The origin of a sample's value; apart from ``messages`` because it must not load numpy."""

# a lower code is better
GOOD, INTERPOLATED, HELD, MISSING = range(4)
QUALITIES = ("good", "interpolated", "held", "missing")
