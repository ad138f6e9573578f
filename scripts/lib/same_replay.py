"""Compares what ``replay --json`` said on two machines: same_replay.py ONE OTHER TOLERANCE.

As in a bundle's known answers, a number may differ by ``TOLERANCE * (1 + |number|)``. All else must
be the same.
"""

import json
import sys
from collections.abc import Iterator
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


def read(file: str) -> dict[str, Any]:
    """Return what a replay said, without what each machine says otherwise."""
    said = json.loads(Path(file).read_text())
    return {key: value for key, value in said.items() if key not in OF_THE_MACHINE}


def main(one_file: str, other_file: str, tolerance: str) -> int:
    """Print what differs; return 1 if anything differs by more than allowed, else 0."""
    replay = read(one_file)
    one, other = dict(leaves(replay)), dict(leaves(read(other_file)))
    pairs = {path: (one.get(path, "absent"), other.get(path, "absent")) for path in one | other}
    apart = {path: distance(*pair) for path, pair in pairs.items()}
    for path, far in apart.items():
        if far > float(tolerance):
            sys.stdout.write(f"{path}: {pairs[path][0]} and {pairs[path][1]}\n")
    sys.stdout.write(
        f"{replay['samples']} samples, {replay['scored']} scored, {len(replay['events'])} events;"
        f" largest difference {max(apart.values()):.1g}, allowed {tolerance}\n"
    )
    return int(max(apart.values()) > float(tolerance))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
