"""Compares what ``replay --json`` said on two machines: same_replay.py ONE OTHER TOLERANCE [APART].

As in a bundle's known answers, a number may differ by ``TOLERANCE * (1 + |number|)``. All else must
be the same. With ``APART``, an event may be another finding of the same alarm, and its times may be
so many seconds apart: the dynamic threshold chooses among few values, and errors that differ in
their last digits may lead to another choice.
"""

import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

OF_THE_MACHINE = ("recording", "interpreter", "samples_per_s")


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each value that is neither an object nor a list, with its path."""
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path.removeprefix("."), value


def distance(one: object, other: object) -> float:
    """Return how far apart two values are, in units of 1 + |number|; infinite for other values."""
    if one == other:
        return 0.0
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) / (1 + abs(one))
    return float("inf")


def excused(one: dict[str, Any], other: dict[str, Any], apart_s: float) -> bool:
    """Return whether two events are findings of the same alarm, at most so many seconds apart."""

    def identity(event: dict[str, Any]) -> list[object]:
        worst = event["channels"][0]["channel"] if event.get("channels") else None
        return [worst, *(event[key] for key in ("stream", "number", "kind", "state"))]

    def seconds(key: str) -> float:
        times = [datetime.fromisoformat(event[key]).timestamp() for event in (one, other)]
        return abs(times[0] - times[1])

    happened = [key for key in ("onset", "opened", "closed") if one[key] and other[key]]
    near = apart_s >= 0 and all(seconds(key) <= apart_s for key in happened)
    return near and identity(one) == identity(other)


def read(file: str) -> dict[str, Any]:
    """Return what a replay said, without what each machine says otherwise."""
    said = json.loads(Path(file).read_text())
    return {key: value for key, value in said.items() if key not in OF_THE_MACHINE}


def main(one_file: str, other_file: str, tolerance: str, apart: str = "-1") -> int:
    """Print what differs; return 1 if anything differs by more than allowed, else 0."""
    one, other = read(one_file), read(other_file)
    numbers = [dict(leaves(each)) for each in (one, other)]
    pairs = {
        path: [each.get(path, "absent") for each in numbers]
        for path in {**numbers[0], **numbers[1]}
    }
    far = {path: distance(*pair) for path, pair in pairs.items()}
    both = list(zip(one["events"], other["events"], strict=False))
    largest, found_otherwise = 0.0, set[int]()
    for path, away in far.items():
        event = re.match(r"events\[(\d+)\]", path)
        at = int(event[1]) if event else len(both)
        if away > float(tolerance):
            sys.stdout.write(f"{path}: {pairs[path][0]} and {pairs[path][1]}\n")
            if at < len(both) and excused(*both[at], float(apart)):
                found_otherwise.add(at)
                continue
        largest = max(largest, away)
    sys.stdout.write(
        f"{one['samples']} samples, {one['scored']} scored, {len(one['events'])} events, of which"
        f" {len(found_otherwise)} are found otherwise; largest difference of the others"
        f" {largest:.1g}, allowed {tolerance}\n"
    )
    return int(largest > float(tolerance))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
